import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.errors import ConfigError, DataError, MissingResultError, StoreError, UnknownNameError
from robust_cluster.report.answers import departures
from robust_cluster.report.flags import MARKS
from robust_cluster.report.grid import long_rows
from robust_cluster.report.spec import CellRequest, load_spec
from robust_cluster.report.table import build, load_results
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.report.toy import Load, Table, flags_of, record, value

REATTACK = ('stage = "attack"', 'stage = "reattack"')
WORST = ("digits = 2", 'digits = 2\nattackers = "worst"')
ATTACKS = [(0, 0, 0.50), (0, 1, 0.60), (0, 2, 0.70), (1, 0, 0.80)]  # seed, attack seed, ACC*


def pinned(stage: str, gamma: Any) -> tuple[str, str]:
    """The change that makes the toy table one of this stage, with a gamma of its own."""
    return 'stage = "attack"\n', f'stage = "{stage}"\nset = {{ "attack.gamma" = {gamma} }}\n'


def test_a_cell_is_the_mean_and_the_sample_deviation_over_seeds_in_percent(table: Table) -> None:
    records = [record(seed=seed, metrics={"ACC": acc, "ACC*": 0.5}) for seed, acc in ((0, 0.80), (1, 0.90))]
    found = value(table(records), metric="ACC")
    assert found.mean == pytest.approx(85.0)
    assert found.std == pytest.approx(10 / math.sqrt(2))  # ddof = 1; ddof = 0 gives 5
    assert found.n == 2


def test_one_seed_has_no_deviation(table: Table) -> None:
    found = value(table([record(metrics={"ACC*": 0.5})]))
    assert (found.mean, found.std, found.n) == (50.0, None, 1)


def test_attack_seeds_are_averaged_before_seeds(table: Table) -> None:
    records = [record("reattack", seed=s, attack_seed=a, metrics={"ACC*": acc}) for s, a, acc in ATTACKS]
    found = value(table(records, REATTACK))
    assert found.mean == pytest.approx(70.0)  # (60 + 80) / 2; pooling the four gives 65
    assert found.std == pytest.approx(20 / math.sqrt(2))
    assert found.n == 2


def test_the_worst_attacker_of_a_seed_is_the_one_with_the_lowest_accuracy(table: Table) -> None:
    records = [record("reattack", seed=s, attack_seed=a, metrics={"ACC*": acc, "D": 10 * acc}) for s, a, acc in ATTACKS]
    assert value(table(records, REATTACK, WORST), "D", "D").mean == pytest.approx((5.0 + 8.0) / 2)


def test_without_labels_no_attacker_is_the_worst(table: Table) -> None:
    records = [record("reattack", attack_seed=a, metrics={"ACC*": None, "D": 1.0}) for a in (0, 1)]
    assert value(table(records, REATTACK, WORST), "D", "D").mean is None


def test_best_loss_takes_the_seed_with_the_lowest_loss_whatever_its_accuracy(table: Table) -> None:
    records = [record(seed=s, loss=loss, metrics={"ACC*": acc}) for s, loss, acc in ((0, 2.0, 0.9), (1, 1.0, 0.3))]
    grid = table(records, ("mean±std", "best_loss"))
    assert value(grid).mean == pytest.approx(30.0)
    assert value(grid).std is None
    assert "Of 2 seeds, the one with the lowest final loss" in grid.caption[0]


def test_best_loss_refuses_a_run_that_records_no_loss(table: Table) -> None:
    one = record(metrics={"ACC*": 0.5})
    one["training"] = {}
    with pytest.raises(ConfigError, match=f"needs training.loss, and run {one['key']} has none"):
        table([one], ("mean±std", "best_loss"))


def test_settings_given_by_hand_are_told_where_the_run_has_them(table: Table) -> None:
    one = {**record(seed=0), "overrides": {"model.lr": 1e-3, "defense.mode": "control"}}
    caption = " ".join(table([one]).caption)
    assert "Settings given by hand for some of the runs: model.lr=0.001." in caption


def test_cells_and_runs_that_are_missing_are_counted(table: Table) -> None:
    records = [record(seed=0), record(seed=1), record(seed=0, latent_dim=128)]
    grid = table(records)
    assert "6 of 8 cells not run (–); 3 of 16 runs found." in grid.caption
    assert len(grid.cells) == 8 * 2


