"""The only training loop: epochs of steps, one log line each, resumable to the bit."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, Stored
from robust_cluster.errors import CheckpointError, ConfigError, NonFiniteError, StoppedError
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.optim import Stateful
from robust_cluster.runs.progress import Progress
from robust_cluster.runs.store import Run

SAVE_SHARE = 0.05  # of the time may go into saving the state
Step = Callable[[Batch], dict[str, float]]


@dataclass
class Batches:
    """Batches of one data set, sliced by index; their order has a generator of its own, saved with the state."""

    views: Stored
    schedule: Schedule
    generator: torch.Generator

    def epoch(self) -> Iterator[Batch]:
        """One epoch: all samples in a new order, as far as they fill batches, or `steps_per_epoch` draws."""
        n = len(self.views[0])
        size = self.schedule.batch(n)
        if self.schedule.steps_per_epoch is None:
            order = torch.randperm(n, generator=self.generator)
            ends = range(size, n + 1, size)  # a last incomplete batch is left to the next epoch's order
            for end in ends:
                yield self.take(order[end - size : end])
        else:
            for _ in range(self.schedule.steps_per_epoch):
                yield self.take(torch.randperm(n, generator=self.generator)[:size])

    def take(self, index: Tensor) -> Batch:
        """The rows `index` of every view, dense, on the views' device."""
        rows = index.to(self.views[0].device)
        return Batch(tuple(view[rows] for view in self.views), rows)


@dataclass
class Task:
    """What `fit` trains: a step, everything whose state a resumed run needs, and what to log besides the losses.

    `after_epoch`: more to do after each epoch with the same batches (the alternating attacker). `watch`: more
    figures for the log line of an epoch. `stop_reason`: why to end before the schedule does, None to go on.
    """

    title: str
    step: Step
    state: Mapping[str, Stateful]
    after_epoch: Callable[[int, Batches], dict[str, float] | None] = field(default=lambda epoch, batches: None)
    watch: Callable[[], Mapping[str, Any]] = dict
    stop_reason: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Summary:
    """How a training ended: "epochs" (all done), "plateau" (the schedule's rule held) or the task's own reason."""

    epochs: int
    steps: int
    samples: int
    stop_reason: str
    seconds: float
    loss: float | None
    losses: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with the rate."""
        rate = self.samples / self.seconds if self.seconds > 0 else None
        return {**self.__dict__, "samples_per_second": rate}


def trained_parts(model: nn.Module, optimizers: Mapping[str, Optimizer]) -> dict[str, Stateful]:
    """A model and its optimizers under names that cannot meet: an optimizer may be called "model" too."""
    return {"model": model, **{f"optimizer_{name}": optimizer for name, optimizer in optimizers.items()}}


def fit(task: Task, batches: Batches, run: Run, progress: Progress) -> Summary:
    """Train until the schedule ends, from the last saved state if there is one.

    Raises: NonFiniteError naming term and epoch when a loss is NaN or infinite; the last good state stays.
    StoppedError when `progress` asks for it, once the state is saved. ConfigError for batches of one sample, where
    batch norms need more.
    """
    check_batches(task, batches)
    saver = Saver(run, task, batches)
    lines = saver.load()
    done, seconds = len(lines), lines[-1]["seconds"] if lines else 0.0
    schedule = batches.schedule
    run.rewind(done)
    for line in lines[len(run.lines()) :]:  # a power cut may take lines from the log that the saved state outlives
        run.log(line)
    history: list[float] = [line["loss"] for line in lines]
    progress.start(task.title, schedule.epochs, done)
    try:
        for epoch in range(done + 1, schedule.epochs + 1):
            if stop_reason(task, history, schedule):
                break
            lower(task, schedule.lr_ratio(epoch))
            began = time.monotonic()
            losses, count = run_epoch(task, batches, epoch)
            losses |= task.after_epoch(epoch, batches) or {}
            seconds += time.monotonic() - began
            history.append(losses.pop("loss"))
            line = {"epoch": epoch, "loss": history[-1], "losses": losses, "steps": count, "seconds": seconds}
            lines.append({**line, "health": task.watch()})
            run.log(lines[-1])
            progress.epoch(epoch, losses)
            is_last = epoch == schedule.epochs or bool(stop_reason(task, history, schedule))
            saver.save(lines, is_last=is_last or progress.stops)
            if progress.stops and not is_last:
                raise StoppedError(f"{task.title} stopped after epoch {epoch}", hint="the same command resumes")
    finally:
        progress.stop()
    steps = sum(line["steps"] for line in lines)
    return Summary(
        epochs=len(history),
        steps=steps,
        samples=steps * schedule.batch(len(batches.views[0])),
        stop_reason=stop_reason(task, history, schedule) or "epochs",
        seconds=seconds,
        loss=history[-1] if history else None,
        losses=lines[-1]["losses"] if lines else {},
    )


def check_batches(task: Task, batches: Batches) -> None:
    """Raises ConfigError for batches of one sample, of which a batch norm has no statistics."""
    if batches.schedule.epochs and batches.schedule.batch(len(batches.views[0])) < 2:
        nets = [part for part in task.state.values() if isinstance(part, nn.Module)]
        if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for net in nets for layer in net.modules()):
            hint = "batch_size must be 2 or more, the samples 10 or more: a batch is at most a fifth of them"
            raise ConfigError(f"{task.title}: a batch norm needs batches of at least 2 samples, got 1", hint=hint)


def run_epoch(task: Task, batches: Batches, epoch: int) -> tuple[dict[str, float], int]:
    """Mean of every term and of their sum ("loss") over one epoch, and the number of steps."""
    totals: dict[str, float] = {}
    count = 0
    for batch in batches.epoch():
        terms = task.step(batch)
        count += 1
        for name, value in terms.items():
            if not math.isfinite(value):
                hint = "a smaller lr of this stage may help; log.jsonl has the epochs before"
                raise NonFiniteError(f"{task.title}: the loss term {name!r} became {value} in epoch {epoch}", hint=hint)
            totals[name] = totals.get(name, 0.0) + value
    means = {name: total / count for name, total in totals.items()}
    return {**means, "loss": math.fsum(means.values())}, count


def stop_reason(task: Task, history: list[float], schedule: Schedule) -> str | None:
    """Why training ends here although epochs are left; None when it goes on."""
    return "plateau" if plateau(history, schedule) else task.stop_reason() if history else None


def lower(task: Task, ratio: float) -> None:
    """Multiply the learning rates of the task's optimizers, which are saved with their state."""
    for part in task.state.values():
        if ratio != 1 and isinstance(part, Optimizer):
            for group in part.param_groups:
                group["lr"] *= ratio


