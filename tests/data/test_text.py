"""Texts become the tf-idf vectors of REUTERS: by hand, and what is no corpus."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from robust_cluster.data import files
from robust_cluster.data.base import Folders
from robust_cluster.data.formats import Reading
from robust_cluster.data.prepare import load
from robust_cluster.data.sparse import SparseView, canonical
from robust_cluster.data.text import corpus, frequent_words, tfidf
from robust_cluster.errors import ConfigError, DataError
from robust_cluster.runs.spec import DataRef
from tests.data.given import labels_of

TEXTS = ["Oil prices rise, oil falls", "the match ends", "oil the match the oil"]


def jsonl(folder: Path, *objects: Any, tail: str = "") -> Path:
    path = folder / "news.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in objects) + tail, encoding="utf-8")
    return path


def test_tfidf_is_dampened_counts_times_idf_in_rows_of_length_one() -> None:
    counts = canonical(scipy.sparse.csr_array(np.array([[3.0, 0, 1], [0, 0, 2], [0, 0, 0]], np.float32)))
    rare, common = math.log(4 / 2) + 1, math.log(4 / 3) + 1
    first = np.array([(1 + math.log(3)) * rare, 0, common])
    found = tfidf(counts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), [first / np.linalg.norm(first), [0, 0, 1], [0, 0, 0]], rtol=1e-6)


def test_the_most_frequent_words_are_kept_and_ties_go_by_alphabet() -> None:
    counts = frequent_words("news", TEXTS, 3)  # oil 4, the 3, match 2; ends, falls, prices, rise 1
    assert counts.toarray().tolist() == [[0, 2, 0], [1, 0, 1], [1, 2, 2]]
    four = frequent_words("news", TEXTS, 4).toarray()  # and ends, before falls
    assert four[:, 0].tolist() == [0, 1, 0]
    assert frequent_words("news", TEXTS).shape == (3, 7)


def test_a_jsonl_corpus_is_sparse_and_has_its_labels(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path, *({"text": text, "label": k, "id": 9} for text, k in zip(TEXTS, "aba", strict=True)), tail="\n\n"
    )
    data = load(DataRef("news", normalize="none"), Folders(tmp_path))
    (view,) = data.views
    assert isinstance(view, SparseView)
    assert (labels_of(data), tuple(view.shape)) == ([0, 1, 0], (3, 7))
    np.testing.assert_allclose(view[:].norm(dim=1), 1, rtol=1e-6)
    assert files.read(path).source == "news.jsonl"


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({"body": text, "topic": k} for k, text in enumerate(TEXTS)))
    raw = files.read(path, Reading(text_column="body", label_column="topic"))
    assert labels_of(raw) == [0, 1, 2]
    assert files.read(path, Reading(text_column="body")).labels is None


@pytest.mark.parametrize("column", ["text", "Text", "review"])
def test_a_table_with_a_column_of_texts_is_a_corpus(tmp_path: Path, column: str) -> None:
    path = tmp_path / "news.csv"
    path.write_text(f'number,{column},y\n1,"{TEXTS[0]}",p\n2,{TEXTS[1]},q\n')
    raw = files.read(path, Reading(text_column="review" if column == "review" else None))
    assert labels_of(raw) == ["p", "q"]
    expected = corpus("news", TEXTS[:2], None).views[0]
    assert np.array_equal(raw.views[0].toarray(), expected.toarray())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("lines", "reading", "error", "sentence"),
    [
        ([], Reading(), DataError, "news.jsonl holds no text"),
        ([{"text": "a 1 !"}, {"text": ""}], Reading(), DataError, "no text has a word of two or more letters"),
        ([{"text": "oil"}, {"text": None}, {"y": 1}], Reading(), DataError, "2 texts are missing or no text, .* row 2"),
        ([{"text": 7}], Reading(), DataError, "1 texts are missing or no text"),
        ([["oil"]], Reading(), DataError, "line 1, must be a JSON object"),
        ([{"txt": "oil"}], Reading(), ConfigError, r"no column 'text'\. Did you mean 'txt'\? \(--text-column NAME\)"),
        (
            [{"text": "oil", "kind": 1}],
            Reading(label_column="knd"),
            ConfigError,
            "no column 'knd'. Did you mean 'kind'",
        ),
        ([{"text": "oil", "y": 1, "label": 2}], Reading(), DataError, "one label column at most, got y, label"),
    ],
)
def test_a_corpus_that_cannot_be_used_gets_one_sentence(
    tmp_path: Path, lines: list[Any], reading: Reading, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        files.read(jsonl(tmp_path, *lines), reading)


def test_a_truncated_corpus_or_another_encoding_gets_one_sentence(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"text": "oil"}, tail='\n{"text": "oi')
    with pytest.raises(DataError, match=r"line 2, is no JSON or is truncated"):
        files.read(path)
    path.write_bytes('{"text": "öl"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"news\.jsonl cannot be read"):
        files.read(path)


def test_missing_labels_are_empty_words_and_large_ones_words(tmp_path: Path) -> None:
    raw = files.read(jsonl(tmp_path, *({"text": "oil", "y": y} for y in (10, None, 9))))
    assert labels_of(raw) == ["10", "", "9"]
    raw = files.read(jsonl(tmp_path, *({"text": "oil", "y": y} for y in (2**70, 2**70 + 1))))
    assert labels_of(raw) == [str(2**70), str(2**70 + 1)]


def test_missing_texts_of_a_table_get_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("text,y\noil,1\n,2\n")
    with pytest.raises(DataError, match=r"1 texts are missing or no text, the first in row 2"):
        files.read(path)
    path.write_text("text,y\noil,1\ngas,\n")
    assert labels_of(files.read(path)) == ["1", ""]


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    lines = [{"text": "oil\u2028prices", "y": 0}, {"text": "the match\u0085ends", "y": 1}]
    path.write_bytes("\r\n".join(json.dumps(one, ensure_ascii=False) for one in lines).encode())
    assert files.read(path).views[0].shape == (2, 5)


def test_a_line_that_is_no_json_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2, is no JSON .*: Unterminated string starting at, character 2$"):
        files.read(jsonl(tmp_path, {"text": "oil"}, tail='\n{"text'))
