"""The named data sets beyond the MNIST family, each on a small file in exactly the format that is published."""

import bz2
import gzip
import io
import json
import pickle
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse

from robust_cluster import discover
from robust_cluster.data import (
    cifar10,
    cifar10_raw,
    mice_protein,
    rcv1,
    resnet,
    reuters,
    reuters10k,
    stl10,
    stl10_raw,
    usps,
)
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.prepare import load
from robust_cluster.errors import DataError
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir, labels_of, one_sentence

newsgroups = discover.load("data", "20newsgroups")
Pixels = npt.NDArray[np.uint8]
pytestmark = pytest.mark.usefixtures("offline")


def write(folders: Folders, files: Mapping[str, bytes]) -> Path:
    """Files below the --data-dir."""
    for name, content in files.items():
        path = data_dir(folders) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return data_dir(folders)


def packed(files: Mapping[str, bytes]) -> bytes:
    """A .tar.gz, its members in another order than the files are listed in, as CIFAR-10's are."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def bytes_of(raw: Raw) -> Pixels:
    view = raw.views[0]
    assert isinstance(view, np.ndarray)
    return view.astype(np.uint8)


def libsvm(rows: npt.NDArray[np.float64], labels: list[int]) -> bytes:
    """Lines of usps.bz2: a label from 1 to 10 and 256 values from -1 to 1."""
    lines = [
        f"{label} " + " ".join(f"{i}:{value:.6f}" for i, value in enumerate(row, start=1)) + " \n"
        for row, label in zip(rows, labels, strict=True)
    ]
    return bz2.compress("".join(lines).encode())


def test_usps_is_read_from_its_two_files_train_first(folders: Folders) -> None:
    rows = np.linspace(-1, 1, 3 * 256).reshape(3, 256)
    write(folders, {"usps/usps.bz2": libsvm(rows[:2], [10, 1]), "usps/usps.t.bz2": libsvm(rows[2:], [3])})
    raw = usps.read(folders)
    assert labels_of(raw) == [9, 0, 2]
    assert raw.image
    found = raw.views[0]
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, (rows.reshape(3, 16, 16) + 1) / 2, atol=1e-6)
    data = load(DataRef("usps", flatten=True, normalize="none"), folders)
    assert (data.info.shapes, data.info.bounds, data.info.n_clusters) == (((256,),), (0.0, 1.0), 3)


def test_a_truncated_or_other_usps_is_refused(folders: Folders) -> None:
    good, other = libsvm(np.zeros((2, 256)), [1, 2]), libsvm(np.full((2, 256), 3.0), [1, 2])
    write(folders, {"usps.bz2": good[:-9], "usps.t.bz2": good})
    with pytest.raises(DataError, match=r"usps\.bz2 cannot be read or is truncated"):
        usps.read(folders)
    write(folders, {"usps.bz2": good, "usps.t.bz2": other})
    with pytest.raises(DataError, match=r"usps\.t\.bz2 is another file under the name of USPS"):
        usps.read(folders)


def stl10_files(n_train: int = 2, n_test: int = 3) -> tuple[dict[str, bytes], Pixels, list[int]]:
    """The four files, and the images (n, rows, columns, channels) and labels that they hold."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(n_train + n_test, 96, 96, 3), dtype=np.uint8)
    labels = rng.permutation(10)[: n_train + n_test]
    in_file = images.transpose(0, 3, 2, 1)  # a plane a color, column after column
    parts = {"train": slice(n_train), "test": slice(n_train, None)}
    files = {f"{part}_X.bin": in_file[rows].tobytes() for part, rows in parts.items()}
    files |= {f"{part}_y.bin": (labels[rows] + 1).astype(np.uint8).tobytes() for part, rows in parts.items()}
    return files, images, labels.tolist()


@pytest.mark.parametrize("is_packed", [False, True])
def test_stl10_is_read_unpacked_and_from_its_archive(folders: Folders, is_packed: bool) -> None:
    files, images, labels = stl10_files()
    inside = {f"stl10_binary/{name}": content for name, content in {**files, "unlabeled_X.bin": b"0"}.items()}
    write(folders, {"stl10/stl10_binary.tar.gz": packed(inside)} if is_packed else inside)
    raw = stl10_raw.read(folders)
    np.testing.assert_array_equal(bytes_of(raw).transpose(0, 2, 3, 1), images)
    assert labels_of(raw) == labels
    assert load(DataRef("stl10-raw", limit=5), folders).info.shapes == ((3, 96, 96),)


