"""A command's runs as a graph, and how this process carries it out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_cluster.data.base import Dataset
from robust_cluster.errors import ConfigError, NonFiniteError, StoppedError, StoreError
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import LOG, STATE, Run
from robust_cluster.stages import chain, engine
from robust_cluster.stages.chain import Plan, Request
from robust_cluster.stages.context import Context
from robust_cluster.stages.engine import Carrier, Task, Work, graph, here
from robust_cluster.stages.workers import Told, where
from tests.made import MADE


class Noted:
    """A board that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []

    def begin(self, spec: RunSpec) -> Silent:
        self.said.append(("begin", spec.stage, str(spec.seed)))
        return Silent()

    def end(self, spec: RunSpec, error: Exception | None = None) -> None:
        self.said.append(("end", spec.stage, "" if error is None else str(error)))

    def note(self, text: str) -> None:
        self.said.append(("note", "", text))


@pytest.fixture
def plans(digits: Dataset) -> Callable[..., list[list[RunSpec]]]:
    """The runs of attacks on graph, a plan for each seed, and the pretraining of the first seed asked for alone."""

    def made(*seeds: int, stage: Any = "attack") -> list[list[RunSpec]]:
        return [
            list(Plan(Request(stage, digits.ref, "graph", profile="smoke", seed=seed), digits.info).runs)
            for seed in seeds
        ]

    return made


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "runs", profile="smoke", device="cpu")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories of the runs that stages were asked to make; they make nothing up but a record and a weight."""
    called: list[str] = []

    def stage(spec: RunSpec, run: Run, context: Context) -> Mapping[str, Any]:
        called.append(spec.directory)
        run.save_model({"weight": torch.ones(1)})
        return {**MADE, "parent_checkpoint": context.parent_checkpoint(spec)}

    for name in chain.STAGES:
        monkeypatch.setitem(chain.STAGES, name, stage)
    return called


def stages(tasks: list[Task]) -> list[tuple[str, int, int]]:
    return [(task.spec.stage, task.spec.seed, task.rank) for task in tasks]


def test_every_run_stands_once_parents_first_with_the_length_of_its_longest_chain(plans: Any, work: Work) -> None:
    tasks = graph([*plans(0, 1), *plans(0, stage="cluster")], work)
    assert stages(tasks) == [
        ("pretrain", 0, 3),
        ("cluster", 0, 2),
        ("attack", 0, 1),
        ("pretrain", 1, 3),
        ("cluster", 1, 2),
        ("attack", 1, 1),
    ]
    assert [task.parent for task in tasks[:3]] == [None, tasks[0].spec.key, tasks[1].spec.key]


def test_what_is_done_is_no_task_until_a_run_before_it_is_made(
    plans: Any, work: Work, digits: Dataset, made_up: list[str]
) -> None:
    here(graph(plans(0, stage="cluster"), work), Carrier(work, digits).carry, Noted())
    assert len(made_up) == 2
    assert stages(graph(plans(0), work)) == [("attack", 0, 1)]
    assert graph(plans(0, stage="cluster"), work) == []
    forced = engine.Work(work.root, force=True)
    assert [(task.spec.stage, task.again) for task in graph(plans(0, stage="cluster"), forced)] == [("cluster", True)]
    work.store.discard(plans(0)[0][0])
    assert stages(graph(plans(0, stage="cluster"), work)) == [("pretrain", 0, 2), ("cluster", 0, 1)]


def test_a_curve_is_of_what_is_asked_for_and_of_clusterings_before_it(plans: Any, work: Work) -> None:
    curved = engine.Work(work.root, curve=True)
    assert [task.curve for task in graph(plans(0), curved)] == [False, True, True]
    assert [task.curve for task in graph(plans(0, stage="pretrain"), curved)] == [True]


def test_when_a_run_fails_those_that_start_from_it_are_named_and_the_others_go_on(
    plans: Any, work: Work, digits: Dataset, made_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = chain.STAGES["cluster"]

    def fails(spec: RunSpec, run: Run, context: Context) -> Any:
        if spec.seed == 0:
            raise NonFiniteError("nan")
        return usual(spec, run, context)

    monkeypatch.setitem(chain.STAGES, "cluster", fails)
    board, tasks = Noted(), graph(plans(0, 1), work)
    failed = here(tasks, Carrier(work, digits).carry, board)
    assert list(failed) == [tasks[1].spec.key, tasks[2].spec.key]
    assert str(failed[tasks[2].spec.key]) == (
        f"it was not made, for the run before it, {tasks[1].spec.directory}, failed"
    )
    assert board.said[-1] == ("end", "attack", "")
    assert work.store.record(tasks[5].spec) is not None


def test_a_runs_directory_that_cannot_be_written_ends_the_command(
    plans: Any, work: Work, digits: Dataset, made_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(spec: RunSpec, run: Run, context: Context) -> Any:
        raise StoreError("no room")

    monkeypatch.setitem(chain.STAGES, "pretrain", fails)
    with pytest.raises(StoreError, match="no room"):
        here(graph(plans(0, 1), work), Carrier(work, digits).carry, Noted())


def test_data_are_loaded_once_for_runs_that_share_them(
    plans: Any, work: Work, digits: Dataset, made_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(ref: Any, *others: Any, **more: Any) -> Dataset:
        loaded.append(ref.name)
        return digits

    monkeypatch.setattr(engine.prepare, "load", load)
    here(graph(plans(0, 1), work), Carrier(work).carry, Noted())
    assert (len(made_up), loaded) == (6, ["digits"])


class Stops(Silent):
    """Asks a run to stop in its third epoch."""

    stops = False

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        self.stops = number == 3


def test_a_run_that_is_asked_to_stop_saves_that_epoch_and_resumes_to_the_same_bits(
    plans: Any, work: Work, digits: Dataset, tmp_path: Path
) -> None:
    (tasks, whole) = (graph(plans(0, stage="pretrain"), Work(tmp_path / name)) for name in ("runs", "whole"))
    spec = tasks[0].spec
    with pytest.raises(StoppedError, match=r"stopped after epoch 3 \(the same command resumes\)"):
        Carrier(work, digits).carry(tasks[0], Stops())
    folder = work.store.path(spec)
    assert (folder / STATE).exists()
    assert (folder / LOG).read_bytes().count(b"\n") == 3
    Carrier(work, digits).carry(tasks[0], Silent())
    other = Work(tmp_path / "whole", profile="smoke", device="cpu")
    Carrier(other, digits).carry(whole[0], Silent())
    resumed, once = (one.store.load_model(spec) for one in (work, other))
    assert all(torch.equal(resumed[name], once[name]) for name in once)


def test_a_run_on_a_worker_stops_when_its_commands_file_is_gone(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    sign.touch()
    sent: list[Any] = []
    told = Told("key", sign, lambda topic, message: sent.append(message))
    told.start("cluster graph", 3, 0)
    told.epoch(1, {"loss": 1.0})
    told.epoch(2, {"loss": 1.0})  # too soon after the other
    assert [(one["call"], one["words"]) for one in sent] == [
        ("start", ("cluster graph", 3, 0, "epoch")),
        ("epoch", (1, {"loss": 1.0})),
    ]
    assert not told.stops
    sign.unlink()
    assert not told.stops, "it looks twice a second"
    told.looked = 0.0
    assert told.stops
    assert Told("key", sign, print).stops


def test_where_runs_are_made_is_as_asked_and_no_more_than_twice_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from robust_cluster.stages import workers

    monkeypatch.setattr(workers.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(workers, "_gpus", lambda: 0)
    said: list[str] = []
    assert where(None, None, None, "cpu", said.append).is_here
    assert where(8, None, None, "cpu", said.append).jobs == 8
    assert said == []
    assert where(10000, None, None, "cpu", said.append).jobs == 8
    assert said == ["--jobs 10000: 8, twice the 4 cores of this machine"]
    assert where(None, "tcp://x:1", None, "cpu", said.append).cluster == "tcp://x:1"
    with pytest.raises(ConfigError, match=r"--cluster and --jobs exclude each other"):
        where(2, "tcp://x:1", None, "cpu", said.append)
    with pytest.raises(ConfigError, match="--per-gpu needs a GPU"):
        where(None, None, 2, "auto", said.append)


def test_with_gpus_a_worker_has_one_or_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from robust_cluster.stages import workers

    monkeypatch.setattr(workers, "_gpus", lambda: 2)
    said: list[str] = []
    assert where(8, None, None, "auto", said.append) == workers.Where(2, gpus=2)
    assert said == ["--jobs 8: 2, 1 on each of 2 GPUs of this machine"]
    assert where(8, None, 3, "cuda", said.append) == workers.Where(6, gpus=2)
    assert where(None, None, 3, "cuda", said.append) == workers.Where(6, gpus=2)
    assert where(1, None, None, "cpu", said.append) == workers.Where(1)


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from robust_cluster.stages import workers

    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'robust_cluster\[cluster\]'"):
        where(2, None, None, "cpu", print)
