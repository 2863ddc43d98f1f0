"""What the engine of runs costs, `make bench-runs`. Nothing here is a test.

Prints the seconds that a run takes longer on a worker than in this process (RUNS runs of k-means on 200 digits, the
start of the worker left out); how much faster `--jobs 2` makes a grid of smoke runs than one process, beside how much
faster two processes of one thread make such runs that know nothing of each other; and the seconds from 1,000 finished
runs to their table: plan, state and rendering. Medians of ROUNDS rounds, what is compared interleaved.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from robust_cluster.cli.session import Session
from robust_cluster.cli.table import TableOptions, plans_of, show_table
from robust_cluster.data.base import Folders
from robust_cluster.data.prepare import load
from robust_cluster.report.spec import Method, Profile, TableSpec, load_spec, requests
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import workers
from robust_cluster.stages.chain import Plan, Request
from robust_cluster.stages.engine import Carrier, Work, graph, here
from tests.made import MADE

ROUNDS = 5
RUNS = 40
CELLS = 1000
RC = [sys.executable, "-c", "from robust_cluster.cli.start import main; main()"]
GRID = "attack --model convae --data digits --profile smoke --threads 1 --quiet"


class Stopwatch:
    """A board that keeps when the first run began and the last one ended."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.ended = 0.0

    def begin(self, spec: RunSpec) -> Silent:
        """A run begins."""
        self.began = self.began or time.perf_counter()
        return Silent()

    def end(self, spec: RunSpec, error: Exception | None = None) -> None:
        """A run has ended."""
        self.ended = time.perf_counter()

    def note(self, text: str) -> None:
        """Tells nothing."""

    @property
    def seconds(self) -> float:
        """From the first begin to the last end."""
        return self.ended - (self.began or self.ended)


def overhead() -> float:
    """Seconds a run that a worker takes longer than this process."""
    ref = DataRef("digits", limit=200)
    info = load(ref, Folders()).info
    plans = [Plan(Request("cluster", ref, "kmeans", profile="smoke", seed=seed), info).runs for seed in range(RUNS)]
    found: dict[str, list[float]] = {"here": [], "worker": []}
    for _ in range(ROUNDS):
        for name in found:
            with tempfile.TemporaryDirectory() as folder:
                work, watch = Work(Path(folder), profile="smoke", device="cpu", threads=1), Stopwatch()
                tasks = graph(plans, work)
                if name == "here":
                    failed = here(tasks, Carrier(work).carry, watch)
                else:
                    failed = workers.carry_out(tasks, work, watch, workers.Where(jobs=1))
                assert not failed, failed
                found[name].append(watch.seconds)
    return (statistics.median(found["worker"]) - statistics.median(found["here"])) / RUNS


def seconds(*commands: str) -> float:
    """Wall time of commands side by side, each in a runs directory of its own."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        running = [
            subprocess.Popen([*RC, *command.split(), "--runs-dir", f"{folder}/{place}"], stdout=subprocess.DEVNULL)
            for place, command in enumerate(commands)
        ]
        assert [process.wait() for process in running] == [0] * len(commands)
        return time.perf_counter() - began


def grids() -> tuple[float, float]:
    """How much faster two workers, and two processes on their own, are than one process."""
    seeds = [",".join(map(str, part)) for part in (range(14), range(7), range(7, 14))]  # 42 runs, three a seed
    ways: dict[str, Callable[[], float]] = {
        "one": lambda: seconds(f"{GRID} --seed {seeds[0]}"),
        "jobs": lambda: seconds(f"{GRID} --seed {seeds[0]} --jobs 2"),
        "apart": lambda: seconds(f"{GRID} --seed {seeds[1]}", f"{GRID} --seed {seeds[2]}"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(way())
    one, jobs, apart = (statistics.median(taken[name]) for name in ways)
    return one / jobs, one / apart


def finished_table() -> float:
    """Seconds of plan, state and table of CELLS finished runs."""
    profile = Profile((DataRef("digits", limit=200),), (64,), tuple(range(CELLS)))
    spec: TableSpec = replace(
        load_spec("clustering"), methods=(Method("k-means", "cluster", "kmeans", {}),), profiles={"smoke": profile}
    )
    with tempfile.TemporaryDirectory() as folder:
        options = TableOptions(name="clustering", profile="smoke", runs_dir=Path(folder), no_run=True, quiet=True)
        store = RunStore(Path(folder))
        for plan in plans_of(requests(spec, "smoke"), Session(options, {})):
            with store.own(plan.asked) as run:
                run.finish({**MADE, "profile": "smoke", "metrics": {"ACC": 0.5, "NMI": 0.5, "ARI": 0.5}})

        def shown() -> None:
            session = Session(options, {})
            plans = plans_of(requests(spec, "smoke"), session)
            records: Any = session.carry_out(plans)
            with redirect_stdout(StringIO()):
                show_table(spec, records, {plan.asked.key for plan in plans}, options)

        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            shown()
            times.append(time.perf_counter() - began)
        return statistics.median(times)


if __name__ == "__main__":
    print(f"1,000 finished cells: plan, state and table in {finished_table():.2f} s")
    print(f"a run on a worker takes {1000 * overhead():.0f} ms longer than here")
    print(
        "two workers are {:.2f} times as fast as one process, two processes on their own {:.2f} times".format(*grids())
    )
