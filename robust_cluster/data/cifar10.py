"""CIFAR-10 as ResNet-50 features of all 60,000 images, as DCAN uses it."""

from dataclasses import replace
from pathlib import Path

from robust_cluster.data import cifar10_raw, resnet
from robust_cluster.data.base import Folders, Raw

DESCRIPTION = "CIFAR-10, ResNet-50 features of 60,000 images (train, then test), vectors of 2,048, 10 classes"
CITATION = f"{cifar10_raw.CITATION}; He et al., Deep residual learning for image recognition, CVPR 2016"
LICENSE = cifar10_raw.LICENSE
COLLECTION = None  # made of cifar10-raw
N_SAMPLES = 60_000


def find(folders: Folders) -> tuple[Path, ...] | None:
    """The feature file, or None."""
    return resnet.find("cifar10", folders)


def read(folders: Folders) -> Raw:
    """Features (60000, 2048) of the global average pool, each column standardized, and labels. Raises: DataError.

    DCAN does not say how its features are scaled; its tanh layers need columns of one size.
    """
    raw = resnet.read("cifar10", N_SAMPLES, folders)
    return replace(raw, views=(resnet.standardized(raw.views[0]),))
