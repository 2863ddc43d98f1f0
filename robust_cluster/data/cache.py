"""Arrays that the cache keeps: prepared data sets, which runs map into memory at once, and imported files.

Each has a folder of .npy files and an `about.json`, written last; a folder appears whole or not at all.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from filelock import FileLock

from robust_cluster import discover
from robust_cluster.data.base import Array, Columns, DataInfo, Dataset, Folders, Labels, Raw
from robust_cluster.data.sources import OTHER_CACHE, hash_of
from robust_cluster.data.sparse import Matrix, SparseView, canonical
from robust_cluster.errors import ConfigError, DataError
from robust_cluster.runs.spec import LATEST, DataRef

Kind = Literal["prepared", "imported"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VERSION = 1  # of the copies: raised when the preparation gives other numbers
ABOUT = "about.json"
PARTS = ("starts", "columns", "values")  # of a sparse view
NEW = ".new-"  # begins the names of folders that are being written
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # that a user may give an import


@dataclass(frozen=True)
class Entry:
    """A folder of the cache and what its `about.json` says."""

    folder: Path
    about: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    @property
    def labels(self) -> Labels | None:
        """Labels as they were prepared, None where there are none. Raises: DataError."""
        return cast(Labels, self.array("labels")) if "labels" in self.about["arrays"] else None

    def array(self, name: str) -> Array:
        """The array of `mapped` as a plain one, which does not show that it is mapped. Raises: DataError."""
        return np.asarray(self.mapped(name))

    def mapped(self, name: str) -> Array:
        """An array, mapped into memory; what is written to it stays in memory. Raises: DataError."""
        try:
            return cast(Array, np.load(self.folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise damaged(self.folder, f"{self.folder / name}.npy is missing or damaged: {error}") from error

    def verify(self) -> None:
        """Raises DataError when a file's bytes are not those that were written."""
        for name, expected in self.about["arrays"].items():
            path = self.folder / f"{name}.npy"
            found = hash_of(path) if path.is_file() else "no file"
            if found != expected:
                wrong = f"{path} has changed since it was written: SHA-256 {expected} expected, got {found}"
                raise damaged(self.folder, wrong)


def damaged(folder: Path, wrong: str) -> DataError:
    """The error for a folder of the cache that something is wrong with."""
    return DataError(wrong, hint=f"delete the folder {folder}")


def prepared(ref: DataRef, folders: Folders, sources: Sequence[Path] | None) -> Entry | None:
    """The copy of `ref` that `write` has kept, None where there is none or the files that it was made of have changed.

    `sources`: the files that `ref` would be read from now; None where they are gone and the copy stands in for them.
    """
    entry = _entry(_folder(ref, folders))
    if entry is None or (sources is not None and entry.about["sources"] != fingerprint(sources)):
        return None
    return entry


def dataset(ref: DataRef, entry: Entry) -> Dataset:
    """The data set in memory; its `n_clusters` and `split` are those that it was prepared with. Raises: DataError."""
    info = dict(entry.about["info"])
    for name in ("bounds", "scaled_bounds"):
        info[name] = None if info[name] is None else tuple(info[name])
    info["shapes"] = tuple(tuple(shape) for shape in info["shapes"])
    if columns := info.get("columns"):
        info["columns"] = Columns(*(tuple(tuple(view) for view in columns[name]) for name in ("shift", "scale")))
    views = tuple(_view(entry, i) for i in range(len(info["shapes"])))
    return Dataset(ref, DataInfo(**info), views, entry.labels, entry.about["source"], *_said(entry))


def write(dataset: Dataset, folders: Folders, sources: Sequence[Path]) -> Entry:
    """Keep a data set as it was prepared; it replaces an older copy. Raises: DataError when it cannot be written.

    Images in [0, 1] that are bytes divided by 255 are kept as bytes, everything else as float32.
    """
    views = [
        (view.starts.numpy(), view.columns.numpy(), view.values.numpy())
        if isinstance(view, SparseView)
        else _smallest(view.numpy())
        for view in dataset.views
    ]
    about = {
        "ref": asdict(_choices(dataset.ref)),
        "info": asdict(dataset.info),
        "source": dataset.source,
        "sources": fingerprint(sources),
        "notes": dataset.notes,
        "labels_from": dataset.labels_from,
    }
    return _write(_folder(dataset.ref, folders), _named(views, dataset.labels), about)


