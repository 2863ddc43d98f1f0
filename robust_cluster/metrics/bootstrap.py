"""Intervals for a mean over seeds, each of whose values is a score of many samples, with both levels of spread.

Seeds vary (another initialization, another attacker) and so do samples (other rows of the same kind). The spread over
samples comes from a bootstrap of the rows; all scores of one resample, clean and attacked, are of the same rows, so
that differences are paired. The spread over seeds is that of the seeds' values, with Student's t.

Why not the percentiles of a bootstrap that draws seeds and then samples: with few seeds they are too narrow. In the
simulations of tests/metrics/test_bootstrap.py (a flip rate of 300 samples, 1,000 repetitions, nominal 95 %) they cover
the truth in 62 to 66 % with 2 seeds that clearly differ, 73 to 79 % with 3, 83 to 85 % with 5, 88 to 92 % with 10. The
interval here covers it in 94 to 96 %, whether the seeds share their rows, as all runs on one data set do, or have rows
of their own; it is cautious, 98 %, for 2 or 3 seeds with shared rows that hardly differ. With one seed it is about
samples alone: it covers the score of this very model on other rows, and says nothing of another seed. A rate of exactly
0 or 1 has no spread in its sample, so one seed's interval is that point.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import linear_sum_assignment

from robust_cluster.errors import ShapeError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
LEVEL = 0.95
DRAWS = 500  # resamples: the relative error of a standard deviation is 1 / sqrt(1000), 3 %


@dataclass(frozen=True)
class Assignments:
    """What one seed's model does to n samples, as numbers >= 0.

    Shapes: truth (n,) classes, None without labels; clean (n,) clusters; moved (a, n) clusters under each of `a`
    attackers, whose scores are averaged. Raises: ShapeError.
    """

    truth: Ints | None
    clean: Ints
    moved: Ints

    def __post_init__(self) -> None:
        n = len(self.clean)
        truth = () if self.truth is None else self.truth.shape
        fits = n > 0 and self.clean.ndim == 1 and self.moved.ndim == 2 and self.moved.shape[1] == n
        if not fits or truth not in ((), (n,)):
            raise ShapeError(
                f"truth and clean must be (n,) with n >= 1 and moved (a, n), got {truth}, {self.clean.shape} and "
                f"{self.moved.shape}"
            )

    @property
    def classes(self) -> Ints:
        """`truth`, where there are labels. Raises: ShapeError."""
        if self.truth is None:
            raise ShapeError("the score needs the class of every sample")
        return self.truth


@dataclass(frozen=True)
class Interval:
    """An interval at the 95 % level around the mean over `seeds`; `samples` is n of each seed, None where not known.

    With one seed it is about samples alone; without samples about seeds alone.
    """

    mean: float
    low: float
    high: float
    seeds: int
    samples: int | None


Score = Callable[[Ints], Floats]  # of contingency tables (b, K, C): (b,)
Statistic = Callable[[Assignments, Ints], Floats]  # of rows and weights (b, n), how often each row is drawn: (b,)


def interval(
    seeds: Sequence[Assignments], statistic: Statistic, *, seed: int = 0, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """The mean of a statistic over seeds, with its interval, cut to the values that the statistic can have.

    Rows are shared where all seeds have the same classes in the same order: then one resample is of the same rows for
    all. Raises: ShapeError without seeds.
    """
    if not seeds:
        raise ShapeError("an interval needs at least one seed, got none")
    is_shared = all(same_rows(seeds[0], other) for other in seeds[1:])
    random = np.random.default_rng(seed)
    weights = drawn(len(seeds[0].clean), random)
    values, resampled = [], []
    for rows in seeds:
        own = weights if is_shared else drawn(len(rows.clean), random)
        values.append(float(statistic(rows, np.ones((1, len(rows.clean)), dtype=np.int64))[0]))
        resampled.append(statistic(rows, own))
    samples = min(len(rows.clean) for rows in seeds)
    half = half_width(np.array(values), np.array(resampled) if is_shared else None)
    return around(float(np.mean(values)), half, bounds, seeds=len(seeds), samples=samples)


def over_seeds(values: Sequence[float], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval | None:
    """The interval of the mean of one value a seed by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    return around(float(np.mean(values)), half_width(np.array(values), None), bounds, seeds=len(values), samples=None)


def around(mean: float, half: float, bounds: tuple[float, float], *, seeds: int, samples: int | None) -> Interval:
    """The interval mean +- half, cut to the bounds."""
    return Interval(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]), seeds, samples)


def half_width(values: Floats, resampled: Floats | None) -> float:
    """Half the width: t over seeds and z over shared samples, added as squares (MOVER; Zou and Donner 2008).

    Shapes: values (s,), resampled (s, b) of shared rows, None where each seed has its own: their spread is in `values`.
    The variance of a score over seeds, s^2 / S, holds what the rows do to each seed apart. Taken from the variance of
    the resampled means, it leaves what the rows do to all seeds alike.
    """
    normal = stats.norm.ppf((1 + LEVEL) / 2)
    n_seeds = len(values)
    if n_seeds == 1:
        return 0.0 if resampled is None else float(normal * resampled[0].std(ddof=1))
    student = stats.t.ppf((1 + LEVEL) / 2, n_seeds - 1)
    of_seeds = values.var(ddof=1) / n_seeds
    of_rows = 0.0
    if resampled is not None:
        of_mean, of_one = resampled.mean(axis=0).var(ddof=1), resampled.var(axis=1, ddof=1).mean()
        of_rows = max(0.0, (n_seeds * of_mean - of_one) / (n_seeds - 1))
    return float(np.sqrt(student**2 * of_seeds + normal**2 * of_rows))


