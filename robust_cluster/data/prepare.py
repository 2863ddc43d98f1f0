"""From a data set's name or file to what models train on: read, check, limit, convert, scale, digest."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch

from robust_cluster import discover
from robust_cluster.data import cache, files, multiview, sparse, split
from robust_cluster.data.base import Array, Columns, DataInfo, Dataset, Folders, Labels, Raw, Stored
from robust_cluster.data.formats import CORPORA, PAIRED, SUFFIXES, TABLES, Reading, memory, name_and_suffix, tables
from robust_cluster.data.multiview import Construct, Floats
from robust_cluster.data.sources import check_folder
from robust_cluster.data.sparse import Matrix, SparseView
from robust_cluster.data.split import RowNumbers
from robust_cluster.discover import NOISY, ORACLE, bare, construction
from robust_cluster.errors import ConfigError, DataError, ShapeError, UnknownNameError
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import DataRef, Normalize

CONSTRUCTS: Mapping[str, Construct] = {NOISY: multiview.noisy, ORACLE: multiview.with_classes}
BY_COLUMN = ("standard", "minmax")
UNEQUAL = 0.9  # of the variance, beyond which one column has nearly all
MEAN_SQUARE = 88.0  # mean ||x||^2 of scaled vectors; MNIST's, so that one reconstruction weight fits all (ALRDC)
PORTION = 2**26  # bytes of an array that are looked at at once
LARGEST = float(np.finfo(np.float32).max)
Flags = npt.NDArray[np.bool_]
State = Literal["prepared", "ready", "needs files"]


def load(ref: DataRef, folders: Folders, *, path: Path | None = None, fresh: bool = False) -> Dataset:
    """The data set `ref` names: a user's file `path`, a built-in, or `<name>.npz|.npy|.csv` in `folders.data_dir`.

    A name "noisy:<name>" is the noisy two-view construction of that single-view set, "oracle:<name>" the set with its
    classes as a second view, which only what declares itself an oracle may train on. A data set's `construct` gets the
    rows that `ref.limit` leaves, so that pairs stay within the subset.
    The `split` of the result's ref is decided: by default "halves" for several views (AR-DMVC), none for one (ALRDC).
    Images: float32 (n, channels, height, width) in [0, 1]. Vectors, and images with `ref.flatten`: float32 (n, d), with
    `ref.normalize` "alrdc" multiplied by the one constant that makes the mean of ||x||^2 over samples and views 88,
    with "adec" by the one that makes the mean of all x_i^2 1. `ref.subset` keeps classes, then `ref.limit` rows;
    `ref.size` pools images. A sparse view stays sparse: as CSR, float32, scaled in the same way.
    Unless `fresh`, a copy that `rc data prepare` has made of the same files is mapped into memory instead.
    Labels are numbered 0..K-1 in sorted order; a missing one, or `ref.noise_label`, is -1 and not scored.
    Raises: UnknownNameError, ConfigError, DataError, ShapeError.
    """
    if ref.normalize not in get_args(Normalize):
        raise UnknownNameError("normalize", ref.normalize, get_args(Normalize))
    split.check(ref.split)
    is_gone = path is not None and not path.exists()  # then its name must not lead to another file
    entry = None if fresh or is_gone else cache.prepared(ref, folders, source_files(ref, folders, path=path))
    if entry is not None:
        stored = _as_asked(ref, cache.dataset(ref, entry))
        return replace(stored, sources=_sources(ref.name, path, stored.labels))
    raw, construct = _read(ref, folders, path)
    raw = replace(raw, views=tuple(sparse.canonical(v) if scipy.sparse.issparse(v) else v for v in raw.views))
    rows = np.arange(_check_shapes(ref.name, raw))
    given = None if raw.labels is None else raw.labels.ravel()
    known = None if given is None else _known(ref.name, given, ref.noise_label)
    if ref.subset is not None:
        rows = _rows_of_classes(ref, given if known is None or given is None else given[known])
        rows = rows if known is None else np.flatnonzero(known)[rows]
    labels = None if given is None or known is None else _number_labels(ref.name, given[rows], known[rows])
    limited = _limited_rows(ref, labels, len(rows))
    n_samples = len(limited)
    _check_types(ref.name, raw.views)
    memory.check(ref.name, sum(_needed(view, n_samples) for view in raw.views), "--limit N")
    _check_values(ref.name, raw.views, rows)  # reads them: memory is asked for before
    rows, labels = rows[limited], None if labels is None else labels[limited]
    if n_samples < raw.views[0].shape[0]:
        raw = replace(raw, views=tuple(view[rows] for view in raw.views))
    views = [_convert(f"{ref.name}: {k}", v, is_image=raw.image) for k, v in _by_name(raw.views).items()]
    if construct is not None:
        views = [*construct(_dense(ref.name, views), labels)]
    if ref.size is not None:
        views = [_pooled(ref, view) for view in views]
    ref = replace(ref, split=ref.decided_split(len(views)))
    n_clusters = _n_clusters(ref, labels, n_samples, raw.label_hint)
    if ref.flatten:
        views = [view.reshape(view.shape[0], -1) if isinstance(view, np.ndarray) else view for view in views]
    if views[0].ndim > 2 and ref.normalize in ("adec", *BY_COLUMN):
        raise ConfigError(
            f"--normalize {ref.normalize} is for vectors, {ref.name} are images", hint="--flatten, or leave it out"
        )
    columns, notes = (_by_column(ref, views), ()) if ref.normalize in BY_COLUMN else (None, _unequal(views, raw))
    is_scaled = views[0].ndim == 2 and ref.normalize not in ("none", *BY_COLUMN)
    scale = _scale(ref, views) if is_scaled else 1.0
    limits = (0.0, 1.0) if raw.image or ref.normalize == "minmax" else None if columns else raw.range
    info = DataInfo(
        name=ref.name,
        shapes=tuple(tuple(view.shape[1:]) for view in views),
        n_samples=n_samples,
        n_clusters=n_clusters,
        bounds=(0.0, 1.0) if raw.image and not is_scaled and columns is None else None,
        scale=scale,
        sha256=digest(views, labels),
        mean_square=_mean_square(views),
        scaled_bounds=(limits[0] * scale, limits[1] * scale)
        if limits and (is_scaled or columns or not raw.image)
        else None,
        columns=columns,
    )
    unscored = 0 if labels is None else int((labels < 0).sum())
    said: tuple[str, ...] = ()
    is_number = given is not None and given.dtype.kind in "if"
    if is_number and ref.noise_label is None and n_clusters > 2 and np.any(given == -1):
        said = ("the label -1 is a class like others: --noise-label -1 if it means that there is none",)
    said += (f"{unscored} of {n_samples} samples have no label and are not scored",) if unscored else ()
    said = (*raw.notes, *notes, *said)
    ids = rows if raw.ids is None else raw.ids[rows]
    shared = _sources(ref.name, path, labels)
    return Dataset(ref, info, _stored(views), labels, raw.source, said, raw.labels_from, raw.columns, ids, shared)


def more_rows(ref: DataRef, known: Mapping[str, Any], path: Path) -> Dataset:
    """Other samples in a user's file, prepared as those that a run was trained on; they have no labels.

    `ref`, `known`: what the run's spec and record say of its data: `scale`, `columns` and `column_names` are applied as
    they were. `info.n_clusters` is the run's.
    Raises: DataError and ShapeError for other columns or images of another size, ConfigError.
    """
    reading = Reading.of(ref)
    names = known.get("column_names")
    if name_and_suffix(path)[1] in TABLES and names is not None:
        raw = tables.read_columns(path, reading, names)
    elif ref.text_column is not None or name_and_suffix(path)[1] in CORPORA:
        raise ConfigError("the words that texts were counted by are not kept: new texts have no vectors")
    else:
        raw = files.read(path, Reading(size=reading.size))
    n_samples = _check_shapes(path.name, raw, least=1)
    _check_types(path.name, raw.views)
    _check_values(path.name, raw.views, np.arange(n_samples), varies=False)
    views = [_convert(f"{path.name}: {k}", v, is_image=raw.image) for k, v in _by_name(raw.views).items()]
    if ref.size is not None:
        views = [_pooled(ref, view) for view in views]
    if ref.flatten:
        views = [view.reshape(view.shape[0], -1) if isinstance(view, np.ndarray) else view for view in views]
    shapes, wanted = tuple(tuple(view.shape[1:]) for view in views), tuple(map(tuple, known["shapes"]))
    if shapes != wanted:
        raise ShapeError(
            f"{path.name} has samples of {_in_words(shapes)}, the model was trained on {_in_words(wanted)}"
        )
    for place, view in enumerate(views):
        columns = known.get("columns")
        if columns and isinstance(view, np.ndarray):
            view[:] = (view - np.array(columns["shift"][place])) * np.array(columns["scale"][place])
        elif known["scale"] != 1:
            values = view if isinstance(view, np.ndarray) else view.data
            np.multiply(values, np.float32(known["scale"]), out=values)
    ids = np.arange(n_samples) if raw.ids is None else raw.ids
    info = DataInfo(path.stem, shapes, n_samples, known["n_clusters"], None, known["scale"], digest(views, None))
    return Dataset(ref, info, _stored(views), None, raw.source, raw.notes, columns=raw.columns, ids=ids)


def _in_words(shapes: Sequence[Sequence[int]]) -> str:
    return " and ".join(" x ".join(map(str, shape)) + (" columns" if len(shape) == 1 else "") for shape in shapes)


def part(dataset: Dataset, which: Literal[1, 2]) -> Dataset:
    """Part 1, on which models train, or part 2, on which attacks train and score; all of it where it is not split."""
    if not split.divides(dataset.ref.split):
        return dataset
    return take(dataset, split.parts(dataset.ref.split, dataset.ref.name, dataset.info.n_samples)[which - 1])


def take(dataset: Dataset, rows: RowNumbers) -> Dataset:
    """Some rows of a data set; the digest stays that of the whole."""
    index = torch.from_numpy(rows)
    return replace(
        dataset,
        info=replace(dataset.info, n_samples=len(rows)),
        views=tuple(view.select(index) if isinstance(view, SparseView) else view[index] for view in dataset.views),
        labels=None if dataset.labels is None else dataset.labels[rows],
        ids=None if dataset.ids is None else dataset.ids[rows],
        sources=None if dataset.sources is None else dataset.sources[rows],
    )


def available(folders: Folders) -> list[tuple[str, str, State]]:
    """Name, description and state of each built-in data set, each import and each file in `folders.data_dir`.

    Reads no data. "prepared": some form of it is mapped into memory when a run asks for that form.
    """
    prepared = {entry.about["ref"]["name"] for entry in cache.entries("prepared", folders)}
    described = dict.fromkeys(cache.imports(folders), "imported")
    described |= {name: f"your file {path.name}" for name, path in own_files(folders).items()}
    rows: list[tuple[str, str, State]] = []
    for name in discover.names("data"):
        module = discover.load("data", name)
        is_there = module.find(folders) is not None
        state: State = "prepared" if name in prepared else "ready" if is_there else "needs files"
        rows.append((name, module.DESCRIPTION, state))
        described.pop(name, None)
    own = sorted(described.items())
    return rows + [(name, what, "prepared" if name in prepared else "ready") for name, what in own]


def source_files(ref: DataRef, folders: Folders, *, path: Path | None = None) -> tuple[Path, ...] | None:
    """The files that `load` would read, () for what ships with a package; None where they are not there."""
    name = bare(ref.name)
    if path is not None:
        labels = path.with_name(f"{path.stem}{PAIRED}.npy")
        return tuple(file for file in (path, labels) if file.exists()) if path.exists() else None
    if name in discover.names("data"):
        return cast(tuple[Path, ...] | None, discover.load("data", name).find(folders))
    own = {**cache.imports(folders), **own_files(folders)}
    return source_files(ref, folders, path=own[name]) if name in own else None


def digest(views: Sequence[Array | Matrix], labels: Labels | None) -> str:
    """SHA-256, in hexadecimal, over name, type, shape and bytes of C-contiguous views and labels.

    A sparse view counts by its entries, so a matrix has another digest than its dense form.
    """
    content = hashlib.sha256()
    named: list[tuple[str, Array | Matrix | None]] = [(f"view_{i}", view) for i, view in enumerate(views)]
    for name, array in [*named, ("labels", labels)]:
        if array is None:
            content.update(f"{name} absent\n".encode())
        elif not isinstance(array, np.ndarray):
            sparse.add_to_digest(content, name, array)
        else:
            content.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            content.update(array.reshape(-1).data)
    return content.hexdigest()


def _read(ref: DataRef, folders: Folders, path: Path | None) -> tuple[Raw, Construct | None]:
    """The arrays as published, and what builds views of them, or None. Raises: UnknownNameError, ConfigError."""
    name = bare(ref.name)
    construct = CONSTRUCTS.get(construction(ref.name))
    reading = Reading.of(ref)
    if path is not None:
        return files.read(path, reading), construct
    own = own_files(folders)
    built_in = discover.names("data")
    if name in built_in:
        if refused := reading.flags():
            raise ConfigError(f"{refused} is for your own files, got {name}", hint="leave it out")
        module = discover.load("data", name)
        if construct is not None and hasattr(module, "construct"):
            raise ConfigError(
                f"{construction(ref.name)} needs a single-view data set, {name} has several views", hint="rc ls data"
            )
        return cast(Raw, module.read(folders)), construct or getattr(module, "construct", None)
    if name in own:
        return files.read(own[name], reading), construct
    imported = cache.imports(folders)
    if name in imported:
        return cache.read_import(name, folders), construct
    is_file = name_and_suffix(Path(name))[1] in SUFFIXES or "/" in name  # given where a name is wanted
    way = f"rc data import {name} --name NAME" if is_file else f"put {name}.npz into --data-dir"
    if Path(name).is_dir() and not is_file:
        way = f"--data {name}/ for the folder"
    raise UnknownNameError("data set", name, {*built_in, *own, *imported}, listing=f"rc ls data, or {way}")


def own_files(folders: Folders) -> dict[str, Path]:
    """Name -> path of the user's files, those in --data-dir before those in RC_DATA. Raises: ConfigError."""
    check_folder(folders.data_dir)
    return {**files.listing(folders.rc_data), **files.listing(folders.data_dir)}


