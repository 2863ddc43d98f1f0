"""STL-10 as ResNet-50 features of its 13,000 labelled images, as ALRDC uses it."""

from pathlib import Path

from robust_cluster.data import resnet, stl10_raw
from robust_cluster.data.base import Folders, Raw

DESCRIPTION = "STL-10, ResNet-50 features of 13,000 labelled images (train, then test), vectors of 2,048, 10 classes"
CITATION = f"{stl10_raw.CITATION}; He et al., Deep residual learning for image recognition, CVPR 2016"
LICENSE = stl10_raw.LICENSE
COLLECTION = None  # made of stl10-raw
N_SAMPLES = 13_000


def find(folders: Folders) -> tuple[Path, ...] | None:
    """The feature file, or None."""
    return resnet.find("stl10", folders)


def read(folders: Folders) -> Raw:
    """Features (13000, 2048) of the global average pool, not standardized (ALRDC), and labels. Raises: DataError."""
    return resnet.read("stl10", N_SAMPLES, folders)
