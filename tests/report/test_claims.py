"""The papers' claims against made-up records: which pairs count, the tests, and the four outcomes."""

from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.report.claims import Claim, Side, interval, judge, load_claims, p_value, rows
from robust_cluster.report.spec import TableSpec, load_spec, requests
from robust_cluster.runs.spec import DataRef
from tests.report.toy import Load, record

SEEDS = ("seed = [0, 1]", "seed = [0, 1, 2, 3]")
FLAT = ("latent_dim = [64, 128]", "latent_dim = [64]")
SWEPT = ("[[methods]]", '"attack.gamma" = [20, 40]\n\n[[methods]]')
SWEPT_COLUMNS = ('columns = ["latent_dim"]', 'columns = ["attack.gamma"]')
CLAIM = Claim(
    "one", "ConvAE beats k-means", "Nobody", Metric.parse("ACC*"), Side("toy", "ConvAE"), Side("toy", "kmeans")
)


@pytest.fixture
def toy(load_toy: Load) -> TableSpec:
    return load_toy(SEEDS, FLAT)


@pytest.fixture
def swept(load_toy: Load) -> TableSpec:
    return load_toy(SEEDS, FLAT, SWEPT, SWEPT_COLUMNS)


def runs(above: list[float], below: list[float], **choices: Any) -> list[dict[str, Any]]:
    """Records of ConvAE and k-means on STL-10, one a seed."""
    return [
        record(model=model, seed=seed, metrics={"ACC*": value}, **choices)
        for model, values in (("convae", above), ("kmeans", below))
        for seed, value in enumerate(values)
    ]


def test_a_clear_difference_of_paired_seeds_holds(toy: TableSpec) -> None:
    above, below = [0.9, 0.8, 0.7], [0.8, 0.65, 0.58]
    (ruling, other) = judge([CLAIM], runs(above, below), "smoke", folder=toy.folder)
    expected = stats.ttest_rel(above, below, alternative="greater").pvalue
    assert expected < 0.05 < stats.ttest_ind(above, below, alternative="greater").pvalue, "pairing is what shows it"
    assert (ruling.data, ruling.outcome, ruling.n) == ("STL-10", "holds", 3)
    assert ruling.effect == pytest.approx((0.1 + 0.15 + 0.12) / 3)
    assert ruling.p == pytest.approx(expected)
    assert (other.data, other.outcome, other.n, other.effect, other.p) == ("digits", "not enough runs", 0, None, None)


def test_figures_of_a_training_are_compared_at_the_checkpoints_that_both_sides_have(toy: TableSpec) -> None:
    """k-means "stops" after two; what ConvAE does later would tell of its length."""

    def drifting(model: str, seed: int, *values: float) -> dict[str, Any]:
        steps = [30 * i for i in range(len(values))]
        drift = {"steps": steps, "delta_FR": list(values), "mean": {"delta_FR": sum(values[1:]) / (len(values) - 1)}}
        return record(model=model, seed=seed) | {"drift": drift}

    records = [drifting("convae", seed, 9.0, 0.5, 0.3, -0.9, -0.9, -0.9) for seed in range(3)]
    records += [drifting("kmeans", seed, 9.0, 0.1, 0.1 + 0.01 * seed) for seed in range(3)]
    claim = replace(CLAIM, metric=Metric.parse("drift.delta_FR"))
    ruling = judge([claim], records, "smoke", folder=toy.folder)[0]
    assert ruling.effect == pytest.approx(0.4 - 0.105)
    assert (ruling.outcome, ruling.n) == ("holds", 3)
    assert ruling.claim.comparison == "drift.delta_FR at the checkpoints of both: ConvAE (toy) > kmeans (toy)"