def test_a_complete_table_counts_nothing(table: Table) -> None:
    records = [
        record(seed=0, model=model, latent_dim=dim, data=DataRef(data), profile="one")
        for model in ("kmeans", "convae")
        for dim in (64, 128)
        for data in ("stl10", "digits")
    ]
    assert not [sentence for sentence in table(records, profile="one").caption if "not run" in sentence]


def test_a_missing_attack_seed_is_counted_though_its_cell_has_a_number(table: Table) -> None:
    grid = table([record("reattack", metrics={"ACC*": 0.5})], REATTACK)
    assert "7 of 8 cells not run (–); 1 of 48 runs found." in grid.caption


def test_two_runs_for_one_cell_and_seed_are_refused_with_what_differs(table: Table) -> None:
    one, other = record(gamma=30.0), record(gamma=20.0)
    with pytest.raises(ConfigError) as caught:
        table([one, other])
    assert f"(ConvAE, STL-10, 64, seed 0): {one['key']} and {other['key']} differ in settings.attack.gamma" in str(
        caught.value
    )
    assert "pin that setting under `set`" in str(caught.value)


def test_of_two_runs_the_one_with_the_methods_own_setting_is_the_cells(table: Table) -> None:
    records = [record(gamma=20.0, metrics={"ACC*": 0.2}), record(gamma=40.0, metrics={"ACC*": 0.4})]
    assert value(table(records)).mean == pytest.approx(40.0)
    assert value(table(records, pinned("attack", 20))).mean == pytest.approx(20.0)


def test_a_run_with_another_setting_than_the_methods_own_is_marked_where_the_table_leaves_it_open(table: Table) -> None:
    one = record(gamma=20.0, metrics={"ACC*": 0.2})
    grid = table([one])
    assert value(grid).mean == pytest.approx(20.0)
    assert flags_of(grid) == ("settings not the method's own",)
    assert "Not as the method's profile has it now: attack.gamma." in grid.caption
    assert flags_of(table([one], pinned("attack", 20))) == ()


@pytest.mark.parametrize(("given", "departed"), [({}, []), ({"model.mode": "linear"}, ["mode", "prior_start"])])
def test_a_mode_that_the_model_took_for_the_data_is_no_departure(given: dict[str, str], departed: list[str]) -> None:
    asked = CellRequest({}, "cluster", DataRef("digits"), "vade", 10, 0, None, None, None, {}, {})
    one = record("cluster", model="vade") | {"overrides": given}
    one["spec"]["settings"]["model"] = {"mode": "linear", "prior_start": "draws"}
    assert departures(one, asked) == [f"model.{name}" for name in departed]


@pytest.mark.parametrize(
    ("flips", "flags"), [([0.1, 0.2, 0.3, 0.5], ("unconverged",)), ([0.1, 0.5, 0.5, 0.505], ()), ([], ())]
)
def test_an_attack_whose_logged_flips_rose_to_the_end_is_unconverged_whatever_its_flags(
    table: Table, flips: list[float], flags: tuple[str, ...]
) -> None:
    one = record(metrics={"ACC*": 0.5}) | {"curve": [{"flip": flip} for flip in flips]}
    assert flags_of(table([one])) == flags
    one["flags"] = ["unconverged"]
    assert flags_of(table([one])) == ("unconverged",)


@pytest.mark.parametrize(("stop_reason", "is_own"), [("epochs", True), ("plateau", False), (None, False)])
def test_a_plateau_rule_that_ended_nothing_is_no_departure(stop_reason: str | None, is_own: bool) -> None:
    """Of a re-attack's defense, which says itself how it ended; where its record is not there, nobody does."""
    asked = CellRequest({}, "reattack", DataRef("stl10"), "convae", 64, 0, 0, "latent_net", "mutual_info", {}, {})
    again, defended = record("reattack"), record("defend")
    for spec in (again["spec"]["parent"], defended["spec"]):
        spec["settings"]["defense"] |= {"schedule": {"window": 3}}
    defended["training"]["stop_reason"] = stop_reason
    others = [record(), defended] if stop_reason else [record()]
    assert departures(again, asked, others) == ([] if is_own else ["defense.schedule.window"])


