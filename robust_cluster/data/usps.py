"""USPS: handwritten digits of envelopes, train and test part together."""

import bz2
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.sources import NO_LICENSE, Collection, SourceFile, whole
from robust_cluster.errors import DataError

DESCRIPTION = "USPS, 9,298 digits (train, then test), 16x16 images, 10 classes"
CITATION = "Hull, A database for handwritten text recognition research, IEEE TPAMI 1994"
LICENSE = NO_LICENSE
URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
SIDE = 16  # pixels
COLLECTION = Collection(
    "usps",
    (
        SourceFile("usps.bz2", URL + "usps.bz2", None, "ec16c51db3855ca6c91edd34d0e9b197"),
        SourceFile("usps.t.bz2", URL + "usps.t.bz2", None, "8ea070ee2aca1ac39742fdd1ef5ed118"),
    ),
    ("USPS",),
)
find = COLLECTION.find


def read(folders: Folders) -> Raw:
    """Images (9298, 16, 16) as fractions in [0, 1] and labels 0 to 9. Raises: DataError."""
    parts = [read_part(path) for path in COLLECTION.get(folders)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Raw((images,), labels, image=True, source="libsvm files of usps")


def read_part(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images and labels of one file: lines `label 1:value ... 256:value`, labels 1 to 10, values in [-1, 1].

    Raises: DataError for a truncated file and for another content.
    """
    from sklearn.datasets import load_svmlight_file  # a second, and only this file needs it

    with whole(path), bz2.open(path) as stream:
        matrix, labels = load_svmlight_file(stream, n_features=SIDE * SIDE, dtype=np.float32, zero_based=False)
    images = (matrix.toarray() + 1) / 2
    if images.min() < 0 or images.max() > 1 or not np.isin(labels, np.arange(1, 11)).all():
        raise DataError(f"{path} is another file under the name of USPS: values in [-1, 1] and labels 1 to 10 expected")
    return images.reshape(-1, SIDE, SIDE).astype(np.float32), labels.astype(np.int64) - 1
