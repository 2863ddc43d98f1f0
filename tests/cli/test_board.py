"""What a person sees of a command's runs."""

from io import StringIO

import pytest
from rich.console import Console

from robust_cluster.cli import board, console
from robust_cluster.cli.board import Estimate, Plain, Screen, Single
from robust_cluster.errors import NonFiniteError
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.made import MADE


def spec(model: str, seed: int) -> RunSpec:
    return RunSpec("cluster", DataRef("digits"), "0" * 64, model, 64, seed)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(board, "time", found)
    monkeypatch.setattr(console, "time", found)
    return found


def test_the_time_left_is_that_of_finished_runs_of_the_same_kind(clock: Clock) -> None:
    done = [{**MADE, "spec": spec("dec", 9).to_json(), "training": {"seconds": 100.0}}]
    todo = [spec("dec", 0), spec("dec", 1), spec("idec", 0)]
    estimate = Estimate(todo, done)
    assert estimate.left() is None, "no idec has ever finished"
    estimate.begin(todo[2])
    clock.now = 30.0
    estimate.end(todo[2], None)
    assert estimate.left() == 200.0
    estimate.begin(todo[0])
    estimate.begin(todo[1])
    clock.now = 70.0
    assert estimate.left() == 60.0, "both are at work since 40 s"
    clock.now = 90.0
    estimate.end(todo[0], None)
    assert estimate.left() == pytest.approx((100 + 60) / 2 - 60)
    estimate.end(todo[1], NonFiniteError("nan"))
    assert (str(estimate), estimate.n_failed) == ("3/3 runs, 1 failed", 1)


def test_plain_lines_name_their_run_and_count_the_grid(clock: Clock) -> None:
    text = StringIO()
    err = Console(file=text, width=200, markup=False, highlight=False)
    todo = [spec("dec", 0), spec("dec", 1)]
    shown = board.board(err, todo, [], is_alone=False)
    assert isinstance(shown, Plain)
    rows = [shown.begin(one) for one in todo]
    for row in rows:
        row.start("cluster dec", 5, 0)
    clock.now = 6.0
    rows[1].epoch(2, {"kl": 0.25})
    shown.end(todo[1])
    shown.end(todo[0], NonFiniteError("the loss became nan"))
    assert text.getvalue().splitlines() == [
        "[cluster dec digits d64 s0] cluster dec: 5 epochs",
        "[cluster dec digits d64 s1] cluster dec: 5 epochs",
        "[cluster dec digits d64 s1] cluster dec: epoch 2/5  kl 0.25",
        "cluster dec digits d64 s1 is done; 1/2 runs, about 0:00:00 left",
        "cluster dec digits d64 s0 failed: the loss became nan; 2/2 runs, 1 failed",
    ]


def test_a_terminal_has_a_bar_a_run_and_one_for_the_grid(clock: Clock) -> None:
    text = StringIO()
    err = Console(file=text, force_terminal=True, width=120, color_system=None)
    todo = [spec("dec", 0), spec("dec", 1)]
    shown = board.board(err, todo, [], is_alone=True)
    assert isinstance(shown, Screen)
    row = shown.begin(todo[0])
    row.start("cluster dec", 5, 0)
    row.epoch(3, {"kl": 0.25})
    shown.bars.refresh()
    last = text.getvalue().split("\r")[-1]
    assert "cluster dec digits d64 s0" in last
    assert "3/5" in last
    assert "kl 0.25" in last
    assert last.index("cluster dec") < last.index("all")
    assert "0/2 runs" in last
    shown.end(todo[0], NonFiniteError("nan"))
    shown.end(todo[1])
    assert "cluster dec digits d64 s0 failed: nan" in text.getvalue()
    assert not shown.bars.live.is_started


def test_one_run_alone_has_its_progress_as_it_is() -> None:
    err = Console(file=StringIO())
    shown = board.board(err, [spec("dec", 0)], [], is_alone=True)
    assert isinstance(shown, Single)
    assert isinstance(shown.begin(spec("dec", 0)), console.Lines)
