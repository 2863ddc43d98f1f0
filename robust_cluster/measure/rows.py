"""The scored rows of one surface: they are moved, clipped and labeled, and what that did is counted.

Every number of an attack comes from here, that of the attack itself as those of the moves beside it (controls.py): the
same rows in the same batches, labeled by the same code. A flip rate is the share of rows whose label at the moved point
is not the one at the clean point.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robust_cluster.attacks.base import Budget, Surface
from robust_cluster.data.base import Batch, Dataset, Views
from robust_cluster.measure.scores import Metrics, Predicted, attacked_scores, batch_of, scores
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import displacement, margin
from robust_cluster.nn.precision import precision

Move = Callable[[Batch], Views]  # the points that it proposes for a batch, in the surface's space


@dataclass(frozen=True)
class Outcome:
    """What one move did to n rows: z (n, d) and labels (n,) of the moved points, and what each row's move was.

    `gain` (n,): the margin by which the clean cluster is left, above 0 once it is. `shift` (n,): how far the
    representations moved, squared. `norm` (n,): the L2 norm of the move.
    """

    z: Tensor
    labels: Predicted
    gain: Tensor
    shift: Tensor
    norm: Tensor


class Rows:
    """Some rows of a data set in fixed batches, `parts` (each (m,) row numbers), under one frozen surface.

    With batch norm on statistics of the batch a label depends on the others: then every move is scored in these very
    batches. `clean`: the outcome of no move.
    """

    def __init__(self, surface: Surface, data: Dataset, parts: Sequence[Tensor]) -> None:
        self.surface = replace(surface, memory=None)  # what there is may be of other rows
        self.data, self.parts = data, [part.to(data.views[0].device) for part in parts]
        self.index = torch.cat(self.parts).cpu().numpy()
        self.truth = None if data.labels is None else data.labels[self.index]
        self.info, self.n_clusters = data.info, data.info.n_clusters
        self.is_joint = surface.bn == "batch"
        with torch.no_grad(), precision("highest"):
            batches = (self.batch(number) for number in range(len(self.parts)))
            self.embeddings = [self.surface.embedding_of(self.surface.point(batch)) for batch in batches]
            self.own = [self.surface.model.labels(embedding.z) for embedding in self.embeddings]
        self.clean = self.look(zip(self.points, self.points, strict=True))

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, number: int) -> Batch:
        """A batch, cut out of the data as it is needed: all of them would be a copy of the data."""
        return batch_of(self.data.views, self.parts[number])

    def point(self, number: int) -> Views:
        """The clean points of a batch."""
        if self.surface.space == "input":
            return self.batch(number).views
        return self.embeddings[number].per_view

    @property
    def points(self) -> Iterator[Views]:
        """The clean points of every batch."""
        return (self.point(number) for number in range(len(self.parts)))

    def outcome(self, move: Move, budget: Budget) -> Outcome:
        """What a move does once it is clipped to the budget."""

        def each() -> Iterator[tuple[Views, Views]]:
            for number in range(len(self.parts)):
                batch = self.batch(number)
                clean = batch.views if self.surface.space == "input" else self.point(number)
                yield clean, budget.clip(clean, move(batch))

        with torch.no_grad():
            return self.look(each())

    def look(self, pairs: Iterable[tuple[Views, Views]]) -> Outcome:
        """What moved points are: a pair of clean and moved ones for each batch."""
        surface, found = self.surface, []
        with torch.no_grad():
            for (clean, moved), before, own in zip(pairs, self.embeddings, self.own, strict=True):
                with precision("highest"):
                    after = surface.embedding_of(moved)
                    labels, gain = surface.model.labels(after.z), margin(surface.model.log_assign(after.z), own)
                    shift = displacement(surface.representations(before), surface.representations(after))
                norm = (flat(moved) - flat(clean)).norm(dim=1)
                found.append((after.z, labels, gain, shift, norm))
        z, labels, gain, shift, norm = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Outcome(z, labels.cpu().numpy(), gain, shift, norm)

    def flipped(self, moved: Views, number: int) -> Tensor:
        """Which samples of batch `number` are in another cluster at these points, (m,)."""
        with torch.no_grad(), precision("highest"):
            return self.surface.labels(moved) != self.own[number]

    def clean_scores(self) -> Metrics:
        """ACC, NMI and the like of the clean points."""
        return scores(self.truth, self.clean.labels, self.n_clusters)

    def attacked_scores(self, outcome: Outcome) -> Metrics:
        """The starred scores and the flip rate of an outcome."""
        found = attacked_scores(self.truth, self.clean.labels, outcome.labels, self.n_clusters)
        return {**found, "flip": flip_rate(self.clean.labels, outcome.labels)}


def unit(surface: Surface) -> float:
    """What a radius of 1 in an attack's settings is in the units that the model sees: all pixels' range, or 1."""
    return surface.model.info.unit if surface.space == "input" else 1.0


def spaced(n: int, rows: int) -> Tensor:
    """The numbers of at most `rows` evenly spaced samples of n."""
    return torch.linspace(0, n - 1, min(rows, n)).long()


def portions(rows: Tensor, size: int) -> list[Tensor]:
    """The rows in batches; one left over joins the last batch, as a single row has no statistics."""
    parts = list(rows.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
