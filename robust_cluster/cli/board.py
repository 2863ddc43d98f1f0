"""All runs of a command at one glance: a line for each that is at work, and one for the whole grid."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from statistics import fmean
from typing import TYPE_CHECKING

from robust_cluster.cli import console
from robust_cluster.cli.console import Bar, Lines, Record
from robust_cluster.runs.progress import Board, Progress
from robust_cluster.runs.spec import RunSpec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Kind = tuple[str | int | None, ...]


def kind(spec: RunSpec) -> Kind:
    """What runs of equal length share: all but seeds and settings."""
    return (spec.stage, spec.model, spec.data.label, spec.latent_dim, spec.attack, spec.defense)


def name(spec: RunSpec) -> str:
    """A run in a line: "attack dec mnist d10 s0"."""
    attacker = f" a{spec.attack_seed}" if spec.attack_seed else ""
    return f"{spec.stage} {spec.model} {spec.data.label} d{spec.latent_dim} s{spec.seed}{attacker}"


class Estimate:
    """How long a grid will still take, by its finished runs of the same kind and by how many are at work."""

    def __init__(self, todo: Sequence[RunSpec], done: Iterable[Record]) -> None:
        self.todo = {spec.key: spec for spec in todo}
        self.total, self.n_failed = len(todo), 0
        self.took: dict[Kind, list[float]] = defaultdict(list)
        for record in done:
            if training := record.get("training"):
                self.took[kind(RunSpec.from_json(record["spec"]))].append(training["seconds"])
        self.began: dict[str, float] = {}

    def begin(self, spec: RunSpec) -> None:
        """A run begins, or goes on after its worker died."""
        self.began.setdefault(spec.key, time.monotonic())

    def end(self, spec: RunSpec, error: Exception | None) -> None:
        """A run has ended."""
        began = self.began.pop(spec.key, None)
        self.n_failed += error is not None
        self.todo.pop(spec.key, None)
        if error is None and began is not None:
            self.took[kind(spec)].append(time.monotonic() - began)

    def left(self) -> float | None:
        """Seconds; None while a kind of run that is to come has never finished."""
        if any(not self.took.get(kind(spec)) for spec in self.todo.values()):
            return None
        now = time.monotonic()
        rest = {key: fmean(self.took[kind(spec)]) for key, spec in self.todo.items()}
        for key, began in self.began.items():
            rest[key] = max(rest.get(key, 0.0) - (now - began), 0.0)
        return max(sum(rest.values()) / max(len(self.began), 1), max(rest.values(), default=0.0))

    def __str__(self) -> str:
        left = self.left()
        parts = [f"{self.total - len(self.todo)}/{self.total} runs"]
        parts += [f"{self.n_failed} failed"] if self.n_failed else []
        parts += [f"about {timedelta(seconds=round(left))} left"] if left is not None and self.todo else []
        return ", ".join(parts)


class Plain:
    """The board where there is no terminal: plain lines, each with its run's name unless one `is_alone` at a time."""

    def __init__(self, err: "Console", estimate: Estimate, *, is_alone: bool) -> None:
        self.err, self.estimate, self.is_alone = err, estimate, is_alone

    def begin(self, spec: RunSpec) -> Progress:
        """A line of its own for a run that begins."""
        self.estimate.begin(spec)
        return Lines(self.err, "" if self.is_alone else name(spec))

    def end(self, spec: RunSpec, error: Exception | None = None) -> None:
        """A run has ended."""
        self.estimate.end(spec, error)
        if self.estimate.total > 1:
            self.note(f"{name(spec)} {'is done' if error is None else failure(error)}; {self.estimate}")

    def note(self, text: str) -> None:
        """Say something beside the runs."""
        self.err.print(text)


class Screen:
    """The board on a terminal: a bar for each run at work, and below them one for the grid."""

    def __init__(self, err: "Console", estimate: Estimate) -> None:
        self.estimate = estimate
        self.bars = console.bars(err)
        self.grid: TaskID | None = None
        self.rows: dict[str, Bar] = {}

    def begin(self, spec: RunSpec) -> Progress:
        """A bar for a run that begins."""
        self.estimate.begin(spec)
        self.rows[spec.key] = Bar(self.bars, name(spec))
        self.rows[spec.key].show()
        self._show()
        return self.rows[spec.key]

    def end(self, spec: RunSpec, error: Exception | None = None) -> None:
        """A run has ended: its bar goes, and a failure stays on the screen."""
        self.estimate.end(spec, error)
        if row := self.rows.pop(spec.key, None):
            row.remove()
        if error is not None:
            self.note(f"{name(spec)} {failure(error)}")
        self._show()
        if not self.estimate.todo:
            self.bars.stop()

    def note(self, text: str) -> None:
        """Say something above the bars."""
        self.bars.console.print(text)

    def _show(self) -> None:
        """The grid's bar, as the last of all."""
        if self.grid is not None:
            self.bars.remove_task(self.grid)
        done = self.estimate.total - len(self.estimate.todo)
        self.grid = self.bars.add_task("all", total=self.estimate.total, completed=done, losses=str(self.estimate))
        self.bars.start()


class Single:
    """The board of one run: its progress as it is."""

    def __init__(self, err: "Console") -> None:
        self.progress = console.progress(err)

    def begin(self, spec: RunSpec) -> Progress:
        """The run begins."""
        return self.progress

    def end(self, spec: RunSpec, error: Exception | None = None) -> None:
        """The run has ended."""

    def note(self, text: str) -> None:
        """Say something beside the run."""
        self.progress.note(text)


def failure(error: Exception) -> str:
    """How a run ended that has failed."""
    return f"failed: {console.sentence(error)[0]}"


def board(err: "Console", todo: Sequence[RunSpec], done: Iterable[Record], *, is_alone: bool) -> Board:
    """The board of a command that makes these runs; `done`: records of some that it need not.

    `is_alone`: one run is made at a time.
    """
    if len(todo) == 1 and is_alone:
        return Single(err)
    estimate = Estimate(todo, done)
    return Screen(err, estimate) if err.is_terminal and not err.quiet else Plain(err, estimate, is_alone=is_alone)
