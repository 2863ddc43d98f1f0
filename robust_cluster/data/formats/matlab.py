"""MATLAB's .mat as multi-view data are published: a cell array `X` of one matrix a view, and labels `Y`."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from robust_cluster.data.base import Array
from robust_cluster.data.formats import memory
from robust_cluster.data.sparse import Matrix, canonical
from robust_cluster.errors import DataError, ShapeError

TRIAL = "import sys; from scipy.io import loadmat; loadmat(sys.argv[1])"
VIEWS = ("X", "x", "fea", "data")  # the variable that is taken for the views, the first that is there
LABELS = ("Y", "y", "gt", "gnd", "truth", "truelabel", "label", "labels")


def read(path: Path) -> tuple[tuple[Array | Matrix, ...], Array | None]:
    """The views of a .mat file, rows being samples, and its labels or None.

    Views: the cells of `X` (or x, fea, data), or that variable itself as a single view; sparse ones stay sparse.
    Labels: `Y` (or y, gt, gnd, truth, truelabel, label, labels), a vector, or a cell with one a view, all equal. Where
    the labels tell that samples are columns, as many files have it, the views are transposed.
    Raises: DataError for another content or version of the format, ShapeError where samples cannot be told.
    """
    variables = _load(path)
    names = [name for name in VIEWS if name in variables]
    if not names:
        there = ", ".join(f"{name} {value.shape}" for name, value in variables.items() if hasattr(value, "shape"))
        raise DataError(
            f"{path.name} must hold a cell array X with one matrix a view, got {there or 'no variable'}",
            hint="and labels Y",
        )
    views = [_matrix(path, f"{names[0]}{{{i + 1}}}", cell) for i, cell in enumerate(_cells(variables[names[0]]))]
    if not views:
        raise DataError(f"{path.name}: the cell array {names[0]} is empty")
    found = next((name for name in LABELS if name in variables), None)
    labels = None if found is None else _labels(path, found, variables[found])
    return tuple(_upright(path, views, labels)), labels


def _load(path: Path) -> dict[str, Any]:
    """The variables of a .mat file. Raises: DataError."""
    memory.check(path.name, path.stat().st_size, "save its matrices as .npy")
    _check(path)
    return {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}


def _check(path: Path) -> None:
    """Raises DataError for a file that a process of its own cannot read: some damage ends a process with scipy."""
    trial = subprocess.run([sys.executable, "-P", "-c", TRIAL, path], capture_output=True, text=True, check=False)
    kind, _, message = (trial.stderr.strip().splitlines() or [""])[-1].partition(": ")
    if trial.returncode > 0 and kind == "NotImplementedError":
        raise DataError(
            f"{path.name} is of MATLAB's version 7.3 (HDF5), which is not read",
            hint=f"in MATLAB: save('{path.name}', 'X', 'Y', '-v7')",
        )
    if trial.returncode > 0 and kind.endswith("MemoryError"):
        raise DataError(f"{path.name} needs more memory than there is", hint="save its matrices as .npy")
    if trial.returncode:
        wrong = message or f"reading it ends in {kind or f'signal {-trial.returncode}'}"
        raise DataError(f"{path.name} is damaged, truncated or no .mat file: {wrong}")


def _cells(value: Any) -> list[Any]:
    """The cells of a cell array, or the value itself."""
    return list(value.ravel()) if isinstance(value, np.ndarray) and value.dtype == object else [value]


def _matrix(path: Path, name: str, cell: Any) -> Array | Matrix:
    """A numeric matrix or array of images. Raises: DataError."""
    if scipy.sparse.issparse(cell):
        return canonical(cell)
    if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "biuf" or cell.ndim < 2:
        got = f"{cell.dtype} {cell.shape}" if isinstance(cell, np.ndarray) else type(cell).__name__
        raise DataError(f"{path.name}: {name} must be a matrix of numbers, got {got}")
    return cell


def _labels(path: Path, name: str, value: Any) -> Array:
    """Labels (n,). Raises: DataError for what is no vector, or differs between views."""
    cells = _cells(value)
    is_text = [isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size <= 1 for cell in cells]
    if len(cells) > 1 and all(is_text):  # a word a sample
        return np.array([str(cell.item()) if cell.size else "" for cell in cells])
    found = [canonical(cell).toarray() if scipy.sparse.issparse(cell) else np.asarray(cell) for cell in cells]
    flat = [cell for cell in found if cell.dtype.kind in "biufU" and math.prod(cell.shape) == max(cell.shape)]
    vectors = [cell.ravel() for cell in flat]
    if len(vectors) < len(found) or not vectors:
        shapes = ", ".join(str(cell.shape) for cell in found)
        raise DataError(f"{path.name}: {name} must be a vector with one class a sample, got {shapes}")
    if any(not np.array_equal(vectors[0], other) for other in vectors[1:]):
        raise DataError(f"{path.name}: the cells of {name} must be equal: one class a sample, whatever the view")
    return vectors[0]


def _upright(path: Path, views: list[Array | Matrix], labels: Array | None) -> list[Array | Matrix]:
    """The views with samples in the first axis. Raises: ShapeError."""
    shapes = [tuple(view.shape) for view in views]
    ends = [{shape[axis] for shape in shapes} for axis in (0, -1)]
    n = None if labels is None else len(labels)
    if ends[0] == {n} or (n is None and len(ends[0]) == 1):
        return views
    if ends[1] == {n} or (n is None and len(ends[1]) == 1):
        return [_turned(view) for view in views]
    labeled = "" if n is None else f" and labels {n}"
    raise ShapeError(
        f"{path.name}: all views must have the same number of samples, got {', '.join(map(str, shapes))}{labeled}"
    )


def _turned(view: Array | Matrix) -> Array | Matrix:
    """The view with its last axis, samples, put first."""
    return np.moveaxis(view, -1, 0) if isinstance(view, np.ndarray) else canonical(view.T)