@pytest.mark.parametrize(
    ("below", "outcome"),
    [
        ([0.95, 0.95, 0.95], "undecided"),  # gains of -0.05, -0.15 and -0.25: the interval reaches 0.098
        ([0.5, 0.85, 0.75], "undecided"),
        ([1.0, 0.95, 0.88], "does not hold"),  # -0.1, -0.15 and -0.18
        ([0.9, 0.8, 0.7], "does not hold"),  # no gain at all, thrice
    ],
)
def test_what_is_not_shown_does_not_hold_only_where_the_interval_excludes_it(
    toy: TableSpec, below: list[float], outcome: str
) -> None:
    above = [0.9, 0.8, 0.7]
    ruling = judge([CLAIM], runs(above, below), "smoke", folder=toy.folder)[0]
    assert (ruling.outcome, ruling.n) == (outcome, 3)
    assert ruling.p is not None
    assert ruling.p >= 0.05
    assert ruling.interval is not None
    gains = np.subtract(above, below)
    if gains.any():
        expected = stats.t.interval(0.95, 2, gains.mean(), stats.sem(gains))
        assert ruling.interval == pytest.approx(expected)
    assert (ruling.interval[1] <= 0) == (outcome == "does not hold")


def test_two_pairs_are_not_enough_however_clear(toy: TableSpec) -> None:
    ruling = judge([CLAIM], runs([0.9, 0.9, 0.9], [0.1, 0.1]), "smoke", folder=toy.folder)[0]
    assert (ruling.outcome, ruling.n, ruling.effect, ruling.p) == ("not enough runs", 2, pytest.approx(0.8), None)


def test_only_seeds_of_both_sides_and_of_the_profile_are_paired(toy: TableSpec) -> None:
    records = runs([0.9, 0.8, 0.7, 0.6], [0.1, 0.1, 0.1, 0.1])
    del records[1], records[-1]  # ConvAE's seed 1, k-means' seed 3
    assert judge([CLAIM], records, "smoke", folder=toy.folder)[0].n == 2
    for one in records:
        one["profile"] = "cpu"
    assert judge([CLAIM], records, "smoke", folder=toy.folder)[0].n == 0


def test_runs_without_the_metric_do_not_count(toy: TableSpec) -> None:
    records = runs([0.9, 0.8, 0.7], [0.1, 0.1, 0.1])
    records[0]["metrics"] = {"ACC*": None}
    records[1]["metrics"] = {}
    assert judge([CLAIM], records, "smoke", folder=toy.folder)[0].n == 1


def test_each_data_set_has_a_ruling_of_its_own(toy: TableSpec) -> None:
    records = [
        *runs([0.9, 0.8, 0.7], [0.8, 0.65, 0.58]),
        *runs([0.1, 0.1, 0.1], [0.5, 0.5, 0.6], data=DataRef("digits")),
    ]
    rulings = judge([CLAIM], records, "smoke", folder=toy.folder)
    assert [(v.data, v.outcome) for v in rulings] == [("STL-10", "holds"), ("digits", "does not hold")]


@pytest.mark.parametrize(("over", "effect"), [("mean", 0.65 - 0.3), ("max", 0.8 - 0.3), ("min", 0.5 - 0.3)])
def test_a_seeds_value_is_the_mean_best_or_worst_of_a_sweep(swept: TableSpec, over: Any, effect: float) -> None:
    records = [
        *runs([0.5, 0.5, 0.5], [0.2, 0.2, 0.2], gamma=20.0),
        *runs([0.8, 0.8, 0.8], [0.4, 0.4, 0.4], gamma=40.0),
    ]
    claim = replace(CLAIM, above=Side("toy", "ConvAE", over))
    ruling = judge([claim], records, "smoke", folder=swept.folder)[0]
    assert ruling.effect == pytest.approx(effect)
    assert (ruling.n, ruling.outcome) == (3, "holds")


def test_a_seed_that_lacks_a_run_of_the_sweep_does_not_count(swept: TableSpec) -> None:
    records = runs([0.5, 0.5, 0.5], [0.2, 0.2, 0.2], gamma=20.0)
    records += runs([0.8, 0.8], [0.4, 0.4, 0.4], gamma=40.0)
    assert judge([CLAIM], records, "smoke", folder=swept.folder)[0].n == 2


def test_only_the_values_of_a_sweep_that_are_asked_for_count(swept: TableSpec) -> None:
    records = runs([0.5, 0.5, 0.5], [0.2, 0.2, 0.2], gamma=20.0)
    claim = replace(CLAIM, where={"attack.gamma": [20]})
    ruling = judge([claim], records, "smoke", folder=swept.folder)[0]
    assert (ruling.n, ruling.effect) == (3, pytest.approx(0.3))
    with pytest.raises(UnknownNameError, match=r"Unknown sweep of toy 'attack.gama'. Did you mean 'attack.gamma'"):
        judge([replace(CLAIM, where={"attack.gama": [20]})], records, "smoke", folder=swept.folder)


