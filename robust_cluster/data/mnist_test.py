"""MNIST's 10,000 test images: what the released ALRDC code trains and evaluates on."""

from pathlib import Path

from robust_cluster.data import mnist
from robust_cluster.data.base import Folders, Raw

DESCRIPTION = "MNIST's 10,000 test images, 28x28, 10 classes"
CITATION = mnist.CITATION
LICENSE = mnist.LICENSE
COLLECTION = mnist.FAMILY.collection(("t10k",))


def find(folders: Folders) -> tuple[Path, ...] | None:
    """Both test files, or None."""
    return mnist.FAMILY.find(folders, ("t10k",))


def read(folders: Folders) -> Raw:
    """The 10,000 test images and labels."""
    return mnist.FAMILY.read(folders, ("t10k",))