@pytest.mark.parametrize(("asked", "mean"), [(40, 50.0), (20, None)])
def test_a_run_from_before_there_was_a_setting_has_the_methods_own(
    table: Table, asked: float, mean: float | None
) -> None:
    older = record(metrics={"ACC*": 0.5})
    older["spec"]["settings"] = {"attack": {}}
    assert value(table([older], pinned("attack", asked))).mean == mean
    assert value(table([older], ("[[methods]]", '[[methods]]\nset = { "attack.none" = 1, "certify.n" = 1 }'))).n == 0


def test_of_two_runs_of_a_method_that_is_no_longer_there_none_is_taken(table: Table) -> None:
    with pytest.raises(ConfigError, match="Two runs answer one cell"):
        table([record(model="gone", gamma=gamma) for gamma in (40.0, 20.0)], ('"kmeans", "convae"', '"gone"'))


def test_a_pinned_setting_or_given_keys_choose_between_two_runs(table: Table) -> None:
    records = [record(gamma=40.0, metrics={"ACC*": 0.4}), record(gamma=20.0, metrics={"ACC*": 0.2}, profile="cpu")]
    assert value(table(records, pinned("attack", 40))).mean == pytest.approx(40.0)
    assert value(table(records, keys={records[1]["key"]})).mean == pytest.approx(20.0)


def test_a_pinned_setting_holds_for_the_attack_before_a_defense_too_and_may_have_no_value(table: Table) -> None:
    for gamma_of, value_of, other in ((40, 40.0, 20.0), ('"none"', None, 40.0)):
        for gamma, met_gamma, n in ((value_of, value_of, 1), (value_of, other, 0), (other, value_of, 0)):
            made = record("reattack", gamma=gamma, met_gamma=met_gamma, metrics={"ACC*": 0.5})
            assert value(table([made], pinned("reattack", gamma_of))).n == n


def test_the_same_run_twice_is_one_run(table: Table) -> None:
    one = record(metrics={"ACC*": 0.5})
    assert value(table([one, dict(one)])).n == 1


@pytest.mark.parametrize(
    "choices",
    [
        {"profile": "cpu"},
        {"stage": "cluster"},
        {"seed": 2},
        {"latent_dim": 32},
        {"model": "mie"},
        {"data": DataRef("stl10", limit=100)},
        {"data": DataRef("stl10", flatten=True)},
        {"data": DataRef("stl10", normalize="none")},
        {"data": DataRef("stl10", split="400/100")},
        {"data": DataRef("stl10", split="halves")},
        {"data": DataRef("stl10", split="none"), "n_views": 2},
    ],
)
def test_a_run_outside_the_axes_is_no_cell(table: Table, choices: dict[str, Any]) -> None:
    grid = table([record(**{"stage": "attack", "metrics": {"ACC*": 0.5}, **choices})])
    assert "8 of 8 cells not run (–); 0 of 16 runs found." in grid.caption


@pytest.mark.parametrize(("split", "n_views"), [("none", 1), (None, 1), ("halves", 2)])
def test_the_split_that_is_decided_by_default_is_the_tables(table: Table, split: str | None, n_views: int) -> None:
    one = record(metrics={"ACC*": 0.5}, data=DataRef("stl10", split=split), n_views=n_views)
    assert value(table([one])).mean == 50.0


def test_a_run_of_another_attack_is_no_cell(table: Table) -> None:
    one = record(metrics={"ACC*": 0.5})
    one["spec"]["attack"] = "pgd"
    assert value(table([one])).mean is None


def test_the_defense_mode_of_a_reattack_is_that_of_the_run_it_starts_from() -> None:
    records = [
        record("reattack", data=DataRef("digits"), mode=mode, metrics={"ACC*": acc})
        for mode, acc in (("frozen", 0.1), ("control", 0.2), ("alternating", 0.3))
    ]
    grid = build(load_spec("table3"), records, profile="smoke")
    found = {
        method: grid.cells[(method, "ACC"), ("digits", "64")].values[0].mean
        for method in ("ConvAE+", "ConvAE control", "ConvAE alternating")
    }
    assert found == {
        "ConvAE+": pytest.approx(10.0),
        "ConvAE control": pytest.approx(20.0),
        "ConvAE alternating": pytest.approx(30.0),
    }


