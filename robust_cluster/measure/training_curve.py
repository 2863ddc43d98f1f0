"""Feature randomness and feature drift while clustering (ADEC, 2019, Eqs. 5-6), and ACC and NMI beside them, which are
logged while pretraining too.

Delta_FR is the cosine of the encoder's gradients of its whole objective and of the clustering loss with true labels in
place of targets; Delta_FD that of the clustering loss and of the self-supervised one. Gradients of means over the clean
data, a fixed random subset of at most 10,000 rows, at one state of the parameters. A diagnostic that reads labels:
nothing trains, stops or chooses by it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from robust_cluster.data.base import Batch, Dataset, Labels
from robust_cluster.data.prepare import take
from robust_cluster.measure.scores import Predicted, batch_of, embed, finite
from robust_cluster.metrics.accuracy import accuracy, match
from robust_cluster.metrics.nmi import nmi
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.gradients import cosine, term_gradients
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator, seed_for

ROWS = 10_000  # at most
CHUNK = 1_024  # rows of one gradient
STARTS = 20  # of k-means while pretraining
FIGURES = ("ACC", "NMI", "delta_FR", "delta_FD", "gradient_ratio")
Figures = dict[str, float | None]


@runtime_checkable
class Drifting(Protocol):
    """A model that names the losses whose gradients are compared, and where."""

    def gradient_parameters(self) -> list[nn.Parameter]: ...
    def gradient_losses(self, batch: Batch, true_targets: Tensor) -> dict[str, Tensor]:
        """Means over the batch: "pseudo", "sup" and, where there is one, "self"."""
        ...

    def loss_weights(self) -> tuple[float, float]: ...  # of "pseudo" and "self" in the encoder's whole objective


class Curve:
    """The figures of a model as it is now, asked for after each epoch; takes no random number that training would.

    Rows: the same for every model and seed on one data set.
    """

    def __init__(self, model: ClusterModel, data: Dataset) -> None:
        rows = fixed_rows(data)
        self.model, self.views = model, data.views
        self.rows = rows.to(data.views[0].device)
        self.labels = None if data.labels is None else data.labels[rows.numpy()]

    def __call__(self) -> Figures:
        """`FIGURES`, None where there are no labels, no such loss, or a gradient that is zero."""
        training = self.model.training
        self.model.eval()
        with precision("highest"):
            views = tuple(view[self.rows] for view in self.views)
            with torch.no_grad():
                predicted = self.model.labels(embed(self.model, views).z).cpu().numpy()
            found = dict.fromkeys(FIGURES) | label_scores(self.labels, predicted)
            if isinstance(self.model, Drifting):
                found |= self.deltas(self.model, predicted)
        self.model.train(training)
        return found

    def deltas(self, model: Drifting, predicted: Predicted) -> Figures:
        """Delta_FR, Delta_FD, and the norm of the self-supervised gradient over that of the clustering loss."""
        n_clusters = self.model.info.n_clusters
        true_targets = matched_targets(self.labels, predicted, n_clusters).to(self.rows.device)
        totals: dict[str, Tensor] = {}
        parameters = model.gradient_parameters()
        with torch.enable_grad():
            for part in torch.arange(len(self.rows), device=self.rows.device).split(CHUNK):
                losses = model.gradient_losses(batch_of(self.views, self.rows[part]), true_targets[part])
                for name, gradient in term_gradients(losses, parameters).items():
                    totals[name] = totals.get(name, 0) + gradient * (len(part) / len(self.rows))
        pseudo = totals["pseudo"]
        own = totals.get("self", torch.zeros_like(pseudo))
        whole = model.loss_weights()[0] * pseudo + model.loss_weights()[1] * own
        return {
            "delta_FR": finite(float(cosine(totals["sup"], whole))),
            "delta_FD": finite(float(cosine(pseudo, own))),
            "gradient_ratio": finite(float(own.norm() / pseudo.norm())) if "self" in totals else None,
        }


def fixed_rows(data: Dataset) -> Tensor:
    """Ascending rows (at most `ROWS`,) that figures are of, labeled where some are, drawn by the data set alone."""
    order = torch.randperm(data.info.n_samples, generator=generator(seed_for(0, "drift", data.ref.label)))
    if data.labels is not None and data.labels.min() < 0:
        order = order[data.labels[order.numpy()] >= 0]
    return order[:ROWS].sort().values


def pretraining_scores(model: ClusterModel, data: Dataset, seed: int) -> Callable[[], Figures]:
    """A question for ACC and NMI of k-means (20 starts, as DynAE of ADEC's first author) on the embedding as it is now.

    None without labels. Takes no random number that training would.
    """
    shown = take(data, fixed_rows(data).numpy())

    def scores() -> Figures:
        if shown.labels is None:
            return label_scores(None, np.empty(0, np.int64))
        training = model.training
        model.eval()
        with precision("highest"):
            _, found, _ = kmeans(embed(model, shown.views).z, data.info.n_clusters, n_init=STARTS, seed=seed)
        model.train(training)
        return label_scores(shown.labels, found.cpu().numpy())

    return scores


def pretraining_columns(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """ACC and NMI after each logged epoch of a pretraining, with the steps done by then."""
    steps = np.cumsum([line["steps"] for line in lines]).tolist()
    return {"steps": steps, **{name: [line["health"].get(name) for line in lines] for name in ("ACC", "NMI")}}


def label_scores(labels: Labels | None, predicted: Predicted) -> Figures:
    """ACC and NMI in [0, 1], None without labels."""
    if labels is None:
        return {"ACC": None, "NMI": None}
    return {"ACC": accuracy(labels, predicted), "NMI": nmi(labels, predicted)}


def matched_targets(labels: Labels | None, predicted: Predicted, n_clusters: int) -> Tensor:
    """One-hot rows (n, K) of the cluster that the Hungarian match gives each sample's class.

    A row is zero, and weighs nothing in the loss, where the class has no cluster; all are without labels.
    """
    targets = torch.zeros(len(predicted), n_clusters)
    if labels is None:
        return targets
    classes = match(labels, predicted, n_clusters=n_clusters)  # of each cluster, -1 for none
    cluster_of = np.full(int(labels.max()) + 1, -1)
    cluster_of[classes[classes >= 0]] = np.flatnonzero(classes >= 0)
    clusters = cluster_of[labels]
    rows = np.flatnonzero(clusters >= 0)
    targets[torch.from_numpy(rows), torch.from_numpy(clusters[rows])] = 1.0
    return targets


def columns(start: Figures, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures by name, of the model before its first step and after each logged epoch, with the steps done by then.

    "mean": theirs over the epochs, without the start, where nothing is clustered yet. The start is after the steps that
    are no part of the clustering, of which a model that has such logs how many there were: "steps_alone".
    """
    done = np.cumsum([line["steps"] for line in lines]).tolist()
    logged = []
    for steps, health in zip(done, (line["health"] for line in lines), strict=True):
        own = steps - int(health.get("steps_alone", 0))
        if "delta_FR" in health and own:
            logged.append((own, health))
        elif "delta_FR" in health:
            start = health
    values = {name: [health[name] for _, health in logged] for name in FIGURES}
    kept = {name: [value for value in column if value is not None] for name, column in values.items()}
    means = {name: sum(column) / len(column) if column else None for name, column in kept.items()}
    whole = {name: [start[name], *column] for name, column in values.items()}
    return {"steps": [0, *(steps for steps, _ in logged)], **whole, "mean": means}
