"""From what a user asks for to the runs it takes, oldest first, and those runs carried out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Protocol

from robust_cluster import discover
from robust_cluster.attacks.base import Space
from robust_cluster.data import split
from robust_cluster.data.base import DataInfo
from robust_cluster.discover import ORACLE, Kind, bare
from robust_cluster.errors import ConfigError, OutOfMemory, RobustClusterError, UnknownNameError
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.shallow.base import Shallow
from robust_cluster.runs.spec import PRECISIONS, UNDEFENDED, DataRef, Precision, RunSpec, Stage
from robust_cluster.runs.store import Run, RunStore
from robust_cluster.stages import certify, events, methods
from robust_cluster.stages.attack import attack
from robust_cluster.stages.bench import MEASURES, held_back
from robust_cluster.stages.cluster import cluster
from robust_cluster.stages.context import Context
from robust_cluster.stages.defend import defend
from robust_cluster.stages.methods import Method
from robust_cluster.stages.pretrain import pretrain
from robust_cluster.stages.profiles import PROFILES
from robust_cluster.stages.settings import checked, flat, nested, plain, resolve, type_hints

STAGES: dict[Stage, Callable[[RunSpec, Run, Context], dict[str, Any]]] = {
    "pretrain": pretrain,
    "cluster": cluster,
    "attack": attack,
    "defend": defend,
    "reattack": attack,
    "certify": certify.certify_model,
}
CHAIN: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage != "certify")  # each starts from the one before
GROUPS = ("model", "attack", "defense", "certify")
BUDGET = ("norm", "eps", "space", "rows", "curve", "target")  # settings of every standard attack


class Choice(Protocol):
    """What a command says of runs that are done: make the asked ones anew; log curves, also of those without."""

    @property
    def force(self) -> bool: ...
    @property
    def curve(self) -> bool: ...


@dataclass(frozen=True)
class Request:
    """What a user asks for. `overrides`: dotted setting -> value, e.g. {"model.neighbors": 5}.

    `own`: settings of the asked run alone, while `overrides` are those of the runs before it too: a re-attack may sweep
    its gamma, and the attack that the defense met keeps its own.
    `attack_seed` is the asked stage's attacker; the attack that a defense or re-attack builds on has attacker 0.
    `against`: the attack that the defense meets, where it is not `attack`.
    `defense` "none" certifies the model as it was clustered, any other the defended one.
    `precision`: at "bf16" the attacks, defenses and certificates are those of "highest".
    `weights`: SHA-256 of the file whose weights stand in for the training of the pretraining.
    """

    stage: Stage
    data: DataRef
    model: str
    latent_dim: int = 64
    seed: int = 0
    attack: str = "latent_net"
    attack_seed: int = 0
    defense: str = "mutual_info"
    against: str | None = None
    profile: str = "paper"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision = "medium"
    own: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def settings(self, stage: Stage) -> dict[str, Any]:
        """Group -> setting -> value, of the run of a stage. Raises: ConfigError for a value that is a group too."""
        return nested({**self.overrides, **(self.own if stage == self.stage else {})})

    def values(self, kind: Kind, name: str, stage: Stage) -> dict[str, Any]:
        """The user's settings of a method in the run of a stage; none of an attack that is not the one asked for."""
        is_another = kind == "attacks" and name != self.attack
        return {} if is_another else self.settings(stage).get(methods.group_of(kind), {})

    def method(self, kind: Kind, name: str, stage: Stage) -> Method:
        """A method as the run of a stage has it. Raises: ConfigError, UnknownNameError."""
        return methods.method_of(kind, name, self.profile, self.values(kind, name, stage))


