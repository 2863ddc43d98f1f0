"""The data types: views, batches without labels, what is known of a data set, and the data set itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from robust_cluster.data.sparse import Matrix, SparseView
from robust_cluster.runs.spec import DataRef

Views = tuple[Tensor, ...]  # V tensors, each (n, *shape_v); single-view data has V = 1
Stored = tuple[Tensor | SparseView, ...]  # the views of a whole data set: stored[v][rows] is always dense
Labels = npt.NDArray[np.int64]
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Batch:
    """Some rows of a data set. There are no labels, on purpose."""

    views: Views
    index: Tensor  # (n,) int64, rows of the data set

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Columns:
    """How the columns of each view were normalized: a value x of column j became (x - shift[j]) * scale[j]."""

    shift: tuple[tuple[float, ...], ...]
    scale: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class DataInfo:
    """What a model may know of its data.

    `shapes`: one per view, without the sample axis: (d,) for vectors, (channels, height, width) for images.
    `bounds`: (low, high) of every value where the data have them (pixels), else None.
    `scale`: the constant that vector data were multiplied by (1.0 for images). `sha256`: over views and labels.
    `mean_square`: the mean of x_i^2 over samples, views and entries of the scaled data.
    `scaled_bounds`: (low, high) of scaled vectors whose own range is known (images, counts); `bounds` is None there.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    n_samples: int
    n_clusters: int
    bounds: tuple[float, float] | None
    scale: float
    sha256: str
    mean_square: float = 1.0
    scaled_bounds: tuple[float, float] | None = None
    columns: Columns | None = None  # where every column was normalized by itself; then a radius is in its units

    @property
    def box(self) -> tuple[float, float] | None:
        """The valid values in the units that a model sees, None where no range is known."""
        return self.scaled_bounds if self.bounds is None else self.bounds

    @property
    def unit(self) -> float:
        """What a radius of 1 is in the units that a model sees: the whole range of valid values, a pixel of images.

        Of data without a known range it is one unit of theirs, as they were before they were scaled.
        """
        return self.scale if self.box is None else self.box[1] - self.box[0]


@dataclass(frozen=True)
class Dataset:
    """The whole data set in memory: float32 views on the CPU, labels only for evaluation."""

    ref: DataRef
    info: DataInfo
    views: Stored
    labels: Labels | None  # (n,) int64 in 0..K-1, -1 where not known; read by measure/ only
    source: str  # where it came from, for the record
    notes: tuple[str, ...] = ()  # what a user must know of how it was read
    labels_from: str = "its labels"
    columns: tuple[str, ...] | None = None  # names of a table's columns
    ids: Array | None = None  # (n,) what the rows are called: numbers in their file, or words of its id column
    sources: npt.NDArray[np.int64] | None = None  # (n, V) images that the views show, where samples share images


@dataclass(frozen=True)
class Raw:
    """What a data file's `read` returns: arrays as published, before limit, scaling and conversion.

    `views`: each (n, d) for vectors or (n, height, width[, channels]) / (n, channels, height, width) for images;
    uint8 images are divided by 255 by the preparation; vectors may be a sparse matrix of scipy (n, d), which stays
    sparse. `image`: whether the views are images.
    `range`: (low, high) of vectors whose values have one; images have (0, 1) after the preparation.
    `label_hint`: what to do where there are no labels. `notes`: what a user must know of how the file was read.
    `labels_from`: where the labels stand, such as "the column 'kind'". `columns`, `ids`: of a table, the names of its
    features and of its rows.
    """

    views: tuple[Array | Matrix, ...]
    labels: Array | None
    image: bool
    source: str
    range: tuple[float, float] | None = None
    label_hint: str = "--clusters K"
    notes: tuple[str, ...] = ()
    labels_from: str = "its labels"
    columns: tuple[str, ...] | None = None
    ids: Array | None = None


class Progress(Protocol):
    """Called as a file is downloaded, with its name, the bytes that are there, and how many it has in all, if known.

    The last call has done == total.
    """

    def __call__(self, name: str, done: int, total: int | None) -> None: ...


@dataclass(frozen=True)
class Folders:
    """Where data files are looked for, first hit wins: `data_dir`, `rc_data`, the system's folders, the cache.

    `data_dir` is --data-dir, `rc_data` the folder that RC_DATA names. What is in none of them is downloaded into
    the cache, which also keeps prepared and imported arrays. `progress` is told how far a download is; with `downloads`
    False a file that would have to be downloaded is missing.
    """

    data_dir: Path | None = None
    cache: Path = Path.home() / ".cache" / "robust_cluster"
    rc_data: Path | None = None
    system: tuple[Path, ...] = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))  # Debian's packages
    progress: Progress | None = field(default=None, compare=False)
    downloads: bool = field(default=True, compare=False)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders in the order in which they are searched."""
        return tuple(root for root in (self.data_dir, self.rc_data, *self.system, self.cache) if root is not None)