def _sources(name: str, path: Path | None, labels: Labels | None) -> npt.NDArray[np.int64] | None:
    """The images that views are made of where samples share them; a file at a `path` has its views as they are."""
    is_shared = name.startswith(NOISY) if path is not None else multiview.shares_images(name)
    return multiview.sources(labels) if is_shared and labels is not None else None


def _stored(views: Sequence[Floats | Matrix]) -> Stored:
    """The views as tensors, sparse ones as views that indexing makes dense; nothing is copied."""
    return tuple(torch.from_numpy(v) if isinstance(v, np.ndarray) else sparse.view_of(v) for v in views)


def _dense(name: str, views: Sequence[Floats | Matrix]) -> list[Floats]:
    """The views, none of which may be sparse. Raises: ShapeError."""
    dense = [view for view in views if isinstance(view, np.ndarray)]
    if len(dense) < len(views):
        raise ShapeError(f"{name}: several views are built of images, got a sparse matrix")
    return dense


def _by_name(views: Sequence[Array | Matrix]) -> dict[str, Array | Matrix]:
    """The views by what the user calls them."""
    return {"x" if len(views) == 1 else f"view_{index}": view for index, view in enumerate(views)}


def _check_shapes(name: str, raw: Raw, *, least: int = 2) -> int:
    """The number of samples, `least` of them. Raises: ShapeError or DataError when the arrays do not fit together."""
    allowed, form = ((3, 4), "(n, height, width[, channels])") if raw.image else ((2,), "(n, d)")
    for view_name, view in _by_name(raw.views).items():
        if view.ndim not in allowed:
            raise ShapeError(f"{name}: {view_name} must be {form}, got {view.shape}")
    sizes = {view_name: view.shape[0] for view_name, view in _by_name(raw.views).items()}
    if raw.labels is not None:
        if raw.labels.size != max(raw.labels.shape, default=0):
            raise ShapeError(f"{name}: labels must be (n,), one class a sample, got {raw.labels.shape}")
        sizes["labels"] = raw.labels.size
    if len(set(sizes.values())) > 1:
        lengths = ", ".join(f"{key} {size}" for key, size in sizes.items())
        raise ShapeError(f"{name}: all arrays must have the same number of samples, got {lengths}")
    n_samples = int(raw.views[0].shape[0])
    if n_samples < least or not all(math.prod(view.shape) for view in raw.views):
        shapes = ", ".join(str(view.shape) for view in raw.views)
        at_least = f"{least} sample{'s' if least > 1 else ''}"
        raise DataError(f"{name} must hold at least {at_least} of at least 1 value, got {shapes}")
    return n_samples


