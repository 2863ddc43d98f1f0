"""How multi-view data are built of single-view images: noisy pairs of one class, and patches of an enlarged image.

Source: DeepMVC (Trosten et al., CVPR 2023) and AR-DMVC's released code. Sums and products are taken in float64 in one
order and rounded to float32 at the end, so that every machine gets the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import interpolate

from robust_cluster import discover
from robust_cluster.data.base import Labels
from robust_cluster.errors import DataError, ShapeError

Floats = npt.NDArray[np.float32]
Construct = Callable[[Sequence[Floats], Labels | None], list[Floats]]  # images (n, C, H, W) in [0, 1] -> the views
SEED = 7  # of every construction and of the halves, in DeepMVC and in AR-DMVC's code
NOISE = 0.2  # standard deviation on the scale -1..1
ENLARGED = 4  # times; also the cells of the patches' grid a side
CORNERS = {(0, 0), (0, ENLARGED - 1), (ENLARGED - 1, 0), (ENLARGED - 1, ENLARGED - 1)}
ROWS = 1000  # images that are worked on at once, so that float64 copies stay small


def noisy(views: Sequence[Floats], labels: Labels | None) -> list[Floats]:
    """Two views: the images, and for each a noisy image of the same class; both min-max scaled to [0, 1] as a whole.

    View 2 permutes the images within each class, classes ascending, then adds N(0, 0.2^2) to pixels in -1..1, without
    clipping; one generator, seed 7. A pair shares its class and not its object, so labels enter the data.
    The largest draws of noise set view 2's range, so its contrast is about half of view 1's.
    Shape: one view (n, C, H, W) in [0, 1]. Raises: DataError without labels, ShapeError for what is not one image view.
    Source: DeepMVC (NoisyMNIST, NoisyFashion).
    """
    if len(views) != 1 or views[0].ndim != 4:
        shapes = ", ".join(str(view.shape) for view in views)
        raise ShapeError(f"noisy pairs are made of one view of images (n, channels, height, width), got {shapes}")
    if labels is None or min(labels) < 0:
        wanted = "labels" if labels is None else "a label for every sample"
        raise DataError(f"noisy pairs are made within each class, so the file needs {wanted}", hint="an array y")
    images = views[0]
    rng = np.random.default_rng(SEED)
    chosen = partners(labels, rng)
    second = np.empty(images.shape)
    for rows in _portions(len(images)):
        second[rows] = _signed(images[chosen[rows]]) + rng.normal(0.0, NOISE, second[rows].shape)
    return [_unit_range(images, "view_0"), _unit_range(second, "view_1")]


def with_classes(views: Sequence[Floats], labels: Labels | None) -> list[Floats]:
    """The view, and the classes themselves as a second one (n, K), one-hot: for an oracle, no method trains on these.

    Raises: DataError for several views or without a class for every sample.
    """
    if len(views) != 1 or labels is None or min(labels) < 0:
        raise DataError(f"an oracle needs one view and a class for every sample, got {len(views)} views")
    return [*views, np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]]


def partners(labels: Labels, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The image (n,) that each sample's second view shows: a permutation within every class, classes ascending."""
    found = np.empty(len(labels), np.int64)
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        found[members] = rng.permutation(members)
    return found


def sources(labels: Labels) -> npt.NDArray[np.int64]:
    """The images (n, 2) that the two views of `noisy` are made of, by their places in the whole set.

    Image i is the first view of sample i and the second view of another sample: these two share it.
    """
    return np.stack([np.arange(len(labels)), partners(labels, np.random.default_rng(SEED))], axis=1)


def shares_images(name: str) -> bool:
    """Whether samples of this data set share images: those of noisy pairs do, others are made of one image each."""
    if name.startswith(discover.NOISY):
        return True
    return name in discover.names("data") and getattr(discover.load("data", name), "construct", None) is noisy


def patches(images: Floats, positions: Sequence[int]) -> list[Floats]:
    """One view (n, C, H, W) per position: a cell of the 4 x 4 grid over the images enlarged 4 times.

    Positions count the 12 cells that are no corner, row by row: 0 and 1 are the middle of the first row, 2 to 5 the
    second row. Each position is min-max scaled to [0, 1] over all samples. Enlarging is bilinear with half-pixel
    centers; beyond the border its pixels are repeated, where DeepMVC's mirror: the same for images with a dark border.
    Shape: images (n, C, H, W) in [0, 1]. Raises: DataError when a position is the same everywhere.
    Source: DeepMVC (PatchedMNIST).
    """
    grid = [(i, j) for i in range(ENLARGED) for j in range(ENLARGED)]
    cells = [cell for cell in grid if cell not in CORNERS]
    height, width = images.shape[2:]
    found = [np.empty(images.shape) for _ in positions]
    for rows in _portions(len(images)):
        large = _enlarged(_signed(images[rows]))
        for view, position in zip(found, positions, strict=True):
            i, j = cells[position]
            view[rows] = large[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width]
    return [_unit_range(view, f"view_{index}") for index, view in enumerate(found)]


def halves(n_samples: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ascending rows of H1, which victims train on, and of H2, which attacks train and score on: disjoint, seed 7.

    NumPy's legacy generator, whose permutations no version changes. Sizes: n // 2 and the rest.
    Raises: DataError for n < 2. Source: AR-DMVC's released code; its order within a half is not kept.
    """
    if n_samples < 2:
        raise DataError(f"two halves need at least 2 samples, got {n_samples}")
    order = np.random.RandomState(SEED).permutation(n_samples).astype(np.int64)
    return np.sort(order[: n_samples // 2]), np.sort(order[n_samples // 2 :])


def published(values: Mapping[str, float], name: str, default: float) -> float:
    """The setting that AR-DMVC's code has for a data set: the value whose key its name starts with, else `default`.

    Keys: "noisymnist", "noisyfashion", "patchedmnist", "regdb"; "noisy:mnist10k" counts as noisymnist.
    """
    plain = name.replace(":", "").replace("-", "")
    return next((value for key, value in values.items() if plain.startswith(key)), default)


def _portions(n: int) -> list[slice]:
    return [slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]


def _signed(images: Floats) -> npt.NDArray[np.float64]:
    """Pixels of 0..1 on the scale -1..1."""
    return (images.astype(np.float64) - 0.5) / 0.5


def _enlarged(images: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The images with both sides 4 times as long. The weights are multiples of 1/8, so no sum is rounded."""
    large = interpolate(torch.from_numpy(images), scale_factor=ENLARGED, mode="bilinear", align_corners=False)
    return cast(npt.NDArray[np.float64], large.numpy())


def _unit_range(view: npt.NDArray[np.floating], name: str) -> Floats:
    """The view with its least value at 0 and its largest at 1. Raises: DataError when they are equal."""
    low, high = float(view.min()), float(view.max())
    if low == high:
        raise DataError(f"every value of {name} is {low}, so it cannot be scaled to [0, 1]", hint="a larger --limit")
    scaled = np.empty(view.shape, np.float32)
    for rows in _portions(len(view)):
        scaled[rows] = (view[rows].astype(np.float64) - low) / (high - low)
    return scaled
