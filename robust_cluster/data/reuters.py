"""REUTERS: all 685,071 news of RCV1 with one root topic, as a sparse matrix."""

from robust_cluster.data import rcv1
from robust_cluster.data.base import Folders, Raw

DESCRIPTION = "REUTERS, 685,071 news of RCV1, tf-idf of 2,000 words (sparse), 4 classes"
CITATION = rcv1.CITATION
LICENSE = rcv1.LICENSE
COLLECTION = rcv1.COLLECTION
find = rcv1.find


def read(folders: Folders) -> Raw:
    """A sparse matrix (685071, 2000) and root topics 0 to 3. Raises: DataError."""
    matrix, labels = rcv1.vectors(folders)
    return Raw((matrix,), labels, image=False, source="RCV1-v2 token files")