def test_a_truncated_stl10_is_refused(folders: Folders) -> None:
    files, *_ = stl10_files()
    write(folders, {**files, "train_X.bin": files["train_X.bin"][:-1]})
    with pytest.raises(DataError, match=r"train_X.bin must hold 27648 bytes for each of the 2 labels .* got 55295"):
        stl10_raw.read(folders)
    write(folders, {**files, "test_y.bin": b"\x00\x01\x0b"})
    with pytest.raises(DataError, match=r"test_y.bin must hold labels from 1 to 10, got 0 to 11"):
        stl10_raw.read(folders)
    for name in files:
        (write(folders, {}) / name).unlink()
    archive = packed({f"stl10_binary/{name}": content for name, content in files.items()})
    write(folders, {"stl10_binary.tar.gz": archive[:5000]})
    with pytest.raises(DataError, match=r"stl10_binary.tar.gz cannot be read or is truncated"):
        stl10_raw.read(folders)
    write(folders, {"stl10_binary.tar.gz": packed({"stl10_binary/train_X.bin": b""})})
    with pytest.raises(DataError, match=r"does not hold train_y.bin, test_X.bin, test_y.bin"):
        stl10_raw.read(folders)


def python2_string(text: bytes) -> bytes:
    """How Python 2 pickles a string in protocol 2."""
    short = len(text) < 256
    return (b"U" + bytes([len(text)]) if short else b"T" + len(text).to_bytes(4, "little")) + text


def cifar_batch(images: Pixels, labels: list[int]) -> bytes:
    """A batch as Python 2 wrote it, opcode by opcode: {"batch_label", "labels", "data", "filenames"}."""
    n = len(labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + python2_string(b"b") + b"tR"
        b"(K\x01K" + bytes([n]) + b"M\x00\x0c\x86"  # version 1, shape (n, 3072)
        b"cnumpy\ndtype\n("
        + python2_string(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + python2_string(b"|")
        + b"NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89" + python2_string(images.tobytes()) + b"tb"
    )
    items = {
        b"batch_label": python2_string(b"training batch 1 of 5"),
        b"labels": b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
        b"data": array,
        b"filenames": b"](" + b"".join(python2_string(b"a.png") for _ in labels) + b"e",
    }
    return b"\x80\x02}(" + b"".join(python2_string(key) + value for key, value in items.items()) + b"u."


def cifar_files() -> tuple[dict[str, bytes], Pixels]:
    images = np.random.default_rng(0).integers(256, size=(12, 3, 32, 32), dtype=np.uint8)
    names = [file.name for file in cifar10_raw.UNPACKED.files]
    return {name: cifar_batch(images[2 * i : 2 * i + 2], [i, 9 - i]) for i, name in enumerate(names)}, images


def test_the_made_batch_is_what_a_full_unpickler_reads() -> None:
    images = cifar_files()[1][:2]
    batch = pickle.loads(cifar_batch(images, [3, 7]), encoding="bytes")
    assert sorted(batch) == [b"batch_label", b"data", b"filenames", b"labels"]
    np.testing.assert_array_equal(batch[b"data"], images.reshape(2, 3072))


@pytest.mark.parametrize("is_packed", [False, True])
def test_cifar10_is_read_unpacked_and_from_its_archive(folders: Folders, is_packed: bool) -> None:
    files, images = cifar_files()
    inside = {f"cifar-10-batches-py/{name}": content for name, content in {**files, "batches.meta": b""}.items()}
    write(folders, {"cifar10/cifar-10-python.tar.gz": packed(inside)} if is_packed else inside)
    raw = cifar10_raw.read(folders)
    np.testing.assert_array_equal(bytes_of(raw), images)
    assert labels_of(raw) == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4]


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (3,)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (pickle.dumps({b"data": Harmful()}), "test_batch is no batch that can be read safely: it asks for sys.exit"),
        (pickle.dumps({b"data": 1}), "test_batch is damaged or truncated: KeyError"),
        (b"", "test_batch is damaged or truncated: EOFError"),
        (
            pickle.dumps({b"data": [[1]], b"labels": [0]}),
            r"test_batch must hold bytes \(n, 3072\) and n labels, got int64",
        ),
        (cifar_files()[0]["test_batch"][:4000], "test_batch is (damaged|no batch)"),
    ],
)
def test_a_batch_that_could_run_code_or_is_damaged_is_refused(folders: Folders, content: bytes, sentence: str) -> None:
    write(folders, {**cifar_files()[0], "test_batch": content})
    with pytest.raises(DataError, match=sentence):
        cifar10_raw.read(folders)


