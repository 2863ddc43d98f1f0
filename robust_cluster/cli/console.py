"""What a user sees: plans, progress and errors on stderr, results on stdout. Rich is imported when it is needed."""

import atexit
import errno
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from robust_cluster.errors import RobustClusterError, StoreError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from robust_cluster.data.base import Progress

Record = Mapping[str, Any]
PLAIN_SECONDS = 5.0  # least time between two plain progress lines
PLAIN_WIDTH = 200  # columns of a result that is piped
LEAST_WRAPPED = 24  # columns that a wrapped column must have
HEADLINES = {  # metric -> what it is multiplied by when shown
    **dict.fromkeys(("ACC", "NMI", "ACC_held", "NMI_held", "ACC*", "ACC*_clean_map", "NMI*"), 100),
    "flip": 100,
    "noise_flip": 100,
    "reached": 100,
    "noise_reached": 100,
    "D": 1,
    "certified_share": 100,
    "abstained": 100,
    "ACC_certified": 100,
    "median_radius": 1,
}


def stderr(*, quiet: bool = False) -> "Console":
    """Where plans and progress go; silent when `quiet`."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False, markup=False, soft_wrap=True)


def stdout(least: int = 0) -> "Console":
    """Where results go; without a terminal as wide as they need, `least` columns at least."""
    from rich.console import Console

    class Result(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # in place of rich's exit code 1: a reader that has left is no failure

    return Result(highlight=False, markup=False, width=None if sys.stdout.isatty() else max(PLAIN_WIDTH, least))


def sentence(error: Exception) -> tuple[str, int]:
    """One sentence for the user and the exit code of an error."""
    if isinstance(error, RobustClusterError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        hint = f" ({context.command_path} --help)" if context else ""
        return error.format_message().replace("Value error, ", "") + hint, error.exit_code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            "No space left on the device; what is finished is kept, and the same command resumes once there is room.",
            1,
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return "Not enough memory; try --limit, a smaller batch_size (--set) or another --device.", 1
    return f"{type(error).__name__}: {error} (--debug shows the traceback)", 1


def show_error(text: str) -> None:
    """Print `error: text` on stderr, on one line."""
    from rich.text import Text

    stderr().print(Text.assemble(("error: ", "bold red"), " ".join(text.split())))


class Lines:
    """Progress where there is no terminal: a line at the start, at the end and every few seconds between.

    `name`: of the run, before each line.
    """

    stops = False

    def __init__(self, console: "Console", name: str = "") -> None:
        self.console = console
        self.name = f"[{name}] " if name else ""
        self.title, self.unit, self.total, self.last, self.line = "", "", 0, 0.0, ""

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None:
        """Begin a stage of `total` epochs, or other units, `done` of which exist already."""
        self.title, self.unit, self.total, self.last, self.line = title, unit, total, time.monotonic(), ""
        self.console.print(f"{self.name}{title}: {total} {unit}s" + (f", {done} done before" if done else ""))

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        """Epoch `number` has ended."""
        self.line = f"{self.title}: {self.unit} {number}/{self.total}  {_terms(losses)}"
        if time.monotonic() - self.last >= PLAIN_SECONDS:
            self._flush()

    def note(self, text: str) -> None:
        """Say something beside the epochs."""
        self.console.print(self.name + text)

    def stop(self) -> None:
        """The stage has ended, or was interrupted."""
        self._flush()

    def _flush(self) -> None:
        line, self.line, self.last = self.line, "", time.monotonic()
        if line:
            self.console.print(self.name + line)


class Bar:
    """Progress on a terminal: one bar with stage, epoch, named losses, elapsed and time left, among those of `bars`.

    `name`: what it is called in place of its stages. Without a name the last state of a stage stays on the screen.
    """

    stops = False

    def __init__(self, bars: "Bars", name: str = "") -> None:
        self.bars, self.name = bars, name
        self.task: TaskID | None = None

    def show(self) -> None:
        """Be there before the first stage begins."""
        self.task = self.bars.add_task(self.name, total=None, losses="")

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None:
        """Begin a stage of `total` epochs, or other units, `done` of which exist already."""
        if self.task is None:
            self.task = self.bars.add_task(self.name or title, total=total, completed=done, losses="")
        else:
            self.bars.reset(self.task, total=total, completed=done, losses="")
        self.bars.start()

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        """Epoch `number` has ended."""
        if self.task is not None:
            self.bars.update(self.task, completed=number, losses=_terms(losses))

    def note(self, text: str) -> None:
        """Say something above the bar."""
        self.bars.console.print(text)

    def stop(self) -> None:
        """The stage has ended, or was interrupted."""
        if not self.name:
            self.bars.stop()
            self.remove()

    def remove(self) -> None:
        """Take the bar from the screen."""
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = None


def bars(console: "Console") -> "Bars":
    """Where bars are shown."""
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text(f"{task.speed:.2g}/s" if task.speed else "")

    columns = (
        progress.TextColumn("{task.description}"),
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=10),
        progress.TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True)),  # cut if too long
        Rate(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(*columns, console=console, expand=True)


def download_progress(*, quiet: bool = False) -> "Progress | None":
    """A bar of bytes on a terminal, else a line at the start and every few seconds; None when `quiet`."""
    if quiet:
        return None
    console = stderr()
    if console.is_terminal:
        return _download_bar(console)
    last: dict[str, float] = {}

    def line(name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if name not in last or now - last[name] >= PLAIN_SECONDS or done == total:
            last[name] = now
            console.print(f"{name}: {done / 1e6:,.1f} MB" + (f" of {total / 1e6:,.1f}" if total else ""))

    return line


def _download_bar(console: "Console") -> "Progress":
    """Bytes, speed and time left of one file after another."""
    from rich import progress

    shown = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    left = progress.TimeRemainingColumn()
    bar = progress.Progress(progress.TextColumn("{task.description}"), *shown, left, console=console)
    tasks: dict[str, progress.TaskID] = {}
    atexit.register(bar.stop)  # a failed download leaves no bar behind

    def show(name: str, done: int, total: int | None) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total)
            bar.start()
        bar.update(tasks[name], completed=done, total=total)
        if done == total:
            bar.stop()
            bar.remove_task(tasks.pop(name))

    return show


def progress(console: "Console") -> Lines | Bar:
    """A bar on a terminal, else plain lines, which a quiet console does not show."""
    return Bar(bars(console)) if console.is_terminal and not console.quiet else Lines(console)


def _terms(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())


def show_json(content: Any) -> None:
    """Print one JSON document on stdout. Raises: ValueError for NaN, which JSON does not have."""
    sys.stdout.write(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_json(path: Path, records: Sequence[Record]) -> None:
    """Write records to a file as one JSON list, a line a record. Raises: StoreError when it cannot be written."""
    lines = ",\n".join(json.dumps(record, sort_keys=True, allow_nan=False) for record in records)
    write_text(path, f"[\n{lines}\n]\n", what="records")


def write_text(path: Path, text: str, *, what: str = "numbers") -> None:
    """Write a file. Raises: StoreError when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"The {what} cannot be written to {path}: {error.strerror}") from error


