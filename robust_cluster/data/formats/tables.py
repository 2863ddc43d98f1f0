"""Tables with named columns: .csv, .tsv and .parquet. A column may hold the labels, another one texts."""

import bz2
import csv
import gzip
import lzma
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import numpy as np
import numpy.typing as npt

from robust_cluster.data import text
from robust_cluster.data.base import Raw
from robust_cluster.data.formats import PACKED, Reading, memory, name_and_suffix
from robust_cluster.data.formats.columns import LABEL_COLUMNS, SHOWN, label_column, listed, named
from robust_cluster.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
UNPACKED = 4  # bytes, about, that a byte of a packed table becomes
SAMPLE = 100  # lines that tell the separator
HEAD = 1000  # values of a column that are looked at first
FEW = 10  # rows below which any column may be without two equal values


def read(path: Path, reading: Reading) -> Raw:
    """The numeric columns (n, d) and the labels of a table, or the tf-idf vectors of its texts.

    Labels: the column that `reading` names, else the one called y, label, class or target. A table is a corpus of texts
    when `reading` names their column, or one is called text and is not numeric; then only the labels are read beside.
    A .csv or .tsv may be separated by commas, tabs, semicolons or pipes, be packed, and begin with comments (#).
    Raises: DataError, ConfigError for a column that is not there.
    """
    table, notes = _table(path, reading)
    columns = list(table.columns)
    left_out = [] if reading.id_column is None else [named(path.name, columns, reading.id_column, "--id-column")]
    left_out += [named(path.name, columns, name.strip(), "--drop") for name in (reading.drop or "").split(",") if name]
    for wanted in (reading.label_column, reading.text_column):
        if wanted in left_out:
            raise ConfigError(f"the column {wanted!r} is wanted and left out", hint="name it once")
    ids = None if reading.id_column is None else _words(table[reading.id_column])
    table = table.drop(columns=left_out)
    columns = list(table.columns)
    texts = _text_column(path.name, table, reading)
    label = label_column(path.name, columns, reading.label_column, texts)
    if texts is not None:
        values = None if label is None else table[label].tolist()
        raw = text.corpus(path.name, [None if value != value else value for value in table[texts].tolist()], values)
    else:
        raw = _numbers(path.name, table, label)
    labels_from = f"the column {label!r}" if label else raw.labels_from
    return replace(raw, notes=(*notes, *raw.notes), labels_from=labels_from, ids=ids)


def read_columns(path: Path, reading: Reading, names: Sequence[str]) -> Raw:
    """The columns of these names (n, d), in this order, of a table of more samples; others are left out, which is said.

    Raises: DataError for columns that are not there or hold no numbers, ConfigError.
    """
    import pandas as pd

    table, notes = _table(path, reading)
    if not len(table):
        raise DataError(f"{path.name} must hold at least 1 sample, got none")
    if missing := [name for name in names if name not in table.columns]:
        raise DataError(
            f"{path.name} lacks {listed(missing)} of the {len(names)} columns that the model was trained on"
        )
    if words := [name for name in names if not pd.api.types.is_numeric_dtype(table[name])]:
        raise DataError(f"{path.name}: {listed(words)} must hold numbers, as in the data that the model was trained on")
    others = [name for name in table.columns if name not in (*names, reading.id_column)]
    notes += (f"{path.name}: {listed(others)} left out, which the model does not know",) if others else ()
    ids = _words(table[reading.id_column]) if reading.id_column in table.columns else None
    x = table[list(names)].to_numpy(dtype=np.float64, copy=True)
    return Raw((x,), None, False, path.name, notes=notes, columns=tuple(names), ids=ids)


def _table(path: Path, reading: Reading) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """A file's table, whose columns have different names, and notes on its reading. Raises: DataError, ConfigError."""
    size = path.stat().st_size * (UNPACKED if path.suffix.lower() in PACKED else 1)
    memory.check(path.name, size, "save the numbers as .npy, of which --limit reads only its own rows")
    if path.suffix.lower() != ".parquet":
        table, notes = _separated(path, reading)
    elif reading.no_header:
        raise ConfigError(f"--no-header is for .csv and .tsv, got {path.name}", hint="leave it out")
    else:
        table, notes = _parquet(path), ()
    columns = [str(column) for column in table.columns]
    _check_unique(path.name, columns)
    table.columns = columns
    return table, notes