def test_a_gamma_sweep_keeps_the_gamma_that_the_defense_met_apart() -> None:
    digits = DataRef("digits")
    records = [
        record("reattack", data=digits, gamma=20.0, met_gamma=40.0, metrics={"D_norm": 0.2}),
        record("reattack", data=digits, gamma=20.0, met_gamma=20.0, metrics={"D_norm": 0.9}),
        record("attack", data=digits, gamma=80.0, metrics={"D_norm": 0.8}),
    ]
    grid = build(load_spec("gamma"), records, profile="smoke")
    rows = {(row["method"], row["attack.gamma"]): row["mean"] for row in long_rows(grid) if row["cell"] == "D_norm"}
    assert {place: mean for place, mean in rows.items() if mean is not None} == {
        ("ConvAE+", "20"): 0.2,
        ("ConvAE (undefended)", "80"): 0.8,
    }


def test_flags_of_any_run_mark_the_cell_and_drop_nothing(table: Table) -> None:
    records = [
        record(seed=0, metrics={"ACC*": 0.4}, flags=("unconverged", "collapsed")),
        record(seed=1, metrics={"ACC*": 0.6}, flags=("collapsed", "odd")),
    ]
    grid = table(records)
    assert flags_of(grid) == ("collapsed", "unconverged", "odd")
    assert value(grid).mean == pytest.approx(50.0)
    assert "Marks, for at least one run of the row: c collapsed, u unconverged." in grid.caption


def test_a_mark_has_the_numbers_of_its_columns_where_other_runs_of_the_row_lack_it(table: Table) -> None:
    records = [
        record(metrics={"ACC*": 0.4}, flags=("unconverged", "masked")),
        record(metrics={"ACC*": 0.4}, latent_dim=128, flags=("unconverged", "odd")),
        record(metrics={"ACC*": 0.4}, model="kmeans", latent_dim=128, flags=("collapsed",)),
    ]
    grid = table(records)
    assert grid.marks(("STL-10", "ConvAE", "ACC")) == "m1 u [odd]2"
    assert grid.marks(("STL-10", "kmeans", "ACC")) == "c", "one column of two has a run"
    assert grid.marks(("digits", "kmeans", "ACC")) == ""
    assert any(line.startswith("Marks, for at least one run of the row (a number says") for line in grid.caption)


def test_a_table_of_one_metric_may_leave_it_out_of_rows_and_columns(table: Table) -> None:
    grid = table(
        [record(metrics={"ACC": 0.8, "ACC*": 0.5})],
        ('rows = ["data", "method", "metric"]', 'rows = ["data", "method"]'),
        ('[[cells]]\nlabel = "D"\nvalues = ["D"]\ndigits = 2\n', ""),
    )
    assert [value.mean for value in grid.cells[("STL-10", "ConvAE"), ("64",)].values] == [80.0, 50.0]
    assert [(row["cell"], row["mean"]) for row in long_rows(grid) if row["n"]] == [("ACC", 80.0), ("ACC", 50.0)]


def test_the_papers_number_and_the_difference_stand_beside_ours(table: Table) -> None:
    metrics = {"ACC": 0.8, "ACC*": 0.8, "D": 1.0}
    grid = table([record(metrics=metrics)], compare=True)
    rows = {(r["data"], r["method"], r["latent_dim"], r["metric"]): r for r in long_rows(grid)}
    ours = rows["STL-10", "ConvAE", "64", "ACC*"]
    assert (ours["mean"], ours["paper"], ours["difference"]) == (80.0, 78.1, pytest.approx(1.9))
    assert rows["STL-10", "ConvAE", "64", "D"]["paper"] is None
    assert (rows["STL-10", "ConvAE", "128", "ACC"]["paper"], rows["STL-10", "ConvAE", "128", "ACC"]["mean"]) == (
        81.2,
        None,
    )
    assert {r["paper"] for place, r in rows.items() if place[0] == "digits" or place[1] == "kmeans"} == {None}


