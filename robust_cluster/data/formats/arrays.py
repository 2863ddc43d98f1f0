"""NumPy's .npz and .npy, pairs of .npy files, and scipy's sparse .npz. No pickled objects."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from robust_cluster.data.base import Array
from robust_cluster.data.formats import PAIRED, memory
from robust_cluster.data.sparse import Matrix, canonical
from robust_cluster.errors import DataError, RobustClusterError

Read = tuple[tuple[Array | Matrix, ...], Array | None]
SPARSE = {"format", "shape", "data"}  # what every .npz of scipy.sparse.save_npz holds
SPARSE_PARTS = ("data", "indices", "indptr", "row", "col", "offsets")
USED = re.compile(r"[xX]|view_\d+|[yY]|labels|n_views")
MAPPED = 2**26  # bytes from which on an .npy is mapped into memory, so that --limit reads its own rows only
LABELS = ("y", "Y", "labels")  # DeepMVC's name is the last


def read_npz(path: Path) -> Read:
    """Views and labels of an .npz; labels may also lie beside it in name.labels.npy.

    Views: the array `x` or `X`; or `view_0`, `view_1`, ...; or a matrix that scipy.sparse.save_npz wrote. Labels: `y`,
    `Y` or `labels` or None; other arrays are not read. Raises: DataError for a gap in the views, or fewer or more of
    them than the file's own `n_views` (DeepMVC).
    """
    names, arrays = _load_npz(path)
    if set(names) >= SPARSE and not {"x", "X", "view_0"} & set(names):
        return (_load_sparse(path),), _labels(path, arrays)
    views = [key for key in arrays if re.fullmatch(r"view_\d+", key)]
    single: list[str] = [key for key in ("x", "X") if key in arrays]
    ordered = single or [f"view_{i}" for i in range(len(views))]
    if len(single) > 1 or not ordered or not set(views) <= set(ordered) or not set(ordered) <= set(arrays):
        raise DataError(
            f"{path.name} must hold either the array x, or view_0, view_1, ... without a gap (and y or labels), "
            f"got {', '.join(sorted(names)) or 'nothing'}"
        )
    if "n_views" in arrays and str(arrays["n_views"].tolist()) != str(len(ordered)):
        raise DataError(f"{path.name} says that it has n_views {arrays['n_views'].tolist()}, got {', '.join(ordered)}")
    return tuple(arrays[key] for key in ordered), _labels(path, arrays)


def read_npy(path: Path) -> Read:
    """The array of an .npy, and the labels that lie beside it in name.labels.npy, or None. Raises: DataError."""
    return (load(path),), _labels(path, {})


def read_folder(folder: Path) -> Read:
    """The arrays of a folder with x.npy, or view_0.npy, view_1.npy, ..., and perhaps y.npy. Raises: DataError."""
    views = [path.stem for path in sorted(folder.glob("view_*.npy"))]
    ordered = ["x"] if (folder / "x.npy").is_file() else [f"view_{i}" for i in range(len(views))]
    if set(views) - set(ordered) or not all((folder / f"{name}.npy").is_file() for name in ordered):
        raise DataError(
            f"{folder} must hold either x.npy, or view_0.npy, view_1.npy, ... without a gap, got {', '.join(views)}"
        )
    labels = folder / "y.npy"
    return tuple(load(folder / f"{name}.npy") for name in ordered), load(labels) if labels.is_file() else None


def is_array_folder(folder: Path) -> bool:
    """Whether a folder holds arrays, for `read_folder`, and not images."""
    return any((folder / name).is_file() for name in ("x.npy", "view_0.npy"))


def load(path: Path) -> Array:
    """The array of an .npy file; a large one is mapped into memory. Raises: DataError."""
    with _sentences(path):
        mode: Any = "r" if path.stat().st_size >= MAPPED else None
        array: Array = np.load(path, mmap_mode=mode, allow_pickle=False)
        return array


def _labels(path: Path, arrays: dict[str, Array]) -> Array | None:
    """The labels of a file's own arrays or of the file beside it. Raises: DataError when there are several."""
    beside = path.with_name(f"{path.stem}{PAIRED}.npy")
    names = [name for name in LABELS if name in arrays] + ([beside.name] if beside.is_file() else [])
    if len(names) > 1:
        raise DataError(f"{path.name} must hold its labels once, got them as {' and as '.join(names)}")
    if not names:
        return None
    return arrays[names[0]] if names[0] in arrays else load(beside)


def _load_npz(path: Path) -> tuple[list[str], dict[str, Array]]:
    """The names of the arrays of an .npz, and those that can be views or labels by name. Raises: DataError."""
    with _sentences(path), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path.name} is truncated or no .npz file: it is no zip archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as loaded:
            names = [name for name in loaded.files if USED.fullmatch(name)]
            needed = {f"{name}.npy" for name in (*names, *SPARSE_PARTS)}
            size = sum(member.file_size for member in loaded.zip.infolist() if member.filename in needed)
            memory.check(path.name, size, "save the array as .npy, of which --limit reads only its own rows")
            return loaded.files, {name: loaded[name] for name in names}


def _load_sparse(path: Path) -> Matrix:
    """The matrix of scipy.sparse.save_npz as CSR. Raises: DataError."""
    with _sentences(path):
        return canonical(scipy.sparse.load_npz(path))


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """A block in which what NumPy raises about a file becomes a DataError with one sentence."""
    try:
        yield
    except RobustClusterError:
        raise
    except (ValueError, KeyError) as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path.name} holds pickled objects, which can run code and are not read",
                hint="save plain numbers: np.savez(file, x=x.astype('float32'), y=y.astype('int64'))",
            ) from error
        raise DataError(f"{path.name} is damaged: {error}") from error
    except MemoryError as error:
        raise DataError(f"{path.name} is damaged, or needs more memory than there is") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read or is truncated: {error}") from error
    except Exception as error:  # a flipped bit can make NumPy's parser of headers raise anything
        raise DataError(f"{path.name} is damaged: {type(error).__name__}: {error}") from error