def _words(column: "pd.Series[Any]") -> npt.NDArray[np.generic]:
    """A column as numbers or words, (n,)."""
    found = column.to_numpy()
    return found if found.dtype.kind in "biuf" else column.astype(str).to_numpy(dtype=np.str_)


def _separated(path: Path, reading: Reading) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """The table of a .csv or .tsv, and notes where it is not UTF-8 or has decimal commas. Raises: DataError."""
    try:
        try:
            return _parsed(path, "utf-8-sig", reading)
        except UnicodeDecodeError as error:
            encoding = "utf-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
            table, notes = _parsed(path, encoding, reading)
            return table, (f"{path.name} is not UTF-8 and was read as {encoding}", *notes)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read or is truncated: {error}") from error


def _parsed(path: Path, encoding: str, reading: Reading) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """The table of a .csv or .tsv in an encoding, a note for decimal commas. Raises: DataError, UnicodeDecodeError."""
    import pandas as pd  # half a second, and only tables need it

    with _opened(path, encoding) as file:
        head = list(islice(file, SAMPLE))
    n_comments = next((i for i, line in enumerate(head) if not line.startswith("#")), len(head))
    sample = head[n_comments:]
    if any("\0" in line for line in sample):
        raise DataError(f"{path.name} is no text: it holds zero bytes")
    separator = _separator(sample, "\t" if name_and_suffix(path)[1] == ".tsv" else ",", is_cut=len(head) == SAMPLE)
    has_comma, has_point = (re.search(rf"\d{mark}\d", "".join(sample)) for mark in (",", r"\."))
    decimal = "," if separator != "," and has_comma and not has_point else "."
    try:
        names = next((row for row in csv.reader(sample, delimiter=separator) if row), [])
        with warnings.catch_warnings(), _opened(path, encoding) as file:
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the first line lose values
            header = None if reading.no_header else "infer"
            how: dict[str, Any] = {"sep": separator, "decimal": decimal, "skiprows": n_comments, "header": header}
            table = pd.read_csv(file, index_col=False, **how)
    except UnicodeDecodeError:
        raise
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:  # ValueErrors are pandas' own
        between = SEPARATORS[separator]
        raise DataError(f"{path.name} cannot be read as {between}-separated values: {error}") from error
    if not reading.no_header:
        _check_header(path.name, names, table)
    return table, (f"{path.name} was read with decimal commas (1,5 is 1.5)",) if decimal == "," else ()


def _opened(path: Path, encoding: str) -> TextIO:
    """A table's file as text, unpacked as it is read. Raises: OSError, DataError."""
    suffix = path.suffix.lower()
    opener = OPENERS.get(suffix, open)
    if suffix == ".zst":
        try:
            opener = import_module("zstandard").open
        except ImportError as error:
            raise DataError(f"{path.name} needs zstandard", hint="pip install zstandard, or unpack it") from error
    return cast(TextIO, opener(path, "rt", encoding=encoding, newline=""))


def _separator(lines: Sequence[str], usual: str, *, is_cut: bool) -> str:
    """The separator by which all lines have the same number of values, at least two: `usual` where that is one of them.

    The sniffer of the csv module is asked where none is, and `usual` is taken where it does not know either.
    """

    def fits(separator: str) -> bool:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            return False
        return len(set(counts[: -1 if is_cut else None])) == 1 and counts[0] > 1

    if fitting := [separator for separator in (usual, *SEPARATORS) if fits(separator)]:
        return fitting[0]
    if any(usual in line for line in lines):
        return usual
    try:
        return csv.Sniffer().sniff("".join(lines), "".join(SEPARATORS)).delimiter
    except csv.Error:
        return usual


