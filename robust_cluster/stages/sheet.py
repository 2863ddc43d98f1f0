"""The images that a finished attack misleads, clean and moved, made anew from the run's checkpoints.

Every sample is moved and labelled in the batch and with the batch norm in which the run scored it: with statistics of
the batch a label depends on its composition.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import CheckpointError, ConfigError, DataError, ShapeError
from robust_cluster.metrics.accuracy import match
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.nn.precision import precision
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import bounded, methods
from robust_cluster.stages.attack import parts
from robust_cluster.stages.context import Context, frozen_surface
from robust_cluster.stages.input_space import Scorer

CHANNELS = (1, 3)  # gray and RGB

Images = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sheet:
    """m misled samples in the order of the data set, and how many there are of them.

    `clean`, `moved`: (m, C, H, W) of each view, valid pixels in [0, 1], `eps` in the same unit. `rows` (m,): their
    places among the scored samples. `own`, `found` (m,): the true class and that of the cluster under the attack, -1
    where the cluster has none; without labels (`has_classes` False) the clusters before and under the attack.
    `n_before`: how many of the `n_misled` of `n_scored` samples were in a wrong cluster without the attack. `flip`:
    share of the scored samples that changed cluster, in [0, 1].
    """

    spec: RunSpec
    eps: float
    clean: tuple[Images, ...]
    moved: tuple[Images, ...]
    rows: Ints
    own: Ints
    found: Ints
    has_classes: bool
    n_scored: int
    n_misled: int
    n_before: int
    flip: float

    @property
    def delta(self) -> tuple[Images, ...]:
        """The perturbation of each view, (m, C, H, W): in [-eps, eps] in an L-infinity ball, beyond it elsewhere."""
        return tuple(moved - clean for clean, moved in zip(self.clean, self.moved, strict=True))


@dataclass(frozen=True)
class Sample:
    """One misled sample: its row and labels as in `Sheet`, each view (C, H, W)."""

    row: int
    own: int
    found: int
    clean: tuple[Images, ...]
    moved: tuple[Images, ...]


class Judge:
    """Who counts as misled: whose cluster is not of their class under the clean matching, or, unlabelled, changes."""

    def __init__(self, scorer: Scorer) -> None:
        truth, clean = scorer.truth, scorer.clean.labels
        self.has_classes = truth is not None
        self.own: Ints = clean if truth is None else truth
        self.mapping: Ints = np.arange(scorer.n_clusters)
        if truth is not None:
            self.mapping = match(truth, clean, n_clusters=scorer.n_clusters)
        self.before: Ints = self.mapping[clean]


def check_attack(spec: RunSpec) -> None:
    """Nothing, when the run's attack moves pixels. Raises: ConfigError."""
    if methods.attack_space(str(spec.attack), spec.settings.get("attack", {})) != "input":
        message = f"images can only be drawn of attacks on the views, {spec.attack} moves embeddings"
        raise ConfigError(message, hint="an attack or reattack by view_gan or pgd")


def sheet(spec: RunSpec, context: Context, count: int) -> Sheet:
    """The first `count` samples that a finished attack or reattack run misleads, of those that it was scored on.

    Raises: DataError, ShapeError, CheckpointError and ConfigError when the data, the checkpoints or the attack are not
    what the run had, or no images.
    """
    if spec.parent is None:
        raise ConfigError("an attack needs a trained model before it")
    check_attack(spec)
    check_data(spec, context)
    check_parent(spec, context)
    context = context.part(2)
    with precision("highest"):
        model = context.trained_model(spec.parent)
        bn = spec.settings["attack"].get("bn", "eval")
        held = parts(spec, context)[1]
        few = spec.settings["attack"].get("rows")  # of a standard attack
        rows = None if few is None else bounded.spaced(held.info.n_samples, few)
        scorer = Scorer(frozen_surface(model, "input", None, bn), held, rows=rows)
        judge = Judge(scorer)
        # The last before the moves: it seeds the generator that PGD draws its starts from, as in the run.
        attacker = context.trained_attack(spec, scorer.surface)
        samples: list[Sample] = []
        labels: list[Ints] = []
        for found, misled in moves(scorer, attacker, judge):
            labels.append(found)
            samples = sorted([*samples, *misled], key=lambda sample: sample.row)[:count]
    predicted = np.concatenate(labels)
    is_misled = judge.mapping[predicted] != judge.own
    return Sheet(
        spec=spec,
        eps=attacker.budget.eps / context.info.unit,
        clean=stacked(samples, "clean", context),
        moved=stacked(samples, "moved", context),
        rows=np.array([sample.row for sample in samples], np.int64),
        own=np.array([sample.own for sample in samples], np.int64),
        found=np.array([sample.found for sample in samples], np.int64),
        has_classes=judge.has_classes,
        n_scored=len(predicted),
        n_misled=int(is_misled.sum()),
        n_before=int((is_misled & (judge.before != judge.own)).sum()),
        flip=flip_rate(scorer.clean.labels, predicted),
    )


