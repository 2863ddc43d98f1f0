"""Reading of data files: a user's own, by their suffix, and the IDX format of the MNIST family. No pickled objects."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from robust_cluster.data import text
from robust_cluster.data.base import Array, Raw
from robust_cluster.data.formats import (
    CORPORA,
    FOREIGN,
    NUMBERS,
    PAIRED,
    PICKLES,
    SUFFIXES,
    SVMLIGHT,
    TABLES,
    Reading,
    arrays,
    images,
    matlab,
    name_and_suffix,
    svmlight,
    tables,
)
from robust_cluster.data.sources import AGAIN, whole
from robust_cluster.data.sparse import Matrix
from robust_cluster.errors import ConfigError, DataError

# The third byte of an IDX file; numbers of more than one byte are big-endian.
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def listing(folder: Path | None) -> dict[str, Path]:
    """Name -> path of the data files and folders directly in `folder` (--data-dir).

    Of one name, the first suffix of `SUFFIXES` wins, and any file wins over a folder. A folder is listed when it holds
    x.npy, view_0.npy, or sub-folders with images. Raises: ConfigError when `folder` does not exist or is unreadable.
    """
    if folder is None:
        return {}
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"--data-dir must be an existing folder that can be read, got {folder}") from error
    found = {path.name: path for path in inside if arrays.is_array_folder(path) or images.is_image_folder(path)}
    for suffix in reversed(SUFFIXES):
        own = [
            (name_and_suffix(path)[0], path) for path in reversed(inside) if name_and_suffix(path)[1] == suffix
        ]  # t.csv before t.csv.gz
        found |= {name: path for name, path in own if not name.endswith(PAIRED)}
    return found


def read(path: Path, reading: Reading | None = None) -> Raw:
    """The content of a user's file or folder; its suffix tells the format.

    .npz, .npy: `formats.arrays`. .csv, .tsv, .parquet: `formats.tables`, or `text` where they have a column of texts.
    .jsonl: `text`. .mat: `formats.matlab`. .libsvm, .svmlight, .svm: `formats.svmlight`. A folder: x.npy and y.npy, or
    images with a sub-folder a class. Dense arrays of three or four axes, (n, height, width[, channels]) or
    (n, channels, height, width), are images; (n, d) are vectors.
    Raises: DataError when it is missing, damaged or of another kind, ConfigError for a column that is not there.
    """
    reading = reading or Reading()
    suffix = name_and_suffix(path)[1]
    if suffix in PICKLES:
        raise DataError(
            f"{path.name} is a pickle, which can run code and is not read",
            hint="save plain numbers: np.savez('data.npz', x=x, y=y)",
        )
    if path.is_dir():
        is_array = arrays.is_array_folder(path)
        return raw_of(*arrays.read_folder(path), path) if is_array else images.read(path, reading.size)
    if suffix not in SUFFIXES:
        raise DataError(
            f"A data file must end in {', '.join(SUFFIXES)}, or be a folder, got {path.name!r}",
            hint=FOREIGN.get(suffix, NUMBERS),
        )
    if not path.is_file():
        raise DataError(f"There is no file {path}")
    both = ("label_column", "text_column")
    allowed = {**dict.fromkeys(TABLES, (*both, "id_column", "drop", "no_header")), **dict.fromkeys(CORPORA, both)}
    if refused := reading.flags(*allowed.get(suffix, ())):
        kinds = TABLES if suffix in CORPORA else (*TABLES, *CORPORA)
        raise ConfigError(f"{refused} is for {', '.join(kinds)}, got {path.name}", hint="leave it out")
    if suffix in CORPORA:
        return text.read_jsonl(path, reading)
    if suffix in TABLES:
        return tables.read(path, reading)
    readers = {".npz": arrays.read_npz, ".npy": arrays.read_npy, ".mat": matlab.read}
    readers |= dict.fromkeys(SVMLIGHT, svmlight.read)
    views, labels = readers[suffix](path)
    return raw_of(views, labels, path)


def raw_of(views: tuple[Array | Matrix, ...], labels: Array | None, path: Path) -> Raw:
    """The arrays of a file; more than two axes make images of them."""
    return Raw(views, labels, image=any(view.ndim > 2 for view in views), source=path.name)


def read_idx(path: Path) -> Array:
    """The array of an IDX file, gzip-compressed when its name ends in .gz.

    Source: the format notes on the MNIST page: two zero bytes, a type byte, the number of axes, each axis as a
    big-endian uint32, then the values. Raises: DataError when the file cannot be read, is truncated or is no IDX file.
    """
    with whole(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise DataError(f"{path} is not an IDX file: it must begin 00 00 08, got {content[:3].hex(' ') or 'nothing'}")
    start = 4 + 4 * content[3]
    # Padded, so that a file that ends inside its header fails the length check like any other truncated one.
    shape = struct.unpack(f">{content[3]}I", content[4:start].ljust(4 * content[3], b"\0"))
    dtype = np.dtype(IDX_TYPES[content[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise DataError(
            f"{path} is truncated or damaged: {expected} bytes expected for shape {shape}, got {len(content)}",
            hint=AGAIN,
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)
