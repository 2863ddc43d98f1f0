"""`--log tensorboard`: what a run logs, in the files that TensorBoard reads, in the folder `events` of the run.

They hold what `log.jsonl` and `result.json` hold, and the images of an attack on images: losses, health and scores of
every epoch, then the scores of the record. A run that resumes writes them anew from its log, so that no epoch is there
twice. Nothing here draws a random number that a run could miss, and no key knows of it.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from robust_cluster.errors import ConfigError, DataError, ShapeError
from robust_cluster.measure.metric import MATCHED, Metric
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run, RunStore, sentences
from robust_cluster.stages import finished
from robust_cluster.stages.context import Context

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

EVENTS = "events"  # folder below a run's
PICTURES = 8  # samples of an attack that are shown
SCORES = (*MATCHED, "flip", "reached")  # figures of an epoch that are scores, where others are health


def check() -> None:
    """Refuse to log without the package. Raises: ConfigError."""
    if find_spec("tensorboard") is None:
        raise ConfigError("--log tensorboard needs tensorboard", hint="pip install 'robust_cluster[tensorboard]'")


@dataclass(frozen=True)
class Followed(Run):
    """A run whose log goes to TensorBoard too, from the moment that its training begins or resumes."""

    writers: "list[SummaryWriter]" = field(default_factory=list)  # the one, once there is one

    def rewind(self, epoch: int) -> None:
        """As of a run, and begin the files anew with the lines that are kept."""
        super().rewind(epoch)
        self.close()
        self.writers.append(new_writer(self.path))
        for line in self.lines():
            self.show(line)

    def log(self, line: Mapping[str, Any]) -> None:
        """As of a run."""
        super().log(line)
        self.show(line)

    def show(self, line: Mapping[str, Any]) -> None:
        """Write one line of the log as scalars."""
        for writer in self.writers:
            with sentences(self.path):
                for tag, value in scalars(line).items():
                    writer.add_scalar(tag, value, line["epoch"])
                writer.flush()

    def close(self) -> None:
        """End the files."""
        while self.writers:
            with sentences(self.path):
                self.writers.pop().close()


def new_writer(folder: Path) -> "SummaryWriter":
    """A writer into an empty folder `events`; a TensorBoard that has read the old files forgets them."""
    from torch.utils.tensorboard.writer import SummaryWriter

    with sentences(folder):
        shutil.rmtree(folder / EVENTS, ignore_errors=True)
        return SummaryWriter(str(folder / EVENTS), purge_step=0)


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """Tag -> number of a line of the log: "loss", "losses/reconstruction", "health/empty_clusters", "scores/ACC"."""
    health = numbers(line["health"])
    groups = {name: "scores" if Metric.parse(name).score in SCORES else "health" for name in health}
    losses = {f"losses/{name}": value for name, value in numbers(line["losses"]).items()}
    return {"loss": line["loss"], **losses, **{f"{groups[name]}/{name}": value for name, value in health.items()}}


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that are a number, or true or false."""
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


@contextmanager
def followed(run: Run, context: Context) -> Iterator[Run]:
    """A block in which a run is followed where the context asks for it; a finished one then shows its pictures."""
    if context.log is None:
        yield run
        return
    check()
    own = Followed(run.spec, run.path, run.lease)
    try:
        yield own
        record = own.record()
        for writer in own.writers if record else ():
            add_record(writer, own, record or {})
            with sentences(run.path), torch.random.fork_rng():
                add_pictures(writer, run.spec, context)
    finally:
        own.close()


def add_record(writer: "SummaryWriter", run: Run, record: Mapping[str, Any]) -> None:
    """Write the scores of the finished record as of the last epoch."""
    last = max((line["epoch"] for line in run.lines()), default=0)
    for name, value in numbers(record["metrics"]).items():
        writer.add_scalar(f"record/{name}", value, last)


def add_pictures(writer: "SummaryWriter", spec: RunSpec, context: Context) -> None:
    """Write a few images, clean, moved and their difference around gray, where the attack moves images."""
    if spec.stage not in ("attack", "reattack"):
        return
    try:
        clean, moved = finished.pictures(spec, context, PICTURES)
    except (ConfigError, DataError, ShapeError):
        return  # of what is no image
    for view, (before, after) in enumerate(zip(clean, moved, strict=True)):
        change = after - before
        shown = {"clean": before, "moved": after, "difference": 0.5 + change / (2 * max(abs(change).max(), 1e-12))}
        for name, images in shown.items():
            tag = f"attack/{name}" if len(clean) == 1 else f"attack/{name}, view {view}"
            writer.add_images(tag, images.clip(0, 1), 0)


def complete(store: RunStore, spec: RunSpec) -> None:
    """Write the files of a run that was finished without them, from its log and its record: no pictures."""
    run, record = Followed(spec, store.path(spec)), store.record(spec)
    if record is None or (run.path / EVENTS).exists():
        return
    run.writers.append(new_writer(run.path))
    for line in run.lines():
        run.show(line)
    with sentences(run.path):
        add_record(run.writers[0], run, record)
    run.close()