def same_rows(one: Assignments, other: Assignments) -> bool:
    """Whether two seeds are scored on the same samples, as far as their classes tell."""
    if one.truth is None or other.truth is None:
        return one.truth is other.truth and len(one.clean) == len(other.clean)
    return np.array_equal(one.truth, other.truth)


def drawn(n: int, random: np.random.Generator, draws: int = DRAWS) -> Ints:
    """How often each of n rows is drawn in each resample of n, (draws, n); every resample's counts sum to n."""
    chosen = random.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * n).reshape(draws, n)


def counted(clusters: Ints, classes: Ints, weights: Ints) -> Ints:
    """Contingency tables (b, K, C) of samples by cluster and class, one for each resample."""
    n_clusters, n_classes = int(clusters.max()) + 1, int(classes.max()) + 1
    cells = clusters * n_classes + classes
    order = np.argsort(cells, kind="stable")
    present, starts = np.unique(cells[order], return_index=True)
    counts = np.zeros((len(weights), n_clusters * n_classes), dtype=np.int64)
    counts[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return counts.reshape(len(weights), n_clusters, n_classes)


def matched(counts: Ints) -> Floats:
    """ACC (b,) of contingency tables (b, K, C), each with its own best one-to-one map of clusters to classes."""
    right = [table[linear_sum_assignment(table, maximize=True)].sum() for table in counts]
    return np.asarray(np.array(right) / counts.sum(axis=(1, 2)))


def matched_before(clean: Ints, moved: Ints) -> Floats:
    """ACC (b,) of the moved tables under the maps of the clean ones; pairs without clean samples count for nothing."""
    n_clusters = max(clean.shape[1], moved.shape[1])
    clean, moved = (np.pad(t, ((0, 0), (0, n_clusters - t.shape[1]), (0, 0))) for t in (clean, moved))
    right = []
    for before, after in zip(clean, moved, strict=True):
        pairs = linear_sum_assignment(before, maximize=True)
        right.append(after[pairs][before[pairs] > 0].sum())
    return np.asarray(np.array(right) / moved.sum(axis=(1, 2)))


def mutual(counts: Ints) -> Floats:
    """NMI (b,) of contingency tables, normalized by the mean of both entropies; 1 where both are one group."""
    shares = counts / counts.sum(axis=(1, 2), keepdims=True)
    parts = (shares.sum(axis=2), shares.sum(axis=1), shares.reshape(len(shares), -1))
    of_clusters, of_classes, of_both = (stats.entropy(part, axis=1) for part in parts)
    mean = (of_clusters + of_classes) / 2
    return np.asarray(np.where(mean > 0, (of_clusters + of_classes - of_both) / np.where(mean > 0, mean, 1), 1.0))


def rand(counts: Ints) -> Floats:
    """ARI (b,) of contingency tables; 1 where all pairs agree by necessity."""

    def pairs(sizes: Ints) -> Floats:
        return np.asarray((sizes * (sizes - 1) / 2).sum(axis=1))

    both = pairs(counts.reshape(len(counts), -1))
    of_clusters, of_classes = pairs(counts.sum(axis=2)), pairs(counts.sum(axis=1))
    every = pairs(counts.sum(axis=(1, 2))[:, None])
    expected, most = of_clusters * of_classes / every, (of_clusters + of_classes) / 2
    spread = most - expected
    return np.asarray(np.where(spread > 0, (both - expected) / np.where(spread > 0, spread, 1), 1.0))


def flips(rows: Assignments, weights: Ints) -> Floats:
    """The flip rate (b,) of each resample, the mean over attackers."""
    return np.asarray(weights @ (rows.moved != rows.clean).mean(axis=0) / weights.sum(axis=1))


def clean(score: Score) -> Statistic:
    """The score of the clean clusters."""
    return lambda rows, weights: score(counted(rows.clean, rows.classes, weights))


def attacked(score: Score) -> Statistic:
    """The score of the moved clusters, the mean over attackers."""
    return lambda rows, weights: average([score(counted(moved, rows.classes, weights)) for moved in rows.moved])


def kept(rows: Assignments, weights: Ints) -> Floats:
    """ACC (b,) of the moved clusters under the map of the clean ones, the mean over attackers."""
    before = counted(rows.clean, rows.classes, weights)
    return average([matched_before(before, counted(moved, rows.classes, weights)) for moved in rows.moved])


OF_METRIC: Mapping[str, Statistic] = {
    "ACC": clean(matched),
    "NMI": clean(mutual),
    "ARI": clean(rand),
    "ACC*": attacked(matched),
    "NMI*": attacked(mutual),
    "ARI*": attacked(rand),
    "ACC*_clean_map": kept,
    "flip": flips,
}
STATISTICS = frozenset(OF_METRIC)  # the metrics of a record that follow from its rows


def statistic(name: str) -> Statistic:
    """The statistic of a record's metric, such as "ACC*"; a mean over attackers. Raises: KeyError for another one."""
    return OF_METRIC[name]


def average(values: Sequence[Floats]) -> Floats:
    """The mean (b,) over attackers."""
    return np.asarray(np.mean(values, axis=0))


def difference(after: str, before: str) -> Statistic:
    """The statistic `after` minus `before`, both of the same resampled rows."""
    first, second = statistic(after), statistic(before)
    return lambda rows, weights: first(rows, weights) - second(rows, weights)
