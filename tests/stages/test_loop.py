"""The training loop: what an epoch is, when training ends, and that a resumed run is the uninterrupted one."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.data.base import Batch
from robust_cluster.errors import ConfigError, NonFiniteError
from robust_cluster.models.schedule import Schedule, StepwiseSchedule
from robust_cluster.nn.optim import Stateful
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.seeds import generator
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import Run, RunStore
from robust_cluster.stages import loop
from robust_cluster.stages.loop import Batches, Saver, Summary, Task, fit, plateau

SPEC = RunSpec(stage="pretrain", data=DataRef("toy"), data_sha256="ab" * 32, model="toy", latent_dim=3, seed=0)
VIEWS = (torch.arange(36.0).reshape(12, 3) / 36,)
EPOCHS = 5


class Killed(BaseException):
    """Ends a process at once in these tests: nothing of the package may catch it."""


@dataclass
class Toy:
    """An autoencoder with noise, so that weights, Adam's moments and both random streams must come back on resume."""

    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=EPOCHS, batch_size=2))
    before_step: Callable[[int], None] = field(default=lambda number: None)
    value: Callable[[int, float], float] = field(default=lambda number, loss: loss)

    def __post_init__(self) -> None:
        torch.manual_seed(7)
        self.module = nn.Linear(3, 3)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=0.1)
        self.batches = Batches(VIEWS, self.schedule, generator(11))
        self.count = 0

    def step(self, batch: Batch) -> dict[str, float]:
        self.count += 1
        self.before_step(self.count)
        x = batch.views[0]
        loss = (self.module(x + 0.1 * torch.randn_like(x)) - x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "reconstruction": self.value(self.count, float(loss.detach())),
            "size": float(self.module.weight.detach().norm()),
        }

    def task(self) -> Task:
        state: dict[str, Stateful] = {"module": self.module, "optimizer": self.optimizer}
        return Task("toy", self.step, state, watch=lambda: {"first": float(self.module.weight.detach()[0, 0])})

    def fit(self, run: Run) -> Summary:
        return fit(self.task(), self.batches, run, Silent())


