"""The images that a finished attack misleads, clean and moved, made anew from the run's checkpoints.

Every sample is moved and labeled in the batch and with the batch norm in which the run scored it: with statistics of
the batch a label depends on its composition.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import DataError, ShapeError
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import known
from robust_cluster.metrics.accuracy import match
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.nn.precision import precision
from robust_cluster.runs.spec import RunSpec

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
    """Who counts as misled: whose cluster is not of their class under the clean matching, or, unlabeled, changes."""

    def __init__(self, scored: Rows) -> None:
        truth, clean = scored.truth, scored.clean.labels
        self.has_classes = truth is not None
        self.own: Ints = clean if truth is None else truth
        self.mapping: Ints = np.arange(scored.n_clusters)
        if truth is not None:
            self.mapping = match(*known(truth, clean), n_clusters=scored.n_clusters)
            self.own = np.where(truth < 0, self.mapping[clean], truth)
        self.before: Ints = self.mapping[clean]


def sheet(spec: RunSpec, scored: Rows, attacker: Attack, count: int) -> Sheet:
    """The first `count` of the scored rows that an attack misleads."""
    judge, samples, predicted = Judge(scored), list[Sample](), np.empty(len(scored), np.int64)
    with precision("highest"):
        moved = scored.moved(attacker)
        for number, places in enumerate(scored.places):
            points = moved(number)
            with torch.no_grad():
                predicted[places] = scored.surface.labels(points).cpu().numpy()
            samples += misled(scored, judge, predicted, number, points)
            samples = sorted(samples, key=lambda one: one.row)[:count]
    is_misled = judge.mapping[predicted] != judge.own
    return Sheet(
        spec=spec,
        eps=attacker.budget.eps / scored.info.unit,
        clean=stacked(samples, "clean", scored.info),
        moved=stacked(samples, "moved", scored.info),
        rows=np.array([sample.row for sample in samples], np.int64),
        own=np.array([sample.own for sample in samples], np.int64),
        found=np.array([sample.found for sample in samples], np.int64),
        has_classes=judge.has_classes,
        n_scored=len(predicted),
        n_misled=int(is_misled.sum()),
        n_before=int((is_misled & (judge.before != judge.own)).sum()),
        flip=flip_rate(scored.clean.labels, predicted),
    )


def misled(scored: Rows, judge: Judge, predicted: Ints, number: int, moved: Views) -> Iterator[Sample]:
    """Those of a batch that are in a wrong cluster at their moved points."""
    places = scored.places[number].numpy()
    own, found = judge.own[places], judge.mapping[predicted[places]]
    index, clean, images = scored.parts[number].tolist(), arrays(scored.point(number)), arrays(moved)
    for i in np.flatnonzero(found != own):
        yield Sample(index[i], int(own[i]), int(found[i]), tuple(v[i] for v in clean), tuple(v[i] for v in images))


def pairs(scored: Rows, attacker: Attack, count: int) -> tuple[tuple[Images, ...], tuple[Images, ...]]:
    """At most `count` of the scored rows, clean and moved: (m, C, H, W) of each view, valid pixels in [0, 1].

    Evenly spaced ones, or where labels depend on the batch the first of the first batch, moved in it as they were.
    """
    few = scored if scored.is_joint else scored.few(count)
    both = (
        tuple(
            view[:count].reshape(-1, *image_shape(shape)) / np.float32(few.info.unit)
            for view, shape in zip(arrays(points), few.info.shapes, strict=True)
        )
        for points in (few.point(0), few.moved(attacker)(0))
    )
    clean, moved = both
    return clean, moved


def arrays(views: Views) -> tuple[Images, ...]:
    """The views as arrays (n, C, H, W)."""
    return tuple(view.cpu().numpy() for view in views)


def stacked(samples: list[Sample], name: str, info: DataInfo) -> tuple[Images, ...]:
    """The `clean` or `moved` images of the samples, (m, C, H, W) of each view, m = 0 too."""
    return tuple(
        np.array([getattr(sample, name)[v] for sample in samples], np.float32).reshape(-1, *image_shape(shape))
        / np.float32(info.unit)
        for v, shape in enumerate(info.shapes)
    )


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(1, side, side) of vectors of a square length, else the shape itself."""
    side = math.isqrt(shape[0])
    return (1, side, side) if shape == (side**2,) else shape


def check_drawable(info: DataInfo) -> None:
    """Raises ShapeError or DataError for data that are no images of values in [0, top]."""
    for shape in info.shapes:
        check_image(info, shape)
    if info.box is None or info.box[0] != 0:
        raise DataError(f"images can only be drawn of values in [0, top], {info.name} has no such range")


def check_image(info: DataInfo, shape: tuple[int, ...]) -> None:
    """Refuse samples that cannot be drawn, e.g. vectors of 77 values. Raises: ShapeError."""
    found = image_shape(shape)
    if len(found) != 3 or found[0] not in CHANNELS:
        allowed = "of (channels, height, width) with 1 or 3 channels, or of vectors of a square length"
        raise ShapeError(f"images can only be drawn {allowed}, {info.name} has {shape}")
