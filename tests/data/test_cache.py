"""Prepared and imported arrays: the same data set again, to the bit, as long as nothing has changed."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse
import torch
from PIL import Image

from robust_cluster.data import cache, files
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import available, load, source_files
from robust_cluster.data.sparse import SparseView
from robust_cluster.errors import ConfigError, DataError
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir, labels_of

LABELS = np.arange(12) % 3


def pixels(n: int = 12, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(256, size=(n, 4, 4), dtype=np.uint8)


def save(folders: Folders, name: str = "mine", **arrays: Any) -> Path:
    path = data_dir(folders) / f"{name}.npz"
    np.savez(path, **(arrays or {"x": pixels(), "y": LABELS}))
    return path


def prepare(ref: DataRef, folders: Folders) -> cache.Entry:
    return cache.write(load(ref, folders, fresh=True), folders, source_files(ref, folders) or ())


@pytest.fixture
def entry(folders: Folders) -> cache.Entry:
    """What is kept of a file of images."""
    save(folders)
    return prepare(DataRef("mine"), folders)


def is_prepared(ref: DataRef, folders: Folders) -> bool:
    return cache.prepared(ref, folders, source_files(ref, folders)) is not None


def same(one: Dataset, other: Dataset) -> bool:
    pairs = zip(one.views, other.views, strict=True)
    return (
        (one.ref, one.info, one.source) == (other.ref, other.info, other.source)
        and labels_of(one) == labels_of(other)
        and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    )


@pytest.mark.parametrize(
    "ref",
    [
        DataRef("mine"),
        DataRef("mine", flatten=True),
        DataRef("mine", flatten=True, normalize="none"),
        DataRef("mine", limit=6, size=2),
        DataRef("mine", subset="0,2", flatten=True, normalize="adec"),
        DataRef("noisy:mine"),
    ],
    ids=str,
)
def test_a_prepared_data_set_is_the_same_to_the_bit(folders: Folders, ref: DataRef) -> None:
    save(folders)
    fresh = load(ref, folders)
    prepare(ref, folders)
    assert is_prepared(ref, folders)
    assert same(load(ref, folders), fresh)


def test_images_are_kept_as_bytes_and_all_else_as_floats(folders: Folders, entry: cache.Entry) -> None:
    assert entry.array("view_0").dtype == np.uint8
    assert prepare(DataRef("mine", flatten=True), folders).array("view_0").dtype == np.float32


def test_what_is_prepared_is_mapped_and_never_written_to(folders: Folders) -> None:
    save(folders, x=np.arange(24.0).reshape(12, 2), y=LABELS)
    ref = DataRef("mine")
    entry = prepare(ref, folders)
    load(ref, folders).views[0].zero_()
    entry.verify()
    assert load(ref, folders).views[0].any()


@pytest.mark.usefixtures("entry")
def test_the_number_of_clusters_and_the_split_need_no_copy_of_their_own(folders: Folders) -> None:
    data = load(DataRef("mine", n_clusters=5, split="halves"), folders)
    assert (data.info.n_clusters, data.ref.split) == (5, "halves")
    with pytest.raises(ConfigError, match=r"n_clusters must be in \[2, n_samples\] = \[2, 12\], got 13"):
        load(DataRef("mine", n_clusters=13), folders)
    prepare(DataRef("noisy:mine"), folders)
    assert load(DataRef("noisy:mine"), folders).ref.split == "halves"


def test_a_copy_is_used_while_its_file_is_unchanged_or_gone(folders: Folders) -> None:
    path = save(folders)
    ref = DataRef("mine")
    prepare(ref, folders)
    before = load(ref, folders).info.sha256
    save(folders, x=pixels(seed=1), y=LABELS)
    assert not is_prepared(ref, folders)
    assert load(ref, folders).info.sha256 != before
    path.unlink()
    assert load(ref, folders).info.sha256 == before


def test_a_prepared_folder_of_images_notices_every_change_in_it(folders: Folders) -> None:
    folder = data_dir(folders) / "photos"
    for name in ("a/0", "a/1", "b/0", "b/1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(1, seed=len(name) + ord(name[0]) + int(name[-1]))[0]).save(folder / f"{name}.png")
    ref = DataRef("photos")
    prepare(ref, folders)
    assert is_prepared(ref, folders)
    (folder / "a/1.png").rename(folder / "b/2.png")  # neither size nor time of a file has changed
    assert not is_prepared(ref, folders)
    prepare(ref, folders)
    other, time = (folder / "b/0.png").read_bytes(), (folder / "a/0.png").stat()
    (folder / "a/0.png").write_bytes(other)
    os.utime(folder / "a/0.png", ns=(time.st_atime_ns, time.st_mtime_ns - 1))  # older than what it replaces
    assert not is_prepared(ref, folders)
    assert cache.fingerprint([folder / "b/0.png"])[0][:3] == ["0.png", 1, len(other)]  # of a file as ever


def test_what_a_killed_process_left_is_removed_by_the_next_one(folders: Folders) -> None:
    save(folders)
    left = folders.cache / "prepared" / ".new-killed" / "mine"
    left.mkdir(parents=True)
    (left / "view_0.npy").write_bytes(b"half")
    entry = prepare(DataRef("mine"), folders)
    assert not left.parent.exists()
    entry.verify()


def test_two_processes_that_prepare_the_same_take_turns(folders: Folders) -> None:
    save(folders)
    whole = load(DataRef("mine"), folders)
    with ThreadPoolExecutor(4) as pool:
        entries = [one.result() for one in [pool.submit(cache.write, whole, folders, ()) for _ in range(8)]]
    assert len({entry.folder for entry in entries}) == 1
    entries[0].verify()
    assert [path.name for path in (folders.cache / "prepared").glob(".new-*")] == []


def test_an_about_that_is_no_object_gets_a_sentence(folders: Folders, entry: cache.Entry) -> None:
    (entry.folder / cache.ABOUT).write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="must be a JSON object"):
        cache.prepared(DataRef("mine"), folders, ())


@pytest.mark.usefixtures("entry")
def test_a_copy_does_not_stand_in_for_a_path_that_is_not_there(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        load(DataRef("mine"), folders, path=tmp_path / "elsewhere" / "mine.npz")


@pytest.mark.usefixtures("entry")
def test_a_copy_of_one_choice_is_no_copy_of_another(folders: Folders) -> None:
    for other in ({"limit": 6}, {"flatten": True}, {"normalize": "adec"}, {"size": 2}, {"subset": "0,1"}):
        assert not is_prepared(replace(DataRef("mine"), **other), folders)


def test_changed_and_damaged_copies_are_told_of(folders: Folders, entry: cache.Entry) -> None:
    path = entry.folder / "view_0.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"view_0.npy has changed since it was written: SHA-256 .* \(delete the folder"):
        entry.verify()
    path.write_bytes(content[:-9])
    with pytest.raises(DataError, match=r"view_0.npy is missing or damaged"):
        load(DataRef("mine"), folders)
    (entry.folder / "about.json").write_text("{")
    with pytest.raises(DataError, match=r"about.json cannot be read"):
        load(DataRef("mine"), folders)


def test_a_copy_of_an_older_version_is_not_used(folders: Folders, entry: cache.Entry) -> None:
    about = entry.folder / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "version": cache.VERSION - 1}))
    assert not is_prepared(DataRef("mine"), folders)


def test_a_copy_appears_whole_or_not_at_all(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    save(folders)
    monkeypatch.setattr(cache.np, "save", full)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        prepare(DataRef("mine"), folders)
    assert [path.name for path in (folders.cache / "prepared").iterdir()] == [".lock"]


def test_an_import_is_found_by_its_name_after_its_file_is_gone(folders: Folders) -> None:
    path = save(folders, x=pixels(), y=np.array(["b", "a", "c"] * 4))
    fresh = load(DataRef("mine", flatten=True), folders)
    cache.write_import("kept", files.read(path), folders)
    path.unlink()
    found = load(DataRef("kept", flatten=True), folders)
    assert (found.info.sha256, found.source) == (fresh.info.sha256, "mine.npz")
    assert ("kept", "imported", "ready") in available(folders)
    prepare(DataRef("kept"), folders)
    assert ("kept", "imported", "prepared") in available(folders)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digits", "--name digits is the name of a built-in data set (choose another one)"),
        ("twice", "there is an imported data set twice already (--force replaces it)"),
        ("../up", "--name must be lower-case letters, digits and . _ -, got '../up'"),
    ],
)
def test_an_import_takes_a_new_name(folders: Folders, name: str, sentence: str) -> None:
    raw = files.read(save(folders))
    cache.write_import("twice", raw, folders)
    with pytest.raises(ConfigError) as caught:
        cache.write_import(name, raw, folders)
    assert str(caught.value) == sentence


def test_an_import_is_replaced_when_that_is_asked_for(folders: Folders) -> None:
    cache.write_import("mine", files.read(save(folders, x=pixels(), y=LABELS)), folders)
    cache.write_import("mine", files.read(save(folders, x=pixels(seed=1), y=LABELS)), folders, force=True)
    np.testing.assert_array_equal(cache.read_import("mine", folders).views[0], pixels(seed=1))


def test_sparse_data_are_prepared_and_imported_without_becoming_dense(folders: Folders) -> None:
    matrix = scipy.sparse.random_array((12, 7), density=0.4, format="csr", rng=np.random.default_rng(0))
    scipy.sparse.save_npz(data_dir(folders) / "thin.npz", matrix)
    ref = DataRef("thin", n_clusters=3)
    fresh = load(ref, folders)
    entry = prepare(ref, folders)
    assert sorted(entry.about["arrays"]) == ["view_0_columns", "view_0_starts", "view_0_values"]
    again = load(ref, folders)
    assert isinstance(again.views[0], SparseView)
    assert again.info == fresh.info
    assert torch.equal(again.views[0][:12], fresh.views[0][:12])
    cache.write_import("kept", files.read(data_dir(folders) / "thin.npz"), folders)
    assert load(replace(ref, name="kept"), folders).info.sha256 == fresh.info.sha256