def moves(scorer: Scorer, attacker: Attack, judge: Judge) -> Iterator[tuple[Ints, list[Sample]]]:
    """For each batch as it was scored: the clusters (n,) of the moved samples, and those that are misled."""
    start = 0
    for batch in scorer.batches:
        with torch.no_grad():
            moved = attacker.budget.clip(batch.views, attacker.perturb(scorer.surface, batch))
            labels: Ints = scorer.surface.labels(moved).cpu().numpy()
        own, found = judge.own[start : start + len(batch)], judge.mapping[labels]
        start += len(batch)
        places, clean, images = batch.index.tolist(), arrays(batch.views), arrays(moved)
        samples = [
            Sample(places[i], int(own[i]), int(found[i]), tuple(v[i] for v in clean), tuple(v[i] for v in images))
            for i in np.flatnonzero(found != own)
        ]
        yield labels, samples


def arrays(views: Views) -> tuple[Images, ...]:
    """The views as arrays (n, C, H, W)."""
    return tuple(view.cpu().numpy() for view in views)


def stacked(samples: list[Sample], name: str, context: Context) -> tuple[Images, ...]:
    """The `clean` or `moved` images of the samples, (m, C, H, W) of each view, m = 0 too."""
    return tuple(
        np.array([getattr(sample, name)[v] for sample in samples], np.float32).reshape(-1, *image_shape(shape))
        / np.float32(context.info.unit)
        for v, shape in enumerate(context.info.shapes)
    )


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(1, side, side) of vectors of a square length, else the shape itself."""
    side = math.isqrt(shape[0])
    return (1, side, side) if shape == (side**2,) else shape


def check_digest(spec: RunSpec, context: Context) -> None:
    """Nothing, when the data are the run's. Raises: DataError."""
    info = context.info
    if info.sha256 != spec.data_sha256:
        digests = f"their SHA-256 begins {info.sha256[:12]}, that of the run's data {spec.data_sha256[:12]}"
        raise DataError(f"{info.name} is not the data that the run had: {digests}", hint="--data FILE")


def check_data(spec: RunSpec, context: Context) -> None:
    """Nothing, when the data are the run's and can be drawn. Raises: DataError, ShapeError."""
    check_digest(spec, context)
    for shape in context.info.shapes:
        check_image(context.info, shape)
    if context.info.box is None or context.info.box[0] != 0:
        raise DataError(f"images can only be drawn of values in [0, top], {context.info.name} has no such range")


def check_image(info: DataInfo, shape: tuple[int, ...]) -> None:
    """Nothing, when samples of this shape can be drawn. Raises: ShapeError."""
    found = image_shape(shape)
    if len(found) != 3 or found[0] not in CHANNELS:
        allowed = "of (channels, height, width) with 1 or 3 channels, or of vectors of a square length"
        raise ShapeError(f"images can only be drawn {allowed}, {info.name} has {shape}")


def check_parent(spec: RunSpec, context: Context) -> None:
    """Nothing, when the attacked model is still the one that the run had. Raises: CheckpointError."""
    record: dict[str, Any] = context.store.record(spec) or {}
    current = context.parent_checkpoint(spec)
    if record.get("parent_checkpoint", current) != current:
        message = f"{spec.directory} was made from another checkpoint of its parent"
        raise CheckpointError(message, hint=f"the same rc {spec.stage} makes it anew")
