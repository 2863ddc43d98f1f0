import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.data import files
from robust_cluster.errors import ConfigError, DataError
from tests.data.given import idx, labels_of


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "some.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_is_read_plain_and_compressed(tmp_path: Path, suffix: str) -> None:
    content = idx([[0, 1, 2], [253, 254, 255]])
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    found = files.read_idx(path)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1, 2], [253, 254, 255]]


def test_idx_values_of_many_bytes_are_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(idx([1, -2], kind=0x0C, code="i"))
    assert files.read_idx(path).tolist() == [1, -2]


TWENTY = idx(np.arange(20).reshape(5, 4))
CUT = r"is truncated or damaged: .* got \d+ \(delete it and fetch it again\)"
OTHER = "is not an IDX file: it must begin 00 00 08, got"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        *(("cut", TWENTY[:length], CUT) for length in (6, 8, 17)),
        ("longer", TWENTY + b"more", CUT),
        ("cut.gz", gzip.compress(idx(range(200)))[:-20], "cannot be read or is truncated"),
        *(("other", content, OTHER) for content in (b"", b"\x89PNG\r\n", b"\0\0\x07\x01\0\0\0\0")),
    ],
)
def test_a_damaged_or_other_idx_file_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} {sentence}"):
        files.read_idx(tmp_path / name)


def test_an_npz_gives_x_and_y(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", x=np.arange(6.0).reshape(3, 2), y=np.array([1, 0, 1]), note=np.array(["free"]))
    raw = files.read(tmp_path / "two.npz")
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[0, 1], [2, 3], [4, 5]], [1, 0, 1])
    assert (raw.image, raw.source) == (False, "two.npz")


def test_an_npz_gives_its_views_in_numerical_order(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {f"view_{i}": np.full((2, 1), i) for i in reversed(range(11))}
    np.savez(tmp_path / "many.npz", **arrays)
    assert [int(view[0, 0]) for view in files.read(tmp_path / "many.npz").views] == list(range(11))


@pytest.mark.parametrize("names", [["data"], ["view_0", "view_2"], ["view_1"], ["x", "view_0"], ["y"]])
def test_an_npz_with_other_names_is_refused(tmp_path: Path, names: list[str]) -> None:
    arrays: dict[str, Any] = {name: np.ones((2, 1)) for name in names}
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(DataError, match=f"odd.npz must hold either the array x, or .* got {', '.join(sorted(names))}"):
        files.read(tmp_path / "odd.npz")


@pytest.mark.parametrize("name", ["bad.npz", "bad.npy"])
def test_pickled_objects_are_refused(tmp_path: Path, name: str) -> None:
    array: Any = np.array([{"a": 1}, None], dtype=object)
    if name.endswith("npz"):
        np.savez(tmp_path / name, x=array)
    else:
        np.save(tmp_path / name, array)
    with pytest.raises(DataError, match=r"holds pickled objects, which can run code and are not read \(save plain"):
        files.read(tmp_path / name)


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", x=np.arange(1000.0).reshape(100, 10))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:3000])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("half.npz", "empty.npz"):
        with pytest.raises(DataError, match=name):
            files.read(tmp_path / name)


def test_an_npy_with_three_axes_is_an_image_set(tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", np.zeros((2, 5, 4), dtype=np.uint8))
    raw = files.read(tmp_path / "pictures.npy")
    assert (raw.image, raw.labels, raw.views[0].shape) == (True, None, (2, 5, 4))


@pytest.mark.parametrize("column", ["y", "Label", "class", "TARGET"])
def test_a_csv_finds_its_label_column(tmp_path: Path, column: str) -> None:
    raw = files.read(write_csv(tmp_path, f"a,{column},b\n1,cat,2.5\n3,dog,-4\n"))
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[1, 2.5], [3, -4]], ["cat", "dog"])


def test_a_csv_without_a_label_column_is_all_features(tmp_path: Path) -> None:
    raw = files.read(write_csv(tmp_path, "a,b\n1,2\n3,\n"))
    assert raw.labels is None
    np.testing.assert_array_equal(raw.views[0], [[1, 2], [3, np.nan]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "a,animal\n1,cat\n2,dog\n3,cat\n4,dog\n",
            r"column 'animal' is not numeric \(--label-column 'animal' if it holds the labels",
        ),
        (
            "a,name\n1,cat\n2,dog\n3,ape\n4,dog\n",
            r"column 'name' is not numeric \(--id-column 'name' if it names rows, --text-column .* --drop 'name'\)",
        ),
        ("a,b\n1,2\n# end,\n", r"column 'a' is not numeric \(comments \(#\) may stand at the beginning only\)"),
        ("5.1,setosa\n4.9,virginica\n", r"must name the columns, got the numbers 5\.1 \.\.\. \(--no-header\)"),
        ("1,2,setosa\n3,4,setosa\n", r"must name the columns, got 'setosa', which the column holds too \(--no-header"),
        ("a\0b,c\n1,2\n", "is no text: it holds zero bytes"),
        ("a,y,class\n1,0,0\n", "one label column at most, got y, class"),
        ("a,label,label\n1,0,0\n", "columns must have different names, got several called label"),
        ("5.1,3.5\n4.9,3.0\n", r"the first line must name the columns, got the numbers 5\.1, 3\.5"),
        (",a\n0,1\n1,2\n", r"column 1 has no name \(write it with index=False\)"),
        ("a,b\n1,2,3\n4,5,6\n", "cannot be read as comma-separated values: Length of header"),
        ("", "cannot be read as comma-separated values"),
        ("a,b\n1,2\n3,4,5\n", "cannot be read as comma-separated values"),
    ],
)
def test_a_csv_that_would_be_misread_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        files.read(write_csv(tmp_path, text))


def test_a_missing_file_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*none\.npz"):
        files.read(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"must end in \.npz, \.npy, \.csv.*, or be a folder, got 'x\.doc'"):
        files.read(tmp_path / "x.doc")


def test_the_listing_prefers_npz_and_refuses_a_missing_folder(tmp_path: Path) -> None:
    for name in ("one.csv", "one.npz", "two.npy", "three.txt"):
        (tmp_path / name).touch()
    assert files.listing(tmp_path) == {"one": tmp_path / "one.npz", "two": tmp_path / "two.npy"}
    assert files.listing(None) == {}
    with pytest.raises(ConfigError, match="--data-dir must be an existing folder that can be read, got"):
        files.listing(tmp_path / "nowhere")
