"""What a caption says of its runs."""

from typing import Any

import pytest

from tests.report.toy import Table, record, text


@pytest.mark.parametrize(
    ("metrics", "is_said"),
    [({"noise_flip": 0.1}, True), ({"noise_flip": 0.1, "noise_draws": 7}, False), ({}, False)],
)
def test_noise_that_was_measured_by_an_earlier_rule_is_told(table: Table, metrics: Any, is_said: bool) -> None:
    change = 'values = ["D"]', 'values = ["noise_flip"]'
    sentence = "Noise of 1 of 1 attacks is of one draw, of fewer kinds than it has now."
    grid = table([record(metrics={"ACC": 0.5, **metrics})], change)
    assert (sentence in grid.caption) == is_said


@pytest.mark.parametrize(("seeds", "which"), [((0, 1), "fewer"), ((0, 1, 2), "another number")])
def test_a_method_with_more_seeds_than_the_table_has_is_told(table: Table, seeds: tuple[int, ...], which: str) -> None:
    cells = '[[cells]]\nlabel = "ACC"'
    own = f"[methods.on.smoke]\nseed = {list(seeds)}\n\n{cells}"
    grid = table([record(metrics={"ACC": 0.5}, seed=seed) for seed in seeds], (cells, own))
    assert f"Mean±sample standard deviation over 2 seeds; a cell with {which} says so." in grid.caption
    assert ("(n=3)" in text(grid)) == (len(seeds) == 3)