def _needed(view: Array | Matrix, n_rows: int) -> int:
    """Bytes of memory that preparing `n_rows` rows of a view takes on top of the view itself."""
    if not isinstance(view, np.ndarray):
        return 0
    is_part = n_rows < len(view)
    is_copied = view.dtype != np.float32 or (isinstance(view, np.memmap) and not is_part)
    return n_rows * math.prod(view.shape[1:]) * (view.itemsize * is_part + 4 * is_copied)


def _check_types(name: str, views: Sequence[Array | Matrix]) -> None:
    """Raises DataError for what is not a number."""
    for view_name, view in _by_name(views).items():
        if view.dtype.kind not in "biuf":
            raise DataError(f"{name}: {view_name} must hold numbers, got the type {view.dtype}")


def _check_values(name: str, views: Sequence[Array | Matrix], rows: RowNumbers, *, varies: bool = True) -> None:
    """Raises DataError for what is not finite in float32, or, where it `varies`, the same in all of these samples."""
    for view_name, view in _by_name(views).items():
        if isinstance(view, np.ndarray):
            bad = sum(_bad(part) for part in _portions(view, rows))
            is_constant = not bad and all((part == view[rows[0]]).all() for part in _portions(view, rows))
        else:
            chosen = view[rows] if len(rows) < view.shape[0] else view
            bad, is_constant = _bad(chosen.data), sparse.is_constant(chosen)
        if bad:
            raise DataError(f"{name}: {view_name} has {bad} values that are NaN, infinite or too large for float32")
        if is_constant and varies:
            raise DataError(f"{name}: every sample of {view_name} is the same, so there is nothing to cluster")


