"""From what a user asks for to the runs it takes, oldest first, and those runs carried out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from robust_cluster import discover
from robust_cluster.attacks.base import Space
from robust_cluster.data import split
from robust_cluster.data.base import DataInfo
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.models.base import ClusterModel
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import Run
from robust_cluster.stages import certify, methods
from robust_cluster.stages.attack import attack
from robust_cluster.stages.bench import MEASURES
from robust_cluster.stages.cluster import cluster
from robust_cluster.stages.context import Context
from robust_cluster.stages.defend import defend
from robust_cluster.stages.pretrain import pretrain
from robust_cluster.stages.profiles import PROFILES
from robust_cluster.stages.settings import build, nested

STAGES: dict[Stage, Callable[[RunSpec, Run, Context], dict[str, Any]]] = {
    "pretrain": pretrain,
    "cluster": cluster,
    "attack": attack,
    "defend": defend,
    "reattack": attack,
    "certify": certify.certify_model,
}
GROUPS = ("model", "attack", "defense", "certify")
BUDGET = ("norm", "eps", "space", "rows", "curve")  # settings of every standard attack
UNDEFENDED = "none"  # as a defense: certify the model as it was clustered


@dataclass(frozen=True)
class Request:
    """What a user asks for. `overrides`: dotted setting -> value, e.g. {"model.neighbors": 5}.

    `attack_seed` is the asked stage's attacker; the attack that a defense or re-attack builds on has attacker 0.
    `against`: the attack that the defense meets, where it is not `attack`.
    `defense` "none" certifies the model as it was clustered, any other the defended one.
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
    exact: bool = False


def plan(request: Request, info: DataInfo) -> list[RunSpec]:
    """The runs it takes, oldest first; the last is the one asked for.

    Raises: ConfigError, ShapeError and UnknownNameError for values, data and names that are not allowed.
    """
    groups = checked_groups(request)
    if request.latent_dim < 1:
        raise ConfigError(f"dim must be >= 1, got {request.latent_dim}", hint="--dim 64")
    config = methods.resolve("models", request.model, request.profile, groups["model"])
    kind = methods.method_class(discover.load("models", request.model))
    rows, _ = split.parts(request.data.split, info.name, info.n_samples)
    learned = replace(info, n_samples=len(rows))
    kind.check(config, learned)
    runs: list[RunSpec] = []

    def is_exact(stage: Stage, fields: Mapping[str, Any]) -> bool:
        """Scores are; so are attacks on embeddings, which are cheap, and ALRDC's records are of exact ones."""
        is_attack = "attack" in fields
        is_latent = is_attack and methods.attack_space(fields["attack"], fields["settings"]["attack"]) == "latent"
        return stage == "certify" or is_latent

    def add(stage: Stage, model: str, **fields: Any) -> None:
        runs.append(
            RunSpec(
                stage=stage,
                data=request.data,
                data_sha256=info.sha256,
                model=model,
                latent_dim=request.latent_dim,
                seed=request.seed,
                precision="highest" if request.exact or is_exact(stage, fields) else "medium",
                parent=runs[-1] if runs else None,
                **fields,
            )
        )

    is_defended = request.stage in ("defend", "reattack") or (
        request.stage == "certify" and request.defense != UNDEFENDED
    )
    if is_defended and config.cluster.epochs == 0:
        raise ConfigError(
            f"{request.model} is not trained while clustering: no defense can train it on", hint="--model convae"
        )
    if is_defended and not kind.descends_losses:
        raise ConfigError(
            f"{request.model} trains networks against each other: no defense, which descends one loss, can train it on",
            hint="--model convae, or comvc for several views",
        )
    if request.stage == "pretrain" and not kind.has_pretraining(config):
        raise ConfigError(f"{request.model} has no pretraining", hint=f"rc cluster --model {request.model}")
    if kind.has_pretraining(config):
        shared = {name: value for name, value in methods.plain(config).items() if name in kind.pretrain_fields}
        owner = methods.method_class(discover.load("models", kind.pretrained_by))
        versions = {kind.pretrained_by: owner.version}
        add("pretrain", kind.pretrained_by, settings={"model": shared}, versions=versions)
    if request.stage == "pretrain":
        return runs
    add("cluster", request.model, settings={"model": methods.plain(config)}, versions={request.model: kind.version})
    if request.stage == "cluster":
        return runs
    certificate: dict[str, Any] = {}
    if request.stage == "certify":
        certificate = certify_fields(request, kind, groups["certify"])
        if not is_defended:
            add("certify", request.model, **certificate)
            return runs
    met = attack_before(request)
    asked = attack_fields(request, request.attack, groups["attack"])
    before = asked if met == request.attack else attack_fields(request, met, {})
    attacks = {name: found["settings"]["attack"] for name, found in ((request.attack, asked), (met, before))}
    check_attacks(request, kind, info, attacks, met)
    if request.stage == "attack":
        add("attack", request.model, attack=request.attack, attack_seed=request.attack_seed, **asked)
        return runs
    add("attack", request.model, attack=met, attack_seed=0, **before)
    config = methods.resolve("defenses", request.defense, request.profile, groups["defense"])
    methods.method_class(discover.load("defenses", request.defense)).check(kind, learned, config)
    versions = {request.defense: version("defenses", request.defense), **measured(met, before["settings"]["attack"])}
    add(
        "defend", request.model, defense=request.defense, settings={"defense": methods.plain(config)}, versions=versions
    )
    if request.stage == "certify":
        add("certify", request.model, **certificate)
    if request.stage == "reattack":
        add("reattack", request.model, attack=request.attack, attack_seed=request.attack_seed, **asked)
    return runs


