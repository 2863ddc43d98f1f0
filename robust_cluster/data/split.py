"""Which rows models train on and which are kept from them: two halves (AR-DMVC), or the first N and last M (DCAN).

Of the attacked rows a learned attacker may hold some back to be scored on: `apart`. The preparation sees all rows, as
in AR-DMVC's protocol: the constant of `--normalize` is taken over both parts, and in a noisy two-view construction the
second view of a row may be made of a row of the other part: the published halves are kept as they are.
"""

import re

import numpy as np
import numpy.typing as npt

from robust_cluster.data.multiview import halves
from robust_cluster.errors import ConfigError

RowNumbers = npt.NDArray[np.int64]
CHAIN = 50  # rows that share images and are dealt together, at most
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


def apart(sources: RowNumbers, share: float, seed: int) -> tuple[RowNumbers, RowNumbers]:
    """Ascending rows to learn on, about `share` of all, and rows to be scored that show no image of those.

    `sources` (n, 2): the images of both views. Rows form chains, each with an image of the next; whole chains are dealt
    to one side or the other. Those of more than 50 rows are cut, and a row to be scored that shows an image of the
    other side is left out. Of 2,500 rows of a half, where chains are short, 500 are scored for a share of 0.8.
    Raises: ConfigError when no row is left.
    """
    n = len(sources)
    pieces = [chain[at : at + CHAIN] for chain in chains(sources) for at in range(0, len(chain), CHAIN)]
    wanted, held = n - min(n - 1, max(1, round(share * n))), list[int]()
    for number in np.random.default_rng(seed).permutation(len(pieces)):
        if len(held) + len(pieces[number]) <= wanted:
            held += pieces[number]
    is_held = np.isin(np.arange(n), held)
    is_new = ~np.isin(sources, sources[~is_held]).any(axis=1)
    if not is_new.any():
        message = f"all of the {n} samples share images with those that the attacker learns on"
        raise ConfigError(message, hint="--set attack.train_share=1")
    return np.flatnonzero(~is_held), np.flatnonzero(is_new)


def chains(sources: RowNumbers) -> list[list[int]]:
    """The rows in chains: the second view of each shows the image of the first view of the next. Each row once."""
    owner = {image: row for row, image in enumerate(sources[:, 0].tolist())}
    following = [owner.get(image) for image in sources[:, 1].tolist()]
    first = sorted(set(range(len(sources))) - set(following))  # the others are in these chains, or in rings
    found, done = [], set[int]()
    for start in (*first, *range(len(sources))):
        chain, row = list[int](), start
        while row is not None and row not in done:
            done.add(row)
            chain.append(row)
            row = following[row]
        found += [chain] if chain else []
    return found