def _portions(view: Array, rows: RowNumbers) -> Iterator[Array]:
    """The rows of a view, a portion at a time: the file that it is mapped from may be larger than memory."""
    count = 1 + view.nbytes // PORTION
    if len(rows) == len(view):
        yield from np.array_split(view, count)
    else:
        yield from (view[part] for part in np.array_split(rows, count))


def _bad(values: Array) -> int:
    """How many values are NaN, infinite or too large for float32."""
    if values.dtype.kind != "f":
        return 0
    numbers = cast(npt.NDArray[np.floating], values)
    if numbers.dtype.itemsize <= 4:  # in float16 LARGEST is infinity
        return numbers.size - int(np.count_nonzero(np.isfinite(numbers)))
    return numbers.size - int(np.count_nonzero((numbers >= -LARGEST) & (numbers <= LARGEST)))  # NaN fails both


def _known(name: str, labels: Array, noise: str | None) -> Flags:
    """Which labels (n,) are classes: neither missing (NaN, or an empty word) nor `noise`.

    Raises: DataError for labels that are no classes, ConfigError where none is `noise`.
    """
    if labels.dtype.kind not in "biufUS":
        raise DataError(f"{name}: labels must be whole numbers or words, got the type {labels.dtype}")
    if labels.dtype.kind == "f":
        numbers = cast(npt.NDArray[np.floating], labels)
        known = ~np.isnan(numbers)
        if not np.isfinite(numbers[known]).all() or (numbers[known] != np.floor(numbers[known])).any():
            raise DataError(f"{name}: labels must be whole numbers or words, got fractions or infinite ones")
        if (np.abs(numbers[known]) >= 2 ** (np.finfo(numbers.dtype).nmant + 1)).any():
            raise DataError(
                f"{name}: labels this large are one and the same as {labels.dtype}", hint="save them as int64 or words"
            )
    else:
        known = (
            np.ones(len(labels), bool) if labels.dtype.kind not in "US" else np.asarray(labels != labels.dtype.type())
        )
    if noise is not None:
        names = {_class_name(label): label for label in np.unique(labels[known])}
        if noise not in names:
            shown = f"{', '.join([*names][:10])}{', ...' if len(names) > 10 else ''}"
            raise ConfigError(f"--noise-label must be one of {shown}, got {noise}", hint="leave it out")
        known = known & np.asarray(labels != names[noise])
    return np.asarray(known)


