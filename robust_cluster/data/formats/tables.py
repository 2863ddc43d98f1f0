"""Tables with named columns: .csv, .tsv and .parquet. A column may hold the labels, another one texts."""

import csv
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robust_cluster.data import text
from robust_cluster.data.base import Raw
from robust_cluster.data.formats import Reading, memory
from robust_cluster.data.formats.columns import label_column, listed, named
from robust_cluster.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read(path: Path, reading: Reading) -> Raw:
    """The numeric columns (n, d) and the labels of a table, or the tf-idf vectors of its texts.

    Labels: the column that `reading` names, else the one called y, label, class or target. A table is a corpus of texts
    when `reading` names their column, or one is called text and is not numeric; then only the labels are read beside.
    Raises: DataError, ConfigError for a column that is not there.
    """
    memory.check(path.name, path.stat().st_size, "save the numbers as .npy, of which --limit reads only its own rows")
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _separated(path)
    columns = [str(column) for column in table.columns]
    _check_unique(path.name, columns)
    table.columns = columns
    texts = _text_column(path.name, table, reading)
    label = label_column(path.name, columns, reading.label_column, texts)
    if texts is not None:
        values = None if label is None else table[label].tolist()
        return text.corpus(path.name, [None if value != value else value for value in table[texts].tolist()], values)
    return _numbers(path.name, table, label)


def _separated(path: Path) -> "pd.DataFrame":
    """The table of a .csv or .tsv. Raises: DataError."""
    import pandas as pd  # half a second, and only tables need it

    separator = SEPARATORS[path.suffix.lower()]
    try:
        with path.open(newline="", encoding="utf-8") as file:
            names = next(csv.reader(file, delimiter=separator), [])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the first line lose values
            table = pd.read_csv(path, index_col=False, sep=separator)
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning) as error:  # ValueErrors are pandas' and Unicode's
        between = "comma" if separator == "," else "tab"
        raise DataError(f"{path.name} cannot be read as {between}-separated values: {error}") from error
    _check_header(path.name, names)
    return table


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
    words = [column for column in features.columns if not pd.api.types.is_numeric_dtype(features[column])]
    if words:
        raise DataError(
            f"{name}: the column {words[0]!r} is not numeric",
            hint=f"--label-column {words[0]!r} if it holds the labels, --text-column if it holds texts, else remove it",
        )
    x = features.to_numpy(dtype=np.float64, copy=True)
    if label is None:
        hint = f"--clusters K, or --label-column with one of {listed(list(features.columns))}"
        return Raw((x,), None, False, name, label_hint=hint)
    column = table[label]
    if column.isna().any():
        raise DataError(f"{name}: {column.isna().sum()} labels are missing in the column {label!r}")
    labels = column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.to_numpy(dtype=np.str_)
    return Raw((x,), labels, False, name)


def _check_header(name: str, columns: list[str]) -> None:
    """Raises DataError for a column without a name, and for a first line of numbers, which would be taken for names."""
    if "" in columns:
        raise DataError(f"{name}: column {columns.index('') + 1} has no name", hint="write it with index=False")
    if columns != [str(i) for i in range(len(columns))] and all(_is_number(column) for column in columns):
        raise DataError(f"{name}: the first line must name the columns, got the numbers {', '.join(columns[:3])} ...")
    _check_unique(name, columns)  # before pandas gives the second of them another name


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
