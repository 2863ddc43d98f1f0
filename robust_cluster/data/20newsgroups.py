"""20 Newsgroups: 18,846 posts as tf-idf vectors of their 2,000 most frequent words, sparse."""  # noqa: N999

from pathlib import Path

import numpy as np

from robust_cluster.data.archive import members
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.sources import NO_LICENSE, Collection, SourceFile
from robust_cluster.data.text import frequent_words, tfidf
from robust_cluster.errors import DataError

DESCRIPTION = "20 Newsgroups, 18,846 posts (train, then test), tf-idf of 2,000 words (sparse), 20 classes"
CITATION = "Lang, NewsWeeder: learning to filter netnews, ICML 1995"
LICENSE = NO_LICENSE
ARCHIVE = SourceFile(
    "20news-bydate.tar.gz",
    "https://ndownloader.figshare.com/files/5975967",
    14_000_000,  # as scikit-learn tells it
    sha256="8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610",
)
COLLECTION = Collection("20newsgroups", (ARCHIVE,), ("20news_home",))
find = COLLECTION.find
PARTS = ("20news-bydate-train", "20news-bydate-test")


def read(folders: Folders) -> Raw:
    """A sparse matrix (18846, 2000) with rows of squared length 2,000, and the groups' names. Raises: DataError.

    Only the body of a post counts: its header names the group, which is the label. A post whose body has none of the
    words is a row of zeros.
    """
    (path,) = COLLECTION.get(folders)
    posts = [post for part in PARTS for post in _posts(path, part)]
    matrix = tfidf(frequent_words("20newsgroups", [body(text) for _, text in posts]))
    matrix.data *= np.float32(matrix.shape[1] ** 0.5)
    return Raw((matrix,), np.array([group for group, _ in posts]), image=False, source=path.name)


def body(post: str) -> str:
    """A post without header, signature and quotations, taken away in this order, as scikit-learn does."""
    from sklearn.datasets._twenty_newsgroups import (  # no other door to them but its own download
        strip_newsgroup_footer,
        strip_newsgroup_header,
        strip_newsgroup_quoting,
    )

    return str(strip_newsgroup_quoting(strip_newsgroup_footer(strip_newsgroup_header(post))))


def _posts(path: Path, part: str) -> list[tuple[str, str]]:
    """Group and text of every post of a part, by group and number. Raises: DataError."""
    inside = members(path, lambda name: name.split("/")[-3:-2] == [part])
    found = sorted((name.split("/")[-2:], content.decode("latin-1")) for name, content in inside)
    if not found:
        raise DataError(f"{path} must hold a folder {part} with a folder for each group")
    return [(group, text) for (group, _), text in found]
