"""Intervals in tables: which records give samples, what a cell says, and the columns of CSV and JSON."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from robust_cluster.measure.metric import Metric
from robust_cluster.metrics.bootstrap import Assignments, difference, interval, statistic
from robust_cluster.report.formats import render
from robust_cluster.report.grid import Grid
from robust_cluster.report.intervals import bounds, labels, rows_of
from tests.cli.command import rc, refused
from tests.report.toy import Table, record, text, value

REATTACK = ('stage = "attack"', 'stage = "reattack"')
T2 = stats.t.ppf(0.975, 1)  # two seeds


def made(seed: int = 0, n: int = 40, kept: float = 0.7) -> Assignments:
    """Two classes; clusters that often agree with them, and often stay; the classes are those of every seed."""
    truth = np.random.default_rng(99).integers(2, size=n)
    random = np.random.default_rng(seed)
    clean = np.where(random.random(n) < 0.9, truth, 1 - truth)
    return Assignments(truth, clean, np.where(random.random((1, n)) < kept, clean, 1 - clean))


def sampled(rows: Assignments, **choices: Any) -> dict[str, Any]:
    """A record with samples, and the metrics that follow from them."""
    once = np.ones((1, len(rows.clean)), dtype=np.int64)
    metrics = {name: float(statistic(name)(rows, once)[0]) for name in ("ACC", "ACC*", "flip")}
    text = {"truth": rows.truth, "clean": rows.clean, "moved": rows.moved[0]}
    samples = {name: "".join(map(str, part)) for name, part in text.items() if part is not None}
    return {**record(metrics={**metrics, "D": 1.0}, **choices), "samples": {"rows": len(rows.clean), **samples}}


def line(grid: Grid, format: str = "markdown") -> str:
    """The text of ConvAE's ACC cells, which come after those of k-means."""
    return [row for row in text(grid, format).splitlines() if "ACC" in row][1]


def test_records_without_samples_have_the_interval_of_student_over_seeds(table: Table) -> None:
    records = [record(seed=s, metrics={"ACC": 0.8, "ACC*": acc, "D": 1.0}) for s, acc in ((0, 0.52), (1, 0.54))]
    found = value(table(records, intervals=True))
    assert found.interval is not None
    assert found.change is not None
    assert found.interval.high - found.interval.mean == pytest.approx(T2 * 1.0)  # sqrt(2) / sqrt(2) points
    assert (found.interval.seeds, found.interval.samples) == (2, None)
    assert (found.change.mean, found.change.high - found.change.mean) == (pytest.approx(-27.0), pytest.approx(T2))
    shown = line(table(records, intervals=True))
    assert r"| 80.0 [80.0, 80.0] / 53.0\* [40.3, 65.7]; Δ −27.0 [−39.7, −14.3] (n=2) |" in shown
    latex = line(table(records, intervals=True), "latex")
    assert r"53.0* [40.3, 65.7]; $\Delta$ $-$27.0" in latex


def test_samples_enter_where_every_record_lists_them(table: Table) -> None:
    seeds = [made(0), made(1)]
    grid = table([sampled(rows, seed=s) for s, rows in enumerate(seeds)], intervals=True)
    for name in ("ACC", "ACC*"):
        expected = interval(seeds, statistic(name))
        found = value(grid, metric=name).interval
        assert found is not None
        assert (found.low, found.high) == (pytest.approx(100 * expected.low), pytest.approx(100 * expected.high))
        assert (found.seeds, found.samples) == (2, 40)
    paired = interval(seeds, difference("ACC*", "ACC"), bounds=(-1, 1))
    change = value(grid).change
    assert change is not None
    assert (change.mean, change.low) == (pytest.approx(100 * paired.mean), pytest.approx(100 * paired.low))
    assert "(n=2×40)" in line(grid)
    assert r"n=2$\times$40" in line(grid, "latex")
    assert "Intervals are over seeds (Student's t) and samples (bootstrap)." in grid.caption


def test_one_seed_has_the_interval_of_its_samples_and_says_so(table: Table) -> None:
    grid = table([sampled(made())], intervals=True)
    assert "(n=1×40)" in line(grid)
    assert "Those of one seed are over samples alone: another seed may lie outside." in grid.caption
    bare = table([record(metrics={"ACC": 0.8, "ACC*": 0.5, "D": 1.0})], intervals=True)
    assert r"| 80.0 / 50.0\* (n=1) |" in line(bare)
    assert value(bare).interval is None
    assert "A number without an interval has one seed and no samples." in bare.caption


def test_a_number_that_does_not_follow_from_the_samples_has_an_interval_over_seeds(table: Table) -> None:
    records = [sampled(made(s), seed=s) for s in (0, 1)]
    for one in records:
        one["metrics"]["ACC*"] += 0.01  # measured on more rows than are listed
    grid = table(records, intervals=True)
    own, starred = value(grid, metric="ACC").interval, value(grid).interval
    assert own is not None
    assert starred is not None
    assert (own.samples, starred.samples) == (40, None)
    assert "(n=2×40 / 2)" in line(grid)
    assert value(grid, "D", "D").interval is not None


