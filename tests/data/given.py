"""What tests of data share: what a data set holds, IDX files, and errors of one sentence."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from robust_cluster.data.base import Dataset, Folders, Raw


def labels_of(data: Raw | Dataset) -> list[Any]:
    """The labels of data that have some."""
    assert data.labels is not None
    found: list[Any] = data.labels.tolist()
    return found


def data_dir(folders: Folders) -> Path:
    """The folder that --data-dir would name."""
    assert folders.data_dir is not None
    return folders.data_dir


def idx(values: npt.ArrayLike, *, kind: int = 0x08, code: str = "B") -> bytes:
    """An IDX file as the format's notes describe it, written byte by byte."""
    array = np.asarray(values)
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + struct.pack(f">{array.size}{code}", *array.ravel().tolist())


@contextmanager
def one_sentence(error: type[Exception], match: str) -> Iterator[None]:
    """A block that raises the error, in one line."""
    with pytest.raises(error, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)
