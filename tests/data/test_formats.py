"""A user's own files: tables, pairs of arrays, folders, MATLAB; each in the form it is published in, and damaged."""

import bz2
import gzip
import io
import lzma
import os
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
from PIL import Image

from robust_cluster.cli.options import StageOptions, data_path
from robust_cluster.data import cache, files, prepare
from robust_cluster.data.base import Folders
from robust_cluster.data.formats import PICKLES, SUFFIXES, Reading, arrays, images, matlab, memory
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError, DataError, RobustClusterError, ShapeError
from robust_cluster.runs.spec import DataRef
from tests.data.given import labels_of, one_sentence

X = np.arange(24, dtype=np.float64).reshape(12, 2)
Y = np.arange(12) % 3


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path, value: int, *, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(path)  # type: ignore[arg-type]
    return path


# Tables


def test_a_tsv_is_a_table_with_tabs_between(tmp_path: Path) -> None:
    raw = files.read(write(tmp_path / "some.tsv", "a\tclass\tb\n1\tcat\t2.5\n3\tdog\t-4\n"))
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[1, 2.5], [3, -4]], ["cat", "dog"])


def test_a_named_label_column_wins_over_the_usual_names(tmp_path: Path) -> None:
    path = write(tmp_path / "some.csv", "a,class,species\n1,7,cat\n3,8,dog\n")
    raw = files.read(path, Reading(label_column="species"))
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[1, 7], [3, 8]], ["cat", "dog"])


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("specis", r"flowers\.csv has no column 'specis'\. Did you mean 'Species'\? \(--label-column NAME\)"),
        ("zzz", r"has no column 'zzz'\. It has a, b, c, d, e, \.\.\.\. \(--label-column NAME\)"),
    ],
)
def test_a_label_column_that_is_not_there_is_answered_with_names(tmp_path: Path, wanted: str, sentence: str) -> None:
    path = write(tmp_path / "flowers.csv", "a,b,c,d,e,Species\n1,2,3,4,5,6\n")
    with pytest.raises(ConfigError, match=sentence):
        files.read(path, Reading(label_column=wanted))


def test_a_table_without_labels_asks_for_clusters_or_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "flowers.csv", "petal,kind,id\n1,0,4\n2,1,6\n2,1,5\n1,1,7\n")
    with one_sentence(ConfigError, r"\(--clusters K, or --label-column with one of petal, kind\)"):
        load(DataRef("flowers"), Folders(), path=path)
    found = load(DataRef("flowers", label_column="kind"), Folders(), path=path)
    assert (labels_of(found), found.info.shapes) == ([0, 1, 1, 1], ((2,),))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_separator_is_found(tmp_path: Path, separator: str, suffix: str) -> None:
    text = f'"length{separator} cm",b,y\n1,2.5,cat\n3,-4,"a dog, old"\n'.replace(",", separator)
    raw = files.read(write(tmp_path / f"some{suffix}", text))
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[1, 2.5], [3, -4]], ["cat", f"a dog{separator} old"])


def test_labels_of_a_table_may_be_missing_and_of_any_size(tmp_path: Path) -> None:
    for labels in ("cat,,dog", "1,,2"):
        path = write(tmp_path / "some.csv", "a,y\n" + "".join(f"{i},{y}\n" for i, y in enumerate(labels.split(","))))
        assert labels_of(load(DataRef("some"), Folders(), path=path)) == [0, -1, 1]
    for large in (2**53, 2**63, 2**80):
        write(path, f"a,y\n1,{large}\n2,{large + 1}\n3,{large}\n")
        assert labels_of(load(DataRef("some"), Folders(), path=path)) == [0, 1, 0]


def test_decimal_commas_are_read_and_said(tmp_path: Path) -> None:
    raw = files.read(write(tmp_path / "some.csv", "a;y\n1,5;cat\n-3;dog\n"))
    assert (raw.views[0].tolist(), raw.notes) == (
        [[1.5], [-3]],
        ("some.csv was read with decimal commas (1,5 is 1.5)",),
    )
    mixed = write(tmp_path / "mixed.csv", "a;b;y\n1,5;2.5;cat\n-3;1;dog\n")
    with one_sentence(DataError, "the column 'a' is not numeric"):
        files.read(mixed)


PACKERS: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}