def test_what_is_lost_since_a_start_counts_by_seed(swept: TableSpec) -> None:
    """ConvAE is above at 40 as it was at 20, but loses 0.3, 0.2 and 0.25 where k-means loses 0.1."""
    records = runs([0.9, 0.8, 0.85, 0.9], [0.5, 0.4, 0.3], gamma=20.0)
    records += runs([0.6, 0.6, 0.6], [0.4, 0.3, 0.2, 0.1], gamma=40.0)
    claim = replace(CLAIM, where={"attack.gamma": [40]})
    assert judge([claim], records, "smoke", folder=swept.folder)[0].effect == pytest.approx(0.3)
    since = replace(claim, minus={"attack.gamma": [20]})
    ruling = judge([since], records, "smoke", folder=swept.folder)[0]
    assert (ruling.n, ruling.outcome, ruling.effect) == (3, "does not hold", pytest.approx(-0.15))
    row = rows([ruling])[0]
    assert row["compares"] == "ACC* minus its own at attack.gamma 20: ConvAE (toy) > kmeans (toy)"
    other = replace(since, above=since.below, below=since.above)
    assert judge([other], records, "smoke", folder=swept.folder)[0].outcome == "holds"
    with pytest.raises(UnknownNameError, match=r"Unknown sweep of toy 'attack.gama'"):
        judge([replace(claim, minus={"attack.gama": [20]})], records, "smoke", folder=swept.folder)


@pytest.mark.parametrize(("margin", "outcome"), [(0.05, "holds"), (0.2, "does not hold"), (-0.02, "holds")])
def test_a_margin_must_be_exceeded_clearly(toy: TableSpec, margin: float, outcome: str) -> None:
    records = runs([0.9, 0.8, 0.7], [0.8, 0.65, 0.58])
    claim = replace(CLAIM, margin=margin)
    assert judge([claim], records, "smoke", folder=toy.folder)[0].outcome == outcome


def test_p_is_that_of_scipys_paired_tests() -> None:
    gains = [0.1, 0.2, -0.05, 0.3]
    assert p_value(gains, "t") == pytest.approx(stats.ttest_1samp(gains, 0, alternative="greater").pvalue)
    assert p_value(gains, "sign") == pytest.approx(5 / 16)  # at least 3 of 4 coins
    assert p_value([0.1, 0.0, 0.2], "sign") == pytest.approx(1 / 4), "ties say nothing"
    assert p_value([0.0, 0.0, 0.0], "sign") == 1.0
    assert [p_value([gain] * 3, "t") for gain in (0.1, 0.0, -0.1)] == [0.0, 1.0, 1.0]


def test_the_interval_of_the_signs_is_that_of_order_statistics() -> None:
    """Of six values the least and the largest hold the median in 1 - 2/64 = 97 % of cases, of five in 94 %."""
    gains = [0.3, -0.1, 0.2, 0.5, 0.4, 0.1]
    assert interval(gains, "sign") == (-0.1, 0.5)
    assert interval(gains[:5], "sign") == (-inf, inf)
    assert interval([0.1] * 3, "t") == pytest.approx((0.1, 0.1))


def test_two_metrics_of_one_run_are_compared(toy: TableSpec) -> None:
    """ "Loses at most 2 points" is ACC* above ACC - 0.02: 1 point is lost by each of three seeds, then 3."""
    kept = Claim("kept", "", "", Metric.parse("ACC*"), Side("toy", "ConvAE"), Side("toy", "ConvAE"), margin=-0.02)
    assert kept.below is not None
    kept = replace(kept, below=replace(kept.below, metric=Metric.parse("ACC")))
    for lost, outcome in ((0.01, "holds"), (0.03, "does not hold")):
        records = [
            record(model="convae", seed=seed, metrics={"ACC": acc, "ACC*": acc - lost + wobble})
            for seed, acc, wobble in ((0, 0.9, 0.001), (1, 0.7, 0.0), (2, 0.8, -0.001))
        ]
        ruling = judge([kept], records, "smoke", folder=toy.folder)[0]
        assert (ruling.outcome, ruling.n, ruling.effect) == (outcome, 3, pytest.approx(-lost))
    assert rows([ruling])[0]["compares"] == "ACC*: ConvAE (toy) > ACC of ConvAE (toy) - 0.02"


