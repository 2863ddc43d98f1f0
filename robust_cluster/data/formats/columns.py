"""Which column of a table, or field of a corpus, holds the labels or the texts."""

import difflib
from collections.abc import Sequence

from robust_cluster.errors import ConfigError, DataError

LABEL_COLUMNS = {"y", "label", "class", "target"}  # in any case, when none is named
SHOWN = 5  # columns that a sentence names


def named(name: str, columns: Sequence[str], wanted: str, flag: str) -> str:
    """`wanted`, where the file `name` has that column. Raises: ConfigError with the nearest ones."""
    if wanted in columns:
        return wanted
    lower = {column.lower(): column for column in columns}
    near = [lower[word] for word in difflib.get_close_matches(wanted.lower(), lower, n=3, cutoff=0.6)]
    guess = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"It has {listed(columns)}."
    raise ConfigError(f"{name} has no column {wanted!r}. {guess}", hint=f"{flag} NAME")


def label_column(name: str, columns: Sequence[str], wanted: str | None, texts: str | None) -> str | None:
    """The column `wanted`, else the one called y, label, class or target that does not hold the `texts`, or None.

    Raises: ConfigError where `wanted` is not there, DataError when several are called so.
    """
    if wanted:
        return named(name, columns, wanted, "--label-column")
    found = [column for column in columns if column != texts and column.strip().lower() in LABEL_COLUMNS]
    if len(found) > 1:
        raise DataError(
            f"{name} must have one label column at most, got {', '.join(found)}", hint="--label-column NAME"
        )
    return found[0] if found else None


def listed(columns: Sequence[str]) -> str:
    """The first columns, for a message."""
    return ", ".join(columns[:SHOWN]) + (", ..." if len(columns) > SHOWN else "")