@pytest.mark.parametrize("packed", PACKERS)
def test_a_packed_table_is_the_same_table(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"some.csv.{packed}"
    with PACKERS[packed](path, "wt") as file:
        file.write("# made by hand\n#\na,y\n" + "1,cat\n3,dog\n" * 300)
    raw = load(DataRef("some"), Folders(tmp_path))
    assert (raw.info.n_samples, raw.info.n_clusters) == (600, 2)
    assert data_path(str(path.name)) == Path(path.name)
    assert StageOptions(model="kmeans", data=str(path)).ref.name == "some"
    write(tmp_path / "some.csv", "a,y\n1,cat\n3,dog\n")
    assert files.listing(tmp_path) == {"some": tmp_path / "some.csv"}
    path.write_bytes(path.read_bytes()[:-9])
    with one_sentence(DataError, rf"some\.csv\.{packed} cannot be read or is truncated"):
        files.read(path)


def test_zst_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "some.csv.zst", "a,y\n1,cat\n3,dog\n")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with one_sentence(DataError, r"some\.csv\.zst needs zstandard \(pip install zstandard, or unpack it\)"):
        files.read(path)
    monkeypatch.setitem(sys.modules, "zstandard", SimpleNamespace(open=open))
    assert labels_of(files.read(path)) == ["cat", "dog"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_a_table_may_be_of_another_encoding_which_is_said(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "some.csv"
    path.write_text("größe,y\n1,Äpfel\n2,Birnen\n", encoding=encoding)
    raw = files.read(path)
    assert labels_of(raw) == ["Äpfel", "Birnen"]
    assert raw.notes == (() if encoding == "utf-8-sig" else (f"some.csv is not UTF-8 and was read as {encoding}",))


def test_columns_are_left_out_and_a_first_line_is_a_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "some.csv", "id,a,b,c,y\n7,1,2,u,0\n8,3,4,v,1\n")
    raw = files.read(path, Reading(id_column="id", drop="b, c"))
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[1], [3]], [0, 1])
    for reading in (Reading(id_column="ids"), Reading(drop="b,ids")):
        with one_sentence(ConfigError, r"no column 'ids'\. Did you mean 'id'\? \(--(id-column|drop) NAME\)"):
            files.read(path, reading)
    with one_sentence(ConfigError, r"the column 'y' is wanted and left out \(name it once\)"):
        files.read(path, Reading(id_column="y", label_column="y"))
    bare = write(tmp_path / "bare.csv", "5.1,3,setosa\n4.9,3,setosa\n6,4,virginica\n")
    raw = files.read(bare, Reading(label_column="2", no_header=True))
    assert (raw.views[0].shape, labels_of(raw)) == ((3, 2), ["setosa", "setosa", "virginica"])
    for name in ("x.parquet", "x.jsonl", "x.npz"):
        with one_sentence(ConfigError, r"--no-header is for \.csv"):
            files.read(write(tmp_path / name, ""), Reading(no_header=True))


def test_a_column_like_an_id_is_named_and_never_offered_as_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"Id": np.arange(30), "key": rng.permutation(30) * 7, "size": rng.normal(size=30)})
    table["y"] = np.arange(30) % 3
    table.to_csv(tmp_path / "ids.csv", index=False)
    raw = files.read(tmp_path / "ids.csv")
    assert raw.notes == (
        "the column 'Id' counts up: --id-column Id leaves it out",
        "the column 'key' is different in every row: --id-column key leaves it out",
    )
    assert files.read(tmp_path / "ids.csv", Reading(id_column="Id", drop="key")).notes == ()
    assert files.read(tmp_path / "ids.csv", Reading(drop="y")).label_hint == "--clusters K"
    said = files.read(tmp_path / "ids.csv", Reading(label_column="Id", drop="key")).notes
    assert said == ("the column 'Id', which was taken for the labels, has 30 in 30 rows",)


