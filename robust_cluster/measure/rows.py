"""The scored rows of one surface: they are moved, clipped and labeled, and what that did is counted.

Every number of an attack comes from here, that of the attack itself as those of the moves beside it (controls.py): the
same rows in the same batches, labeled by the same code. A flip rate is the share of rows whose label at the moved point
is not the one at the clean point. Of an attack that is aimed at a cluster the rate that counts is "reached": the share
of the rows from other clusters whose label at the moved point is that cluster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.data.base import Batch, Dataset, Views
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import Metrics, Predicted, attacked_scores, batch_of, portions, scores, spaced
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import aimed, displacement, margin
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator, seed_for

Moved = Callable[[int], Views]  # the moved points of a batch by its number, in the surface's space
BATCH = 500  # rows that are scored at once
JOINT = 100  # the same where batch norm takes their statistics; AR-DMVC's batches


@dataclass(frozen=True)
class Outcome:
    """What one move did to n rows, in their order: z (n, d) and labels (n,) of the moved points.

    `gain` (n,): the margin by which the clean cluster is left, above 0 once it is; of an aimed attack that by which its
    cluster is reached. `shift` (n,): how far the
    representations moved, squared; `consistency` (n,): the part of it that the views' consensus moved. `norm` (n,): the
    L2 norm of the move. `sure` (n,): whether a soft label is exactly 1.
    """

    z: Tensor
    labels: Predicted
    gain: Tensor
    shift: Tensor
    consistency: Tensor
    norm: Tensor
    sure: Tensor


class Rows:
    """Some rows of a data set, all by default, in fixed batches under one frozen surface.

    With batch norm on statistics of the batch a label depends on the rest of the batch: batches are then of 100 rows in
    a random order that the data set alone decides, and every move is scored in the same ones. `clean`: the outcome of
    no move. `target`: the cluster that an attack is aimed at, None for any other than a row's own.
    """

    def __init__(
        self, surface: Surface, data: Dataset, index: Tensor | None = None, *, target: int | None = None
    ) -> None:
        self.target = target
        self.surface = replace(surface, memory=None)  # what there is may be of other rows
        self.data, self.info, self.n_clusters = data, data.info, data.info.n_clusters
        self.index = torch.arange(data.info.n_samples) if index is None else index
        self.truth = None if data.labels is None else data.labels[self.index.numpy()]
        self.is_joint = surface.bn == "batch"
        places = torch.arange(len(self.index))
        if self.is_joint:
            places = torch.randperm(len(places), generator=generator(seed_for(0, "scored batches", data.ref.label)))
        self.places = portions(places, JOINT if self.is_joint else BATCH)  # of each batch, among the rows
        self.parts = [self.index[part].to(data.views[0].device) for part in self.places]
        with torch.no_grad(), precision("highest"):
            batches = (self.batch(number) for number in range(len(self.parts)))
            self.embeddings = [self.surface.embedding_of(self.surface.point(batch)) for batch in batches]
            self.own = [self.surface.model.labels(embedding.z) for embedding in self.embeddings]
        self.clean = self.outcome(self.point)

    def __len__(self) -> int:
        return len(self.index)

    def few(self, most: int) -> "Rows":
        """At most so many of the rows, evenly spaced."""
        return self if len(self) <= most else self.take(spaced(len(self), most))

    def take(self, places: Tensor) -> "Rows":
        """Those at some places among the rows."""
        return Rows(self.surface, self.data, self.index[places], target=self.target)

    def aimed_at(self, target: int) -> "Rows":
        """The rows that are not in a cluster, for an attack that moves them into it. Raises: ConfigError for none."""
        places = torch.from_numpy(np.flatnonzero(self.clean.labels != target))
        if not len(places):
            raise ConfigError(f"all {len(self)} samples that are attacked are in cluster {target} already")
        return Rows(self.surface, self.data, self.index[places], target=target)

    def batch(self, number: int) -> Batch:
        """A batch, cut out of the data as it is needed: all of them would be a copy of the data."""
        return batch_of(self.data.views, self.parts[number])

    def point(self, number: int) -> Views:
        """The clean points of a batch."""
        is_input = self.surface.space == "input"
        return self.batch(number).views if is_input else self.embeddings[number].per_view

    def moved(self, attacker: Attack) -> Moved:
        """What an attacker makes of each batch once it is clipped to its budget."""

        def points(number: int) -> Views:
            with torch.no_grad():
                proposed = attacker.perturb(self.surface, self.batch(number))
                return attacker.budget.clip(self.point(number), proposed)

        return points

    def outcome(self, moved: Moved) -> Outcome:
        """What moved points are."""
        surface, found = self.surface, []
        for number, (before, own) in enumerate(zip(self.embeddings, self.own, strict=True)):
            points = moved(number)
            with torch.no_grad(), precision("highest"):
                after = surface.embedding_of(points)
                labels, log_y = surface.model.labels(after.z), surface.model.log_assign(after.z)
                gain = margin(log_y, own) if self.target is None else aimed(log_y, torch.full_like(own, self.target))
                sure = log_y.amax(dim=1) == 0
                pair = surface.representations(before), surface.representations(after)
                shift, consistency = displacement(*pair), displacement(pair[0][-1:], pair[1][-1:])
                norm = (flat(points) - flat(self.point(number))).norm(dim=1)
            found.append((after.z, labels, gain, shift, consistency, norm, sure))
        order = torch.cat(self.places).argsort().to(after.z.device)  # from that of the batches back to that of the rows
        z, labels, *rest = (torch.cat(each)[order] for each in zip(*found, strict=True))
        return Outcome(z, labels.cpu().numpy(), *rest)

    def misled(self, moved: Views, number: int) -> Tensor:
        """Which samples of batch `number` are where the attack wants them at these points, (m,)."""
        with torch.no_grad(), precision("highest"):
            labels = self.surface.labels(moved)
            return labels != self.own[number] if self.target is None else labels == self.target

    def are_misled(self, labels: Predicted) -> npt.NDArray[np.bool_]:
        """Which rows (n,) of these labels are where the attack wants them: in another cluster, or the one aimed at."""
        return np.asarray(labels != self.clean.labels if self.target is None else labels == self.target)

    def clean_scores(self) -> Metrics:
        """ACC, NMI and the like of the clean points."""
        return scores(self.truth, self.clean.labels, self.n_clusters)

    def attacked_scores(self, outcome: Outcome) -> Metrics:
        """The starred scores and the flip rate of an outcome; of an aimed attack also the share that reached it."""
        found = attacked_scores(self.truth, self.clean.labels, outcome.labels, self.n_clusters)
        found["flip"] = flip_rate(self.clean.labels, outcome.labels)
        return found if self.target is None else {**found, "reached": float(self.are_misled(outcome.labels).mean())}

    def saturated(self, outcome: Outcome) -> float:
        """The share of the rows that are still in their cluster, with a soft label of exactly 1, in [0, 1].

        There the gradient of a softmax is zero, so that a loss on soft labels does not see them.
        """
        return float((outcome.sure.cpu().numpy() & (outcome.labels == self.clean.labels)).mean())


def worst(outcomes: Sequence[Outcome], rows: Rows) -> tuple[Outcome, Tensor]:
    """The worst case over outcomes, and of each row the number (n,) of the outcome that it is taken from.

    That is the first that misleads the row, else the first of all; in joint batches, whose rows depend on each other,
    the one that changes most of the whole batch.
    """
    flips = torch.from_numpy(np.stack([rows.are_misled(one.labels) for one in outcomes]))
    chosen = flips.int().argmax(dim=0)  # the first True, 0 where there is none
    for places in rows.places if rows.is_joint else ():
        chosen[places] = flips[:, places].sum(dim=1).argmax()
    each = {field.name: [getattr(one, field.name) for one in outcomes] for field in fields(Outcome)}
    labels = np.stack(each.pop("labels"))[chosen.numpy(), np.arange(len(rows))]
    at = chosen.to(outcomes[0].z.device), torch.arange(len(rows), device=outcomes[0].z.device)
    return Outcome(labels=labels, **{name: torch.stack(of)[at] for name, of in each.items()}), chosen


def unit(surface: Surface) -> float:
    """What a radius of 1 in an attack's settings is in the units that the model sees: all pixels' range, or 1."""
    return surface.model.info.unit if surface.space == "input" else 1.0