def show_rows(rows: Sequence[Mapping[str, str]]) -> None:
    """Print a table on stdout; its columns are the keys that any row fills, in the order of the rows.

    All of it is shown: the widest column is wrapped, and on a terminal without room for that each row is a few lines.
    """
    from rich.table import Column, Table

    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if any(row.get(key) for row in rows)]
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in columns}
    widest = max(widths, key=lambda name: widths[name])
    least = sum(widths.values()) + 2 * len(columns) - max(widths[widest] - LEAST_WRAPPED, 0)
    if stdout().is_terminal and stdout().width < least:
        name, *others = columns
        for row in rows:  # two lines: the first column, which names it, and below it the others
            known = "  ".join(f"{column}: {row[column]}" for column in others if row.get(column))
            stdout().print(f"{row.get(name, '')}\n  {known}", soft_wrap=True)
        return
    heads = (Column(name, no_wrap=name != widest, overflow="fold") for name in columns)
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(row.get(column, "") or "–" for column in columns))
    stdout(least).print(table)


def summary(record: Record, settings: Sequence[str] = ()) -> dict[str, str]:
    """Column -> text of one record: what it is, the swept `settings`, headline metrics (rates in percent), flags."""
    from robust_cluster.report.answers import settings_held  # late: help needs none of it

    spec, held = record["spec"], settings_held(record["spec"]) if settings else {}
    metrics = record.get("metrics") or {}
    internal = record.get("internal") or {}
    unlabeled = {
        f"silhouette, {where}": _number(internal[where]["silhouette"], 1)
        for where in ("embedding", "data")
        if internal and metrics.get("ACC") is None
    }
    loss = {} if metrics else {"loss": _number((record.get("training") or {}).get("loss"), 1)}
    return {
        "stage": spec["stage"],
        "model": spec["model"],
        "data": spec["data"]["name"],
        **({"K": str(spec["data"]["n_clusters"])} if spec["data"].get("n_clusters") else {}),
        "d": str(spec["latent_dim"]),
        "seed": str(spec["seed"]),
        "attacker": "" if spec.get("attack_seed") is None else str(spec["attack_seed"]),
        **{key: str(held.get(key)) for key in settings},
        **{name: _number(metrics[name], scale) for name, scale in HEADLINES.items() if name in metrics},
        **unlabeled,
        **loss,
        "flags": ", ".join(record.get("flags", ())),
        "audit": counted(record.get("audit", ())),
    }


def counted(findings: Sequence[Mapping[str, Any]]) -> str:
    """How many checks of an audit said what, and which fail: "1 fail (budget and box), 7 pass, 18 not run"."""
    failed = ", ".join(finding["name"] for finding in findings if finding["status"] == "fail")
    counts = Counter(finding["status"] for finding in findings)
    order = ("fail", "warn", "note", "pass", "not run")
    named = {"fail": f" ({failed})"}
    return ", ".join(f"{counts[status]} {status}{named.get(status, '')}" for status in order if counts[status])


def plain(value: str | float | None) -> str:
    """A word as it is, a number in four digits, nothing for None."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _number(value: float | None, scale: float) -> str:
    if value is None:
        return "–"
    return f"{value * scale:.1f}" if scale == 100 else f"{value:.3g}"