ONLY = (
    '[[cells]]\nlabel = "ACC"',
    '[[methods]]\nlabel = "{model}"\nmodels = ["EnSC"]\npublished_only = true\n[[cells]]\nlabel = "ACC"',
)


def test_a_method_of_the_paper_alone_has_a_row_beside_the_papers_numbers_only(load_toy: Load, folder: Path) -> None:
    with (folder / "toy.published.csv").open("a", encoding="utf-8") as file:
        file.write("stl10,EnSC,64,ACC,,OOM\nstl10,EnSC,64,D,2.5,copied\n")
    spec, records = load_toy(ONLY), [record(metrics={"ACC": 0.8, "ACC*": 0.8, "D": 1.0})]
    alone = build(spec, records, profile="smoke")
    assert {method for _, method, _ in alone.rows} == {"kmeans", "ConvAE"}
    grid = build(spec, records, profile="smoke", compare=True)
    at = {cell: grid.cells[("STL-10", "EnSC", cell), ("64",)].values for cell in ("ACC", "D")}
    assert [(v.mean, v.n, v.paper, v.note) for v in at["ACC"]] == [(None, 0, None, "OOM"), (None, 0, None, "")]
    assert [(v.mean, v.n, v.paper, v.note) for v in at["D"]] == [(None, 0, 2.5, "copied")]
    for one in (alone, grid):
        assert "7 of 8 cells not run (–); 1 of 16 runs found." in one.caption, "they are no cells that could be run"
    assert [sentence for sentence in grid.caption if sentence.startswith("Paper:")] == [
        "Paper: copied (STL-10 EnSC D 64)."
    ]


def test_a_remark_names_the_first_of_its_places(table: Table, folder: Path) -> None:
    lines = [
        f"stl10,{model},{dim},{metric},1,why"
        for model in ("kmeans", "ConvAE")
        for dim in (64, 128)
        for metric in ("ACC", "D")
    ]
    (folder / "toy.published.csv").write_text("\n".join(["data,model,latent_dim,metric,value,notes", *lines]) + "\n")
    caption = table([], compare=True).caption
    (remark,) = (sentence for sentence in caption if sentence.startswith("Paper:"))
    assert remark == (
        "Paper: why (STL-10 kmeans ACC 64, STL-10 kmeans ACC 128, STL-10 kmeans D 64, STL-10 kmeans D 128 and 4 more)."
    )


def test_a_cell_can_show_how_long_the_runs_trained(table: Table) -> None:
    records = [record(seed=seed, metrics={"ACC*": 0.5}) for seed in (0, 1)]
    records[0]["training"]["total_seconds"] = 12.5
    grid = table(records, ('values = ["D"]', 'values = ["training.total_seconds"]'))
    found = value(grid, "D", "training.total_seconds")
    assert (found.mean, found.n) == (12.5, 1)


def test_a_cell_can_show_the_mean_of_what_a_clustering_logged(table: Table) -> None:
    records = [record(seed=seed, metrics={"ACC*": 0.5}) for seed in (0, 1)]
    records[0]["drift"] = {"steps": [1], "delta_FR": [0.3], "mean": {"delta_FR": 0.25, "delta_FD": None}}
    found = value(table(records, ('values = ["D"]', 'values = ["drift.delta_FR"]')), "D", "drift.delta_FR")
    assert (found.mean, found.n) == (0.25, 1)


def test_the_worst_attacker_is_not_held_against_the_papers_only_one() -> None:
    rows = long_rows(build(load_spec("table3"), [], profile="paper", compare=True))
    printed = {r["cell"] for r in rows if r["paper"] is not None}
    assert printed == {"ACC", "NMI", "D"}
    assert sum(r["paper"] is not None for r in rows) == 72


def test_an_unknown_profile_is_refused(table: Table) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown profile of toy 'smoek'. Did you mean 'smoke'?"):
        table([], profile="smoek")


