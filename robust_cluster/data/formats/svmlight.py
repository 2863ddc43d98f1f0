"""The svmlight or libsvm format: a line `label column:value column:value ...` a sample, sparse."""

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_cluster.data.formats import memory
from robust_cluster.data.sparse import Matrix, canonical
from robust_cluster.errors import DataError


def read(path: Path) -> tuple[tuple[Matrix], npt.NDArray[np.float64] | None]:
    """The matrix (n, d), the only view, and the labels (n,), None where all are the same: so files without are written.

    Columns count from 0 or from 1, whichever the file does. Raises: DataError.
    """
    from sklearn.datasets import load_svmlight_file  # a second, and only these files need it

    memory.check(path.name, path.stat().st_size, "split the file")  # an entry takes about as much as its text

    try:
        x, y = load_svmlight_file(path, dtype=np.float32)
    except (ValueError, OSError, EOFError, zlib.error, OverflowError) as error:
        raise DataError(
            f"{path.name} is no svmlight file: {error}", hint="a line a sample: one label, then column:value ..."
        ) from error
    if not x.shape[0]:
        raise DataError(f"{path.name} holds no sample")
    return (canonical(x),), y if len(np.unique(y)) > 1 else None