def plateau(history: list[float], schedule: Schedule) -> bool:
    """Whether the mean of the last `window` epochs is not `tolerance` (relative) below that of the window before."""
    window = schedule.window
    if window == 0 or len(history) < 2 * window:
        return False
    before = sum(history[-2 * window : -window]) / window
    last = sum(history[-window:]) / window
    return before - last < schedule.tolerance * abs(before)


class Saver:
    """Saves and loads everything that the next epoch depends on."""

    def __init__(self, run: Run, task: Task, batches: Batches) -> None:
        self.run, self.task, self.batches = run, task, batches
        self.saved_at = time.monotonic()
        self.cost = 0.0

    def load(self) -> list[dict[str, Any]]:
        """The log lines of the epochs done; restores modules, optimizers and random generators.

        Raises: CheckpointError when the state is not of these modules.
        """
        state = self.run.load_state()
        if state is None:
            return []
        try:
            for name, part in self.task.state.items():
                part.load_state_dict(state["parts"][name])
            self.batches.generator.set_state(state["batches"])
            torch.set_rng_state(state["torch"])
            if torch.cuda.is_available() and state["cuda"]:
                torch.cuda.set_rng_state_all(state["cuda"])
            return list(state["lines"])
        except (KeyError, RuntimeError, ValueError) as error:
            message = f"the half-done run {self.run.spec.directory} was saved by another version: {error}"
            raise CheckpointError(message, hint="--force starts it over") from error

    def save(self, lines: list[dict[str, Any]], *, is_last: bool) -> None:
        """Save, unless that would take more than its share of the time; the last epoch always."""
        now = time.monotonic()
        if not is_last and now - self.saved_at < self.cost / SAVE_SHARE:
            return
        self.run.save_state(
            {
                "lines": lines,
                "parts": {name: part.state_dict() for name, part in self.task.state.items()},
                "batches": self.batches.generator.get_state(),
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            }
        )
        self.saved_at = time.monotonic()
        self.cost = self.saved_at - now
