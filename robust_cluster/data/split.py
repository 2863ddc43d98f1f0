"""Which rows models train on and which are kept from them: two halves (AR-DMVC), or the first N and last M (DCAN).

The preparation sees all rows, as in AR-DMVC's protocol: the constant of `--normalize` is taken over both parts, and in
a noisy two-view construction the second view of a row may be made of a row of the other part.
"""

import re

import numpy as np
import numpy.typing as npt

from robust_cluster.data.multiview import halves
from robust_cluster.errors import ConfigError

RowNumbers = npt.NDArray[np.int64]
COUNTS = re.compile(r"([1-9]\d*)/([1-9]\d*)")


def check(split: str | None) -> None:
    """Raises ConfigError unless the split is None, "none", "halves" or "N/M"."""
    if split not in (None, "none", "halves") and not COUNTS.fullmatch(split):
        raise ConfigError(
            f"split must be halves, none, or N/M for the first N and the last M rows, got {split}",
            hint="--split 50000/10000",
        )


def divides(split: str | None) -> bool:
    """Whether some rows are kept from the models' training."""
    return split not in (None, "none")


def parts(split: str | None, name: str, n_samples: int) -> tuple[RowNumbers, RowNumbers]:
    """Ascending rows that models train on, and rows that are kept from them; without a split, all rows twice.

    Raises: ConfigError when the data set `name` has too few.
    """
    everything = np.arange(n_samples)
    if split == "halves":
        return halves(n_samples)
    counts = COUNTS.fullmatch(split or "")
    if counts is None:
        return everything, everything
    first, last = int(counts[1]), int(counts[2])
    if first + last > n_samples:
        raise ConfigError(
            f"--split {split} takes {first + last} samples, {name} has {n_samples}",
            hint=f"--split N/M with N + M <= {n_samples}",
        )
    return everything[:first], everything[n_samples - last :]
