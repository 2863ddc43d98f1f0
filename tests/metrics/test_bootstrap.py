"""Intervals over seeds and samples: scores against scikit-learn, spreads against scipy, coverage by simulation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from robust_cluster.errors import ShapeError
from robust_cluster.metrics import bootstrap
from robust_cluster.metrics.accuracy import accuracy, accuracy_under, match
from robust_cluster.metrics.bootstrap import (
    DRAWS,
    STATISTICS,
    Assignments,
    counted,
    difference,
    drawn,
    half_width,
    interval,
    over_seeds,
    same_rows,
    statistic,
)
from robust_cluster.metrics.flips import flip_rate

NORMAL = stats.norm.ppf(0.975)


def rows(n: int = 60, attackers: int = 2, seed: int = 0, n_clusters: int = 4) -> Assignments:
    """Three classes, clusters that often agree with them, moved points that often stay."""
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=n)
    clean = np.where(random.random(n) < 0.7, truth, random.integers(n_clusters, size=n))
    moved = np.where(random.random((attackers, n)) < 0.6, clean, random.integers(n_clusters, size=(attackers, n)))
    return Assignments(truth, clean, moved)


REFERENCES: dict[str, Callable[[Any, Any, Any], float]] = {
    "ACC": lambda t, c, m: accuracy(t, c),
    "ACC*": lambda t, c, m: accuracy(t, m),
    "NMI": lambda t, c, m: float(normalized_mutual_info_score(t, c)),
    "NMI*": lambda t, c, m: float(normalized_mutual_info_score(t, m)),
    "ARI": lambda t, c, m: float(adjusted_rand_score(t, c)),
    "ARI*": lambda t, c, m: float(adjusted_rand_score(t, m)),
    "ACC*_clean_map": lambda t, c, m: accuracy_under(match(t, c, n_clusters=4), t, m),
    "flip": lambda t, c, m: flip_rate(c, m),
}


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_every_resampled_score_is_the_score_of_the_drawn_rows(name: str) -> None:
    made = rows()
    weights = drawn(60, np.random.default_rng(1), draws=5)
    expected = []
    for weight in weights:
        index = np.repeat(np.arange(60), weight)
        assert made.truth is not None
        each = [REFERENCES[name](made.truth[index], made.clean[index], moved[index]) for moved in made.moved]
        expected.append(np.mean(each))
    np.testing.assert_allclose(statistic(name)(made, weights), expected, rtol=1e-9)
    assert set(STATISTICS) == set(REFERENCES)


def test_a_constant_clustering_scores_as_scikit_learn_says() -> None:
    once = np.ones((1, 4), dtype=np.int64)
    for truth, clean in (([0, 0, 1, 1], [2, 2, 2, 2]), ([0, 0, 0, 0], [1, 1, 1, 1])):
        made = Assignments(np.array(truth), np.array(clean), np.array([clean]))
        assert statistic("NMI")(made, once)[0] == pytest.approx(normalized_mutual_info_score(truth, clean))
        assert statistic("ARI")(made, once)[0] == pytest.approx(adjusted_rand_score(truth, clean))


def test_a_resample_draws_as_many_rows_as_there_are() -> None:
    weights = drawn(40, np.random.default_rng(0))
    assert weights.shape == (DRAWS, 40)
    assert set(weights.sum(axis=1)) == {40}
    assert weights.var() == pytest.approx(1 - 1 / 40, rel=0.05), "a binomial of 40 trials and 1/40"


def test_counts_are_those_of_the_rows_as_often_as_drawn() -> None:
    found = counted(np.array([0, 1, 1, 3]), np.array([1, 0, 0, 1]), np.array([[1, 1, 1, 1], [0, 3, 0, 1]]))
    assert found[0].tolist() == [[0, 1], [2, 0], [0, 0], [0, 1]]
    assert found[1].tolist() == [[0, 0], [3, 0], [0, 0], [0, 1]]


def test_the_interval_of_one_seed_is_that_of_the_samples_as_scipy_has_it() -> None:
    made = rows(n=300, attackers=1)
    flips = (made.moved[0] != made.clean).astype(float)
    found = interval([made], statistic("flip"))
    error = stats.bootstrap((flips,), np.mean, n_resamples=4000, rng=np.random.default_rng(0)).standard_error
    assert found.mean == pytest.approx(flips.mean())
    assert found.high - found.mean == pytest.approx(NORMAL * error, rel=0.12)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert (found.seeds, found.samples) == (1, 300)


def test_the_interval_of_seeds_alone_is_that_of_students_t() -> None:
    values = [0.31, 0.42, 0.36]
    found = over_seeds(values)
    assert found is not None
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.seeds, found.samples) == (3, None)
    assert over_seeds([0.3]) is None


def test_what_all_seeds_share_is_no_spread_over_seeds() -> None:
    """Equal values on each seed: t alone would have no width, the shared rows have theirs."""
    made = rows(n=300, attackers=1)
    one, three = interval([made], statistic("flip")), interval([made] * 3, statistic("flip"))
    assert three.high - three.low == pytest.approx(one.high - one.low)
    assert half_width(np.array([0.3, 0.3, 0.3]), None) == 0.0


def test_rows_of_their_own_count_once_in_the_spread_over_seeds() -> None:
    seeds = [rows(n=100, attackers=1, seed=seed) for seed in range(4)]
    values = [flip_rate(one.clean, one.moved[0]) for one in seeds]
    expected = over_seeds(values)
    assert expected is not None
    found = interval(seeds, statistic("flip"))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.samples == 100


def test_a_difference_is_of_the_same_rows_and_narrower_than_one_of_other_rows() -> None:
    """Clean and attacked scores share what a row does to both."""
    random = np.random.default_rng(0)
    truth = random.integers(2, size=400)
    clean = np.where(random.random(400) < 0.75, truth, 1 - truth)
    moved = np.where(random.random(400) < 0.05, 1 - clean, clean)
    made = Assignments(truth, clean, moved[None])
    paired = interval([made], difference("ACC*", "ACC"), bounds=(-1, 1))
    each = [interval([made], statistic(name)) for name in ("ACC*", "ACC")]
    apart = math.hypot(*(one.high - one.mean for one in each))
    assert paired.mean == pytest.approx(accuracy(truth, moved) - accuracy(truth, clean))
    assert paired.high - paired.mean < 0.6 * apart


def test_an_interval_ends_where_the_score_does() -> None:
    truth = np.arange(40) % 2
    nearly = np.where(np.arange(40) == 0, 1 - truth, truth)
    found = interval([Assignments(truth, nearly, nearly[None])], statistic("ACC"))
    assert (found.mean, found.high) == (0.975, 1.0)
    assert found.low < 0.95


def test_the_same_rows_give_the_same_interval() -> None:
    assert interval([rows()], statistic("ACC*")) == interval([rows()], statistic("ACC*"))


def test_seeds_share_rows_where_classes_and_order_agree() -> None:
    bare = Assignments(None, np.array([0, 1]), np.array([[1, 1]]))
    assert same_rows(bare, bare)
    assert not same_rows(bare, rows())
    assert not same_rows(rows(seed=0), rows(seed=1))


def test_what_does_not_fit_is_refused() -> None:
    sentence = r"must be \(n,\) with n >= 1 and moved \(a, n\), got \(2,\), \(3,\) and \(1, 3\)"
    with pytest.raises(ShapeError, match=sentence):
        Assignments(np.zeros(2, int), np.zeros(3, int), np.zeros((1, 3), int))
    with pytest.raises(ShapeError, match="at least one seed"):
        interval([], statistic("flip"))
    with pytest.raises(ShapeError, match="the score needs the class of every sample"):
        interval([Assignments(None, np.zeros(3, int), np.zeros((1, 3), int))], statistic("NMI"))
    with pytest.raises(KeyError, match="delta_norm"):
        statistic("delta_norm")


def simulated(
    n_seeds: int, spread: float, *, shared: bool, random: np.random.Generator, n: int = 300
) -> tuple[list[Assignments], float]:
    """Seeds whose rows flip where row effect + seed effect pass a threshold, and the true mean flip rate.

    Shared rows have two thirds of their effect in common. `spread`: standard deviation of the seeds' effects.
    """
    threshold = stats.norm.ppf(0.7)
    own = random.normal(size=(n_seeds, n))
    effects = np.sqrt(2 / 3) * random.normal(size=n) + np.sqrt(1 / 3) * own if shared else own
    flips = effects + spread * random.normal(size=(n_seeds, 1)) > threshold
    clean = np.zeros(n, dtype=np.int64)
    truths = [clean if shared else random.integers(2, size=n) for _ in range(n_seeds)]
    seeds = [Assignments(truth, clean, flip[None].astype(np.int64)) for truth, flip in zip(truths, flips, strict=True)]
    return seeds, float(stats.norm.cdf(-threshold / math.sqrt(1 + spread**2)))


def percentiles(seeds: list[Assignments], random: np.random.Generator) -> tuple[float, float]:
    """The plain interval of the hierarchical bootstrap: seeds with replacement, then samples; its 2.5 and 97.5 %."""
    rates = np.array([(one.moved[0] != one.clean).mean() for one in seeds])
    chosen = random.integers(len(seeds), size=(DRAWS, len(seeds)))
    n = len(seeds[0].clean)
    low, high = np.quantile(random.binomial(n, rates[chosen]).mean(axis=1) / n, [0.025, 0.975])
    return float(low), float(high)


def coverage(n_seeds: int, spread: float, *, shared: bool, repeats: int) -> tuple[float, float]:
    """How often our interval, and that of the plain percentiles, holds the truth."""
    random = np.random.default_rng(7)
    held = np.zeros(2)
    for _ in range(repeats):
        seeds, truth = simulated(n_seeds, spread, shared=shared, random=random)
        found = interval(seeds, statistic("flip"), seed=int(random.integers(2**31)))
        low, high = percentiles(seeds, random)
        held += [found.low <= truth <= found.high, low <= truth <= high]
    ours, plain = held / repeats
    return float(ours), float(plain)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """few_draws(b) lets every interval rest on b resamples."""

    def set_draws(draws: int) -> None:
        monkeypatch.setattr(bootstrap, "drawn", lambda n, random: drawn(n, random, draws=draws))

    return set_draws


def test_three_seeds_that_share_rows_are_covered_in_a_small_simulation(few_draws: Callable[[int], None]) -> None:
    few_draws(60)
    ours, plain = coverage(3, 0.4, shared=True, repeats=200)
    assert 0.9 <= ours <= 0.99, "200 repetitions: an error of 1.6 % of its own"
    assert plain < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_the_interval_covers_what_its_docstring_says(
    few_draws: Callable[[int], None], n_seeds: int, spread: float, shared: bool
) -> None:
    few_draws(150)
    ours, plain = coverage(n_seeds, spread, shared=shared, repeats=1000)
    is_cautious = shared and n_seeds <= 3 and spread < 0.4
    assert 0.93 <= ours <= (0.99 if is_cautious else 0.97), "the simulation's own error is 0.7 %"
    if spread == 0.4:
        assert plain < {2: 0.7, 3: 0.82, 5: 0.88, 10: 0.93}[n_seeds]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flip", "ACC", "ACC*_clean_map", "NMI*"])
def test_the_interval_of_one_seed_covers_the_score_on_more_rows(few_draws: Callable[[int], None], name: str) -> None:
    """The truth of a model that never changes: its score on very many rows."""
    few_draws(150)
    truth = float(statistic(name)(rows(n=400_000, attackers=1, seed=1), np.ones((1, 400_000), dtype=np.int64))[0])
    found = [interval([rows(n=400, attackers=1, seed=seed)], statistic(name)) for seed in range(2, 602)]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.98
