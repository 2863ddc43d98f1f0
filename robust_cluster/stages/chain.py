"""From what a user asks for to the runs it takes, oldest first, and those runs carried out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from robust_cluster import discover
from robust_cluster.data.base import DataInfo
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.models.base import ClusterModel
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import Run
from robust_cluster.stages import certify, methods
from robust_cluster.stages.attack import MEASURES, attack
from robust_cluster.stages.cluster import cluster
from robust_cluster.stages.context import Context
from robust_cluster.stages.defend import defend
from robust_cluster.stages.pretrain import pretrain
from robust_cluster.stages.profiles import PROFILES
from robust_cluster.stages.settings import nested

STAGES: dict[Stage, Callable[[RunSpec, Run, Context], dict[str, Any]]] = {
    "pretrain": pretrain,
    "cluster": cluster,
    "attack": attack,
    "defend": defend,
    "reattack": attack,
    "certify": certify.certify_model,
}
GROUPS = ("model", "attack", "defense", "certify")
UNDEFENDED = "none"  # as a defense: certify the model as it was clustered


@dataclass(frozen=True)
class Request:
    """What a user asks for. `overrides`: dotted setting -> value, e.g. {"model.neighbors": 5}.

    `attack_seed` is the asked stage's attacker; the attack that a defense or re-attack builds on has attacker 0.
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
    profile: str = "paper"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False


def plan(request: Request, info: DataInfo) -> list[RunSpec]:
    """The runs it takes, oldest first; the last is the one asked for.

    Raises: ConfigError and UnknownNameError for values and names that are not allowed.
    """
    groups = checked_groups(request)
    if request.latent_dim < 1:
        raise ConfigError(f"dim must be >= 1, got {request.latent_dim}", hint="--dim 64")
    config = methods.resolve("models", request.model, request.profile, groups["model"])
    kind = methods.method_class(discover.load("models", request.model))
    is_latent = methods.attack_space(request.attack) == "latent"  # cheap, and ALRDC's records are of exact attacks
    runs: list[RunSpec] = []

    def is_exact(stage: Stage) -> bool:
        return stage == "certify" or (stage in ("attack", "reattack") and is_latent)

    def add(stage: Stage, model: str, **fields: Any) -> None:
        runs.append(
            RunSpec(
                stage=stage,
                data=request.data,
                data_sha256=info.sha256,
                model=model,
                latent_dim=request.latent_dim,
                seed=request.seed,
                precision="highest" if request.exact or is_exact(stage) else "medium",
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
    check_methods(request, kind, is_defended=is_defended)
    measured = MEASURES[methods.attack_space(request.attack)].versions()
    attack_fields = method_fields("attacks", request.attack, request.profile, groups["attack"], measured)
    first = request.attack_seed if request.stage == "attack" else 0
    add("attack", request.model, attack=request.attack, attack_seed=first, **attack_fields)
    if request.stage == "attack":
        return runs
    defense_fields = method_fields("defenses", request.defense, request.profile, groups["defense"], measured)
    add("defend", request.model, defense=request.defense, **defense_fields)
    if request.stage == "certify":
        add("certify", request.model, **certificate)
    if request.stage == "reattack":
        add("reattack", request.model, attack=request.attack, attack_seed=request.attack_seed, **attack_fields)
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
    return {"settings": {"certify": methods.plain(config)}, "versions": {"certify": certify.VERSION}}


def check_methods(request: Request, model: type[ClusterModel], *, is_defended: bool) -> None:
    """Nothing, when the attack can attack the model and the defense can follow it. Raises: ConfigError."""
    methods.method_class(discover.load("attacks", request.attack)).check_model(model)
    space = methods.attack_space(request.attack)
    spaces = methods.method_class(discover.load("defenses", request.defense)).spaces
    if is_defended and space not in spaces:
        allowed = " and ".join(spaces)
        raise ConfigError(
            f"{request.defense} defends against attacks in {allowed} space, {request.attack} is in {space} space",
            hint="another --attack or --defense",
        )


def method_fields(
    kind: Literal["attacks", "defenses"], name: str, profile: str, values: Any, measured: Mapping[str, int]
) -> dict[str, Any]:
    """The settings and versions fields of a run with an attack or a defense. `measured`: versions of its scoring."""
    config = methods.resolve(kind, name, profile, values)
    version = methods.method_class(discover.load(kind, name)).version
    return {"settings": {kind.removesuffix("s"): methods.plain(config)}, "versions": {name: version, **measured}}


def checked_groups(request: Request) -> dict[str, dict[str, Any]]:
    """The overrides by group. Raises: UnknownNameError for a group or profile that does not exist."""
    if request.profile not in PROFILES:
        raise UnknownNameError("profile", request.profile, PROFILES)
    tree = nested(request.overrides)
    for group, values in tree.items():
        if group not in GROUPS or not isinstance(values, dict):
            examples = (f"{name}.<field>" for name in GROUPS)
            raise UnknownNameError("setting", group, examples, listing="--set model.neighbors=3")
    checked: tuple[tuple[Kind, str], ...] = (("attacks", "attack"), ("defenses", "defense"))
    for kind, group in checked:
        known = {f.name for name in discover.names(kind) for f in fields(discover.load(kind, name).Config)}
        check_known(group, tree, known)
    check_known("certify", tree, {f.name for f in fields(certify.Config)})
    return {group: tree.get(group, {}) for group in GROUPS}


def check_known(group: str, tree: Mapping[str, Any], known: set[str]) -> None:
    """Raises: UnknownNameError for a setting of a group that nothing takes.

    Also where the asked stage has no use for it: one file of settings serves every verb.
    """
    for name in tree.get(group, {}):
        if name not in known:
            raise UnknownNameError("setting", f"{group}.{name}", (f"{group}.{one}" for one in known))


def execute(specs: list[RunSpec], context: Context) -> list[dict[str, Any]]:
    """The records of the runs, in order; those that are done are read, the others carried out.

    With `context.force` the last run is made anew, its ancestors are not.
    """
    return [carry_out(spec, context, again=context.force and spec is specs[-1]) for spec in specs]


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
