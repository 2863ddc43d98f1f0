"""The papers' claims against made-up records: which pairs count, the tests, and the three outcomes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.report.claims import Claim, Side, judge, load_claims, p_value, rows
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


@pytest.mark.parametrize("below", [[0.95, 0.95, 0.95], [0.5, 0.85, 0.75], [0.9, 0.8, 0.7]])
def test_a_difference_that_is_negative_unsure_or_none_does_not_hold(toy: TableSpec, below: list[float]) -> None:
    ruling = judge([CLAIM], runs([0.9, 0.8, 0.7], below), "smoke", folder=toy.folder)[0]
    assert (ruling.outcome, ruling.n) == ("does not hold", 3)
    assert ruling.p is not None
    assert ruling.p >= 0.05


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


def test_a_row_says_which_runs_were_compared(toy: TableSpec) -> None:
    claim = replace(CLAIM, above=Side("toy", "ConvAE", "max"), margin=-0.02, test="sign")
    row = rows(judge([claim], runs([0.9] * 4, [0.8] * 4), "smoke", folder=toy.folder))[0]
    assert row == {
        "claim": "one",
        "says": "ConvAE beats k-means",
        "compares": "ACC*: ConvAE (toy, max of its sweep) > kmeans (toy) - 0.02",
        "data": "STL-10",
        "outcome": "does not hold",  # four signs of four: p = 1/16
        "effect": 0.1,
        "margin": -0.02,
        "n": 4,
        "p": 0.0625,
        "test": "sign",
        "source": "Nobody",
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
    assert {"lpvdn1", "lpvdn2"} <= {claim.above.table for claim in claims if "LPVDN" in claim.says}
    for claim in claims:
        for side in (claim.above, claim.below):
            asked = [r for r in requests(load_spec(side.table), profile) if r.place["method"] == side.method]
            assert len({r.seed for r in asked}) >= 3 or profile == "smoke", "a claim that can be judged"
