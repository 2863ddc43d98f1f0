"""What a finished clustering looks like, made anew from its checkpoint: embeddings in two dimensions, chosen samples.

The labels of the data color and name what is shown; they choose samples only where a figure is about classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import Dataset
from robust_cluster.errors import ConfigError, DataError
from robust_cluster.measure.images import Judge, check_image, image_shape
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import embed, in_portions
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.layers import flat
from robust_cluster.nn.precision import precision

MOST = 10_000  # points of a scatter
ALIKE = 0.999  # share of equal labels; rounding may turn a few
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cloud:
    """An embedding in two dimensions: points (n, 2), their classes or clusters (n,), centroids (K, 2).

    `rows` (n,): their places in the data set. `axes`: what the two dimensions are.
    """

    points: Floats
    classes: Ints
    centers: Floats
    rows: Ints
    axes: tuple[str, str]
    has_classes: bool


@dataclass(frozen=True)
class Strip:
    """Samples in a row: images (m, H, W, C) in [0, 1], their places in the data set and classes (-1: unlabeled)."""

    label: str
    images: Floats
    rows: Ints
    classes: Ints


@dataclass(frozen=True)
class Decodings:
    """Samples whose cluster attacks on the embedding change: their images, what the model decodes of the clean
    embedding, and of that which each attack has moved; `flips`: the share of the rows that each moves to another
    cluster. `n_moved` of `n_scored` rows are by one of them at least.
    """

    strips: list[Strip]
    flips: tuple[float, ...]
    n_moved: int
    n_scored: int


@dataclass(frozen=True)
class Portrait:
    """A trained model with the embedding z (n, d) and the soft labels (n, K) of its data."""

    model: ClusterModel
    data: Dataset
    z: Tensor
    soft_labels: Tensor

    @property
    def labels(self) -> Ints:
        """The model's hard labels (n,)."""
        found: Ints = self.model.labels(self.z).cpu().numpy()
        return found

    @property
    def classes(self) -> Ints:
        """The classes of the data (n,), -1 without labels."""
        known = self.data.labels
        return np.full(len(self.z), -1) if known is None else known


def portrait(model: ClusterModel, data: Dataset) -> Portrait:
    """A trained model with what it makes of the data that it was trained on."""
    with torch.no_grad(), precision("highest"):
        z = embed(model, data.views).z
        return Portrait(model, data, z, model.assign(z))


def mapped(shown: Portrait, space: str) -> Tensor:
    """The points (n, t) of `space`: z itself, or what the model's method or network of that name makes of z.

    Raises: ConfigError when the model has none.
    """
    if space == "z":
        return shown.z
    network = getattr(shown.model, space, None)
    if not callable(network):
        raise ConfigError(f"{type(shown.model).__name__} has nothing named {space!r} to map its embedding", hint="z")
    with precision("highest"):
        (points,) = in_portions(len(shown.z), lambda rows: (network(shown.z[rows]),), shown.z.device)
    return points


def cloud(shown: Portrait, space: str, last: int) -> Cloud:
    """The embedding as it is in two dimensions, else its first two principal components, with the centroids.

    Of the `last` rows of the data (0: all), at most 10,000, evenly spaced. A component's largest weight is positive.
    """
    z = mapped(shown, space).double().cpu().numpy()
    labels, n = shown.labels, len(z)
    centers = centroids(shown, z)
    axes = ("dimension 1", "dimension 2")
    if z.shape[1] != 2:
        middle = z.mean(axis=0)
        centered = z - middle
        values, vectors = np.linalg.eigh(centered.T @ centered)
        basis = vectors[:, ::-1][:, :2]
        basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])
        shares = values[::-1][:2] / max(values.sum(), np.finfo(float).tiny)
        z, centers = centered @ basis, (centers - middle) @ basis
        axes = tuple(f"component {i} ({share:.0%})" for i, share in enumerate(shares, start=1))  # type: ignore[assignment]
    first = max(0, n - last) if last else 0
    rows = np.linspace(first, n - 1, min(MOST, n - first)).astype(np.int64)
    has_classes = shown.data.labels is not None
    classes = shown.classes if has_classes else labels
    return Cloud(z[rows].astype(np.float32), classes[rows], centers.astype(np.float32), rows, axes, has_classes)


