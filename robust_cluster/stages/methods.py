"""From a method's name and a user's choices to its settings, and from these to its object."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any

from robust_cluster import discover
from robust_cluster.attacks.base import Attack, Space, Surface
from robust_cluster.data.base import DataInfo
from robust_cluster.defenses.base import Defense
from robust_cluster.discover import Kind
from robust_cluster.errors import UnknownNameError
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import settings
from robust_cluster.stages.settings import plain as plain

method_class = discover.method_class


def class_of(kind: Kind, name: str) -> Any:
    """The class of a method. Raises: UnknownNameError."""
    return method_class(discover.load(kind, name))


@dataclass(frozen=True)
class Method:
    """A method as a run has it: `config` holds the value of every setting, from the file, the profile or the user."""

    name: str
    cls: Any
    config: Any
    version: int

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its settings as a run's spec has them: without those that came later and are at their default."""
        later = {known.name: known.default for known in fields(self.config) if "later" in known.metadata}
        own = settings.plain(self.config)
        return {name: value for name, value in own.items() if name not in later or value != later[name]}


def method_of(kind: Kind, name: str, profile: str, overrides: Mapping[str, Any]) -> Method:
    """A method, with the user's settings over those of a profile. Raises: ConfigError, UnknownNameError."""
    cls = class_of(kind, name)
    return Method(name, cls, resolve(kind, name, profile, overrides), cls.version)


def new_model(name: str, values: Mapping[str, Any], info: DataInfo, latent_dim: int) -> ClusterModel:
    """An untrained model; its initialization comes from torch's generator."""
    model: ClusterModel = _made("models", name, values, info, latent_dim)
    return model


def new_attack(name: str, values: Mapping[str, Any], surface: Surface) -> Attack:
    """An untrained attacker on a surface."""
    attack: Attack = _made("attacks", name, values, surface)
    return attack


def new_defense(name: str, values: Mapping[str, Any], surface: Surface) -> Defense:
    """A defense of the surface's model."""
    defense: Defense = _made("defenses", name, values, surface)
    return defense


def _made(kind: Kind, name: str, values: Mapping[str, Any], *rest: Any) -> Any:
    module = discover.load(kind, name)
    return method_class(module)(settings.build(module.Config, values, group_of(kind)), *rest)


def attack_space(name: str, values: Mapping[str, Any] = MappingProxyType({})) -> Space:
    """The space that an attack of these settings, or by default, moves points in."""
    space: Space = values.get("space") or class_of("attacks", name).space
    return space


def measured_as(name: str, values: Mapping[str, Any]) -> str:
    """How an attack of these settings is scored: "bounded", or by its space."""
    is_bounded: bool = class_of("attacks", name).bounded
    return "bounded" if is_bounded else attack_space(name, values)


def resolve(kind: Kind, name: str, profile: str, overrides: Mapping[str, Any]) -> Any:
    """The method's `Config`: its defaults, then its MODES entry, its PROFILES entry, then the user's values."""
    try:
        return settings.resolve(discover.load(kind, name), profile, overrides, group_of(kind))
    except UnknownNameError as error:
        error.hint = f"rc ls {kind} {name}"
        raise


def group_of(kind: Kind) -> str:
    """The group that the settings of a kind's methods are in: "model" for "models"."""
    return kind.removesuffix("s")


def described(kind: Kind, name: str, profiles: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for every setting of a method: its dotted path, what it may be, its value in each profile, what it is.

    The row of `mode` also says what each mode sets. Phases that a model does not have are left out.
    """
    module, group = discover.load(kind, name), group_of(kind)
    configs = {profile: resolve(kind, name, profile, {}) for profile in profiles}
    first = configs[profiles[0]]
    lacks = missing_phases(method_class(module), first) if kind == "models" else ()
    modes = [f"{mode} sets {settings.in_words(values)}" for mode, values in getattr(module, "MODES", {}).items()]
    for path, allowed, comment in settings.described(first, group):
        field = path.removeprefix(f"{group}.")
        if field.partition(".")[0] in lacks:
            continue
        get = operator.attrgetter(field)
        values = {profile: get(config) for profile, config in configs.items()} if allowed != settings.GROUP else {}
        parts = [comment, *modes] if field == "mode" else [comment]
        yield {"setting": path, "allowed": allowed, **values, "what": "; ".join(filter(None, parts))}


def missing_phases(model: type[ClusterModel], config: Any) -> set[str]:
    """The phases that a model never has ("pretrain" of kmeans) or by default does not train in ("cluster" of it)."""
    missing = set() if model.pretrained_by else {"pretrain"}
    return missing if config.cluster.epochs else missing | {"cluster"}
