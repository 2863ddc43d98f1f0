"""Runs of several precisions in one table: whose number a cell shows, and how one sees it."""

from typing import Any

import pytest

from robust_cluster.errors import UnknownNameError
from robust_cluster.report import answers
from tests.report.toy import Load, Table, flags_of, record, value

SENTENCE = "Networks were trained with bfloat16 products (--precision bf16) in 1 of 1 runs."
ROW = 'models = ["kmeans", "convae"]'


def trained(level: str, acc: float, *, attacked: str | None = None, seed: int = 0) -> dict[str, Any]:
    """An attack at the level `attacked`, else the model's own, on a model trained at `level`."""
    run = record(metrics={"ACC*": acc}, precision=level, seed=seed)
    return {**run, "spec": {**run["spec"], "precision": attacked or level}}


EXACT, REDUCED = trained("medium", 0.5), trained("bf16", 0.25, attacked="highest")


@pytest.mark.parametrize(
    ("records", "asked", "mean"),
    [
        ([EXACT, REDUCED], "medium", 50),
        ([REDUCED, EXACT], "medium", 50),
        ([EXACT, REDUCED], "highest", 50),
        ([EXACT, REDUCED], "bf16", 25),
        ([EXACT], "bf16", 50),
        ([REDUCED], "medium", 25),
        ([EXACT, trained("highest", 0.75)], "medium", 50),
        ([EXACT, trained("highest", 0.75)], "highest", 75),
        ([EXACT, trained("highest", 0.75)], "bf16", 75),
    ],
)
def test_a_cell_shows_the_run_of_the_asked_precision_else_the_most_exact(
    table: Table, records: list[dict[str, Any]], asked: str, mean: float
) -> None:
    assert value(table(records, precision=asked)).mean == mean


@pytest.mark.parametrize(("asked", "is_reduced"), [("medium", False), ("bf16", True)])
def test_a_run_of_bfloat16_training_is_marked_and_told(table: Table, asked: str, is_reduced: bool) -> None:
    grid = table([EXACT, REDUCED], precision=asked)
    assert flags_of(grid) == (("precision bf16",) if is_reduced else ())
    assert (SENTENCE in grid.caption) == is_reduced
    assert any("p precision bf16" in sentence for sentence in grid.caption) == is_reduced


def test_its_own_settings_come_before_its_precision(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "departures", lambda record, request: ["attack.gamma"] if record is EXACT else [])
    assert value(table([EXACT, REDUCED])).mean == 25


@pytest.mark.parametrize(("pinned", "mean"), [("medium", 50), ("bf16", 25), ("highest", None)])
def test_a_row_of_one_precision_takes_no_other(table: Table, pinned: str, mean: float | None) -> None:
    for asked in ("medium", "bf16"):
        grid = table([EXACT, REDUCED], (ROW, f'{ROW}\nprecision = "{pinned}"'), precision=asked)
        assert value(grid).mean == mean


def test_a_precision_that_there_is_not_is_refused(load_toy: Load) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown precision of toy.toml 'bf61'. Did you mean 'bf16'"):
        load_toy((ROW, f'{ROW}\nprecision = "bf61"'))


@pytest.mark.parametrize(
    ("level", "error", "is_told"), [("medium", 2.3e-3, True), ("medium", 4e-7, False), ("highest", 4e-7, False)]
)
def test_a_caption_tells_where_medium_meant_bfloat16(table: Table, level: str, error: float, is_told: bool) -> None:
    place = {"accelerator": None, "cpu": "a CPU", "threads": 1, "commit": "abcdef0123", "dirty": False}
    place |= {"matmul": {"precision": level, "relative_error": error}}
    grid = table([{**EXACT, "environment": place}, trained("medium", 0.5, seed=1)])
    sentence = "Products may be of bfloat16 in 1 of 2 runs (--precision medium on a CPU with AMX)."
    assert (sentence in grid.caption) == is_told