def test_a_parquet_is_a_table_or_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.parquet"
    path.write_bytes(b"PAR1")
    table = pd.DataFrame({"a": [1, 3], "y": ["p", "q"]})
    monkeypatch.setattr(pd, "read_parquet", lambda path: table)
    raw = files.read(path)
    assert (raw.views[0].tolist(), labels_of(raw)) == ([[1], [3]], ["p", "q"])
    table.columns = pd.Index(["a", "a"])
    with pytest.raises(DataError, match=r"some\.parquet: columns must have different names, got several called a"):
        files.read(path)

    def fail(error: Exception) -> Any:
        def read(path: Path) -> Any:
            raise error

        return read

    monkeypatch.setattr(pd, "read_parquet", fail(ImportError("no engine")))
    with one_sentence(DataError, r"needs pyarrow to read \.parquet \(pip install 'robust_cluster\[parquet\]', or"):
        files.read(path)
    monkeypatch.setattr(pd, "read_parquet", fail(OSError("magic bytes not found")))
    with pytest.raises(DataError, match=r"some\.parquet cannot be read as \.parquet: magic bytes"):
        files.read(path)


def test_columns_are_asked_of_tables_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    with pytest.raises(ConfigError, match=r"--label-column is for \.csv, \.tsv, \.parquet, \.jsonl, got x\.npz"):
        files.read(tmp_path / "x.npz", Reading(label_column="y"))
    with pytest.raises(ConfigError, match="--label-column is for your own files, got digits"):
        load(DataRef("digits", label_column="y"), Folders())


# Arrays


@pytest.mark.parametrize(("data", "labels"), [("x", "Y"), ("X", "y"), ("X", "labels"), ("X", "Y")])
def test_an_npz_may_write_x_and_y_large(tmp_path: Path, data: str, labels: str) -> None:
    content: dict[str, Any] = {data: X, labels: Y}
    np.savez(tmp_path / "a.npz", **content)
    raw = files.read(tmp_path / "a.npz")
    assert (raw.views[0].tolist(), labels_of(raw)) == (X.tolist(), Y.tolist())


def test_an_npy_has_its_labels_beside_it_and_they_are_no_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", X)
    assert files.read(tmp_path / "mine.npy").labels is None
    np.save(tmp_path / "mine.labels.npy", Y)
    assert labels_of(files.read(tmp_path / "mine.npy")) == Y.tolist()
    assert set(files.listing(tmp_path)) == {"mine"}


def test_a_folder_with_x_and_y_is_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "pair").mkdir()
    np.save(tmp_path / "pair" / "x.npy", X)
    assert files.read(tmp_path / "pair").labels is None
    np.save(tmp_path / "pair" / "y.npy", Y)
    data = load(DataRef("pair", normalize="none"), Folders(tmp_path))
    assert (data.views[0][:].tolist(), labels_of(data)) == (X.tolist(), Y.tolist())


def test_a_folder_with_views_is_a_multi_view_data_set(tmp_path: Path) -> None:
    for i in range(11):
        np.save(tmp_path / f"view_{i}.npy", np.full((3, 1), i))
    assert [int(view[0, 0]) for view in files.read(tmp_path).views] == list(range(11))  # type: ignore[index]
    (tmp_path / "view_3.npy").unlink()
    with pytest.raises(DataError, match=r"must hold either x\.npy, or view_0\.npy, view_1\.npy, \.\.\. without a gap"):
        files.read(tmp_path)


def test_a_large_npy_is_mapped_and_a_limit_reads_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "mine.npy", X)
    expected = load(DataRef("mine", limit=5, n_clusters=2), Folders(tmp_path))
    monkeypatch.setattr(arrays, "MAPPED", 1)
    assert isinstance(arrays.load(tmp_path / "mine.npy"), np.memmap)
    found = load(DataRef("mine", limit=5, n_clusters=2), Folders(tmp_path))
    assert found.info == expected.info
    before = (tmp_path / "mine.npy").read_bytes()
    whole = load(DataRef("mine", n_clusters=2), Folders(tmp_path))
    assert whole.info.scale != 1.0
    assert (tmp_path / "mine.npy").read_bytes() == before


@pytest.mark.parametrize("ref", [DataRef("mine", limit=4), DataRef("mine", limit=4, subset="0,2")])
def test_a_limit_takes_no_memory_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: DataRef) -> None:
    np.save(tmp_path / "mine.npy", (np.arange(2**20) % 251).astype(np.uint8).reshape(256, -1))
    np.save(tmp_path / "mine.labels.npy", np.arange(256) % 3)
    monkeypatch.setattr(arrays, "MAPPED", 2**20)
    monkeypatch.setattr(prepare, "PORTION", 2**16)
    tracemalloc.start()
    assert load(ref, Folders(tmp_path)).info.n_samples == 4
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**19  # bytes, half of the file