def write_import(name: str, raw: Raw, folders: Folders, *, force: bool = False) -> Entry:
    """Keep a user's arrays, as they were read, under a name of the user's choice. Raises: ConfigError, DataError.

    `force`: replace an older import of that name.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name must be lower-case letters, digits and . _ -, got {name!r}")
    if name in discover.names("data"):
        raise ConfigError(f"--name {name} is the name of a built-in data set", hint="choose another one")
    folder = folders.cache / "imported" / name
    if folder.exists() and not force:
        raise ConfigError(f"there is an imported data set {name} already", hint="--force replaces it")
    whole = [view if isinstance(view, np.ndarray) else canonical(view) for view in raw.views]
    views = [view if isinstance(view, np.ndarray) else (view.indptr, view.indices, view.data) for view in whole]
    shapes = [view.shape for view in raw.views]
    about = {"image": raw.image, "range": raw.range, "source": raw.source, "shapes": shapes, "hint": raw.label_hint}
    return _write(folder, _named(views, raw.labels), {**about, "notes": raw.notes, "labels_from": raw.labels_from})


def read_import(name: str, folders: Folders) -> Raw:
    """The arrays that were imported under a name, mapped into memory. Raises: DataError."""
    entry = _entry(folders.cache / "imported" / name)
    if entry is None:
        raise DataError(f"there is no imported data set {name}", hint="rc data import PATH --name NAME")
    about = entry.about
    views: list[Array | Matrix] = []
    for i, shape in enumerate(about["shapes"]):
        if f"view_{i}" in about["arrays"]:
            views.append(entry.mapped(f"view_{i}"))
        else:
            starts, columns, values = (entry.array(f"view_{i}_{part}") for part in PARTS)
            views.append(canonical(scipy.sparse.csr_array((values, columns, starts), shape=tuple(shape))))
    labels = entry.array("labels") if "labels" in about["arrays"] else None
    limits = tuple(about["range"]) if about["range"] else None
    return Raw(tuple(views), labels, about["image"], about["source"], limits, about["hint"], *_said(entry))


def entries(kind: Kind, folders: Folders) -> list[Entry]:
    """Every whole entry of a kind, in the order of their names."""
    found = (_entry(path.parent) for path in sorted((folders.cache / kind).glob(f"*/{ABOUT}")))
    return [entry for entry in found if entry is not None]


def imports(folders: Folders) -> dict[str, Path]:
    """Name -> `about.json` of the imported data sets."""
    return {entry.folder.name: entry.folder / ABOUT for entry in entries("imported", folders)}


def fingerprint(sources: Sequence[Path]) -> list[list[str | int]]:
    """For each file or folder its name, number of files, bytes and newest time of change: equal while none has changed.

    A folder also gets a digest over the name, size and time of every file in it, which notices a file that is renamed,
    moved to another class or replaced by an older one.
    """
    found: list[list[str | int]] = []
    for path in sources:
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        stats = [file.stat() for file in inside]
        newest = max((stat.st_mtime_ns for stat in stats), default=0)
        found.append([path.name, len(stats), sum(stat.st_size for stat in stats), newest])
        if path.is_dir():
            pairs = zip(inside, stats, strict=True)
            listed = [[file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in pairs]
            found[-1].append(hashlib.sha256(json.dumps(listed).encode()).hexdigest())
    return found


def _said(entry: Entry) -> tuple[tuple[str, ...], str]:
    """The notes on how the entry's files were read, and where the labels stood; older entries know neither."""
    return tuple(entry.about.get("notes", ())), entry.about.get("labels_from", Raw.labels_from)


