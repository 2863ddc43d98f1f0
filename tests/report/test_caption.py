"""What a caption says of its runs."""

from typing import Any

import pytest

from tests.report.toy import Table, record, value


@pytest.mark.parametrize(
    ("metrics", "is_said"),
    [({"noise_flip": 0.1}, True), ({"noise_flip": 0.1, "noise_draws": 7}, False), ({}, False)],
)
def test_noise_that_was_measured_by_an_earlier_rule_is_told(table: Table, metrics: Any, is_said: bool) -> None:
    change = 'values = ["D"]', 'values = ["noise_flip"]'
    sentence = "Noise of 1 of 1 attacks is of one draw, of fewer kinds than it has now."
    grid = table([record(metrics={"ACC": 0.5, **metrics})], change)
    assert (sentence in grid.caption) == is_said


def on_bf16(run: dict[str, Any]) -> dict[str, Any]:
    """An exact attack on a model that was trained with bfloat16 products."""
    return {**run, "key": "b" * 12, "spec": {**run["spec"], "parent": {**run["spec"]["parent"], "precision": "bf16"}}}


def test_runs_that_stand_on_bfloat16_training_are_in_a_table_of_their_own_whose_caption_says_so(table: Table) -> None:
    exact, reduced = record(metrics={"ACC*": 0.5}), on_bf16(record(metrics={"ACC*": 0.25}))
    for records, mean in (([exact, reduced], 50), ([reduced], None)):
        grid = table(records)
        assert value(grid).mean == mean
        assert not [sentence for sentence in grid.caption if "bfloat16" in sentence]
    grid = table([exact, reduced], is_bf16=True)
    assert value(grid).mean == 25
    assert "Networks were trained with bfloat16 products (--precision bf16) in 1 of 1 runs." in grid.caption
    assert value(table([exact], is_bf16=True)).mean is None