def test_more_data_than_memory_get_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "mine.npy", X)
    np.savez(tmp_path / "packed.npz", x=X)
    write(tmp_path / "table.csv", "a,b\n" + "1,2\n" * 50)
    write(tmp_path / "lines.svm", "1 1:0.5\n" * 50)
    folders = Folders(tmp_path, tmp_path / "cache")
    cache.write_import("kept", files.read(mat(tmp_path, X=X.astype(np.float32))), folders)
    monkeypatch.setattr(memory, "available", lambda: 60)
    with pytest.raises(DataError, match=r"mine needs 9\.2e-05 MiB of memory, 5\.7e-05 MiB are available \(--limit N\)"):
        load(DataRef("mine", n_clusters=2), Folders(tmp_path))
    assert load(DataRef("mine", n_clusters=2, limit=2), Folders(tmp_path)).info.n_samples == 2
    for name in ("packed.npz", "table.csv"):
        with pytest.raises(DataError, match=rf"{name} needs .* \(save the .* as \.npy, of which --limit reads only"):
            files.read(tmp_path / name)
    with pytest.raises(DataError, match=r"kept needs .* of memory, .* are available \(--limit N\)"):
        load(DataRef("kept", n_clusters=2), folders)
    for name, hint in (("mv.mat", "save its matrices as .npy"), ("lines.svm", "split the file")):
        with pytest.raises(DataError, match=rf"{name} needs .* of memory, .* \({hint}\)"):
            files.read(tmp_path / name)


def test_arrays_of_an_npz_that_nobody_needs_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y, raw=np.zeros(10**6), names=np.array([{}, None], object))
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.csr_array(X))
    monkeypatch.setattr(memory, "available", lambda: 10**5)
    assert files.read(tmp_path / "a.npz").views[0].tolist() == X.tolist()
    monkeypatch.setattr(memory, "available", lambda: 300)
    for name in ("a", "s"):
        with one_sentence(DataError, rf"{name}\.npz needs .* of memory"):
            files.read(tmp_path / f"{name}.npz")


def test_memory_is_asked_for_before_values_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "mine.npy", X)
    monkeypatch.setattr(memory, "available", lambda: 60)
    monkeypatch.setattr(prepare, "_portions", lambda *_: pytest.fail("values were read"))
    with one_sentence(DataError, "mine needs .* of memory"):
        load(DataRef("mine", n_clusters=2), Folders(tmp_path))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_header_that_claims_more_than_there_is_gets_one_sentence(tmp_path: Path, name: str) -> None:
    with io.BytesIO() as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**45, 2)})
        content = stream.getvalue() + bytes(64)
    if name == "x.npy":
        (tmp_path / name).write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", content)
    with one_sentence(DataError, rf"{name} (is damaged|cannot be read)"):
        files.read(tmp_path / name)


def test_the_memory_that_is_there_is_told() -> None:
    there = memory.available()
    assert there is None or there > 2**20
    memory.check("little", 1, "no hint")


@pytest.mark.parametrize("name", ["x.pkl", "x.pickle", "x.joblib", "x.pt", "x.PKL"])
def test_a_pickle_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"is a pickle, which can run code and is not read \(save plain numbers"):
        files.read(tmp_path / name)


@pytest.mark.parametrize("length", [10, 130, 180])
@pytest.mark.parametrize("mapped", [1, 2**26])
def test_a_truncated_npy_is_refused(tmp_path: Path, length: int, mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAPPED", mapped)
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:length])
    with pytest.raises(DataError, match=r"x\.npy (is damaged|cannot be read or is truncated)"):
        files.read(tmp_path / "x.npy")


# Folders of images


def test_a_folder_of_images_has_a_class_a_sub_folder(tmp_path: Path) -> None:
    for name, value in (("cat/1.png", 10), ("cat/more/2.JPG", 20), ("ape/1.png", 30)):
        picture(tmp_path / "pets" / name, value)
    write(tmp_path / "pets" / "cat" / "notes.txt", "no image")
    raw = files.read(tmp_path / "pets")
    assert (raw.image, raw.source, raw.views[0].shape) == (True, "pets", (3, 4, 6, 3))
    assert labels_of(raw) == ["ape", "cat", "cat"]
    assert [int(image.flat[0]) for image in raw.views[0]] == [30, 10, 20]  # type: ignore[union-attr]
    assert files.listing(tmp_path) == {"pets": tmp_path / "pets"}