def certify_fields(request: Request, model: type[ClusterModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings and versions fields of a certify run. Raises: ConfigError for a model that labels no new points."""
    if model.transductive:
        raise ConfigError(
            f"{request.model} labels only the data that it was fitted on, and a certificate counts the labels of noisy "
            "copies; what can be certified is a model that labels new points",
            hint="--model kmeans",
        )
    config = certify.config_of(dict(values), request.profile)
    check_space(request.model, model, config.space)
    return {"settings": {"certify": methods.plain(config)}, "versions": {"certify": certify.VERSION}}


def attack_before(request: Request) -> str:
    """The attack that a defense meets: `against`; else the one asked for, or the defense's own where that is a
    standard one, which shows what the defended model withstands and which no defense is made for.
    """
    if request.against is not None:
        return request.against
    is_standard: bool = methods.method_class(discover.load("attacks", request.attack)).bounded
    if request.stage != "reattack" or not is_standard:
        return request.attack
    meets: str = methods.method_class(discover.load("defenses", request.defense)).meets
    return meets


def attack_fields(request: Request, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings and versions fields of a run with an attack. Raises: ConfigError, also for a budget it has not."""
    known = {f.name for f in fields(discover.load("attacks", name).Config)}
    for setting in BUDGET:
        if setting in values and setting not in known:
            what = "is none" if "eps" not in known else f"has its own {setting}"
            raise ConfigError(f"attack.{setting} is for standard attacks: {name} {what}", hint="--attack ensemble")
    if values.get("view_eps") and (values.get("eps") is not None or values.get("curve")):
        raise ConfigError("view_eps gives each view its radius in place of eps, so there is no curve: leave out --eps")
    config = methods.plain(methods.resolve("attacks", name, request.profile, values))
    members = {str(member).partition(":")[0] for member in config.get("members", ())}
    versions = {one: version("attacks", one) for one in {name, *members}}
    return {"settings": {"attack": config}, "versions": {**versions, **measured(name, config)}}


def measured(attack: str, config: Mapping[str, Any]) -> dict[str, int]:
    """The versions of what scores an attack of these settings."""
    versions: dict[str, int] = MEASURES[methods.measured_as(attack, config)].versions()
    return versions


def version(kind: Kind, name: str) -> int:
    """The version of a method."""
    number: int = methods.method_class(discover.load(kind, name)).version
    return number


def check_attacks(
    request: Request,
    model: type[ClusterModel],
    info: DataInfo,
    attacks: Mapping[str, Mapping[str, Any]],
    met: str,
) -> None:
    """Nothing, when the attacks can attack model and data and the defense can follow the one it meets.

    `attacks`: settings by name, among them `met`, the attack that the defense meets. Raises: ConfigError, ShapeError.
    """
    for name, values in attacks.items():
        module = discover.load("attacks", name)
        attacker = methods.method_class(module)
        attacker.check_model(model)
        if attacker.bounded:
            check_space(request.model, model, methods.attack_space(name, values))
        attacker.check_data(info, build(module.Config, values, "attack"))
    space = methods.attack_space(met, attacks[met])
    spaces = methods.method_class(discover.load("defenses", request.defense)).spaces
    if request.stage != "attack" and space not in spaces:
        allowed = " and ".join(spaces)
        raise ConfigError(
            f"{request.defense} defends against attacks in {allowed} space, {met} is in {space} space",
            hint=f"another --{'against' if request.stage == 'reattack' else 'attack'} or --defense",
        )


def check_space(name: str, model: type[ClusterModel], space: Space) -> None:
    """Nothing, for a space that a standard attack or a certificate has on this model. Raises: ConfigError."""
    if space == "latent" and model.is_identity:
        raise ConfigError(f"{name} clusters the data themselves: it has no latent space", hint="--space input")


def checked_groups(request: Request) -> dict[str, dict[str, Any]]:
    """The overrides by group. Raises: UnknownNameError for a group or profile that does not exist."""
    if request.profile not in PROFILES:
        raise UnknownNameError("profile", request.profile, PROFILES)
    tree = nested(request.overrides)
    for group, values in tree.items():
        if group not in GROUPS or not isinstance(values, dict):
            examples = (f"{name}.<field>" for name in GROUPS)
            raise UnknownNameError("setting", group, examples, listing="--set model.neighbors=3")
    checked: tuple[tuple[Kind, str, str], ...] = (
        ("attacks", "attack", request.attack),
        ("defenses", "defense", request.defense),
    )
    for kind, group, chosen in checked:
        known = {name: {f.name for f in fields(discover.load(kind, name).Config)} for name in discover.names(kind)}
        listing = f"rc ls {kind} {chosen}" if chosen in known else None
        check_known(group, tree, set().union(*known.values()), known.get(chosen), listing=listing)
    check_known("certify", tree, {f.name for f in fields(certify.Config)})
    return {group: tree.get(group, {}) for group in GROUPS}


def check_known(
    group: str, tree: Mapping[str, Any], known: set[str], likely: set[str] | None = None, *, listing: str | None = None
) -> None:
    """Raises: UnknownNameError for a setting of a group that nothing takes; `likely`: the names that it may have meant.

    Also where the asked stage has no use for it: one file of settings serves every verb.
    """
    for name in tree.get(group, {}):
        if name not in known:
            raise UnknownNameError("setting", name, likely or known, group=f"{group}.", listing=listing)


def execute(specs: list[RunSpec], context: Context) -> list[dict[str, Any]]:
    """The records of the runs, in order; those that are done are read, the others carried out.

    With `context.force` the last run is made anew, and with `context.curve` one that has none; its ancestors are not.
    A pretraining logs its curve only where it is itself the last: k-means after every epoch takes its time.
    """
    records = [
        carry_out(spec, replace(context, curve=context.curve and spec.stage != "pretrain")) for spec in specs[:-1]
    ]
    done = context.store.record(specs[-1])
    again = context.force or (context.curve and lacks_curve(done))
    return [*records, carry_out(specs[-1], context, again=again)]


def lacks_curve(record: Mapping[str, Any] | None) -> bool:
    """Whether this is the record of a pretraining or clustering that was trained, and finished without a curve."""
    if record is None or record["spec"]["stage"] not in ("pretrain", "cluster") or "drift" in record:
        return False
    return bool(record["training"]["epochs"])


def carry_out(spec: RunSpec, context: Context, *, again: bool = False) -> dict[str, Any]:
    """The record of one run. While another process works on the same run, this one waits and then reads the result."""
    record = context.store.record(spec)
    if record is not None and not again:
        current = context.parent_checkpoint(spec)
        if record.get("parent_checkpoint", current) == current:
            return record
        context.progress.note(f"{spec.directory} was made from another checkpoint of its parent: made anew")
    if record is not None or again:
        context.store.discard(spec)
    with context.store.own(spec, notify=context.progress.note) as run:
        record = run.record()
        if record is not None:
            return record
        return run.finish(STAGES[spec.stage](spec, run, context))
