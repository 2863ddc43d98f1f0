"""Which methods the contracts are tested on, and which of them often: told by the methods themselves.

A family is a folder. In each the method that most others derive from stands for the rest, whose tests are nightly.
"""

from dataclasses import replace
from functools import cache

import torch

from robust_cluster import discover
from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import DataInfo
from robust_cluster.defenses.base import Defense
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods

VECTORS = DataInfo("few", ((64,),), 200, 10, None, 1.0, "")
PAIR = DataInfo("pair", ((1, 16, 16),) * 2, 200, 10, (0.0, 1.0), 1.0, "")
IMAGES = replace(PAIR, name="images", shapes=PAIR.shapes[:1])


def classes(kind: discover.Kind) -> dict[str, type]:
    return {name: methods.method_class(discover.load(kind, name)) for name in sorted(discover.modules(kind))}


MODELS: dict[str, type[ClusterModel]] = classes("models")
INDUCTIVE = [name for name, kind in MODELS.items() if not kind.transductive]  # they label new points
ATTACKS: dict[str, type[Attack]] = classes("attacks")
DEFENSES: dict[str, type[Defense]] = classes("defenses")
TRAINED = [name for name in MODELS if methods.resolve("models", name, "paper", {}).cluster.epochs]


def family(name: str) -> str:
    return discover.modules("models")[name].split(".")[-2]


@cache
def info_for(name: str) -> DataInfo:
    """What is known of the samples that a method takes: digits as vectors, as images, or two noisy views of these."""
    if family(name) == "multiview":
        return PAIR
    try:
        MODELS[name].check(methods.resolve("models", name, "smoke", {}), VECTORS)
    except ConfigError:
        return IMAGES
    return VECTORS


@cache
def small(name: str) -> ClusterModel:
    """The method in the smoke profile's size, to be looked at only."""
    with torch.random.fork_rng():
        return methods.new_model(
            name, methods.plain(methods.resolve("models", name, "smoke", {})), info_for(name), latent_dim=6
        )


def is_convolutional(name: str) -> bool:
    return any(parameter.ndim == 4 for parameter in small(name).parameters())


def size(name: str) -> int:
    return sum(value.numel() for value in small(name).state_dict().values())


def heirs(name: str) -> int:
    return sum(issubclass(kind, MODELS[name]) for kind in MODELS.values())


def first_of(names: list[str]) -> str:
    """The method that most of the others derive from, the smaller of two without any."""
    most = max(heirs(name) for name in names)
    return min(names, key=size) if most == 1 else next(name for name in names if heirs(name) == most)


FIRST = {kind: first_of([n for n in INDUCTIVE if family(n) == kind]) for kind in sorted(set(map(family, INDUCTIVE)))}


def refusal(attack: str, model: str) -> str | None:
    """Why an attack cannot attack a method, None where it can."""
    try:
        ATTACKS[attack].check_model(MODELS[model])
    except ConfigError as error:
        return str(error)
    return None


def defends(defense: str, model: str) -> bool:
    """Whether a defense can train a method on."""
    config = methods.resolve("defenses", defense, "smoke", {})
    try:
        DEFENSES[defense].check(MODELS[model], info_for(model), config)
    except ConfigError:
        return False
    return model in TRAINED and model in INDUCTIVE and MODELS[model].descends_losses
