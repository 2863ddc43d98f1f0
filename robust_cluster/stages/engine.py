"""The runs of a command as a graph by their parents, and who carries them out: this process, or workers.

The runs directory is the only memory: a task says which run is to be made, and its result is read where it was written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robust_cluster.data import prepare
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.discover import Kind
from robust_cluster.errors import MissingResultError, StoreError
from robust_cluster.runs.progress import Board, Progress
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import chain, own
from robust_cluster.stages.context import Context, Log
from robust_cluster.stages.weights import Weights


@dataclass(frozen=True)
class Work:
    """What a process must know to carry out any run of a command; plain data, which can be sent to another process.

    `path`: the user's data file, None where data are found by name. The other fields are those of `Context`.
    """

    root: Path
    folders: Folders = field(default_factory=Folders)
    path: Path | None = None
    profile: str = "paper"
    device: str = "auto"
    threads: int | None = None
    force: bool = False
    curve: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    log: Log | None = None
    own: tuple[tuple[Kind, Path], ...] = ()  # the user's own files of methods
    weights: Weights | None = None

    @property
    def store(self) -> RunStore:
        """The runs directory."""
        return RunStore(self.root)

    def sent(self) -> "Work":
        """The same for a process that is in another folder and shows no bar."""
        folders = self.folders
        return replace(
            self,
            root=self.root.absolute(),
            folders=replace(folders, data_dir=folders.data_dir and folders.data_dir.absolute(), progress=None),
            path=self.path and self.path.absolute(),
            own=tuple((kind, path.absolute()) for kind, path in self.own),
        )


@dataclass(frozen=True)
class Task:
    """A run to be made. `again`: although it is done; `curve`: and logs its curve; `rank`: runs of its longest chain.

    `parent`: the key of the task that must end before it, None where nothing must.
    """

    spec: RunSpec
    parent: str | None = None
    again: bool = False
    curve: bool = False
    rank: int = 1


class ParentError(MissingResultError):
    """A run was not made, for the run that it starts from failed; exit code 1."""

    exit_code = 1


def graph(plans: Iterable[Sequence[RunSpec]], work: Work) -> list[Task]:
    """What is to be made of some plans, each the runs that one takes, the asked one last: parents before children.

    A run that is done is left out, unless it must be made again or a run before it is made.
    """
    plans = [list(runs) for runs in plans]
    asked = {runs[-1].key for runs in plans}
    tasks: dict[str, Task] = {}
    for spec in {spec.key: spec for runs in plans for spec in runs}.values():
        is_asked = spec.key in asked
        again = is_asked and chain.is_again(work.store.record(spec), work)
        parent = spec.parent.key if spec.parent and spec.parent.key in tasks else None
        if again or parent or chain.current(spec, work.store) is None:
            tasks[spec.key] = Task(spec, parent, again, chain.has_curve(spec, work, asked=is_asked))
    ranks = dict.fromkeys(tasks, 1)
    for key, task in reversed(tasks.items()):
        if task.parent:
            ranks[task.parent] = max(ranks[task.parent], 1 + ranks[key])
    return [Task(one.spec, one.parent, one.again, one.curve, ranks[key]) for key, one in tasks.items()]


class Carrier:
    """Carries out runs in this process; keeps the data of the last one, which the next one mostly has too."""

    def __init__(self, work: Work, dataset: Dataset | None = None) -> None:
        for kind, path in work.own:
            own.adopt(kind, path)
        self.work = work
        self.dataset = dataset
        self.context: Context | None = None

    def carry(self, task: Task, progress: Progress) -> None:
        """Make one run. Raises: what its stage raises, DataError and ShapeError for its data."""
        context = self._context(task.spec.data)
        context.progress, context.curve = progress, task.curve
        chain.carry_out(task.spec, context, again=task.again)

    def _context(self, ref: DataRef) -> Context:
        if self.dataset is None or self.dataset.ref != ref:
            self.context = self.dataset = None  # two data sets need not fit into memory
            self.dataset = prepare.load(ref, self.work.folders, path=self.work.path)
        if self.context is None:
            work = self.work
            self.context = Context(
                work.store,
                self.dataset,
                work.profile,
                work.device,
                work.threads,
                overrides=work.overrides,
                log=work.log,
                weights=work.weights,
            )
        return self.context


def here(tasks: Sequence[Task], carry: Callable[[Task, Progress], None], board: Board) -> dict[str, Exception]:
    """Carry out tasks in this process, in their order; the error of each that failed by its key, and the others go on.

    Raises: StoreError and OSError, after which no run can be written.
    """
    failed: dict[str, Exception] = {}
    for task in tasks:
        error: Exception | None = None
        progress = board.begin(task.spec)
        try:
            if task.parent in failed:
                raise parent_error(task)
            carry(task, progress)
        except (StoreError, OSError):
            raise
        except Exception as fault:  # also a fault of ours: a long table must not stop at one method
            failed[task.spec.key] = error = fault
        board.end(task.spec, error)
    return failed


def parent_error(task: Task) -> ParentError:
    """What is said of a task whose parent failed."""
    parent = task.spec.parent.directory if task.spec.parent else task.parent
    return ParentError(f"it was not made, for the run before it, {parent}, failed")
