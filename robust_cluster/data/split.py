"""Which rows models train on and which are kept from them: two halves (AR-DMVC), or the first N and last M (DCAN).

What prepares the data sees all rows: the constant of `--normalize`, and the pairs of a noisy two-view construction,
where the second view of a row is made of another row of its class, from either part (AR-DMVC's protocol).
"""

import re

import numpy as np
import numpy.typing as npt

from robust_cluster.data.multiview import halves
from robust_cluster.errors import ConfigError

RowNumbers = npt.NDArray[np.int64]
COUNTS = re.compile(r"([1-9]\d*)/([1-9]\d*)")


def check(split: str | None) -> None:
    """Nothing for None, "none", "halves" and "N/M". Raises: ConfigError for anything else."""
    if split not in (None, "none", "halves") and not COUNTS.fullmatch(split):
        raise ConfigError(
            f"split must be halves, none, or N/M for the first N and the last M rows, got {split}",
            hint="--split 50000/10000",
        )


def divides(split: str | None) -> bool:
    """Whether some rows are kept from the models' training."""
    return split not in (None, "none")


def parts(split: str | None, name: str, n_samples: int) -> tuple[RowNumbers, RowNumbers]:
    """Ascending rows that models train on, and rows that are kept from them; all rows twice where nothing divides.

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