def _number_labels(name: str, labels: Array, known: Flags) -> Labels:
    """Labels (n,) numbered 0..K-1 in sorted order, -1 for those that are not `known`. Raises: DataError."""
    classes, numbered = np.unique(labels[known], return_inverse=True)
    if len(classes) < 2:
        only = f"only '{classes[0]}'" if len(classes) else "none"
        raise DataError(
            f"{name}: labels must hold at least 2 classes, got {only}",
            hint="leave the labels out and give --clusters K",
        )
    found = np.full(len(labels), -1, np.int64)
    found[known] = numbered
    return found


def check(name: str, raw: Raw) -> None:
    """Raises DataError or ShapeError for arrays that cannot be used, naming the view and what is wrong with it."""
    n_samples = _check_shapes(name, raw)
    _check_types(name, raw.views)
    _check_values(name, raw.views, np.arange(n_samples))
    if raw.labels is not None:
        labels = raw.labels.ravel()
        _number_labels(name, labels, _known(name, labels, None))


def _as_asked(ref: DataRef, stored: Dataset) -> Dataset:
    """A prepared data set with the number of clusters and the split of `ref`. Raises: ConfigError."""
    ref = replace(ref, split=ref.decided_split(len(stored.views)))
    n_clusters = _n_clusters(ref, stored.labels, stored.info.n_samples, "--clusters K")
    return replace(stored, ref=ref, info=replace(stored.info, n_clusters=n_clusters))


