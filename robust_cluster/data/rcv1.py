"""REUTERS: the news of RCV1-v2 as tf-idf vectors of the 2,000 most frequent words, read from the token files.

A document counts when it has exactly one of the four root topics: 685,071 of 804,414 do. The preparation is that of
DEC's code, which VaDE and LPVDN took: all these documents give the vocabulary and the weights, then a subset is drawn.
"""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Folders
from robust_cluster.data.sources import NO_LICENSE, Collection, SourceFile, whole
from robust_cluster.data.sparse import Matrix
from robust_cluster.data.text import frequent_words, tfidf
from robust_cluster.errors import DataError

CITATION = "Lewis, Yang, Rose, Li, RCV1: a new benchmark collection for text categorization research, JMLR 2004"
LICENSE = NO_LICENSE
ROOTS = ("CCAT", "GCAT", "MCAT", "ECAT")  # corporate/industrial, government/social, markets, economics: 0 to 3
URL = "http://www.ai.mit.edu/projects/jmlr/papers/volume5/lewis04a/"
TOPICS = "rcv1-v2.topics.qrels.gz"
PARTS = ("test_pt0", "test_pt1", "test_pt2", "test_pt3", "train")  # in the order of DEC's code: it decides the subset
TOKENS = tuple(f"lyrl2004_tokens_{part}.dat.gz" for part in PARTS)
FILES = [SourceFile(name, f"{URL}a12-token-files/{name}") for name in TOKENS]
COLLECTION = Collection(
    "reuters", (SourceFile(TOPICS, f"{URL}a08-topic-qrels/{TOPICS}"), *FILES), subfolders=("rcv1", "RCV1")
)
find = COLLECTION.find


def vectors(folders: Folders) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """tf-idf (n, d) float32 with rows of squared length d, and root topics 0 to 3, of all documents. Raises: DataError.

    The token files are streamed: what is in memory is the counts, about 1.5 GB for all of RCV1 (2.2 kB a document).
    """
    topics_file, *token_files = COLLECTION.get(folders)
    roots = root_topics(topics_file)
    labels: list[int] = []

    def texts() -> Iterator[str]:
        for document, words in documents(token_files):
            if document in roots:
                labels.append(roots[document])
                yield words

    # an iterator is enough for scikit-learn, which goes through the texts once
    matrix = tfidf(frequent_words("reuters", cast(Sequence[str], texts())))
    matrix.data *= np.float32(matrix.shape[1] ** 0.5)  # so that ||x||^2 / d = 1, as DEC scales all its data
    return matrix, np.array(labels, np.int64)


def root_topics(path: Path) -> dict[int, int]:
    """Document -> its root topic 0 to 3, of the documents that have exactly one. Lines: `topic document 1`.

    Raises: DataError for a line of another form, a truncated file, or one without a root topic.
    """
    found: dict[int, int] = {}
    several: set[int] = set()
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if len(parts) != 3 or not parts[1].isdecimal():
            raise DataError(f"{path}, line {number}, must be `topic document 1`, got {line.rstrip()!r}")
        if parts[0] in ROOTS:
            document, root = int(parts[1]), ROOTS.index(parts[0])
            if found.setdefault(document, root) != root:
                several.add(document)
    for document in several:
        del found[document]
    if len(set(found.values())) < 2:
        raise DataError(f"{path} must name documents of the root topics {', '.join(ROOTS)}, got {len(found)} documents")
    return found


def documents(paths: Sequence[Path]) -> Iterator[tuple[int, str]]:
    """Document and its words, one after the other: a line `.I number`, a line `.W`, lines of words, an empty line.

    Raises: DataError for a file of another form and for a truncated one.
    """
    for path in paths:
        document, words = -1, [""]
        for line in _lines(path):
            if line.startswith(".I"):
                if document >= 0:
                    yield document, " ".join(words)
                number = line[2:].strip()
                if not number.isdecimal():
                    raise DataError(f"{path}: `.I number` expected, got {line.rstrip()!r}")
                document, words = int(number), []
            elif document < 0:
                raise DataError(f"{path} is no token file of RCV1: it must begin with `.I number`, got {line[:40]!r}")
            elif not line.startswith(".W"):
                words.append(line.strip())
        if document < 0:
            raise DataError(f"{path} holds no document")
        yield document, " ".join(words)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, packed or not. Raises: DataError."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with whole(path), opened(path, "rt", encoding="latin-1") as stream:
        yield from stream