def test_a_side_that_is_left_out_is_0(toy: TableSpec) -> None:
    negative = Claim("negative", "", "", Metric.parse("ACC*"), below=Side("toy", "ConvAE"))
    ruling = judge([negative], runs([-0.3, -0.2, -0.25], []), "smoke", folder=toy.folder)[0]
    assert (ruling.outcome, ruling.n, ruling.effect) == ("holds", 3, pytest.approx(0.25))
    assert negative.comparison == "ACC*: 0 > ConvAE (toy)"
    reached = Claim("reached", "", "", Metric.parse("ACC*"), above=Side("toy", "ConvAE"), margin=0.9)
    ruling = judge([reached], runs([0.5, 0.6, 0.55], []), "smoke", folder=toy.folder)[0]
    assert (ruling.outcome, ruling.effect) == ("does not hold", pytest.approx(0.55))


def test_a_side_may_count_values_of_a_sweep_of_its_own(swept: TableSpec) -> None:
    """The same method at 40 and at 20."""
    records = [*runs([0.5, 0.4, 0.5], [], gamma=20.0), *runs([0.8, 0.8, 0.7], [], gamma=40.0)]
    side = Side("toy", "ConvAE", where={"attack.gamma": [40]})
    claim = replace(CLAIM, above=side, below=replace(side, where={"attack.gamma": [20]}))
    ruling = judge([claim], records, "smoke", folder=swept.folder)[0]
    assert (ruling.n, ruling.effect) == (3, pytest.approx(0.9 / 3))
    assert claim.comparison == "ACC*: ConvAE at attack.gamma 40 (toy) > ConvAE at attack.gamma 20 (toy)"


def test_flat_over_a_grid_is_the_worst_above_the_best_less_a_margin(swept: TableSpec) -> None:
    records = [*runs([0.80, 0.81, 0.80], [], gamma=20.0), *runs([0.81, 0.80, 0.81], [], gamma=40.0)]
    flat = Claim("flat", "", "", CLAIM.metric, Side("toy", "ConvAE", "min"), Side("toy", "ConvAE", "max"), margin=-0.05)
    ruling = judge([flat], records, "smoke", folder=swept.folder)[0]
    assert (ruling.outcome, ruling.effect) == ("holds", pytest.approx(-0.01))


def test_a_claim_of_one_data_set_is_judged_there_alone(toy: TableSpec) -> None:
    records = runs([0.9, 0.8, 0.7], [0.8, 0.65, 0.58])
    assert [one.data for one in judge([replace(CLAIM, data=("STL-10",))], records, "smoke", folder=toy.folder)] == [
        "STL-10"
    ]
    with pytest.raises(UnknownNameError, match=r"Unknown data set of toy 'STL10'. Did you mean 'STL-10'"):
        judge([replace(CLAIM, data=("STL10",))], records, "smoke", folder=toy.folder)


def test_a_claim_of_several_methods_and_metrics_is_as_many_claims(tmp_path: Path) -> None:
    (tmp_path / "claims.toml").write_text("""
[[claims]]
name = "best"
each = ["kmeans", "ConvAE"]
says = "Graph is above {each}"
source = "S"
metric = ["ACC", "NMI"]
above = { table = "toy", method = "Graph", metric = "ACC*" }
below = { table = "toy", method = "{each}+", where = { "attack.terms" = ["{each}"] } }

[[claims]]
name = "alone"
says = "No {each}"
source = "S"
metric = "ACC"
above = { table = "toy", method = "Graph" }
""")
    first, *_, last, alone = load_claims(tmp_path)
    assert (first.name, last.name, alone.name) == ("best:kmeans:ACC", "best:ConvAE:NMI", "alone")
    assert (first.says, alone.says, alone.below) == ("Graph is above kmeans", "No {each}", None)
    assert (str(first.metric), str(last.metric), str(last.sides[0].metric)) == ("ACC", "NMI", "ACC*")
    assert (last.sides[1].method, last.sides[1].where) == ("ConvAE+", {"attack.terms": ["ConvAE"]})


