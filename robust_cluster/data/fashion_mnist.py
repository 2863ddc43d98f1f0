"""Fashion-MNIST: clothes in the format of MNIST."""

from robust_cluster.data.base import Places, Raw
from robust_cluster.data.mnist import Family

DESCRIPTION = "Fashion-MNIST, 70,000 images of clothes (train, then test), 28x28, 10 classes"
CITATION = "Xiao, Rasul, Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking, arXiv:1708.07747, 2017"

FAMILY = Family("fashion-mnist", "FashionMNIST", (9, 2, 1, 1, 6, 1, 4, 6, 5, 7), package="dataset-fashion-mnist")


def is_ready(places: Places) -> bool:
    """Whether all files are on disk."""
    return FAMILY.find(places, ("train", "t10k")) is not None


def read(places: Places) -> Raw:
    """All 70,000 images, the 60,000 for training first."""
    return FAMILY.read(places, ("train", "t10k"))