def test_gray_images_have_no_channel_axis_and_images_without_classes_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 10, mode="L")
    picture(tmp_path / "b.png", 20, mode="L")
    raw = files.read(tmp_path)
    assert (raw.views[0].shape, raw.labels) == ((2, 4, 6), None)
    picture(tmp_path / "c.png", 30)
    assert files.read(tmp_path).views[0].shape == (3, 4, 6, 3)


def test_images_of_several_sizes_need_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 10)
    picture(tmp_path / "b.png", 20, size=(8, 4))
    with pytest.raises(ShapeError, match=r"one size, got a\.png 6 x 4 and b\.png 8 x 4 \(--size 64\)"):
        files.read(tmp_path)
    (found,) = files.read(tmp_path, Reading(size=5)).views
    assert found.shape == (2, 5, 5, 3)
    assert load(DataRef("pets", size=5, n_clusters=2), Folders(), path=tmp_path).info.shapes == ((3, 5, 5),)


def deep(path: Path, values: npt.ArrayLike, dtype: npt.DTypeLike) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


def deep_rgb(path: Path, value: int) -> Path:
    """A PNG of 2 x 2 pixels with 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + struct.pack(">6H", *[value] * 6)) * 2
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_images_of_16_bits_are_divided_by_their_range(tmp_path: Path, suffix: str) -> None:
    deep(tmp_path / f"a.{suffix}", [[0, 300], [4095, 65535]], np.uint16)
    picture(tmp_path / "b.png", 51, size=(2, 2), mode="L")
    raw = files.read(tmp_path)
    np.testing.assert_allclose(raw.views[0], [[[0, 300 / 65535], [4095 / 65535, 1]], [[0.2, 0.2]] * 2], rtol=1e-6)
    assert raw.notes == ("16-bit images are divided by 65535; their largest value is 65535",)
    data = load(DataRef("deep", n_clusters=2), Folders(), path=tmp_path)
    assert (data.info.bounds, data.notes) == ((0.0, 1.0), raw.notes)
    assert images.pixels(tmp_path / f"a.{suffix}", "RGB")[..., 2].tolist() == [[0, 1], [16, 255]]


def test_16_bits_a_channel_lose_their_lower_bits_and_are_not_clipped(tmp_path: Path) -> None:
    for name, value in (("a", 0x1234), ("b", 0x8001)):
        deep_rgb(tmp_path / f"{name}.png", value)
    assert [int(image.flat[0]) for image in files.read(tmp_path).views[0]] == [0x12, 0x80]  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_images_without_a_range_are_scaled_by_all_of_them_which_is_said(tmp_path: Path, dtype: type) -> None:
    deep(tmp_path / "x" / "a.tif", [[-100, 300]], dtype)
    deep(tmp_path / "y" / "b.tif", [[700, 900]], dtype)
    raw = files.read(tmp_path)
    np.testing.assert_allclose(raw.views[0], [[[0, 0.4]], [[0.8, 1]]])
    assert raw.notes == (
        "images without a range of their own are scaled from [-100, 900], over all of them, to [0, 1]",
    )
    with one_sentence(DataError, r"a\.tif holds float32 values, whose range is not known \(save them all with 8 or 16"):
        images.pixels(tmp_path / "x" / "a.tif", "RGB")
    picture(tmp_path / "y" / "c.png", 9, size=(2, 1), mode="L")
    with one_sentence(DataError, r"must have one depth, got a\.tif [IF] and c\.png L \(save them all"):
        files.read(tmp_path)


def test_integers_of_32_bits_without_a_sign_have_none(tmp_path: Path) -> None:
    path = deep(tmp_path / "a.tif", [[0, 1], [2**30, -1]], np.int32)
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))  # the tag SampleFormat
    content = path.read_bytes()
    assert signed in content
    path.write_bytes(content.replace(signed, unsigned))
    found = files.read(tmp_path)
    np.testing.assert_allclose(found.views[0], [[[0, 0], [0.25, 1]]], atol=1e-6)


def plain_tiff(path: Path, values: npt.NDArray[Any], order: str) -> None:
    """A TIFF of one strip; `order`: "<" or ">". Pillow writes neither signed bytes nor big-endian files."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    height, width = values.shape
    bits, size = 8 * values.dtype.itemsize, values.nbytes
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 134, 277: 1, 278: height, 279: size, 339: kind}
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    content += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(content + bytes(4) + values.astype(values.dtype.newbyteorder(order)).tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "u2", "i2", "u4", "i4", "f4"])
def test_every_kind_of_number_that_a_tiff_holds_is_read_as_it_is(tmp_path: Path, kind: str, order: str) -> None:
    values = np.array([[0, 100], [25, 50]], kind) - (50 if kind[0] != "u" else 0)
    plain_tiff(tmp_path / "a.tif", values, order)
    if (kind, order) == ("u4", ">"):  # Pillow does not know it
        with one_sentence(DataError, "is no readable image"):
            files.read(tmp_path)
        return
    top = 65535 if kind == "u2" else 100
    np.testing.assert_allclose(files.read(tmp_path).views[0], [np.array([[0, 100], [25, 50]]) / top], rtol=1e-6)