def test_claims_of_tables_without_the_profile_are_left_out_unless_none_has_it(folder: Path, toy: TableSpec) -> None:
    text = (folder / "toy.toml").read_text(encoding="utf-8")
    (folder / "whole.toml").write_text(text.replace("[profile.smoke]", "[profile.paper]"), encoding="utf-8")
    other = replace(CLAIM, name="other", below=Side("whole", "kmeans"))
    found = judge([CLAIM, other], runs([0.9, 0.8, 0.7], [0.8, 0.65, 0.58]), "smoke", folder=toy.folder)
    assert {one.claim.name for one in found} == {"one"}
    with pytest.raises(UnknownNameError, match="Unknown profile of whole 'smoke'"):
        judge([other], [], "smoke", folder=toy.folder)


def test_a_claim_without_sides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "claims.toml").write_text('[[claims]]\nname = "a"\nsays = "A"\nsource = "S"\nmetric = "ACC"\n')
    with pytest.raises(ConfigError, match=r"claims.toml \[\[claims\]\] 'a' needs the key 'above' or 'below'"):
        load_claims(tmp_path)


def test_a_row_says_which_runs_were_compared(toy: TableSpec) -> None:
    claim = replace(CLAIM, above=Side("toy", "ConvAE", "max"), margin=-0.02, test="sign")
    row = rows(judge([claim], runs([0.9] * 4, [0.8] * 4), "smoke", folder=toy.folder))[0]
    assert row == {
        "claim": "one",
        "says": "ConvAE beats k-means",
        "compares": "ACC*: ConvAE (toy, max of its sweep) > kmeans (toy) - 0.02",
        "data": "STL-10",
        "outcome": "undecided",  # four signs of four: p = 1/16
        "effect": 0.1,
        "low": None,  # four gains have no 95 % interval of their median
        "high": None,
        "margin": -0.02,
        "n": 4,
        "p": 0.0625,
        "test": "sign",
        "source": "Nobody",
        "note": "",
    }


def test_a_method_that_a_table_does_not_have_is_refused(toy: TableSpec) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown method of toy 'ConvEA'. Did you mean 'ConvAE'"):
        judge([replace(CLAIM, above=Side("toy", "ConvEA"))], [], "smoke", folder=toy.folder)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('metric = "ACC"', 'metrik = "ACC"', "claims.toml [[claims]]: 'metrik'. Did you mean 'metric'?"),
        ('says = "A"\n', "", "claims.toml [[claims]] needs the key 'says'"),
        ('over = "max"', 'over = "best"', "Unknown over of claims.toml [[claims]] below 'best'"),
        ('test = "t"', 'test = "z"', "Unknown test of claims.toml [[claims]] 'z'"),
        ("[[claims]]", "[[claim]]", "claims.toml: 'claim'. Did you mean 'claims'?"),
    ],
)
def test_a_file_that_describes_no_claims_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = """
[[claims]]
name = "a"
says = "A"
source = "S"
metric = "ACC"
test = "t"
above = { table = "toy", method = "ConvAE" }
below = { table = "toy", method = "kmeans", over = "max" }
"""
    (tmp_path / "claims.toml").write_text(text)
    (claim,) = load_claims(tmp_path)
    assert claim.below is not None
    assert (claim.below.over, claim.margin, claim.where) == ("max", 0.0, {})
    assert old in text
    (tmp_path / "claims.toml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_claims(tmp_path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("profile", ["paper", "cpu", "smoke"])
def test_every_claim_of_the_checkout_compares_runs_that_its_tables_ask_for(profile: str) -> None:
    claims = load_claims()
    rulings = judge(claims, [], profile)
    assert {ruling.outcome for ruling in rulings} == {"not enough runs"}
    assert {ruling.claim.name for ruling in rulings} == {claim.name for claim in claims}, "no claim without data"
    assert len({claim.name for claim in claims}) == len(claims)
    assert {"lpvdn1", "lpvdn2"} <= {claim.sides[0].table for claim in claims if "LPVDN" in claim.says}
    assert not [claim.name for claim in claims if "{each}" in claim.says + claim.comparison]
    asked_by = cache(lambda table: requests(load_spec(table), profile))
    for claim in claims:
        for side in claim.sides:
            asked = [r for r in asked_by(side.table) if r.place["method"] == side.method]
            assert len({r.seed for r in asked}) >= 3 or profile == "smoke", "a claim that can be judged"