def _rows_of_classes(ref: DataRef, labels: Array | None) -> RowNumbers:
    """Ascending places, among labels, of the classes that `ref.subset` names. Raises: ConfigError."""
    if labels is None:
        raise ConfigError(f"{ref.name} has no labels, so no classes can be chosen", hint="leave out --subset")
    names = {_class_name(label): label for label in np.unique(labels)}
    wanted = [name.strip() for name in (ref.subset or "").split(",")]
    unknown = [name for name in wanted if name not in names]
    if unknown or len(set(wanted)) < 2 or len(set(wanted)) < len(wanted):
        raise ConfigError(
            f"--subset must name at least 2 different classes of {', '.join(names)}, got {ref.subset}",
            hint="--subset 0,1",
        )
    return np.flatnonzero(np.isin(labels, [names[name] for name in wanted]))


def _class_name(label: np.generic) -> str:
    """A class as a user writes it: "3" for 3.0 too."""
    value = label.item()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _pooled(ref: DataRef, images: Floats | Matrix) -> Floats:
    """Images (n, C, H, W) with `ref.size` rows and columns, each the mean of a block of pixels. Raises: ConfigError."""
    size = ref.size or 0
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise ConfigError(f"--size is for images, {ref.name} are vectors", hint="leave it out")
    n, channels, height, width = images.shape
    if size < 1 or height % size or width % size:
        raise ConfigError(f"--size must divide the images' {height} x {width} pixels, got {ref.size}")
    blocks = images.reshape(n, channels, size, height // size, size, width // size)
    means: npt.NDArray[np.float64] = blocks.mean(axis=(3, 5), dtype=np.float64)  # exact sums, equal on all machines
    return means.astype(np.float32)


def _limited_rows(ref: DataRef, labels: Labels | None, n_samples: int) -> RowNumbers:
    """Ascending rows of the subset of `ref.limit` samples; the same for every run of a data set.

    Classes get equal shares; what a small class cannot fill goes to the larger ones. Raises: ConfigError.
    """
    if ref.limit is None:
        return np.arange(n_samples)
    if not 2 <= ref.limit <= n_samples:
        raise ConfigError(f"limit must be in [2, n_samples] = [2, {n_samples}], got {ref.limit}", hint="--limit N")
    rng = np.random.default_rng(seed_for(0, "limit", ref.name))
    if labels is None:
        return np.sort(rng.choice(n_samples, ref.limit, replace=False))
    members = sorted((np.flatnonzero(labels == k) for k in np.unique(labels)), key=len)
    chosen: list[RowNumbers] = []
    left = ref.limit
    for done, rows in enumerate(members):  # smallest class first, so that its unfilled share is passed on
        take = min(len(rows), left // (len(members) - done))
        chosen.append(rng.choice(rows, take, replace=False))
        left -= take
    return np.sort(np.concatenate(chosen))


def _n_clusters(ref: DataRef, labels: Labels | None, n_samples: int, hint: str) -> int:
    """`ref.n_clusters`, else the number of classes. Raises: ConfigError, also where a split leaves too few samples."""
    n_classes = None if labels is None else int(labels.max()) + 1
    n_clusters = n_classes if ref.n_clusters is None else ref.n_clusters
    if n_clusters is None:
        raise ConfigError(f"{ref.name} has no labels, so the number of clusters must be given", hint=hint)
    learned, kept = split.parts(ref.split, ref.name, n_samples)
    most = min(len(learned), len(kept))
    is_divided = split.divides(ref.split)
    if not 2 <= n_clusters <= most:
        name = "samples of each part" if is_divided else "n_samples"
        raise ConfigError(
            f"n_clusters must be in [2, {name}] = [2, {most}], got {n_clusters}",
            hint="--clusters K, --limit N or --split N/M" if is_divided else "--clusters K or --limit N",
        )
    if is_divided and ref.split != "halves" and labels is not None and n_classes is not None:  # halves are random
        n_learned = len(np.setdiff1d(labels[learned], [-1]))
        if n_learned < min(n_classes, n_clusters):
            raise ConfigError(
                f"the rows of {ref.name} that models would train on have {n_learned} of its {n_classes} classes",
                hint="shuffle the rows of the file, or --split none",
            )
    return n_clusters


def _convert(name: str, view: Array | Matrix, *, is_image: bool) -> Floats | Matrix:
    """One view as float32: images (n, channels, height, width) in [0, 1], or (n, d). Raises: DataError, ShapeError.

    C-contiguous and writable. A raw array that already is all this is given back itself: nobody reads it again.
    """
    if not isinstance(view, np.ndarray):
        return sparse.as_float32(view)
    return pixels(name, view) if is_image else np.require(view, np.float32, ["C", "W"])


def _channels_first(name: str, images: Array) -> Array:
    """Images as (n, channels, height, width). The second and the last axis may be the channels: the shorter is."""
    if images.ndim == 3:
        return images[:, None]
    if min(images.shape[1], images.shape[3]) > 4:
        raise ShapeError(f"{name} must have at most 4 channels, in the second or the last axis, got {images.shape}")
    return images if images.shape[1] <= images.shape[3] else images.transpose(0, 3, 1, 2)


def pixels(name: str, images: Array) -> Floats:
    """Images as float32 (n, channels, height, width) in [0, 1]: bytes divided by 255, fractions as they are.

    Raises: DataError for anything else, ShapeError.
    """
    images = _channels_first(name, images)
    if images.dtype == np.uint8:
        bytes_ = cast(npt.NDArray[np.uint8], images)
        return np.divide(bytes_, 255, dtype=np.float32, order="C")
    low, high = images.min(), images.max()
    if images.dtype.kind != "f" or low < 0 or high > 1:
        raise DataError(
            f"{name} must hold images as uint8 in 0..255 or as floats in [0, 1], got {images.dtype} in [{low}, {high}]",
            hint="divide by the largest possible value",
        )
    return np.require(images, np.float32, ["C", "W"])


def _mean_square(views: Sequence[Floats | Matrix]) -> float:
    """The mean of the squares of all values, summed in float64 without a copy of the data."""
    sums = [
        np.einsum("nd,nd->", flat, flat, dtype=np.float64)
        for flat in (view.reshape(len(view), -1) for view in views if isinstance(view, np.ndarray))
    ]
    sums += [sparse.sum_of_squares(view) for view in views if not isinstance(view, np.ndarray)]
    return float(sum(sums)) / sum(math.prod(view.shape) for view in views)


def _by_column(ref: DataRef, views: Sequence[Floats | Matrix]) -> Columns:
    """Give every column mean 0 and variance 1, or values from 0 to 1, in place; constant ones become 0.

    Raises: ConfigError for sparse data, whose zeros would not stay zeros.
    """
    from sklearn.preprocessing import MinMaxScaler, StandardScaler  # late: it takes a second

    shifts, scales = [], []
    for view in views:
        if not isinstance(view, np.ndarray):
            raise ConfigError(f"--normalize {ref.normalize} would fill the zeros of {ref.name}, which is sparse")
        scaler = (StandardScaler() if ref.normalize == "standard" else MinMaxScaler()).fit(view.astype(np.float64))
        shift = scaler.mean_ if ref.normalize == "standard" else scaler.data_min_
        scale = 1 / scaler.scale_ if ref.normalize == "standard" else scaler.scale_
        view[:] = (view - shift) * scale
        shifts.append(tuple(shift.tolist()))
        scales.append(tuple(scale.tolist()))
    return Columns(tuple(shifts), tuple(scales))


def _unequal(views: Sequence[Floats | Matrix], raw: Raw) -> tuple[str, ...]:
    """A note where one column of data without a known range has nearly all of the variance: others will not count."""
    dense = [view for view in views if isinstance(view, np.ndarray) and view.ndim == 2 and view.shape[1] > 1]
    if raw.image or raw.range is not None or len(dense) < len(views):
        return ()
    variances = np.concatenate([np.var(view, axis=0, dtype=np.float64) for view in dense])
    share = float(variances.max() / max(variances.sum(), np.finfo(float).tiny))
    if share <= UNEQUAL:
        return ()
    return (
        f"column {int(variances.argmax())} has {share:.0%} of the variance, so that the others hardly count: "
        "--normalize standard gives all the same",
    )


def _scale(ref: DataRef, views: Sequence[Floats | Matrix]) -> float:
    """Multiply all views, in place, by one constant, and return it.

    The mean of ||x||^2 over samples and views becomes 88 (ALRDC), or the mean of all x_i^2 becomes 1 (ADEC).
    """
    # in float64, a thousand rows at a time: the whole at once would be two more copies of the data
    dense = [view for view in views if isinstance(view, np.ndarray)]
    portions = (rows for view in dense for rows in np.array_split(view, 1 + len(view) // 1000))
    total = sum(float(np.square(rows, dtype=np.float64).sum()) for rows in portions)
    total += sum(sparse.sum_of_squares(view) for view in views if not isinstance(view, np.ndarray))
    if total == 0:
        raise DataError(f"{ref.name}: every value is 0, so there is nothing to cluster")
    if ref.normalize == "adec":
        wanted, mean_square = 1.0, total / sum(math.prod(view.shape) for view in views)
    else:
        wanted, mean_square = MEAN_SQUARE, total / sum(view.shape[0] for view in views)
    scale = float(np.float32((wanted / mean_square) ** 0.5))  # rounded, so that it multiplies float32 exactly
    for view in views:
        values = view if isinstance(view, np.ndarray) else view.data
        np.multiply(values, np.float32(scale), out=values)
    return scale