@pytest.fixture
def run(store: RunStore) -> Iterator[Run]:
    with store.own(SPEC) as owned:
        yield owned


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is saved after each epoch, however short."""
    monkeypatch.setattr(loop, "SAVE_SHARE", math.inf)


def without_seconds(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def outcome(toy: Toy, run: Run, summary: Summary) -> dict[str, Any]:
    """All that a resumed run must share with an uninterrupted one; the time it took is its own."""
    content = summary.to_json()
    for name in ("seconds", "samples_per_second"):
        del content[name]
    weights = {name: tensor.tolist() for name, tensor in toy.module.state_dict().items()}
    return {"weights": weights, "lines": without_seconds(run.lines()), "summary": content}


@pytest.fixture
def uninterrupted(tmp_path: Path) -> dict[str, Any]:
    with RunStore(tmp_path / "other").own(SPEC) as run:
        toy = Toy()
        return outcome(toy, run, toy.fit(run))


def rows_of(batches: Batches) -> list[Tensor]:
    return [batch.index for batch in batches.epoch()]


def test_an_epoch_takes_every_sample_once_in_a_new_order() -> None:
    batches = Batches(VIEWS, Schedule(batch_size=2), generator(0))
    first, second = rows_of(batches), rows_of(batches)
    assert sorted(torch.cat(first).tolist()) == sorted(torch.cat(second).tolist()) == list(range(12))
    assert torch.cat(first).tolist() != torch.cat(second).tolist()
    assert [len(rows) for rows in first] == [2] * 6


def test_an_incomplete_last_batch_is_left_out() -> None:
    rows = rows_of(Batches((VIEWS[0][:11],), Schedule(batch_size=2), generator(0)))
    assert [len(part) for part in rows] == [2] * 5
    assert len(set(torch.cat(rows).tolist())) == 10


def test_steps_per_epoch_draws_that_many_batches_each_without_repetition() -> None:
    rows = rows_of(Batches(VIEWS, Schedule(batch_size=2, steps_per_epoch=50), generator(0)))
    assert len(rows) == 50
    assert all(len(set(part.tolist())) == 2 for part in rows)
    assert set(torch.cat(rows).tolist()) == set(range(12))


def test_a_batch_holds_the_rows_that_its_index_names() -> None:
    views = (VIEWS[0], VIEWS[0][:, :1] * 2)
    for batch in Batches(views, Schedule(batch_size=2), generator(0)).epoch():
        assert all(torch.equal(part, view[batch.index]) for part, view in zip(batch.views, views, strict=True))


def test_a_batch_is_at_most_a_fifth_of_the_data() -> None:
    assert {len(rows) for rows in rows_of(Batches(VIEWS, Schedule(batch_size=1000), generator(0)))} == {2}


@pytest.mark.parametrize(
    ("history", "window", "tolerance", "ends"),
    [
        ([4.0, 2.0, 2.0, 1.0], 2, 0.5, False),  # 3.0 -> 1.5: just half better
        ([4.0, 2.0, 2.0, 1.02], 2, 0.5, True),  # 3.0 -> 1.51
        ([9.0, 9.0, 4.0, 2.0, 2.0, 1.02], 2, 0.5, True),  # older epochs do not count
        ([4.0, 2.0, 1.02], 2, 0.5, False),  # not two windows yet
        ([1.0, 1.0, 2.0, 2.0], 2, 0.001, True),  # worse is not better
        ([-1.0, -1.0, -2.0, -2.0], 2, 0.5, False),  # a negative loss that falls
        ([-2.0, -2.0, -1.0, -1.0], 2, 0.001, True),  # and one that rises
        ([1.0] * 100, 0, 0.5, False),  # no window, no rule
    ],
)
def test_the_plateau_rule_compares_two_windows(history: list[float], window: int, tolerance: float, ends: bool) -> None:
    assert plateau(history, Schedule(window=window, tolerance=tolerance)) is ends


def test_training_ends_on_the_plateau_and_says_so(run: Run) -> None:
    toy = Toy(Schedule(epochs=50, batch_size=2, window=2, tolerance=0.5))
    summary = toy.fit(run)
    losses = [line["loss"] for line in run.lines()]
    assert summary.stop_reason == "plateau"
    assert summary.epochs == len(losses) < 50
    stops = [plateau(losses[:n], toy.schedule) for n in range(1, len(losses) + 1)]
    assert stops == [False] * (len(losses) - 1) + [True]


def test_a_task_may_end_its_training_and_name_the_reason(run: Run) -> None:
    toy = Toy(Schedule(epochs=50, batch_size=2))
    task = replace(toy.task(), stop_reason=lambda: "labels settled" if len(run.lines()) >= 3 else None)
    summary = fit(task, toy.batches, run, Silent())
    assert (summary.epochs, summary.stop_reason) == (3, "labels settled")
    again = fit(task, toy.batches, run, Silent())
    assert (again.epochs, again.stop_reason) == (3, "labels settled")


def test_a_stepwise_schedule_lowers_every_rate_also_over_a_resume(store: RunStore) -> None:
    """lr_0 decay^floor(e / every), e from 1: epochs 1 and 2 at lr_0, 3 to 5 at half, 6 at a quarter."""
    rates: list[float] = []

    def train(epochs: int) -> None:
        toy = Toy(StepwiseSchedule(epochs=epochs, batch_size=2, lr_decay=0.5, lr_epochs=3))
        step = toy.step

        def noted(batch: Batch) -> dict[str, float]:
            if len(run.lines()) == len(rates):
                rates.append(toy.optimizer.param_groups[0]["lr"])
            return step(batch)

        fit(replace(toy.task(), step=noted), toy.batches, run, Silent())

    with store.own(SPEC) as run:
        train(4)
        train(6)
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.05, 0.025]


def test_batches_of_one_sample_are_refused_where_a_batch_norm_has_no_statistics_of_them(run: Run) -> None:
    toy = Toy(Schedule(epochs=1, batch_size=1))
    task = toy.task()
    normed = replace(task, state={**task.state, "net": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))})
    with pytest.raises(ConfigError, match="toy: a batch norm needs batches of at least 2 samples, got 1"):
        fit(normed, toy.batches, run, Silent())
    assert toy.fit(run).steps == 12


def test_the_summary_counts_steps_and_samples(run: Run) -> None:
    summary = Toy().fit(run)
    assert (summary.epochs, summary.steps, summary.samples) == (5, 30, 60)
    assert summary.stop_reason == "epochs"
    last = run.lines()[-1]
    assert summary.losses == last["losses"]
    assert summary.loss == last["loss"] == pytest.approx(sum(last["losses"].values()))


def test_a_schedule_of_no_epochs_trains_nothing(run: Run) -> None:
    toy = Toy(Schedule(epochs=0))
    summary = toy.fit(run)
    assert (summary.epochs, summary.steps, summary.loss, toy.count) == (0, 0, None, 0)


def test_the_logged_loss_is_the_mean_over_the_epochs_steps(run: Run) -> None:
    toy = Toy(Schedule(epochs=1, batch_size=2), value=lambda number, loss: float(number))
    assert toy.fit(run).losses["reconstruction"] == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 6)


def kill_at(step: int) -> Callable[[int], None]:
    def killed(number: int) -> None:
        if number == step:
            raise Killed

    return killed


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("step", [1, 6, 7, 15, 30])
def test_a_run_killed_in_an_epoch_ends_like_the_uninterrupted_one(
    run: Run, uninterrupted: dict[str, Any], step: int
) -> None:
    with pytest.raises(Killed):
        Toy(before_step=kill_at(step)).fit(run)
    toy = Toy()
    resumed = outcome(toy, run, toy.fit(run))
    assert resumed == uninterrupted
    assert toy.count == 30 - (step - 1) // 6 * 6  # whole epochs are not trained twice


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("epoch", [1, 3, EPOCHS])
def test_a_log_longer_than_the_state_is_cut_back_on_resume(
    run: Run, uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    save = Saver.save

    def killed(self: Saver, lines: list[dict[str, Any]], *, is_last: bool) -> None:
        if len(lines) == epoch:
            raise Killed
        save(self, lines, is_last=is_last)

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "save", killed)
        with pytest.raises(Killed):
            Toy().fit(run)
    assert len(run.lines()) == epoch
    toy = Toy()
    assert outcome(toy, run, toy.fit(run)) == uninterrupted


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("lines_left", [0, 1, 2])
def test_lines_that_a_power_cut_took_from_the_log_come_back_on_resume(
    run: Run, uninterrupted: dict[str, Any], lines_left: int
) -> None:
    with pytest.raises(Killed):
        Toy(before_step=kill_at(20)).fit(run)  # in epoch 4
    run.rewind(lines_left)
    toy = Toy()
    assert outcome(toy, run, toy.fit(run)) == uninterrupted


@pytest.mark.usefixtures("every_epoch")
def test_a_run_killed_after_its_last_epoch_trains_no_more(run: Run, uninterrupted: dict[str, Any]) -> None:
    Toy().fit(run)
    toy = Toy()
    assert outcome(toy, run, toy.fit(run)) == uninterrupted
    assert toy.count == 0


@pytest.mark.usefixtures("every_epoch")
def test_resumed_seconds_go_on_from_the_saved_ones(run: Run) -> None:
    with pytest.raises(Killed):
        Toy(before_step=kill_at(20)).fit(run)
    before = run.lines()[-1]["seconds"]
    assert Toy().fit(run).seconds > before > 0


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(run: Run, bad: float) -> None:
    toy = Toy(value=lambda number, loss: bad if number == 15 else loss)  # in epoch 3
    with pytest.raises(NonFiniteError, match=r"'reconstruction' became (nan|inf) in epoch 3"):
        toy.fit(run)
    state = run.load_state()
    assert state is not None
    assert len(state["lines"]) == 2
    assert all(torch.isfinite(tensor).all() for tensor in state["parts"]["module"].values())
    assert [line["epoch"] for line in run.lines()] == [1, 2]


def test_saving_takes_no_more_than_its_share_of_the_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    saved: list[int] = []

    def save_state(self: Run, state: dict[str, Any]) -> None:
        now[0] += 2.0  # a save takes 2 s, so that the next one is due after 40 s
        saved.append(len(state["lines"]))

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Run, "save_state", save_state)
    toy = Toy(Schedule(epochs=24, batch_size=2, steps_per_epoch=1), before_step=lambda number: tick(now, 5.0))
    toy.fit(run)
    assert saved == [1, 9, 17, 24]


def tick(now: list[float], seconds: float) -> None:
    now[0] += seconds
