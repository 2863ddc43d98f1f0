"""The types of an audit: the evidence that it looks at, the verdict of a check, the finding in the record.

An audit asks of a finished attack whether its numbers can be believed: was the budget kept, does the loss go up, do
weaker attacks find less? The rules are those of Carlini et al. 2019 (On evaluating adversarial robustness), Athalye et
al. 2018, Tramer et al. 2020, Croce and Hein 2020, and Zimmermann et al. 2022. Order comparisons are made on flips, on
ACC under the clean matching and on the objective of each sample: ACC matched anew, NMI and ARI need not fall when a
stronger attack moves more samples.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.data.base import Batch, Labels, Views
from robust_cluster.measure.metric import Metric

Status = Literal["pass", "warn", "fail", "note", "not run"]
When = Literal["quick", "full"]

Build = Callable[[Mapping[str, Any]], Attack]
Predicted = npt.NDArray[np.int64]
PORTION = 250  # rows moved and labeled at once
BATCH = 100  # the same where batch norm takes the statistics of the batch: the size in which the stage scores

FLIP = Metric("flip", "attack")
REACHED = Metric("reached", "attack")
ACC_MATCHED = Metric("ACC", "attack")
ACC_KEPT = Metric("ACC", "attack", matching="clean")

LIGHT: Mapping[str, int] = {"steps": 10, "queries": 100, "draws": 10, "restarts": 2, "rounds": 2}
"""The most that a check gives an attack whose mechanics it tests, and not its strength."""
LIGHTER: Mapping[str, int] = {"steps": 5, "queries": 20, "draws": 2, "restarts": 1, "targets": 1, "rounds": 1}
"""The same for an ensemble, which is many attacks."""

Score = Callable[[Labels | None, Predicted, Predicted], Mapping[str, float | None]]


@dataclass(frozen=True)
class Certificate:
    """What a certify record says of the probe rows, all in the units that the model sees.

    `labels` (n,): the smoothed model's cluster, -1 where it abstained. `radius` (n,): L2 over all views together.
    """

    labels: Predicted
    radius: npt.NDArray[np.float64]
    sigma: float
    alpha: float
    n: int  # draws that bound the top cluster's probability


@dataclass(frozen=True)
class Evidence:
    """Everything that a check may look at. Checks that need what is None or empty here are "not run".

    `surface`: the frozen victim; with a `memory`, `batch.index` are rows of it. `attacker`: as it was measured.
    `build(overrides)`: a fresh attacker of the audited kind and seed with some settings changed, untrained where it is
    learned. `batch`: the probe rows. `record`: the finished record so far, with its "threat" and "radii".
    `clean_labels` (n,): the probe rows' clusters by the clustering's own code, not by the attack's path.
    """

    surface: Surface
    attacker: Attack
    build: Build
    batch: Batch
    clean_labels: Predicted
    record: Mapping[str, Any] = field(default_factory=dict)
    labels: Labels | None = None  # of the probe rows; reach no attack
    moved: Views | None = None  # the probe rows' points as the stage scored them; None: computed again
    score: Score | None = None  # the stage's own scores: (labels, clean clusters, moved clusters) -> metrics by name
    clean_scores: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Figures of the clean model: (in the clustering's record, measured again by the attack's path on those rows)."""
    others: Callable[[str, Mapping[str, Any]], Attack] | None = None  # any other attack by name at the same budget
    build_shuffled: Build | None = None  # `build` where the data set's labels are in a random order
    undefended: Surface | None = None  # the same model before its defense
    twin: Mapping[str, Any] | None = None  # record of the same attack on the undefended model
    defense: str | None = None  # name of the defense that the victim has
    certificate: Certificate | None = None
    scored: int | None = None  # how many samples the run was asked to score
    places: Predicted | None = None  # (n,), where the probe rows stand among those
    seeds: tuple[tuple[int, int], ...] = ()  # (model seed, attack seed) of all finished runs of this cell
    seed: int = 0

    def __len__(self) -> int:
        return len(self.batch)

    def probe(self, most: int) -> "Evidence":
        """This evidence on at most so many evenly spaced rows."""
        if len(self) <= most:
            return self
        rows = torch.linspace(0, len(self) - 1, most).long()
        return self.take(rows)

    def take(self, rows: Tensor) -> "Evidence":
        """This evidence on some of its rows (m,)."""
        index, chosen = rows.to(self.batch.index.device), rows.cpu().numpy()
        certificate = self.certificate
        if certificate is not None:
            certificate = replace(certificate, labels=certificate.labels[chosen], radius=certificate.radius[chosen])
        return replace(
            self,
            batch=Batch(tuple(view[index] for view in self.batch.views), self.batch.index[index]),
            clean_labels=self.clean_labels[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            places=None if self.places is None else self.places[chosen],
            moved=None if self.moved is None else tuple(view[index] for view in self.moved),
            certificate=certificate,
        )

    @property
    def threat(self) -> Mapping[str, Any]:
        """The record's threat model, empty where it states none."""
        found: Mapping[str, Any] = self.record.get("threat") or {}
        return found

    @property
    def knowledge(self) -> str:
        """What the attack is declared to know of the victim: "white", "score", "label", "transfer" or "none"."""
        return str(self.threat.get("knowledge") or self.attacker.knowledge)

    @property
    def target(self) -> int | None:
        """The cluster that the attack is aimed at, None where any other than a sample's own will do."""
        found: int | None = setting(self.attacker, "target")
        return found

    @property
    def success(self) -> Metric:
        """The rate by which a record counts what `flips` does."""
        return FLIP if self.target is None else REACHED

    @cached_property
    def clean(self) -> Views:
        """The clean points, in the surface's space."""
        with torch.no_grad():
            return tuple(view.detach() for view in self.surface.point(self.batch))

    @cached_property
    def own(self) -> Predicted:
        """The clusters (n,) of the clean points by the attack's path."""
        return self.clusters(self.clean)

    @cached_property
    def points(self) -> Views:
        """The points whose scores stand in the record: the stage's own where they are given."""
        return self.move(self.attacker) if self.moved is None else self.moved

    @cached_property
    def light(self) -> Views:
        """What a cheaper form of the attack proposes, which shows how it works and not how strong it is."""
        return self.propose(self.rebuilt(lightened(self.attacker)))

    def rebuilt(self, overrides: Mapping[str, Any]) -> Attack:
        """The audited attacker with some settings changed; a learned one keeps what it has learned."""
        fresh = self.build(overrides)
        learned = self.attacker.state()
        for name, part in fresh.state().items():
            part.load_state_dict(copy.deepcopy(learned[name].state_dict()))
        return fresh

    def portions(self) -> Iterator[slice]:
        """Consecutive parts of the rows; a single last row joins the part before, for alone it has no statistics."""
        n, size = len(self), PORTION if self.surface.bn == "eval" else BATCH
        starts = list(range(0, n, size))
        if len(starts) > 1 and n - starts[-1] == 1:
            starts.pop()
        yield from (slice(begin, end) for begin, end in zip(starts, [*starts[1:], n], strict=True))

    def batches(self) -> Iterator[Batch]:
        """The rows in portions."""
        yield from (Batch(cut(self.batch.views, rows), self.batch.index[rows]) for rows in self.portions())

    def propose(self, attacker: Attack, surface: Surface | None = None) -> Views:
        """What an attacker proposes for the rows, before any clipping; the same random draws in every call."""
        torch.manual_seed(self.seed)
        parts = [attacker.perturb(surface or self.surface, batch) for batch in self.batches()]
        return tuple(view.detach() for view in joined(parts))

    def move(self, attacker: Attack) -> Views:
        """What an attacker proposes for the rows, clipped as the stage clips."""
        return attacker.budget.clip(self.clean, self.propose(attacker))

    def clusters(self, points: Views) -> Predicted:
        """Hard labels (n,) of points of the rows."""
        with torch.no_grad():
            parts = [self.surface.labels(cut(points, rows)) for rows in self.portions()]
        found: Predicted = torch.cat(parts).cpu().numpy()
        return found

    def flips(self, points: Views) -> npt.NDArray[np.bool_]:
        """Whether each sample is in another cluster at these points than at its clean one, (n,).

        Where the attack is aimed, whether it is in the cluster aimed at, which no probe row is in from the start.
        """
        after = self.clusters(points)
        return np.asarray(after != self.own if self.target is None else after == self.target)


def lightened(attacker: Attack) -> dict[str, Any]:
    """The settings that would make this attack cheaper."""
    limits = LIGHTER if hasattr(attacker, "members") else LIGHT
    values = {name: setting(attacker, name) for name in limits}
    return {name: limits[name] for name, value in values.items() if isinstance(value, int) and value > limits[name]}


def setting(attacker: Attack, name: str) -> Any:
    """A field of the attack's config, None where it has none of that name."""
    return getattr(getattr(attacker, "config", None), name, None)


def cut(views: Views, rows: slice | Tensor) -> Views:
    """Some rows of every view."""
    return tuple(view[rows] for view in views)


def joined(parts: Sequence[Views]) -> Views:
    """Parts of views, one below the other."""
    return tuple(torch.cat(views) for views in zip(*parts, strict=True))


@dataclass(frozen=True)
class Verdict:
    """What a check says. `needed`: whether the record's claim stands only if this check was run."""

    status: Status
    value: float | None = None
    threshold: float | None = None
    n: int = 0
    note: str = ""
    needed: bool = True


def graded(fails: object, warns: object) -> Status:
    """The status of a check: "fail" where there is what makes it fail, else "warn" where there is what warns."""
    return "fail" if fails else "warn" if warns else "pass"


def not_run(why: str, *, needed: bool = True) -> Verdict:
    """A check that could not be run, and why. `needed` False: it has no meaning for this attack or claim."""
    return Verdict("not run", note=why, needed=needed)


@dataclass(frozen=True)
class Check:
    """One rule. `when`: "quick" inside every attack, "full" in audits alone."""

    id: int
    name: str
    when: When
    run: Callable[[Evidence], Verdict]


@dataclass(frozen=True)
class Finding:
    """One entry of record["audit"]: plain numbers and words."""

    id: int
    name: str
    value: float | None
    threshold: float | None
    n: int  # samples looked at
    status: Status
    seconds: float
    note: str
    needed: bool = True
