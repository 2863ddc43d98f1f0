"""PatchedMNIST: the digits 0, 1 and 2, enlarged, seen through three of their patches."""

from collections.abc import Sequence

import numpy as np

from robust_cluster.data import mnist, multiview, noisymnist
from robust_cluster.data.base import Folders, Labels, Raw
from robust_cluster.data.multiview import Floats

DESCRIPTION = "MNIST's digits 0, 1 and 2 (21,770), 3 views: patches of 28x28 of the digit enlarged to 112x112"
CITATION = noisymnist.CITATION
DIGITS = (0, 1, 2)
POSITIONS = (0, 1, 3)  # of the 12; AR-DMVC's code, whose SEM alone takes 0, 1, 2 while it trains
LICENSE = mnist.LICENSE
COLLECTION = mnist.COLLECTION
find = mnist.find


def read(folders: Folders) -> Raw:
    """The 21,770 images of the digits 0, 1 and 2, and their labels."""
    raw = mnist.read(folders)
    rows = np.isin(raw.labels if raw.labels is not None else [], DIGITS)
    return Raw((raw.views[0][rows],), None if raw.labels is None else raw.labels[rows], True, raw.source)


def construct(views: Sequence[Floats], labels: Labels | None) -> list[Floats]:
    """The cells (0, 1), (0, 2) and (1, 1) of the grid, each (n, 1, 28, 28); labels are not used."""
    return multiview.patches(views[0], POSITIONS)