def _named(views: Sequence[Array | tuple[Array, ...]], labels: Array | None) -> dict[str, Array]:
    """The arrays by the names of their files: view_0 (a sparse view's parts: view_0_starts, ...), ..., labels."""
    arrays: dict[str, Array] = {}
    for i, view in enumerate(views):
        if isinstance(view, np.ndarray):
            arrays[f"view_{i}"] = view
        else:
            arrays |= {f"view_{i}_{part}": array for part, array in zip(PARTS, view, strict=True)}
    return arrays if labels is None else {**arrays, "labels": labels}


def _choices(ref: DataRef) -> DataRef:
    """The ref without its number of clusters and its split, which do not change the arrays."""
    return replace(ref, n_clusters=None, split=None)


def _folder(ref: DataRef, folders: Folders) -> Path:
    chosen = _choices(ref)
    named = {name: value for name, value in asdict(chosen).items() if value or name not in LATEST}
    content = json.dumps({"version": VERSION, **named}, sort_keys=True)
    return folders.cache / "prepared" / f"{chosen.label}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _entry(folder: Path) -> Entry | None:
    """The entry in a folder, None where none of this version is whole. Raises: DataError for a damaged `about.json`."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # there may be no cache at all
        return None
    except (OSError, ValueError) as error:
        raise damaged(folder, f"{folder / ABOUT} cannot be read: {error}") from error
    if not isinstance(about, dict):
        raise damaged(folder, f"{folder / ABOUT} is damaged: it must be a JSON object")
    return Entry(folder, about) if about.get("version") == VERSION else None


def _write(folder: Path, arrays: Mapping[str, Array], about: Mapping[str, Any]) -> Entry:
    """Write a folder beside its place and move it there; one process at a time. Raises: DataError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / ".lock")
        with lock, tempfile.TemporaryDirectory(dir=folder.parent, prefix=NEW) as made:
            for left in folder.parent.glob(f"{NEW}*"):  # of killed processes: a live one would hold the lock
                if left != Path(made):
                    shutil.rmtree(left, ignore_errors=True)
            new = Path(made) / folder.name
            new.mkdir()
            digests: dict[str, str] = {}
            for name, array in arrays.items():
                with (new / f"{name}.npy").open("wb") as stream:
                    np.save(stream, array, allow_pickle=False)
                    stream.flush()
                    os.fsync(stream.fileno())
                digests[name] = hash_of(new / f"{name}.npy")
            content = {"version": VERSION, **about, "arrays": digests}
            (new / ABOUT).write_text(json.dumps(content, indent=1), encoding="utf-8")
            if folder.exists():
                shutil.move(folder, Path(made) / "old")
            os.replace(new, folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}", hint=OTHER_CACHE) from error
    return Entry(folder, json.loads(json.dumps(content)))


def _smallest(view: Array) -> Array:
    """The view as bytes, where every value is a byte divided by 255, to the bit; else the view itself."""
    if not 0 <= view.min() <= view.max() <= 1:
        return view
    bytes_ = np.rint(cast(npt.NDArray[np.float32], view) * np.float32(255)).astype(np.uint8)
    again = np.divide(bytes_, 255, dtype=np.float32)
    return bytes_ if np.array_equal(again.view(np.uint32), view.view(np.uint32)) else view  # to the bit: -0.0 too


def _view(entry: Entry, i: int) -> torch.Tensor | SparseView:
    """A view as float32; bytes are divided by 255, exactly as the preparation does. Raises: DataError."""
    if f"view_{i}" not in entry.about["arrays"]:
        starts, columns, values = (torch.from_numpy(entry.array(f"view_{i}_{part}")) for part in PARTS)
        return SparseView(starts, columns, values, entry.about["info"]["shapes"][i][0])
    view = entry.array(f"view_{i}")
    if view.dtype == np.uint8:
        view = np.divide(cast(npt.NDArray[np.uint8], view), 255, dtype=np.float32)
    return torch.from_numpy(view)
