"""The 1,797 handwritten digits that ship with scikit-learn, as vectors of 64 counts in 0..16."""

from pathlib import Path

from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.sources import NO_LICENSE

DESCRIPTION = "scikit-learn's 1,797 digits, 8x8 counts as vectors of 64, 10 classes"
CITATION = "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998"
LICENSE = NO_LICENSE
COLLECTION = None


def find(folders: Folders) -> tuple[Path, ...] | None:
    """No files: the data ship with scikit-learn."""
    return ()


def read(folders: Folders) -> Raw:
    """Vectors (1797, 64) and labels."""
    from sklearn.datasets import load_digits  # late: `rc data ls` needs no scikit-learn

    digits = load_digits()
    return Raw((digits.data,), digits.target, image=False, source="scikit-learn", range=(0.0, 16.0))