def _parquet(path: Path) -> "pd.DataFrame":
    """The table of a .parquet. Raises: DataError, which names what to install where pandas cannot read it alone."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise DataError(
            f"{path.name}: pandas needs pyarrow to read .parquet",
            hint="pip install 'robust_cluster[parquet]', or save it as .csv",
        ) from error
    except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
        raise DataError(f"{path.name} cannot be read as .parquet: {error}") from error


def _text_column(name: str, table: "pd.DataFrame", reading: Reading) -> str | None:
    """The column of texts, None for a table of numbers. Raises: ConfigError."""
    import pandas as pd

    if reading.text_column is not None:
        return named(name, list(table.columns), reading.text_column, "--text-column")
    found = [column for column in table.columns if column.strip().lower() == text.TEXT]
    return found[0] if found and not pd.api.types.is_numeric_dtype(table[found[0]]) else None


def _numbers(name: str, table: "pd.DataFrame", label: str | None) -> Raw:
    """The columns but `label` as numbers (n, d), and the labels. Raises: DataError."""
    import pandas as pd

    features = table.drop(columns=[] if label is None else [label])
    columns = list(features.columns)

    def is_class(column: str) -> bool:
        return 2 * table[column].nunique() <= len(table)

    words = [column for column in columns if not pd.api.types.is_numeric_dtype(features[column])]
    if words:
        first = features[words[0]].dropna().astype(str)
        role = "--label-column {} if it holds the labels" if is_class(words[0]) else "--id-column {} if it names rows"
        hint = f"{role.format(repr(words[0]))}, --text-column if it holds texts, else --drop {words[0]!r}"
        if first.str.startswith("#").any():
            hint = "comments (#) may stand at the beginning only"
        raise DataError(f"{name}: the column {words[0]!r} is not numeric", hint=hint)
    x = features.to_numpy(dtype=np.float64, copy=True)
    notes = tuple(
        f"the column {column!r} {what}: --id-column {column} leaves it out" for column, what in _ids(columns, x)
    )
    if label is None:
        offered = list(islice(filter(is_class, columns), SHOWN + 1))
        hint = f"--clusters K{f', or --label-column with one of {listed(offered)}' if offered else ''}"
        return Raw((x,), None, False, name, label_hint=hint, notes=notes, columns=tuple(columns))
    column = table[label]
    if len(table) >= FEW and not is_class(label):
        notes += (f"the column {label!r}, which was taken for the labels, has {column.nunique()} in {len(table)} rows",)
    is_number = pd.api.types.is_numeric_dtype(column)
    labels = column.to_numpy() if is_number else column.astype(object).where(column.notna(), "").to_numpy(dtype=np.str_)
    return Raw((x,), labels, False, name, notes=notes, columns=tuple(columns))


def _ids(columns: Sequence[str], x: npt.NDArray[np.float64]) -> list[tuple[str, str]]:
    """The first columns of x that may be ids, and why: they count up, or are whole numbers, each of them once."""
    found: list[tuple[str, str]] = []
    for column, values in zip(columns, x.T, strict=True):
        head = values[:HEAD]
        if len(found) == SHOWN or len(np.unique(head)) < max(len(head), FEW) or not np.isfinite(values).all():
            continue
        steps = np.diff(values)
        if steps[0] and np.allclose(steps, steps[0]):
            found.append((column, "counts up"))
        elif (values == np.floor(values)).all() and len(np.unique(values)) == len(values):
            found.append((column, "is different in every row"))
    return found


def _check_header(name: str, columns: list[str], table: "pd.DataFrame") -> None:
    """Raises DataError for a column without a name, and for a first line that is a sample and no names."""
    import pandas as pd

    if "" in columns:
        raise DataError(f"{name}: column {columns.index('') + 1} has no name", hint="write it with index=False")
    numbers = [column for column in columns if _is_number(column)]
    found = [float(column) for column in numbers]
    is_counted = found == [found[0] + i for i in range(len(found))] if found else True
    is_named = is_counted and (len(found) > 1 or found in ([], [0.0], [1.0]))
    if columns != [str(i) for i in range(len(columns))] and (len(numbers) == len(columns) or not is_named):
        shown = f"{', '.join(numbers[:3])} ..."
        raise DataError(f"{name}: the first line must name the columns, got the numbers {shown}", hint="--no-header")
    _check_unique(name, columns)  # before pandas gives the second of them another name
    for column, values in table.items():
        may_hold = str(column).strip().lower() in (*LABEL_COLUMNS, text.TEXT)
        if not may_hold and not pd.api.types.is_numeric_dtype(values) and (values == column).any():
            raise DataError(
                f"{name}: the first line must name the columns, got {column!r}, which the column holds too",
                hint="--no-header",
            )


def _check_unique(name: str, columns: list[str]) -> None:
    """Raises DataError where several columns have one name, for nobody could tell which is meant."""
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{name}: columns must have different names, got several called {listed(twice)}")


def _is_number(text: str) -> bool:
    """Whether the text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