def test_float_images_in_0_to_1_stay_and_others_must_be_finite(tmp_path: Path) -> None:
    deep(tmp_path / "a.tiff", [[0.25, 0.5]], np.float32)
    raw = files.read(tmp_path)
    assert (raw.views[0].tolist(), raw.notes) == ([[[0.25, 0.5]]], ())
    deep(tmp_path / "b.tiff", [[np.nan, 0.5]], np.float32)
    with one_sentence(DataError, "have values that are NaN or infinite"):
        files.read(tmp_path)


def test_parts_of_a_data_set_are_no_classes(tmp_path: Path) -> None:
    for name, value in (("train/cat/1.png", 1), ("train/ape/1.png", 2), ("Val/cat/x/0.png", 3), ("Val/cat/9.png", 4)):
        picture(tmp_path / "pets" / name, value)
    raw = files.read(tmp_path / "pets")
    assert labels_of(raw) == ["ape", "cat", "cat", "cat"]
    assert sorted(int(image.flat[0]) for image in raw.views[0][1:]) == [1, 3, 4]  # type: ignore[index,union-attr]
    assert files.listing(tmp_path) == {"pets": tmp_path / "pets"}
    assert raw.notes == ("classes are the folders in Val, train, which are taken together",)
    picture(tmp_path / "pets" / "train" / "0.png", 9)
    with one_sentence(DataError, r"train.0\.png lies beside the classes of .*, or in place of them \(a sub-folder a"):
        files.read(tmp_path / "pets")


def test_classes_on_several_levels_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "1.png", 1)
    picture(tmp_path / "dog" / "1.png", 1)
    with one_sentence(DataError, r"on one level, got images in dog and only folders of images in train \(--data with"):
        files.read(tmp_path)
    picture(tmp_path / "dog" / "more" / "1.png", 1)
    picture(tmp_path / "train" / "2.png", 1)
    assert labels_of(files.read(tmp_path)) == ["dog", "dog", "train", "train"]


def test_a_folder_that_is_linked_to_itself_ends(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        picture(tmp_path / "pets" / name, 1)
    (tmp_path / "pets" / "a" / "again").symlink_to(tmp_path / "pets" / "a")
    (tmp_path / "pets" / "b" / "up").symlink_to(tmp_path / "pets")
    (tmp_path / "pets" / "b" / "loop").symlink_to(tmp_path / "pets" / "b" / "loop")
    assert labels_of(files.read(tmp_path / "pets")) == ["a", "b"]
    assert cache.fingerprint([tmp_path / "pets"])[0][1] >= 2
    (tmp_path / "pets" / "c").symlink_to(tmp_path / "pets")
    with one_sentence(DataError, "the class 'c' of .* has no image"):
        files.read(tmp_path / "pets")


def damaged_image(folder: Path) -> None:
    path = picture(folder / "a" / "cut.png", 3, size=(50, 50))
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("fill", "sentence"),
    [
        (lambda folder: None, r"holds no image \(a sub-folder a class with \.jpg"),
        (lambda folder: write(folder / "a" / "x.txt", ""), "holds no image"),
        (
            lambda folder: (picture(folder / "a" / "1.png", 1), (folder / "b").mkdir()),
            "the class 'b' of .* has no image",
        ),
        (lambda folder: (picture(folder / "a" / "1.png", 1), picture(folder / "2.png", 1)), "got both: 2.png and a"),
        (damaged_image, r"cut\.png is no readable image"),
        (lambda folder: write(folder / "a" / "no.png", "text"), r"no\.png is no readable image"),
    ],
)
def test_a_folder_that_cannot_be_used_gets_one_sentence(tmp_path: Path, fill: Any, sentence: str) -> None:
    fill(tmp_path)
    with one_sentence(DataError, sentence):
        files.read(tmp_path)


