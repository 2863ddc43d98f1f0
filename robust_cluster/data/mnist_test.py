"""MNIST's 10,000 test images: what the released ALRDC code trains and evaluates on."""

from robust_cluster.data import mnist
from robust_cluster.data.base import Places, Raw

DESCRIPTION = "MNIST's 10,000 test images, 28x28, 10 classes"
CITATION = mnist.CITATION


def is_ready(places: Places) -> bool:
    """Whether both test files are on disk."""
    return mnist.FAMILY.find(places, ("t10k",)) is not None


def read(places: Places) -> Raw:
    """The 10,000 test images and labels."""
    return mnist.FAMILY.read(places, ("t10k",))