@dataclass
class Plan:
    """The `runs` that a request takes, oldest first: a pretraining, a clustering and the attack for one on graph.

    The asked one is the last; `following` says what can come after it. Runs that are given are not planned again.
    Raises: ConfigError, ShapeError and UnknownNameError for values, data and names that are not allowed.
    """

    request: Request
    info: DataInfo
    runs: list[RunSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_settings(self.request)
        check_model(self)
        for stage in self.stages[len(self.runs) :]:
            self.runs.append(SPECS[stage](self))

    @property
    def stages(self) -> list[Stage]:
        """The stages of its runs, e.g. ["cluster", "attack"] where the model has no pretraining."""
        asked, model = self.request.stage, self.model
        last = asked if asked in CHAIN else "cluster" if self.request.defense == UNDEFENDED else "defend"
        first = "pretrain" if model.cls.has_pretraining(model.config) else "cluster"
        return list(dict.fromkeys((*CHAIN[CHAIN.index(first) : CHAIN.index(last) + 1], asked)))

    @property
    def asked(self) -> RunSpec:
        """The run that was asked for."""
        return self.runs[-1]

    @property
    def following(self) -> Stage | None:
        """The stage that these methods can go on with, e.g. "defend" after "attack"; None where there is none."""
        later = dict(pairwise(CHAIN)).get(self.request.stage)
        try:
            if later is not None:
                Plan(replace(self.request, stage=later, own={}), self.info, [*self.runs])
        except RobustClusterError:
            return None
        return later

    @cached_property
    def model(self) -> Method:
        """The model, whose settings are those of its clustering and of the pretraining before it."""
        stage: Stage = "pretrain" if self.request.stage == "pretrain" else "cluster"
        name, profile = self.request.model, self.request.profile
        given = self.request.values("models", name, stage)
        mode = methods.class_of("models", name).usual_mode(self.info)
        return methods.method_of("models", name, profile, {"mode": mode, **given} if mode else given)

    @cached_property
    def learned(self) -> DataInfo:
        """What is known of the rows that models train on."""
        rows, _ = split.parts(self.request.data.split, self.info.name, self.info.n_samples)
        return replace(self.info, n_samples=len(rows))

    def spec(self, stage: Stage, *, is_exact: bool = False, **fields: Any) -> RunSpec:
        """The spec of a run after those that are planned; `is_exact`: never with reduced float32 products."""
        request = self.request
        trains = stage in ("pretrain", "cluster")
        kind: Kind = "models" if trains else "defenses" if stage == "defend" else "attacks"
        return RunSpec(
            stage=stage,
            data=request.data,
            data_sha256=self.info.sha256,
            latent_dim=request.latent_dim,
            seed=request.seed,
            precision="highest" if is_exact or (request.precision == "bf16" and not trains) else request.precision,
            parent=self.runs[-1] if self.runs else None,
            packages=discover.packages(kind, fields["versions"]),
            **{"model": request.model, **fields},
        )


def plan(request: Request, info: DataInfo) -> list[RunSpec]:
    """The runs of a request's `Plan`, oldest first; the last is the one asked for. Raises: as `Plan`."""
    return Plan(request, info).runs


def pretrain_spec(plan: Plan) -> RunSpec:
    """The pretraining, which models that are compared on the same network share: convae and graph have ae_kmeans's."""
    owner: str = plan.model.cls.pretrained_by
    shared = {name: value for name, value in plan.model.settings.items() if name in plan.model.cls.pretrain_fields}
    return plan.spec(
        "pretrain",
        model=owner,
        settings={"model": shared},
        versions={owner: methods.class_of("models", owner).version},
        weights=plan.request.weights,
    )


def cluster_spec(plan: Plan) -> RunSpec:
    """The clustering, with the model's own settings."""
    model = plan.model
    return plan.spec("cluster", settings={"model": model.settings}, versions={model.name: model.version})


def attack_spec(plan: Plan) -> RunSpec:
    """The attack or re-attack asked for; before a defense the attack that it meets, as attacker 0.

    Attacks on embeddings are exact, for they are cheap and ALRDC's records are of exact ones.
    Raises: ConfigError where the attack fits neither the model nor the data.
    """
    request, model = plan.request, plan.model
    stage: Stage = "reattack" if plan.runs[-1].defense else "attack"
    is_asked = stage == request.stage
    name = request.attack if is_asked else met(request)
    check_budget(name, request.values("attacks", name, stage))
    attacker = request.method("attacks", name, stage)
    space = methods.attack_space(name, attacker.settings)
    attacker.cls.check_model(model.cls)
    if attacker.cls.bounded:
        check_space(model, space)
    attacker.cls.check_data(plan.info, attacker.config)
    members = {str(member).partition(":")[0] for member in attacker.settings.get("members", ())}
    versions = {one: methods.class_of("attacks", one).version for one in {name, *members}}
    return plan.spec(
        stage,
        attack=name,
        attack_seed=request.attack_seed if is_asked else 0,
        settings={"attack": attacker.settings},
        versions={**versions, **measured(name, attacker.settings), **held_back(attacker.settings, plan.info.name)},
        is_exact=space == "latent",
    )


def defend_spec(plan: Plan) -> RunSpec:
    """The defense against the attack before it. Raises: ConfigError where it cannot follow that one."""
    request, before = plan.request, plan.runs[-1]
    defense = request.method("defenses", request.defense, "defend")
    attack, settings = str(before.attack), before.settings["attack"]
    if (space := methods.attack_space(attack, settings)) not in defense.cls.spaces:
        raise ConfigError(
            f"{defense.name} defends against attacks in {' and '.join(defense.cls.spaces)} space, "
            f"{attack} is in {space} space",
            hint=f"another --{'against' if request.stage == 'reattack' else 'attack'} or --defense",
        )
    defense.cls.check(plan.model.cls, plan.learned, defense.config)
    versions = {defense.name: defense.version, **measured(attack, settings)}
    return plan.spec("defend", defense=defense.name, settings={"defense": defense.settings}, versions=versions)


def certify_spec(plan: Plan) -> RunSpec:
    """The certificate of the clustered or defended model."""
    config = resolve(certify, plan.request.profile, plan.request.settings("certify").get("certify", {}), "certify")
    check_space(plan.model, config.space)
    return plan.spec(
        "certify", settings={"certify": plain(config)}, versions={"certify": certify.VERSION}, is_exact=True
    )


SPECS: dict[Stage, Callable[[Plan], RunSpec]] = {
    "pretrain": pretrain_spec,
    "cluster": cluster_spec,
    "attack": attack_spec,
    "defend": defend_spec,
    "reattack": attack_spec,
    "certify": certify_spec,
}


def met(request: Request) -> str:
    """The attack that a defense meets: `against`; else the one asked for, or the defense's own where that is a
    standard one, which shows what the defended model withstands and which no defense is made for.
    """
    if request.against is not None:
        return request.against
    is_standard: bool = methods.class_of("attacks", request.attack).bounded
    if request.stage != "reattack" or not is_standard:
        return request.attack
    meets: str = methods.class_of("defenses", request.defense).meets
    return meets


def measured(attack: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """The versions of what scores an attack of these settings."""
    versions: dict[str, int] = MEASURES[methods.measured_as(attack, settings)].versions()
    return versions


def check_model(plan: Plan) -> None:
    """Refuse a model that cannot learn from the data, or whose kind the asked stage can do nothing with.

    Raises: ConfigError, ShapeError, UnknownNameError.
    """
    request, model = plan.request, plan.model
    if request.data.name.startswith(ORACLE):
        check_oracle(request, model)
    cls: type[ClusterModel] = model.cls
    cls.check(model.config, plan.learned)
    if request.stage not in ("pretrain", "cluster"):
        cls.check_new_points()
    is_defended = "defend" in plan.stages
    if is_defended and model.config.cluster.epochs == 0:
        raise ConfigError(
            f"{model.name} is not trained while clustering: no defense can train it on", hint="--model convae"
        )
    if is_defended and not cls.descends_losses:
        raise ConfigError(
            f"{model.name} trains networks against each other: no defense, which descends one loss, can train it on",
            hint="--model convae, or comvc for several views",
        )
    if (request.stage == "pretrain" or request.weights) and not cls.has_pretraining(model.config):
        takes = ", so it takes no weights" if request.weights else ""
        raise ConfigError(f"{model.name} has no pretraining{takes}", hint=f"rc cluster --model {model.name}")


def check_oracle(request: Request, model: Method) -> None:
    """Refuse whatever would learn from classes without saying so, and any attack, defense or certificate of what says
    so: it shows how far a method could come, and is no result of one. Raises: ConfigError.
    """
    if not getattr(model.config, "oracle", False):
        raise ConfigError(
            f"{request.data.name} has the true classes as a view: only an oracle may train on it",
            hint=f"--data {bare(request.data.name)}, or --model dcan --set model.oracle=true",
        )
    if request.stage not in ("pretrain", "cluster"):
        raise ConfigError(f"labels have reached the training of an oracle: there is no {request.stage} of it")


def check_budget(attack: str, values: Mapping[str, Any]) -> None:
    """Refuse a radius, or what goes with one, for an attack that takes none. Raises: ConfigError."""
    known = field_names(discover.load("attacks", attack).Config)
    for setting in BUDGET:
        if setting in values and setting not in known:
            what = "is none" if "eps" not in known else f"has its own {setting}"
            raise ConfigError(f"attack.{setting} is for standard attacks: {attack} {what}", hint="--attack ensemble")
    if values.get("view_eps") and (values.get("eps") is not None or values.get("curve")):
        raise ConfigError("view_eps gives each view its radius in place of eps, so there is no curve: leave out --eps")


def check_space(model: Method, space: Space) -> None:
    """Refuse a standard attack or a certificate in a latent space that the model has not. Raises: ConfigError."""
    if space == "latent" and issubclass(model.cls, Shallow):
        raise ConfigError(f"{model.name} clusters the data themselves: it has no latent space", hint="--space input")


def check_settings(request: Request) -> None:
    """Refuse a profile, precision, latent dimension or setting that nothing has, e.g. attack.gama; those of the model
    are looked at with the model.

    Also where the asked stage has no use for a setting: one file of settings serves every verb.
    Raises: ConfigError, UnknownNameError.
    """
    if request.profile not in PROFILES:
        raise UnknownNameError("profile", request.profile, PROFILES)
    if request.precision not in PRECISIONS:
        raise UnknownNameError("precision", request.precision, PRECISIONS)
    if request.latent_dim < 1:
        raise ConfigError(f"dim must be >= 1, got {request.latent_dim}", hint="--dim 64")
    tree = request.settings(request.stage)
    for group, values in tree.items():
        if group not in GROUPS or not isinstance(values, dict):
            examples = (f"{name}.<field>" for name in GROUPS)
            raise UnknownNameError("setting", group, examples, listing="--set model.neighbors=3")
    chosen: tuple[tuple[Kind, str], ...] = (("attacks", request.attack), ("defenses", request.defense))
    for kind, name in chosen:
        group = methods.group_of(kind)
        known = discover.loadable(kind) if group in tree else {}
        if (kind, name) in discover.own:
            known[name] = discover.own[kind, name]
        configs = {one: module.Config for one, module in known.items()}
        check_known(group, tree, configs, name, f"rc ls {kind} {name}")
    check_known("certify", tree, {"certify": certify.Config})


def check_known(
    group: str, tree: Mapping[str, Any], configs: Mapping[str, type], likely: str = "", listing: str | None = None
) -> None:
    """Refuse a setting of a group that none of the methods has, or a value that none of those that have it takes.

    `likely`: the method that was meant, whose settings `listing` lists. Raises: UnknownNameError, ConfigError.
    """
    known = {name: field_names(config) for name, config in configs.items()}
    for path, value in flat(tree.get(group, {})).items():
        own = [name for name in (likely, *configs) if path in known.get(name, ())]
        if not own and not any(one.startswith(f"{path}.") for names in known.values() for one in names):
            allowed = known.get(likely) or frozenset().union(*known.values())
            listing = listing if known.get(likely) else None
            raise UnknownNameError("setting", path, allowed, group=f"{group}.", listing=listing)
        refusals = [refusal(configs[name], path, value, group) for name in own]
        if refusals and None not in refusals:
            raise refusals[0]  # type: ignore[misc]  # there is no None among them


def refusal(config: type, path: str, value: Any, group: str) -> ConfigError | None:
    """Why a method's setting cannot have a value of this type, None where it can; ranges are left to who uses it."""
    owner, (*groups, last) = config(), path.split(".")
    for name in groups:
        owner = getattr(owner, name)
    try:
        checked(value, type_hints(type(owner))[last], getattr(owner, last), f"{group}.{path}")
    except ConfigError as error:
        return error
    return None


@cache
def field_names(config: type) -> frozenset[str]:
    """The dotted names of the settings of a method's `Config`: "gamma", "schedule.epochs"."""
    found: set[str] = set()
    for name, hint in type_hints(config).items():
        is_group = isinstance(hint, type) and is_dataclass(hint)
        found |= {f"{name}.{inner}" for inner in field_names(hint)} if is_group else {name}
    return frozenset(found)


def execute(specs: list[RunSpec], context: Context) -> list[dict[str, Any]]:
    """The records of the runs, in order; those that are done are read, the others carried out.

    With `context.force` the last run is made anew, and with `context.curve` one that has none; its ancestors are not.
    """
    ancestors = [carry_out(spec, replace(context, curve=has_curve(spec, context, asked=False))) for spec in specs[:-1]]
    return [*ancestors, carry_out(specs[-1], context, again=is_again(context.store.record(specs[-1]), context))]


def has_curve(spec: RunSpec, choice: Choice, *, asked: bool) -> bool:
    """Whether a run logs its curve: of pretrainings only one that is asked for, as k-means an epoch takes its time."""
    return choice.curve and (asked or spec.stage != "pretrain")


def is_again(record: Mapping[str, Any] | None, choice: Choice) -> bool:
    """Whether a run that is asked for, of which this is the record, is made anew whatever there is."""
    return choice.force or (choice.curve and lacks_curve(record))


def lacks_curve(record: Mapping[str, Any] | None) -> bool:
    """Whether this is the record of a pretraining or clustering that was trained, and finished without a curve."""
    if record is None or record["spec"]["stage"] not in ("pretrain", "cluster") or "drift" in record:
        return False
    return bool(record["training"]["epochs"])


def current(spec: RunSpec, store: RunStore) -> dict[str, Any] | None:
    """The record of a run that is done, from its parent's checkpoint as it is now; else None, as out of memory."""
    record = store.record(spec)
    if record is None or record.get("memory"):
        return None
    checkpoint = store.recorded_checkpoint(spec.parent)
    return record if record.get("parent_checkpoint", checkpoint) == checkpoint else None


def carry_out(spec: RunSpec, context: Context, *, again: bool = False) -> dict[str, Any]:
    """The record of one run. While another process works on the same run, this one waits and then reads the result.

    One that was out of memory is tried again: the machine may have more now. Raises: OutOfMemory where the run before
    it was.
    """
    if spec.parent is not None and (memory := (context.store.record(spec.parent) or {}).get("memory")):
        raise OutOfMemory(f"{spec.parent.model} on {spec.data.label}", **memory)
    if not again and (record := current(spec, context.store)) is not None:
        return record
    before = context.store.record(spec)
    if before is not None and before.get("memory"):
        again = True
    if before is not None and not again:
        if spec.parent is not None:
            context.store.checkpoint(spec.parent)  # a damaged parent must not cost its finished child
        context.progress.note(f"{spec.directory} was made from another checkpoint of its parent: made anew")
        again = True
    if again:
        context.store.discard(spec)
    with context.store.own(spec, notify=context.progress.note) as run:
        record = run.record()
        if record is not None:
            return record
        with events.followed(run, context) as run:
            return run.finish(STAGES[spec.stage](spec, run, context))