@pytest.mark.parametrize(("name", "module"), [("stl10", stl10), ("cifar10", cifar10)])
def test_features_are_found_and_never_made_up(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType
) -> None:
    monkeypatch.setattr(module, "read", replace(module.FEATURES, n_samples=6).read)
    with pytest.raises(DataError) as caught:
        load(DataRef(name), folders)
    assert str(caught.value) == (
        f"The features of {name} are not there: {name}/resnet50.npz with x (6, 2048) and y (6,) is in no known folder "
        f"(rc data features {name}-raw --net resnet50 --weights IMAGENET1K_V1 --output DIR/{name}/resnet50.npz, "
        "then --data-dir DIR)"
    )
    x = np.random.default_rng(0).normal(3, 2, size=(6, 2048)).astype(np.float32)
    folder = write(folders, {}) / name
    folder.mkdir()
    np.savez(folder / "resnet50.npz", x=x[:, :100], y=np.arange(6) % 2)
    with pytest.raises(DataError, match=r"must hold the features of .*, got 1 view of \(6, 100\) and 6 labels"):
        load(DataRef(name), folders)
    made = {"net": "resnet50", "weights": "IMAGENET1K_V1", "source": f"{name}-raw"}

    def save(**told: str) -> None:
        content = {} if not told else {"provenance": np.array(json.dumps(told))}
        np.savez(folder / "resnet50.npz", x=x, y=np.arange(6) % 2, **content)

    save(weights="none")
    with pytest.raises(DataError, match="holds the features of random weights, which are no result for"):
        load(DataRef(name), folders)
    for other in ({"net": "resnet152"}, {"source": "photos"}):
        save(**{**made, **other})
        with one_sentence(DataError, rf"must hold resnet50's features of {name}-raw, got .*(152's of|'s of pho)"):
            load(DataRef(name), folders)
    save(**made)
    assert load(DataRef(name), folders).source == f"ResNet-50 features of {name}, weights IMAGENET1K_V1"
    save()
    assert load(DataRef(name), folders).source == f"ResNet-50 features of {name}, weights not known"
    found = load(DataRef(name, normalize="none"), folders).views[0]
    wanted = (x - x.mean(0)) / x.std(0) if name == "cifar10" else x
    np.testing.assert_allclose(found[:6].numpy(), wanted, atol=1e-5)


def test_a_constant_feature_becomes_0() -> None:
    found = resnet.standardized(np.array([[1.0, 5], [3, 5]]))
    assert found.tolist() == [[-1, 0], [1, 0]]


def mice(n: int = 8, *, header: str | None = None) -> str:
    """The sheet as a table of commas: 77 proteins between the mouse and what was done to it."""
    proteins = [f"P{i}_N" for i in range(77)]
    lines = [header or ",".join(["MouseID", *proteins, "Genotype", "Treatment", "Behavior", "class"])]
    for row in range(n):
        values = [f"{row + i / 100:.2f}" for i in range(77)]
        if row == 1:
            values[:3] = ["", "?", "NA"]
        lines.append(",".join([f"309_{row}", *values, "Control", "Memantine", "C/S", ("c-CS-m", "t-SC-s")[row % 2]]))
    return "\n".join(lines) + "\n"


def test_mice_proteins_are_the_77_levels_missing_ones_0(folders: Folders) -> None:
    write(folders, {"mice-protein/Data_Cortex_Nuclear.csv": mice().encode()})
    raw = mice_protein.read(folders)
    levels = raw.views[0]
    assert isinstance(levels, np.ndarray)
    assert levels.shape == (8, 77)
    assert levels[1, :4].tolist() == [0, 0, 0, 1.03]
    assert labels_of(raw) == ["c-CS-m", "t-SC-s"] * 4
    assert raw.source == "Data_Cortex_Nuclear.csv, 3 missing levels set to 0"
    data = load(DataRef("mice-protein", normalize="adec"), folders)
    assert data.info.mean_square == pytest.approx(1, rel=1e-6)


