"""Views that are mostly zero: kept as CSR on the device, made dense a batch at a time by indexing.

A model or an attack never sees them: `view[rows]` is the dense batch that a dense view gives, to the bit.
"""

import hashlib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor

from robust_cluster.errors import DataError

if TYPE_CHECKING:
    Matrix: TypeAlias = scipy.sparse.csr_array[Any, tuple[int, int]]
else:
    Matrix = scipy.sparse.csr_array


@dataclass(frozen=True)
class SparseView:
    """A sparse view (n, d): `view[rows]` is a dense float32 tensor (len(rows), d) on the view's device.

    Row i holds values[starts[i] : starts[i + 1]] in the columns at the same positions, each column once, ascending.
    """

    starts: Tensor  # (n + 1,) int64
    columns: Tensor  # (nnz,) int32
    values: Tensor  # (nnz,) float32
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> torch.Size:
        """(n, d)."""
        return torch.Size((len(self), self.width))

    @property
    def ndim(self) -> int:
        """2: there are no sparse images."""
        return 2

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        index = torch.arange(len(self), device=self.device)[rows] if isinstance(rows, slice) else rows
        positions, counts = self._positions(index)
        dense = torch.zeros(len(index), self.width, device=self.device)
        first = torch.arange(0, len(index) * self.width, self.width, device=self.device)
        cells = first.repeat_interleave(counts, output_size=len(positions)) + self.columns[positions]
        dense.view(-1)[cells] = self.values[positions]
        return dense

    def _positions(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in `values` of all entries of the rows `index`, row by row, and how many each row has."""
        begin = self.starts[index]
        counts = self.starts[index + 1] - begin
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        shift = (begin - (ends - counts)).repeat_interleave(counts, output_size=total)
        return shift + torch.arange(total, device=self.device), counts

    def select(self, index: Tensor) -> "SparseView":
        """The rows `index` as a sparse view."""
        positions, counts = self._positions(index)
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return SparseView(starts, self.columns[positions], self.values[positions], self.width)

    def to(self, device: torch.device, *, memory_format: torch.memory_format | None = None) -> "SparseView":
        """The view on a device; it has one memory layout only."""
        return SparseView(self.starts.to(device), self.columns.to(device), self.values.to(device), self.width)

    def csr(self) -> Tensor:
        """The whole view as a tensor (n, d) in torch's CSR layout, which shares its values."""
        kind = torch.int32 if len(self.values) < 2**31 else torch.int64  # torch wants one for both
        parts = (self.starts.to(kind), self.columns.to(kind), self.values)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(*parts, size=self.shape, check_invariants=False)


def view_of(matrix: Matrix) -> SparseView:
    """The view of a canonical float32 matrix (see `canonical`), sharing its values."""
    starts = torch.from_numpy(matrix.indptr.astype(np.int64, copy=False))
    columns = torch.from_numpy(matrix.indices.astype(np.int32, copy=False))
    return SparseView(starts, columns, torch.from_numpy(matrix.data), matrix.shape[1])


def canonical(matrix: Any) -> Matrix:
    """A sparse matrix of any of scipy's forms as CSR: entries sorted, none twice, none zero. Copied unless it was so.

    Raises: DataError when its indices point outside of it.
    """
    try:
        found = scipy.sparse.csr_array(matrix)
        found.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"a sparse matrix is damaged: {error}") from error
    if not found.has_canonical_format or (found.data == 0).any():
        shared = np.may_share_memory(found.data, getattr(matrix, "data", found.data))
        found = found.copy() if shared else found
        found.sum_duplicates()
        found.eliminate_zeros()
    return cast(Matrix, found)


def as_float32(matrix: Matrix) -> Matrix:
    """The canonical matrix with values that are float32 and may be written to; a copy where they were not."""
    values = np.require(matrix.data, np.float32, ["C", "W"])
    return scipy.sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def is_constant(matrix: Matrix) -> bool:
    """Whether every row of a canonical matrix is the same."""
    counts = np.diff(matrix.indptr)
    if (counts != counts[0]).any():
        return False
    parts = (part.reshape(len(counts), -1) for part in (matrix.indices, matrix.data))
    return all(bool((part == part[:1]).all()) for part in parts)


def add_to_digest(content: "hashlib._Hash", name: str, matrix: Matrix) -> None:
    """Feed a canonical float32 matrix to a digest: name, shape, then starts (int64), columns (int32) and values."""
    content.update(f"{name} csr {matrix.data.dtype.str} {matrix.shape}\n".encode())
    for part, dtype in ((matrix.indptr, np.int64), (matrix.indices, np.int32), (matrix.data, matrix.data.dtype)):
        content.update(np.ascontiguousarray(part, dtype).data)


def sum_of_squares(matrix: Matrix) -> float:
    """The sum of the squares of all entries, in float64, a million at a time."""
    values = cast(npt.NDArray[np.float32], matrix.data)
    portions = np.array_split(values, 1 + len(values) // 1_000_000)
    return math.fsum(float(np.square(portion, dtype=np.float64).sum()) for portion in portions)
