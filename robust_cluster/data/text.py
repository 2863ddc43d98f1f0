"""Texts as sparse tf-idf vectors, prepared as REUTERS is; and corpora, files with a JSON object with a text a line.

The vocabulary is the 2,000 most frequent words of the whole corpus; tf' = 1 + ln tf, idf = ln((1 + N) / (1 + df)) + 1,
rows of length 1 (DEC's code, whose files VaDE and LPVDN took). REUTERS' tokens come stemmed and without stop words;
in other texts every run of two or more letters or digits is a word, in lower case, and none is left out.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Raw
from robust_cluster.data.formats import Reading, memory
from robust_cluster.data.formats.columns import label_column, named
from robust_cluster.data.sparse import Matrix, canonical
from robust_cluster.errors import DataError

WORDS = 2000  # of the vocabulary
TEXT = "text"  # the column or field that is taken for the texts
SHARE = 4  # bytes of memory, about, that a byte of texts takes while its words are counted


def read_jsonl(path: Path, reading: Reading) -> Raw:
    """The tf-idf vectors of a corpus: each line a JSON object with the field `text` and perhaps a label.

    Empty lines are skipped. Raises: DataError naming the line that is malformed, ConfigError for a field that no line
    has.
    """
    memory.check(path.name, SHARE * path.stat().st_size, "split the file")
    objects: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                content = json.loads(line)
                if not isinstance(content, dict):
                    raise DataError(f"{path.name}, line {number}, must be a JSON object, got {line[:40]!r}")
                objects.append(content)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path.name}, line {number}, is no JSON or is truncated: {error.msg}, character {error.pos + 1}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if not objects:
        raise DataError(f"{path.name} holds no text")
    fields = list(dict.fromkeys(key for content in objects for key in content))
    text = named(path.name, fields, reading.text_column or TEXT, "--text-column")
    label = label_column(path.name, fields, reading.label_column, text)
    labels = [content.get(label) for content in objects] if label else None
    raw = corpus(path.name, [content.get(text) for content in objects], labels)
    return replace(raw, labels_from=f"the field {label!r}") if label else raw


def corpus(name: str, texts: Sequence[object], labels: Sequence[object] | None) -> Raw:
    """The tf-idf vectors of texts, with their labels. Raises: DataError for what is no text, or no words at all."""
    bad = [row for row, text in enumerate(texts, start=1) if not isinstance(text, str)]
    if bad:
        raise DataError(f"{name}: {len(bad)} texts are missing or no text, the first in row {bad[0]}")
    return Raw((tfidf(frequent_words(name, [str(text) for text in texts])),), _labels(labels), False, name)


def frequent_words(name: str, texts: Sequence[str], n_words: int = WORDS) -> Matrix:
    """Counts (n, d) of the `n_words` words that occur most often in all texts; where words tie, the alphabet decides.

    Columns are in alphabetical order. Raises: DataError when no text has a word.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # a second, and only texts need it

    try:
        counts = CountVectorizer(dtype=np.float32).fit_transform(texts)
    except ValueError as error:  # an empty vocabulary
        raise DataError(f"{name}: no text has a word of two or more letters") from error
    totals = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
    chosen = np.sort(np.argsort(-totals, kind="stable")[:n_words])
    return canonical(counts[:, chosen])


def tfidf(counts: Matrix) -> Matrix:
    """(1 + ln tf) * (ln((1 + N) / (1 + df)) + 1) of counts (n, d), float32, each row divided by its length.

    A row without a word stays zero. Source: DEC's code for REUTERS.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    found = TfidfTransformer(sublinear_tf=True).fit_transform(counts.astype(np.float64))
    return canonical(found.astype(np.float32))


def _labels(labels: Sequence[object] | None) -> npt.NDArray[np.generic] | None:
    """Labels as an array of whole numbers or words, an empty word where one is missing."""
    if labels is None:
        return None
    is_whole = all(isinstance(label, int | np.integer) and not isinstance(label, bool) for label in labels)
    if is_whole and all(abs(int(str(label))) < 2**63 for label in labels):
        return np.array(labels, np.int64)
    missing = [label is None or label != label for label in labels]  # NaN is not itself
    if any(missing):  # then pandas made floats of whole numbers
        labels = [int(one) if isinstance(one, float) and one.is_integer() else one for one in labels]
    return np.array(["" if absent else str(one) for absent, one in zip(missing, labels, strict=True)])
