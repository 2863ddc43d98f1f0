"""REUTERS-10K: 10,000 of the news of REUTERS at random, as dense vectors."""

import numpy as np

from robust_cluster.data import rcv1
from robust_cluster.data.base import Folders, Raw

DESCRIPTION = "REUTERS-10K, 10,000 random news of REUTERS, tf-idf of 2,000 words as vectors, 4 classes"
CITATION = rcv1.CITATION
LICENSE = rcv1.LICENSE
COLLECTION = rcv1.COLLECTION
N_SAMPLES = 10_000
SEED = 1234  # of DEC's code; no paper publishes its subset
find = rcv1.find


def read(folders: Folders) -> Raw:
    """Vectors (10000, 2000) and root topics 0 to 3: the first of a random order of all documents. Raises: DataError.

    NumPy's legacy generator, whose permutations no version changes. Vocabulary and weights are those of all documents.
    """
    matrix, labels = rcv1.vectors(folders)
    rows = np.random.RandomState(SEED).permutation(len(labels))[:N_SAMPLES]
    return Raw((matrix[rows].toarray(),), labels[rows], image=False, source="RCV1-v2 token files")