def test_results_are_read_from_files_of_one_record_or_of_many(tmp_path: Path) -> None:
    one, two, three = (record(seed=seed) for seed in range(3))
    (tmp_path / "b.json").write_text(json.dumps(one))
    (tmp_path / "a.json").write_text(json.dumps([two, three]))
    assert [r["key"] for r in load_results(tmp_path)] == [two["key"], three["key"], one["key"]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "b.json is not valid JSON"),
        ("[1]", "b.json is damaged: it is 1, must be an object"),
        ('{"a": NaN}', "NaN is no JSON number"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(StoreError, match=sentence):
        load_results(tmp_path)


def test_one_run_in_two_files_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(record()))
    with pytest.raises(DataError, match=r"twice, the second time in b.json"):
        load_results(tmp_path)
    with pytest.raises(MissingResultError, match="There is no folder of results"):
        load_results(tmp_path / "none")


FINDING = {"value": 0.0, "threshold": 0.0, "n": 64, "seconds": 0.0, "note": "", "needed": True}


@pytest.mark.parametrize(
    ("statuses", "flag"),
    [
        ({}, "audit passes"),
        ({9: "not run"}, "audit not run in full"),
        ({9: "not run", 10: "warn"}, "audit warns"),
        ({10: "warn", 14: "fail"}, "audit fails"),
    ],
)
def test_a_cell_is_marked_by_what_the_audit_says_and_a_check_that_was_not_run_is_no_pass(
    table: Table, statuses: dict[int, str], flag: str
) -> None:
    audit = [{"id": number, "status": statuses.get(number, "pass"), **FINDING} for number in range(1, 27)]
    grid = table([{**record(metrics={"ACC*": 0.5}), "audit": audit}])
    assert flags_of(grid) == (flag,)
    assert any(f"{MARKS[flag]} {flag}" in line for line in grid.caption)


@pytest.mark.parametrize(("share", "flags"), [(0.0099, ("components lost",)), (0.01, ())])
def test_a_cell_is_marked_where_a_mixture_lost_components(table: Table, share: float, flags: tuple[str, ...]) -> None:
    one = {**record(metrics={"ACC*": 0.5}), "health": {"smallest_component": share}}
    grid = table([one])
    assert flags_of(grid) == flags


def test_attacks_without_an_audit_are_counted(table: Table) -> None:
    grid = table([record(metrics={"ACC*": 0.5})])
    assert "1 of 1 attacks have no audit (rc audit RUN)." in grid.caption


DEFENDED = """
[[methods]]
label = "{model}+"
models = ["convae"]
defense = "mutual_info"
"""


def certificates() -> list[dict[str, Any]]:
    """A certificate of a model as it was clustered, and one of the same model after a defense."""
    found = []
    for stage, share in (("cluster", 0.9), ("defend", 0.4)):
        parent = RunSpec.from_json(record(stage)["spec"])
        own = replace(parent, stage="certify", settings={"certify": {"sigma": 0.25}}, defense=None, parent=parent)
        made = {"key": own.key, "spec": own.to_json(), "metrics": {"certified_share": share}}
        found.append({**record(stage), **made})
    return found


def test_certificates_of_a_model_before_and_after_its_defense_are_told_apart(table: Table) -> None:
    grid = table(
        certificates(),
        ('stage = "attack"\nattack = "latent_net"\ndefense = "mutual_info"', 'stage = "certify"'),
        ('models = ["kmeans", "convae"]', f'models = ["convae"]\n{DEFENDED}'),
        ('values = ["ACC", "ACC*"]', 'values = ["certified_share"]'),
    )
    assert grid.cells[("STL-10", "ConvAE", "ACC"), ("64",)].values[0].mean == 90
    assert grid.cells[("STL-10", "ConvAE+", "ACC"), ("64",)].values[0].mean == 40


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("ACC*", "no labels"),
        ("ACC_held", "no rows held out"),
        ("ACC_refit", "a method without such labels"),
        ("ACC_training", "a method without such labels"),
        ("flip_transferred", "a model without a defense"),
        ("D", "D over a dimension of the embedding that is always 0"),
    ],
)
def test_the_caption_says_why_a_run_may_lack_a_number(table: Table, metric: str, reason: str) -> None:
    changes = [(f"values = [{old}]", f'values = ["{metric}"]') for old in ('"ACC", "ACC*"', '"D"')]
    grid = table([record(metrics={"NMI": 0.5})], *changes)
    assert f"A – in a cell that was run: {reason}." in grid.caption
