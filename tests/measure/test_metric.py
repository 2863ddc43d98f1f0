"""A metric and its string in a record are one thing written in two ways."""

import json
from pathlib import Path

import pytest

from robust_cluster.measure.metric import MATCHED, Metric
from robust_cluster.report.spec import figure_names, load_spec, table_names

RESULTS = Path(__file__).parents[2] / "tables" / "results"


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Every metric that stands in the records of the repository, or that a table asks for."""
    records = [record for path in sorted(RESULTS.glob("*.json")) for record in json.loads(path.read_text())]
    found = {name for record in records for name in record["metrics"]}
    found |= {name for record in records for line in record.get("radii") or () for name in line if name != "attack"}
    tables = [load_spec(name) for name in table_names() + figure_names()]
    return sorted(found | {str(metric) for spec in tables for form in spec.cells for metric in form.values})


def test_every_metric_of_records_and_tables_is_read_and_written_alike(names: list[str]) -> None:
    assert len(names) > 100
    assert [str(Metric.parse(name)) for name in names] == names


def test_no_two_names_are_one_metric(names: list[str]) -> None:
    assert len({Metric.parse(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("ACC", Metric("ACC")),
        ("ACC*", Metric("ACC", "attack")),
        ("ACC*_clean_map_seen", Metric("ACC", "attack", matching="clean", rows="seen")),
        ("ARI_refit", Metric("ARI", matching="refit")),
        ("NMI_training", Metric("NMI", matching="training")),
        ("ACC_pgd_rows", Metric("ACC", rows="pgd")),
        ("ACC_rows", Metric("ACC", rows="certified")),
        ("ACC*_pgd_shift_at_0.2", Metric("ACC", "pgd:shift", radius="0.2")),
        ("pgd_flip_half", Metric("flip", "pgd", radius="half")),
        ("noise_flip", Metric("flip", "noise")),
        ("flip_noise:all", Metric("flip", "attack", "noise:all")),
        ("flip_pgd", Metric("flip", "attack", "pgd")),
        ("reached_apgd:kl", Metric("reached", "attack", "apgd:kl")),
        ("noise_reached", Metric("reached", "noise")),
        ("shift", Metric("shift", "attack")),
        ("sign_shift", Metric("shift", "sign")),
        ("D_norm", Metric("D_norm")),
        ("certified_share_at_1.5s", Metric("certified_share", radius="1.5s")),
        ("radii.0.05.ACC*_clean_map", Metric("ACC", "attack", matching="clean", radius="0.05", group="radii")),
        ("training.total_seconds", Metric("total_seconds", group="training")),
        ("training.losses.consistency", Metric("losses.consistency", group="training")),
        ("drift.delta_FR", Metric("delta_FR", group="drift")),
        ("drift.max.delta_FD", Metric("max.delta_FD", group="drift")),
    ],
)
def test_a_metric_says_what_its_string_means(text: str, metric: Metric) -> None:
    assert Metric.parse(text) == metric
    assert str(metric) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [("ACC*", "ACC"), ("ACC*_clean_map", "ACC"), ("NMI*_refit", "NMI_refit"), ("ARI*_seen", "ARI_seen")],
)
def test_an_attacked_score_is_held_against_that_of_the_clean_points(text: str, clean: str) -> None:
    assert Metric.parse(text).clean == Metric.parse(clean)


@pytest.mark.parametrize("text", ["ACC", "flip", "noise_flip", "ACC*_sign", "D", "training.seconds"])
def test_other_numbers_are_held_against_none(text: str) -> None:
    assert Metric.parse(text).clean is None


def test_what_an_attack_or_a_move_beside_it_changed_is_told_from_the_rest(names: list[str]) -> None:
    attacked = {name for name in names if Metric.parse(name).is_attacked}
    assert attacked == {name for name in names if "*" in name or "flip" in name or "shift" in name}
    assert all(Metric.parse(name).score in MATCHED for name in attacked if "*" in name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ACC*", 0.5),
        ("radii.0.1.flip", 0.25),
        ("drift.delta_FR", 0.75),
        ("training.seconds", 9.0),
        ("training.losses.consistency", -0.01),
        ("training.losses.complementarity", None),
        ("NMI", None),
    ],
)
def test_a_number_is_read_where_it_stands(text: str, value: float | None) -> None:
    record = {
        "metrics": {"ACC*": 0.5, "NMI": None},
        "training": {"seconds": 9, "losses": {"consistency": -0.01}},
        "drift": {"mean": {"delta_FR": 0.75}},
        "radii": [{"eps": 0.1, "attack": "pgd", "flip": 0.0}, {"eps": 0.1, "attack": "all", "flip": 0.25}],
    }
    assert Metric.parse(text).read(record) == value
    assert Metric.parse(text).read({"metrics": {}, "training": None}) is None


def test_a_figure_of_training_is_a_mean_the_largest_or_the_mean_fall_without_the_start() -> None:
    """ACC at the start and after four epochs: falls of 0, 0.2 and 0."""
    drift = {"ACC": [0.9, 0.5, 0.8, 0.6, 0.7], "delta_FD": [0.5, -0.1, None, -0.3], "NMI": [0.1, 0.2]}
    record = {"drift": {**drift, "mean": {"ACC": 0.65}}}
    assert Metric.parse("drift.ACC").read(record) == 0.65
    assert Metric.parse("drift.fall.ACC").read(record) == pytest.approx(0.2 / 3)
    assert Metric.parse("drift.max.ACC").read(record) == 0.8
    assert Metric.parse("drift.max.delta_FD").read(record) == -0.1
    assert Metric.parse("drift.fall.NMI").read(record) is None
    assert [Metric.parse(f"drift.{name}").read({}) for name in ("ACC", "max.ACC", "fall.ACC")] == [None] * 3


def test_a_figure_of_the_training_is_read_at_the_checkpoints_that_are_asked_for() -> None:
    """Without the start, and without checkpoints at which a gradient was zero."""
    drift = {"steps": [0, 30, 60, 90], "delta_FR": [9.0, 0.5, None, 0.1], "mean": {"delta_FR": 0.3}}
    metric, record = Metric.parse("drift.delta_FR"), {"metrics": {}, "drift": drift}
    assert metric.checkpoints(record) == {30, 90}
    assert metric.read(record, {0, 30, 60}) == 0.5
    assert metric.read(record, {30, 90, 120}) == pytest.approx(0.3)
    assert metric.read(record, {60, 120}) is None
    assert metric.read(record) == 0.3
    assert metric.checkpoints({"metrics": {}}) == set()