def test_a_folder_that_cannot_be_read_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "pets" / "cat" / "1.png", 1)
    plain = Path.iterdir

    def refused(self: Path) -> Any:
        if self.name == "cat":
            raise PermissionError(13, "Permission denied")
        return plain(self)

    monkeypatch.setattr(Path, "iterdir", refused)  # the superuser, who runs some tests, is refused nothing
    with pytest.raises(DataError, match=r"pets cannot be read: Permission denied"):
        files.read(tmp_path / "pets")
    assert files.listing(tmp_path) == {}


def test_a_folder_too_large_for_memory_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png", 1)
    monkeypatch.setattr(memory, "available", lambda: 60)
    with pytest.raises(DataError, match=r"MiB are available \(--size with fewer pixels\)"):
        images.read(tmp_path)


# MATLAB


def cells(*items: Any) -> npt.NDArray[np.object_]:
    found = np.empty((1, len(items)), object)
    for i, item in enumerate(items):
        found[0, i] = item
    return found


def mat(folder: Path, **content: Any) -> Path:
    scipy.io.savemat(folder / "mv.mat", content)
    return folder / "mv.mat"


@pytest.fixture
def _whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of its own reads a file first, which takes a quarter of a second: those of the test are whole."""
    monkeypatch.setattr(matlab, "_check", lambda path: None)


VIEWS = (np.arange(24.0).reshape(6, 4), np.arange(18.0).reshape(6, 3))
CLASSES = np.array([[1], [2], [3], [1], [2], [3]])


@pytest.mark.usefixtures("_whole")
@pytest.mark.parametrize("names", [("X", "Y"), ("X", "gt"), ("fea", "gnd"), ("data", "truelabel")])
@pytest.mark.parametrize("upright", [True, False])
def test_a_mat_has_a_cell_a_view_and_samples_in_rows_or_columns(
    tmp_path: Path, names: tuple[str, str], upright: bool
) -> None:
    views = [view if upright else view.T for view in VIEWS]
    raw = files.read(mat(tmp_path, **{names[0]: cells(*views), names[1]: CLASSES}))
    assert [view.tolist() for view in raw.views] == [view.tolist() for view in VIEWS]
    assert (labels_of(raw), raw.image) == ([1, 2, 3, 1, 2, 3], False)


@pytest.mark.usefixtures("_whole")
def test_a_mat_may_hold_one_matrix_sparse_views_and_labels_in_cells(tmp_path: Path) -> None:
    assert files.read(mat(tmp_path, X=VIEWS[0])).labels is None
    raw = files.read(mat(tmp_path, X=cells(scipy.sparse.csc_array(VIEWS[0]), VIEWS[1]), Y=cells(CLASSES, CLASSES.T)))
    assert np.array_equal(raw.views[0].toarray(), VIEWS[0])  # type: ignore[union-attr]
    assert labels_of(raw) == [1, 2, 3, 1, 2, 3]
    data = load(DataRef("mv"), Folders(tmp_path))
    assert data.info.shapes == ((4,), (3,))
    assert data.ref.split == "halves"


@pytest.mark.usefixtures("_whole")
@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        (
            {"A": VIEWS[0]},
            DataError,
            r"must hold a cell array X with one matrix a view, got A \(6, 4\) \(and labels Y\)",
        ),
        ({"X": cells("text", VIEWS[0])}, DataError, r"X\{1\} must be a matrix of numbers, got <U4"),
        ({"X": cells(cells(1, 2))}, DataError, r"X\{1\} must be a matrix of numbers, got object"),
        ({"X": np.empty((1, 0), object)}, DataError, "the cell array X is empty"),
        ({"X": cells(*VIEWS), "Y": CLASSES[:-1]}, ShapeError, r"got \(6, 4\), \(6, 3\) and labels 5"),
        ({"X": cells(VIEWS[0], VIEWS[1][1:])}, ShapeError, r"got \(6, 4\), \(5, 3\)"),
        ({"X": cells(*VIEWS), "Y": np.eye(6)}, DataError, r"Y must be a vector with one class a sample, got \(6, 6\)"),
        ({"X": cells(*VIEWS), "Y": cells(CLASSES, CLASSES + 1)}, DataError, "the cells of Y must be equal"),
    ],
)
def test_a_mat_of_another_content_gets_one_sentence(
    tmp_path: Path, content: dict[str, Any], error: type[RobustClusterError], sentence: str
) -> None:
    with one_sentence(error, sentence):
        files.read(mat(tmp_path, **content))


@pytest.mark.parametrize(
    "change",
    [
        {473: 104},
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ({673: 37}, {281: 46, 430: 253, 441: 125}, {162: 36, 472: 181, 573: 59})
        ),
    ],
)
def test_a_damaged_mat_never_takes_the_process_down(tmp_path: Path, change: dict[int, int]) -> None:
    path = mat(tmp_path, X=cells(*VIEWS), Y=np.arange(6)[:, None])  # scipy reads beyond its memory in each of these
    content = bytearray(path.read_bytes())
    for place, byte in change.items():
        content[place] = byte
    path.write_bytes(content)
    with one_sentence(DataError, r"mv\.mat is damaged, truncated or no \.mat file"):
        files.read(path)


@pytest.mark.usefixtures("_whole")
def test_words_of_a_mat_are_labels(tmp_path: Path) -> None:
    words = ["cat", "dog", "", "cat", "a", "dog"]
    for given in (cells(*words), cells(*words).T, np.array(words)):
        raw = files.read(mat(tmp_path, X=cells(*VIEWS), Y=given))
        assert [word.strip() for word in labels_of(raw)] == words


def test_a_mat_of_version_7_3_or_damaged_gets_one_sentence(tmp_path: Path) -> None:
    path = mat(tmp_path, X=cells(*VIEWS), Y=CLASSES)
    whole = path.read_bytes()
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
    path.write_bytes(header.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n")
    with one_sentence(DataError, r"version 7\.3 \(HDF5\), which is not read \(in MATLAB: save\('mv\.mat', 'X', 'Y'"):
        files.read(path)
    for content in (whole[:300], whole[:60], b"", b"no such thing" * 30):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"mv\.mat (is damaged, truncated or no \.mat file|must hold a cell array)"):
            files.read(path)


# The command line's view of all that


@pytest.mark.parametrize(
    "text", [*(f"some/x{suffix}" for suffix in (*SUFFIXES, *PICKLES)), "x.CSV", "noisy:x.npz", "./pets/"]
)
def test_the_command_line_tells_a_file_from_a_name(text: str) -> None:
    assert data_path(text) == Path(text.removeprefix("noisy:"))


def test_a_name_is_no_path_although_a_folder_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("digits")
    assert data_path("digits") is None
    options = StageOptions(model="kmeans", data="digits/", size=8, label_column="a", text_column="b")
    assert options.ref == DataRef("digits", size=8, label_column="a", text_column="b")
    assert StageOptions(model="kmeans", data="far/flowers.csv").ref.name == "flowers"


def test_an_empty_file_of_any_kind_gets_one_sentence(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"empty{suffix}"
        path.write_bytes(io.BytesIO().getvalue())
        with one_sentence(DataError, f"empty{suffix}"):
            files.read(path)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of tags
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.tif"])
def test_a_flipped_bit_is_read_or_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    if name == "x.tif":
        plain_tiff(path, values, "<")
    elif name == "x.npz":
        np.savez(path, x=values)
    else:
        np.save(path, values)
    content = path.read_bytes()
    refused = []
    for place in range(0, min(len(content), 140), 1 if name != "x.tif" else 9):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            files.read(path if name != "x.tif" else tmp_path)
        except RobustClusterError as error:
            refused.append(str(error))
    assert len(refused) > (10 if name != "x.tif" else 3)
    assert all(len(text.splitlines()) == 1 for text in refused)