def test_the_excel_sheet_goes_through_pandas(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    def no_xlrd(path: Path) -> None:
        raise ImportError("Missing optional dependency 'xlrd'")

    write(folders, {"Data_Cortex_Nuclear.xls": b"\xd0\xcf\x11\xe0"})
    monkeypatch.setattr(pd, "read_excel", no_xlrd)
    with one_sentence(DataError, r"is an Excel sheet, which needs the package xlrd \(pip install 'robust_cluster"):
        mice_protein.read(folders)
    table = pd.read_csv(io.StringIO(mice()), na_values=["?"])
    monkeypatch.setattr(pd, "read_excel", lambda path: table)
    assert mice_protein.read(folders).views[0].shape == (8, 77)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,class\n1,2\n", r"must hold 77 columns whose names end in _N and the column class, got 0 and a, class"),
        (mice().replace("c-CS-m", "", 1), "1 labels are missing in the column class"),
        (mice().replace("0.05", "much"), "the column P5_N is not numeric"),
        ("", "cannot be read or is truncated: No columns to parse"),
    ],
)
def test_another_sheet_of_mice_is_refused(folders: Folders, text: str, sentence: str) -> None:
    write(folders, {"Data_Cortex_Nuclear.csv": text.encode()})
    with pytest.raises(DataError, match=sentence):
        mice_protein.read(folders)


TOPICS = """C15 2286 1
CCAT 2286 1
CCAT 2287 1
GCAT 2287 1
GCAT 2288 1
GPOL 2288 1
E11 2289 1
ECAT 2289 1
MCAT 2290 1
M11 2291 1
MCAT 2291 1
CCAT 2292 1
"""
TEXTS = {  # document -> words; 2287 has two roots, 2293 none
    2286: "compan profit compan share",
    2287: "never seen never seen never seen",
    2288: "elect vot elect",
    2289: "infl rate",
    2290: "share rate share",
    2291: "share bond",
    2292: "profit rate",
    2293: "never seen",
}


def token_file(numbers: list[int]) -> bytes:
    """Documents as RCV1's token files have them, long ones on several lines."""
    blocks = []
    for number in numbers:
        words = TEXTS[number].split()
        blocks.append(f".I {number}\n.W\n{' '.join(words[:2])}\n{' '.join(words[2:])}\n\n")
    return "".join(blocks).encode()


def reuters_files(*, packed: bool = True) -> dict[str, bytes]:
    """In the order of reading: 2290 and 2291, 2292, 2287, 2293, then 2286, 2288 and 2289 of the train part."""
    parts = [[2290, 2291], [2292], [2287], [2293], [2286, 2288, 2289]]
    files = {rcv1.TOPICS: TOPICS.encode()} | {
        name: token_file(numbers) for name, numbers in zip(rcv1.TOKENS, parts, strict=True)
    }
    if packed:
        return {f"reuters/{name}": gzip.compress(content) for name, content in files.items()}
    return {f"rcv1/{name.removesuffix('.gz')}": content for name, content in files.items()}


@pytest.mark.parametrize("is_packed", [False, True])
def test_reuters_are_the_news_with_one_root_topic_as_sparse_tf_idf(folders: Folders, is_packed: bool) -> None:
    write(folders, reuters_files(packed=is_packed))
    raw = reuters.read(folders)
    assert labels_of(raw) == [2, 2, 0, 0, 1, 3]  # MCAT MCAT CCAT CCAT GCAT ECAT
    found = raw.views[0]
    assert scipy.sparse.issparse(found)
    vocabulary = ["bond", "compan", "elect", "infl", "profit", "rate", "share", "vot"]  # without those of 2287 and 2293
    kept = [2290, 2291, 2292, 2286, 2288, 2289]
    by_hand = np.zeros((6, 8))
    for row, number in enumerate(kept):
        for column, word in enumerate(vocabulary):
            count = TEXTS[number].split().count(word)
            frequency = sum(word in TEXTS[other].split() for other in kept)
            by_hand[row, column] = (1 + np.log(count)) * (np.log(7 / (1 + frequency)) + 1) if count else 0
    by_hand *= np.sqrt(8) / np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(found.toarray(), by_hand, rtol=1e-6)
    assert load(DataRef("reuters", normalize="adec"), folders).info.scale == pytest.approx(1, rel=1e-6)