def centroids(shown: Portrait, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The model's own centers (K, t) where its labels are those of the nearest of them to points (n, t); else, as for
    mixtures and for centers in another space, the clusters' means.
    """
    own, labels = getattr(shown.model, "centers", None), shown.labels
    if isinstance(own, Tensor) and own.shape[1] == points.shape[1]:
        nearest_own = torch.cdist(torch.from_numpy(points), own.detach().double().cpu()).argmin(dim=1).numpy()
        if (nearest_own == labels).mean() > ALIKE:
            return own.detach().double().cpu().numpy()
    return np.array([points[labels == k].mean(axis=0) for k in np.unique(labels)])


def surest(shown: Portrait, count: int) -> list[Strip]:
    """Per cluster the `count` of its samples with the largest soft label, surest first."""
    sure, labels = shown.soft_labels.amax(dim=1).cpu().numpy(), shown.labels
    strips = []
    for k in range(shown.data.info.n_clusters):
        own = np.flatnonzero(labels == k)
        strips.append(strip(f"cluster {k}", shown, own[np.argsort(-sure[own], kind="stable")][:count]))
    return strips


def outputs(models: Sequence[tuple[str, Portrait]]) -> list[Strip]:
    """The first sample of each class (or cluster of the first model), then what each model decodes of its embedding.

    Raises: ConfigError for a model without a decoder.
    """
    first = models[0][1]
    groups = first.labels if first.data.labels is None else first.classes
    rows = np.unique(groups, return_index=True)[1].astype(np.int64)
    strips = [strip("input", first, rows)]
    for label, shown in models:
        with torch.no_grad():
            decoded = shown.model.decode(shown.z[torch.from_numpy(rows).to(shown.z.device)])[0]
        strips.append(Strip(label, images(decoded, shown.data), rows, shown.classes[rows]))
    return strips


def decodings(attacks: Iterable[tuple[str, Rows, Attack]], count: int, shape: tuple[int, ...] = ()) -> Decodings:
    """What a model decodes of the embeddings that attacks leave and move (ALRDC, NeurIPS 2020, supplement, Figure 1).

    Columns are the first `count` samples that most of the attacks move to another cluster. `classes` are the samples',
    then those of their clusters under the clean matching (the clusters themselves without labels). `shape` is that of
    the images which the model takes as vectors; () if they say it themselves. Raises: ConfigError for attacks that
    were scored on different rows.
    """
    # each moves its points before the next is made: that seeds the generator which PGD draws its starts from
    shown = [(label, rows, rows.outcome(rows.moved(attacker))) for label, rows, attacker in attacks]
    first = shown[0][1]
    if any(not torch.equal(rows.index, first.index) for _, rows, _ in shown):
        raise ConfigError("decoded is drawn of attacks that were scored on the same samples")
    changed = np.stack([moved.labels != first.clean.labels for *_, moved in shown])
    times = changed.sum(axis=0)
    places = np.sort(np.argsort(-times, kind="stable")[: min(count, np.count_nonzero(times))])
    index, judge = first.index[torch.from_numpy(places)], Judge(first)
    model, device = first.surface.model, first.clean.z.device

    def strip_of(label: str, z: Tensor, labels: Ints) -> Strip:
        with torch.no_grad(), precision("highest"):
            decoded = model.decode(z[torch.from_numpy(places).to(device)].to(first.clean.z.dtype))[0]
        return Strip(label, images(decoded, first.data, shape), index.numpy(), judge.mapping[labels[places]])

    truth = np.full(len(places), -1) if first.truth is None else first.truth[places]
    view = first.data.views[0][index.to(first.data.views[0].device)]
    strips = [
        Strip("sample", images(view, first.data, shape), index.numpy(), truth),
        strip_of("decoded", first.clean.z, first.clean.labels),
        *(strip_of(label, moved.z, moved.labels) for label, _, moved in shown),
    ]
    flips = tuple(float(share) for share in changed.mean(axis=1))
    return Decodings(strips, flips, int(np.count_nonzero(times)), len(first))


def neighbors(models: Sequence[tuple[str, Portrait]], space: str, query: tuple[int, ...], count: int) -> list[Strip]:
    """A sample of class query[0] whose nearest by pixels are mostly of query[1], and the nearest to it by each measure.

    The first such sample in the data set, else the one with the most of them; Euclidean distances. A model without
    `space` is compared by its z. Raises: DataError without labels or such a sample.
    """
    shown = models[0][1]
    pixels = flat([view[:] for view in shown.data.views])
    row = ambiguous(pixels, shown.classes, query, count)
    measures = [(label, mapped(one, space if hasattr(one.model, space) else "z")) for label, one in models]
    found = [strip("query", shown, np.array([row]))]
    for label, points in [*measures, ("pixels", pixels)]:
        found.append(strip(label, shown, nearest(points, row, count)))
    return found


def ambiguous(pixels: Tensor, classes: Ints, query: tuple[int, ...], count: int) -> int:
    """The first row of class query[0] of whose `count` nearest by pixels more than half are of query[1].

    Where there is none, the row with the most of them. Raises: DataError where no row has any.
    """
    most, best = 0, -1
    for row in np.flatnonzero(classes == query[0]).tolist():
        found = int((classes[nearest(pixels, row, count)] == query[1]).sum())
        if found > most:
            most, best = found, row
        if found > count / 2:
            break
    if best < 0:
        raise DataError(f"no sample of class {query[0]} has one of class {query[1]} among its {count} nearest")
    return best


def nearest(points: Tensor, row: int, count: int) -> Ints:
    """The `count` rows nearest to `row`, itself left out, nearest first."""
    distances = (points - points[row]).square().sum(dim=1)
    distances[row] = torch.inf
    found: Ints = distances.topk(min(count, len(points) - 1), largest=False, sorted=True).indices.cpu().numpy()
    return found


def strip(label: str, shown: Portrait, rows: Ints) -> Strip:
    """The samples of these rows as they are in the data set."""
    view = shown.data.views[0][torch.from_numpy(rows).to(shown.z.device)]
    return Strip(label, images(view, shown.data), rows, shown.classes[rows])


def images(view: Tensor, data: Dataset, shape: tuple[int, ...] = ()) -> Floats:
    """The samples (m, ...) of the first view as images (m, H, W, C) in [0, 1].

    `shape`: theirs, by default that of the data. Vectors of a square length become squares; values without bounds are
    divided by the largest of the data. Raises: ShapeError for what is no image.
    """
    check_image(data.info, shape or data.info.shapes[0])
    shape = image_shape(shape or data.info.shapes[0])
    top = data.info.bounds[1] if data.info.bounds else max(float(data.views[0][:].max()), 1e-12)
    pixels: Floats = (view.reshape(-1, *shape) / top).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
    return pixels
