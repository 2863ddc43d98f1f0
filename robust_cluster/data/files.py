"""Reading of data files: a user's .npz, .npy and .csv, and the IDX format of the MNIST family. No pickled objects."""

import csv
import gzip
import math
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Raw
from robust_cluster.errors import ConfigError, DataError

Array = npt.NDArray[np.generic]
SUFFIXES = (".npz", ".npy", ".csv")
LABEL_COLUMNS = {"y", "label", "class", "target"}
# The third byte of an IDX file; numbers of more than one byte are big-endian.
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def listing(folder: Path | None) -> dict[str, Path]:
    """Name -> path of the data files directly in `folder` (--data-dir); of one name, .npz goes before .npy before .csv.

    Raises: ConfigError when the folder does not exist.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ConfigError(f"--data-dir must be an existing folder, got {folder}")
    found = [path for suffix in reversed(SUFFIXES) for path in sorted(folder.glob(f"*{suffix}"))]
    return {path.stem: path for path in found}


def read(path: Path) -> Raw:
    """The content of a user's .npz, .npy or .csv file.

    Arrays of three or four axes, (n, height, width[, channels]) or (n, channels, height, width), are images; (n, d)
    are vectors. Raises: DataError when the file is missing, damaged or of another kind.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"A data file must end in {', '.join(SUFFIXES)}, got {path.name!r}")
    if not path.is_file():
        raise DataError(f"There is no file {path}")
    views, labels = _read_csv(path) if path.suffix == ".csv" else _read_numpy(path)
    return Raw(views, labels, image=any(view.ndim > 2 for view in views), source=path.name)


def read_idx(path: Path) -> Array:
    """The array of an IDX file, gzip-compressed when its name ends in .gz.

    Source: the format notes on the MNIST page: two zero bytes, a type byte, the number of axes, each axis as a
    big-endian uint32, then the values. Raises: DataError when the file cannot be read, is truncated or is no IDX file.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read or is truncated: {error}", hint="delete it and fetch it again"
        ) from error
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
            hint="delete it and fetch it again",
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _load(path: Path) -> dict[str, Array]:
    """The arrays of an .npz by name, or {"x": the array} of an .npy. Raises: DataError."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return (
                {name: loaded[name] for name in loaded} if isinstance(loaded, np.lib.npyio.NpzFile) else {"x": loaded}
            )
    except ValueError as error:
        if "pickle" in str(error):
            raise DataError(
                f"{path.name} holds pickled objects, which can run code and are not read",
                hint="save plain numbers: np.savez(file, x=x.astype('float32'), y=y.astype('int64'))",
            ) from error
        raise DataError(f"{path.name} is damaged: {error}") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read or is truncated: {error}") from error


def _read_numpy(path: Path) -> tuple[tuple[Array, ...], Array | None]:
    """The array `x`, or `view_0`, `view_1`, ..., and `y` or `labels` (DeepMVC's name) or None; others are ignored.

    Raises: DataError for a gap in the views, or fewer or more of them than the file's own `n_views` (DeepMVC).
    """
    arrays = _load(path)
    views = [key for key in arrays if re.fullmatch(r"view_\d+", key)]
    ordered = ["x"] if "x" in arrays else [f"view_{i}" for i in range(len(views))]
    if not ordered or not set(views) <= set(ordered) or not set(ordered) <= set(arrays):
        raise DataError(
            f"{path.name} must hold either the array x, or view_0, view_1, ... without a gap (and y or labels), "
            f"got {', '.join(sorted(arrays)) or 'nothing'}"
        )
    if "n_views" in arrays and str(arrays["n_views"].tolist()) != str(len(ordered)):
        raise DataError(f"{path.name} says that it has n_views {arrays['n_views'].tolist()}, got {', '.join(ordered)}")
    if {"y", "labels"} <= set(arrays):
        raise DataError(f"{path.name} must hold its labels once, as y or as labels, got both")
    return tuple(arrays[key] for key in ordered), arrays.get("y", arrays.get("labels"))


def _read_csv(path: Path) -> tuple[tuple[Array, ...], Array | None]:
    """The numeric columns (n, d) and the label column, or None. Raises: DataError."""
    import pandas as pd  # half a second, and only .csv needs it

    try:
        with path.open(newline="") as file:
            names = next(csv.reader(file), [])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the first line lose values
            table = pd.read_csv(path, index_col=False)
    except (
        OSError,
        ValueError,
        csv.Error,
        pd.errors.ParserWarning,
    ) as error:  # pandas' own and Unicode's are ValueErrors
        raise DataError(f"{path.name} cannot be read as comma-separated values: {error}") from error
    _check_header(path.name, names)
    label_columns = [column for column in table.columns if column.strip().lower() in LABEL_COLUMNS]
    if len(label_columns) > 1:
        raise DataError(f"{path.name} must have one label column at most, got {', '.join(label_columns)}")
    features = table.drop(columns=label_columns)
    words = [column for column in features.columns if not pd.api.types.is_numeric_dtype(features[column])]
    if words:
        raise DataError(
            f"{path.name}: the column {words[0]!r} is not numeric",
            hint=f"remove it, or name it one of {', '.join(sorted(LABEL_COLUMNS))} if it holds the labels",
        )
    x = features.to_numpy(dtype=np.float64, copy=True)
    if not label_columns:
        return (x,), None
    column = table[label_columns[0]]
    if column.isna().any():
        raise DataError(f"{path.name}: {column.isna().sum()} labels are missing in the column {label_columns[0]!r}")
    labels = column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.to_numpy(dtype=np.str_)
    return (x,), labels


def _check_header(name: str, columns: list[str]) -> None:
    """Raises DataError where the first line or column would silently be taken for what it is not."""
    if "" in columns:
        raise DataError(f"{name}: column {columns.index('') + 1} has no name", hint="write it with index=False")
    if columns != [str(i) for i in range(len(columns))] and all(_is_number(column) for column in columns):
        raise DataError(f"{name}: the first line must name the columns, got the numbers {', '.join(columns[:3])} ...")


def _is_number(text: str) -> bool:
    """Whether the text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