def test_reuters10k_are_dense_rows_of_reuters_in_the_order_of_decs_seed(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders, reuters_files())
    monkeypatch.setattr(reuters10k, "N_SAMPLES", 4)
    raw, whole = reuters10k.read(folders), reuters.read(folders)
    np.random.seed(1234)
    rows = np.random.permutation(6)[:4]
    assert isinstance(raw.views[0], np.ndarray)
    assert scipy.sparse.issparse(whole.views[0])
    np.testing.assert_array_equal(raw.views[0], whole.views[0].toarray()[rows])
    assert labels_of(raw) == [labels_of(whole)[row] for row in rows]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (rcv1.TOPICS, b"CCAT 2286\n", r"line 1, must be `topic document 1`, got 'CCAT 2286'"),
        (rcv1.TOPICS, b"C15 2286 1\n", "must name documents of the root topics CCAT, GCAT, MCAT, ECAT, got 0"),
        (rcv1.TOKENS[1], b"words\n", "is no token file of RCV1: it must begin with `.I number`, got 'words"),
        (rcv1.TOKENS[1], b".I x\n.W\n", r"`.I number` expected, got '.I x'"),
        (rcv1.TOKENS[4], b"", "holds no document"),
        (rcv1.TOKENS[4], None, r"lyrl2004_tokens_train.dat.gz cannot be read or is truncated"),
    ],
)
def test_other_and_truncated_files_of_reuters_are_refused(
    folders: Folders, name: str, content: bytes | None, sentence: str
) -> None:
    files, path = reuters_files(), f"reuters/{name}"
    write(folders, {**files, path: files[path][:-12] if content is None else gzip.compress(content)})
    with pytest.raises(DataError, match=sentence):
        reuters.read(folders)


def post(group: str, text: str) -> bytes:
    return f"From: someone@x.edu\nNewsgroups: {group}\nSubject: about {group}\n\n{text}\n\n-- \nsigned".encode(
        "latin-1"
    )


def test_20_newsgroups_are_read_without_the_header_that_names_the_group(folders: Folders) -> None:
    files = {
        "20news-bydate-train/sci.space/60881": post("sci.space", "rockets fly\n> quoted nonsense"),
        "20news-bydate-train/alt.atheism/5": post("alt.atheism", "arguments fly"),
        "20news-bydate-test/sci.space/1": post("sci.space", "rockets and moons: \xe9t\xe9"),
    }
    write(folders, {"20newsgroups/20news-bydate.tar.gz": packed(files)})
    raw = newsgroups.read(folders)
    assert labels_of(raw) == ["alt.atheism", "sci.space", "sci.space"]
    found = raw.views[0].toarray()
    assert found.shape == (3, 6)  # and arguments été fly moons rockets
    np.testing.assert_allclose(np.square(found).sum(axis=1), 6, rtol=1e-5)
    # the quotation at the end is the signature here; taken away before, it would leave that to the line above it
    assert newsgroups.body("From: me\n\nit flies\n\nby night\n\n> who?") == "it flies\n\nby night"


def test_another_archive_of_newsgroups_is_refused(folders: Folders) -> None:
    write(folders, {"20news-bydate.tar.gz": packed({"20news-bydate-train/a/1": b"\n\nx"})})
    with pytest.raises(DataError, match="must hold a folder 20news-bydate-test with a folder for each group"):
        newsgroups.read(folders)
    write(folders, {"20news-bydate.tar.gz": b"no archive"})
    with pytest.raises(DataError, match=r"20news-bydate.tar.gz cannot be read or is truncated"):
        newsgroups.read(folders)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("usps", "usps.bz2 (MD5 ec16c51db3855ca6c91edd34d0e9b197)"),
        ("stl10-raw", "stl10_binary.tar.gz (2.64 GB, MD5 91f7769df0f17e558f3565bffb0c7dfb)"),
        ("cifar10-raw", "cifar-10-python.tar.gz (170.5 MB, MD5 c58f30108f718f92721af3b95e74349a)"),
        ("20newsgroups", "20news-bydate.tar.gz (14.0 MB, SHA-256 8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c7"),
        ("reuters", "rcv1-v2.topics.qrels.gz, lyrl2004_tokens_test_pt0.dat.gz, "),
        ("reuters10k", "lyrl2004_tokens_train.dat.gz from http://www.ai.mit.edu/projects/jmlr/"),
        ("mice-protein", "Data_Cortex_Nuclear.xls from https://archive.ics.uci.edu/"),
    ],
)
def test_offline_one_sentence_names_the_files_and_the_folder(folders: Folders, name: str, facts: str) -> None:
    with pytest.raises(DataError) as caught:
        load(DataRef(name), folders)
    folder = {"stl10-raw": "stl10", "cifar10-raw": "cifar10", "reuters10k": "reuters"}.get(name, name)
    sentence = str(caught.value)
    beginning = f"The data set {folder} is not there and could not be downloaded (no route to host): it needs "
    assert sentence.startswith(beginning)
    assert facts in sentence
    assert f"put them into a folder {folder} below the one given as --data-dir" in sentence
    assert "\n" not in sentence
