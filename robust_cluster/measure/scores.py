"""Scores of whole data sets. Labels are read here, and for diagnostics in drift and gallery: no training, stopping or
selection sees anything of that.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from robust_cluster.data.base import Batch, Labels, Stored
from robust_cluster.data.formats import memory
from robust_cluster.data.sparse import SparseView
from robust_cluster.metrics.accuracy import accuracy, accuracy_under, chance_accuracy, match
from robust_cluster.metrics.ami import ami
from robust_cluster.metrics.ari import ari
from robust_cluster.metrics.nmi import nmi
from robust_cluster.metrics.purity import purity
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.shallow.base import Shallow
from robust_cluster.nn.sparse import column_variance, row_norms

PORTION = 1000  # rows of one forward pass
PROBE = 2000  # rows whose health is logged every epoch
ACTIVE = 0.01  # variance of a latent dimension that counts as used; the rest collapsed to the prior
SHARE = 0.01  # of the samples that a cluster must hold to count as used
QUERIES = 1000  # samples whose neighbors are looked at
NEAREST = 10  # of their neighbors

SCORES = {"ACC": accuracy, "NMI": nmi, "AMI": ami, "ARI": ari}  # of predicted labels against the classes
Metrics = dict[str, float | None]
Details = dict[str, Any]  # what else of a measurement goes into the record, e.g. the lines of a curve
Predicted = npt.NDArray[np.int64]


def in_portions(n: int, part: Callable[[Tensor], tuple[Tensor, ...]], device: torch.device) -> tuple[Tensor, ...]:
    """`part` of consecutive row numbers, the results of each position joined along the first axis; no gradients.

    Raises: DataError when the CPU's memory cannot hold the results.
    """
    joined: list[Tensor] = []  # made once: small results kept between large freed ones would leave holes in memory
    portions = torch.arange(n, device=device).split(PORTION)
    ends: list[int] = []
    with torch.no_grad():
        for rows in portions:
            found = part(rows)
            if not joined:
                if device.type == "cpu":
                    needed = n * sum(one.nbytes for one in found) // len(rows)
                    memory.check(
                        f"what is computed of {n} samples", needed, "--limit N, or --dim with fewer dimensions"
                    )
                sizes = (n if len(one) == len(rows) else len(one) * len(portions) for one in found)
                joined = [one.new_empty((size, *one.shape[1:])) for one, size in zip(found, sizes, strict=True)]
                ends = [0] * len(found)
            for number, one in enumerate(found):
                joined[number][ends[number] : ends[number] + len(one)] = one
                ends[number] += len(one)
    return tuple(one[:end] for one, end in zip(joined, ends, strict=True))


def embed(model: ClusterModel, views: Stored) -> Embedding:
    """The embedding of a whole data set, without gradients. The caller puts the model in eval().

    Data that stay sparse are their own embedding: z is in torch's CSR layout then.
    """
    if stays_sparse(model, views):
        assert isinstance(views[0], SparseView)
        z = views[0].csr()
        return Embedding(z, (z,))

    def part(rows: Tensor) -> tuple[Tensor, ...]:
        embedding = model.encode(tuple(view[rows] for view in views))
        extra = () if embedding.log_var is None else (embedding.log_var,)
        return (embedding.z, *embedding.per_view, *extra)

    parts = in_portions(len(views[0]), part, views[0].device)
    count = len(parts) - 1 - len(views)
    return Embedding(parts[0], parts[1 : 1 + len(views)], parts[-1] if count else None)


def stays_sparse(model: ClusterModel, views: Stored) -> bool:
    """Whether the embedding of the whole data set is its only view, which is sparse."""
    takes_csr = isinstance(model, Shallow) and model.takes_csr
    return takes_csr and len(views) == 1 and isinstance(views[0], SparseView)


def spaced(n: int, rows: int) -> Tensor:
    """The numbers of at most `rows` evenly spaced samples of n."""
    return torch.linspace(0, n - 1, min(rows, n)).long()


def labeled(index: Tensor, labels: Labels | None) -> Tensor:
    """The rows of `index` without those whose label is not known (-1) where others' are."""
    return index if labels is None or labels.min() >= 0 else index[torch.from_numpy(labels >= 0)[index]]