def test_attackers_of_a_seed_are_averaged_and_resampled_together(table: Table) -> None:
    both = made(0), made(0, kept=0.5)
    assert np.array_equal(both[0].clean, both[1].clean)
    records = [sampled(rows, stage="reattack", attack_seed=a) for a, rows in enumerate(both)]
    found = rows_of(records, ["ACC*"])
    assert found is not None
    assert found.moved.shape == (2, 40)
    grid = table(records, REATTACK, intervals=True)
    assert value(grid).mean == pytest.approx(100 * np.mean([one["metrics"]["ACC*"] for one in records]))
    worst = table(records, REATTACK, ("scale = 100", 'scale = 100\nattackers = "worst"'), intervals=True)
    lowest = value(worst).interval
    assert lowest is not None
    assert lowest.mean == pytest.approx(100 * min(one["metrics"]["ACC*"] for one in records))
    assert lowest.samples == 40


def test_records_of_other_models_or_without_moved_labels_are_not_joined() -> None:
    one, other = sampled(made(0)), sampled(made(1))
    assert rows_of([one, other], ["flip"]) is None, "their clean labels differ"
    certificate = {**one, "samples": {k: v for k, v in one["samples"].items() if k != "moved"}}
    assert rows_of([certificate], ["ACC"]) is None
    assert rows_of([one], ["noise_flip"]) is None
    assert rows_of([{**one, "samples": None}], ["flip"]) is None


def test_a_cell_without_runs_is_a_dash_and_seeds_without_a_number_are_left_out(table: Table) -> None:
    records = [record(metrics={"ACC": None, "ACC*": None, "D": 1.0}), record(seed=1, metrics={"ACC": 0.5, "ACC*": 0.4})]
    grid = table(records, intervals=True)
    assert r"| 50.0 / 40.0\* (n=1) |" in line(grid)
    assert grid.cells[("STL-10", "kmeans", "ACC"), ("64",)].values[0].interval is None
    assert "| – |" in text(grid)


def test_csv_and_json_have_the_ends_and_the_paired_change(table: Table) -> None:
    grid = table([sampled(made(s), seed=s) for s in (0, 1)], intervals=True)
    rows = list(csv.DictReader(io.StringIO(text(grid, "csv"))))
    cells = json.loads(text(grid, "json"))["cells"]
    (row,) = (r for r in rows if (r["method"], r["metric"], r["n"]) == ("ConvAE", "ACC*", "2"))
    (cell,) = (c for c in cells if (c["method"], c["metric"], c["n"]) == ("ConvAE", "ACC*", 2))
    own, change = value(grid).interval, value(grid).change
    assert own is not None
    assert change is not None
    for found in (row, cell):
        assert float(found["low"]) == pytest.approx(own.low, abs=1e-6)
        assert float(found["change_high"]) == pytest.approx(change.high, abs=1e-6)
        assert int(found["samples"]) == 40
    (clean,) = (c for c in cells if (c["method"], c["metric"], c["n"]) == ("ConvAE", "ACC", 2))
    assert clean["change"] is None
    plain = json.loads(str(render(table([]), "json")))["cells"][0]
    assert not {"low", "change", "interval"} & set(plain), "only where they are asked for"


@pytest.mark.parametrize(
    ("metric", "clean"),
    [("ACC*", "ACC"), ("ACC*_clean_map", "ACC"), ("ACC*_refit", "ACC_refit"), ("ACC", None), ("flip", None)],
)
def test_the_clean_number_of_an_attacked_one(metric: str, clean: str | None) -> None:
    assert Metric.parse(metric).clean == (None if clean is None else Metric.parse(clean))


def test_an_interval_is_cut_to_what_a_metric_can_be() -> None:
    assert [bounds(Metric.parse(name)) for name in ("ACC*_refit", "noise_flip", "ARI*", "D_norm")] == [
        (0.0, 1.0),
        (0.0, 1.0),
        (-0.5, 1.0),
        (0.0, np.inf),
    ]
    assert bounds(Metric.parse("shift")) == (-np.inf, np.inf)
    assert {bounds(Metric.parse(f"radii.0.1.{name}")) for name in ("ACC*_clean_map", "flip")} == {(0.0, 1.0)}


def test_labels_are_read_a_character_each() -> None:
    assert labels("09az").tolist() == [0, 9, 10, 35]


def test_a_table_of_the_command_line_has_intervals_where_they_are_asked_for(tmp_path: Path) -> None:
    for seed in (0, 1):
        one = record(seed=seed, model="kmeans", metrics={"ACC": 0.5, "ACC*": 0.25, "flip": 0.5, "D": 1.0})
        one["spec"]["data"] = {**one["spec"]["data"], "name": "digits"}
        (tmp_path / f"{seed}.json").write_text(json.dumps({**one, "key": f"{seed}"}))
    words = f"table table1 --profile smoke --from {tmp_path} --format markdown"
    with_intervals = rc(f"{words} --intervals")
    assert with_intervals.exit_code == 0, with_intervals.stderr
    assert r"50.0 [50.0, 50.0] / 25.0\* [25.0, 25.0]; Δ −25.0 [−25.0, −25.0]" in with_intervals.stdout
    assert "[" not in rc(words).stdout


def test_claims_have_no_intervals() -> None:
    assert "claims are judged by the runs that exist: it takes no --intervals" in refused("table claims --intervals")