def portions(rows: Tensor, size: int) -> list[Tensor]:
    """The rows in batches; one left over joins the last batch, as a single row has no statistics."""
    parts = list(rows.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def batch_of(views: Stored, rows: Tensor) -> Batch:
    """The rows as a batch."""
    return Batch(tuple(view[rows] for view in views), rows)


def known(labels: Labels, *columns: Predicted) -> tuple[Labels, ...]:
    """The labels that are there, not -1, and each column's values in their rows."""
    there = labels >= 0
    return (labels, *columns) if there.all() else (labels[there], *(column[there] for column in columns))


def scores(labels: Labels | None, predicted: Predicted, n_clusters: int) -> Metrics:
    """ACC, NMI, AMI, ARI, purity and the chance floor of ACC, up to 1 (AMI and ARI can be negative); None without
    labels. Rows whose label is not known (-1) are left out.
    """
    if labels is None or labels.max() < 0:
        return dict.fromkeys((*SCORES, "purity", "chance"))
    labels, predicted = known(labels, predicted)
    found: Metrics = {name: score(labels, predicted) for name, score in SCORES.items()}
    return found | {"purity": purity(labels, predicted), "chance": chance_accuracy(labels, n_clusters)}


def hard_neighbors(points: Tensor, pixels: Tensor, labels: Labels | None) -> float | None:
    """Of samples that look like another class, the share of their 10 nearest by `points` that are of their own class.

    These are, of at most 1,000 evenly spaced ones, those of whose 10 nearest by `pixels` fewer than half are of their
    class; LPVDN (AAAI 2021, Figure 4) shows one. Shapes: points (n, t), pixels (n, D), labels (n,); returns a share in
    [0, 1], None without such samples or without labels.
    """
    if labels is None or labels.max() < 0:
        return None
    rows = labeled(spaced(len(points), QUERIES), labels)
    hard = rows[(own_class(pixels, rows, labels) < 0.5).cpu()]
    return float(own_class(points, hard, labels).mean()) if len(hard) else None


def own_class(points: Tensor, rows: Tensor, labels: Labels) -> Tensor:
    """The share (m,) of the nearest of each row in `rows` (m,), itself left out, that are of its class."""
    classes, found = torch.from_numpy(labels).to(points.device), []
    for part in rows.to(points.device).split(PORTION // 10):
        distances = torch.cdist(points[part], points)
        distances[torch.arange(len(part), device=points.device), part] = torch.inf
        near = distances.topk(min(NEAREST, len(points) - 1), largest=False).indices
        found.append((classes[near] == classes[part][:, None]).float().mean(dim=1))
    return torch.cat(found)


def attacked_scores(labels: Labels | None, clean: Predicted, moved: Predicted, n_clusters: int) -> Metrics:
    """The starred scores of moved points; ACC* re-matched as published and under the clean matching (_clean_map).

    Rows whose label is not known (-1) are left out.
    """
    if labels is None or labels.max() < 0:
        return dict.fromkeys((*(f"{name}*" for name in SCORES), "ACC*_clean_map"))
    labels, clean, moved = known(labels, clean, moved)
    mapping = match(labels, clean, n_clusters=n_clusters)
    found: Metrics = {f"{name}*": score(labels, moved) for name, score in SCORES.items()}
    return found | {"ACC*_clean_map": accuracy_under(mapping, labels, moved)}


def answers(model: ClusterModel, embedding: Embedding) -> tuple[Tensor, Tensor]:
    """Soft labels (n, K) and labels (n,) of an embedding; of a transductive method those of the rows that it fitted."""
    if not model.transductive:
        return model.assign(embedding.z), model.labels(embedding.z)
    labels = model.fit.labels
    assert labels is not None  # such methods keep them
    return F.one_hot(labels, model.info.n_clusters).float(), labels


def cluster_health(model: ClusterModel, embedding: Embedding) -> dict[str, Any]:
    """Label-free figures of a clustering: sizes, collapse, entropies (nats), active dimensions, norms."""
    with torch.no_grad():
        soft, labels = answers(model, embedding)
        n_clusters = soft.shape[1]
        sizes = torch.bincount(labels, minlength=n_clusters)
        used = int((sizes >= SHARE * len(labels)).sum())
        return {
            "cluster_sizes": sizes.tolist(),
            "clusters_used": used,
            "empty_clusters": int((sizes == 0).sum()),
            "largest_share": float(sizes.max()) / len(labels),
            "collapsed": used < n_clusters,
            "mean_entropy": float(entropy(soft).mean()),
            "entropy_of_mean": float(entropy(soft.mean(dim=0, keepdim=True))),
            "active_dims": int((column_variance(embedding.z) > ACTIVE).sum()),
            "embedding_norm": float(row_norms(embedding.z).mean()),
            **model.health(embedding),
        }


def entropy(soft_labels: Tensor) -> Tensor:
    """-sum_k y_k log y_k of each row, (n,), in nats."""
    return -torch.xlogy(soft_labels, soft_labels).sum(dim=1)


class Watch:
    """Health of a fixed subset of evenly spaced rows after each epoch, with the share of them that changed cluster."""

    def __init__(self, model: ClusterModel, views: Stored) -> None:
        n = len(views[0])
        rows = spaced(n, PROBE).to(views[0].device)
        self.model, self.views = model, tuple(view[rows] for view in views)
        self.before: Tensor | None = None

    def __call__(self) -> dict[str, Any]:
        """The figures of `cluster_health` and "label_change" in [0, 1].

        That is None after the first epoch, and while the model does not know its labels.
        """
        training = self.model.training
        self.model.eval()
        embedding = embed(self.model, self.views)
        if self.model.transductive:  # labels all rows at once, when it is done
            return {**self.model.health(embedding), "label_change": None}
        health = cluster_health(self.model, embedding)
        with torch.no_grad():
            labels = self.model.labels(embedding.z)
        self.model.train(training)
        before = self.before if self.model.knows_labels() else None
        change = None if before is None else float((labels != before).float().mean())
        self.before = labels
        return {**health, "label_change": change}

    def state_dict(self) -> dict[str, Any]:
        """The labels of the last epoch, so that a resumed run logs the same change."""
        return {"before": None if self.before is None else self.before.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the labels of the last epoch."""
        before = state["before"]
        self.before = None if before is None else before.to(self.views[0].device)


def characters(labels: Labels) -> str:
    """One character a label: 0-9, then a-z; "-" for -1."""
    return "".join("-" if label < 0 else np.base_repr(label, 36).lower() for label in labels.tolist())


def finite(value: float) -> float | None:
    """The value, or None where it is infinite or NaN, for which JSON has no number."""
    return value if math.isfinite(value) else None
