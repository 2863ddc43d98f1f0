"""A graph of runs on Dask's workers: processes of this machine, or those of a scheduler that runs somewhere.

What a worker does is what this process would do (engine.py). Every command has a file of its own in the runs directory:
a worker that sees it shares the directory, and one that sees it no more saves its state and stops. A worker that dies
costs the epochs since the last saved state: Dask gives its run to another, which resumes.
"""

import hashlib
import importlib.util
import logging
import os
import queue
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from robust_cluster import __version__
from robust_cluster.discover import PACKAGE
from robust_cluster.errors import ConfigError, RobustClusterError, StoppedError, StoreError
from robust_cluster.runs.progress import Board, Progress
from robust_cluster.runs.store import sentences
from robust_cluster.stages.engine import Carrier, Task, Work, parent_error

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

EXTRA = "pip install 'robust_cluster[cluster]'"
COMMANDS = ".commands"  # in the runs directory: a file for each command at work
TOPIC = "robust_cluster"  # of what workers tell the command
DEATHS = 3  # of workers under one run before it counts as failed
RESUMES = "finished runs and saved epochs are kept, and the same command resumes"
CONNECT = 7.0  # seconds in which a scheduler must answer
JOIN = 60.0  # seconds in which its first worker must come, and its file
GRACE = 5.0  # seconds that workers have to save their state once a command is stopped
TOLD = 0.5  # seconds between two messages of a run's progress, and between two looks at whether it shall stop
TOLD_DEATH = 2.0  # seconds in which the log says how a worker of this machine ended
LOST = 15.0  # seconds without a connection after which a scheduler is gone


@dataclass(frozen=True)
class Where:
    """Who carries runs out: `jobs` workers of this machine, or those of the scheduler `cluster`; else this process.

    `cluster`: an address (tcp://host:8786) or the path of a scheduler's JSON file. `gpus`: this machine's; a worker
    sees one of them.
    """

    jobs: int | None = None
    cluster: str | None = None
    gpus: int = 0

    @property
    def is_here(self) -> bool:
        """Whether this process carries them out itself."""
        return self.jobs is None and self.cluster is None


def where(
    jobs: int | None, cluster: str | None, per_gpu: int | None, device: str, notify: Callable[[str], None]
) -> Where:
    """Who carries runs out, as asked: no more workers than twice the cores, or `per_gpu` (one) on each GPU.

    Raises: ConfigError for what does not go together, without Dask, and for `per_gpu` without a GPU.
    """
    if cluster and (jobs or per_gpu):
        raise ConfigError(f"--cluster and {'--jobs' if jobs else '--per-gpu'} exclude each other", hint="give one")
    if (jobs or cluster or per_gpu) and importlib.util.find_spec("distributed") is None:
        raise ConfigError("--jobs and --cluster need Dask's distributed", hint=EXTRA)
    if cluster:
        return Where(cluster=cluster)
    gpus = _gpus() if (jobs or per_gpu) and device in ("auto", "cuda") else 0
    if per_gpu and not gpus:
        raise ConfigError("--per-gpu needs a GPU, and this machine shows none", hint="leave it out")
    most = gpus * (per_gpu or 1) if gpus else 2 * (os.cpu_count() or 1)
    if jobs and jobs > most:
        reason = f"{per_gpu or 1} on each of {gpus} GPUs" if gpus else f"twice the {os.cpu_count()} cores"
        notify(f"--jobs {jobs}: {most}, {reason} of this machine")
    return Where(min(jobs or most, most) if jobs or per_gpu else None, gpus=gpus)


class DeadWorkerError(RobustClusterError):
    """The workers that a run was given to died, one after another; exit code 1."""


def carry_out(tasks: Sequence[Task], work: Work, board: Board, where: Where) -> dict[str, Exception]:
    """Carry out tasks on workers, the longest chain first; the error of each that failed by its key.

    Raises: ConfigError for workers that cannot do it, StoreError when the scheduler is gone or no run can be written,
    KeyboardInterrupt once the workers have saved their states.
    """
    work = work.sent()
    with _sign(work.root) as sign, _deaths() as deaths, started(where, board.note) as client:
        check_workers(client, sign)
        return Command(tasks, Sent(work, sign), client, board, deaths).carry_out()


class Command:
    """One command's tasks on their way through a scheduler. `deaths`: process id -> how it ended."""

    def __init__(
        self, tasks: Sequence[Task], sent: "Sent", client: "Client", board: Board, deaths: Mapping[int, str]
    ) -> None:
        self.tasks = {task.spec.key: task for task in tasks}
        self.sent, self.client, self.board, self.deaths = sent, client, board, deaths
        self.ended: queue.Queue[str] = queue.Queue()
        self.futures: dict[str, Future[str]] = {}
        self.rows: dict[str, Progress] = {}
        self.began: dict[str, tuple[int, str]] = {}  # key -> process id and host of the worker that has it

    def carry_out(self) -> dict[str, Exception]:
        """The error of each task that failed, by its key."""
        self.client.subscribe_topic(TOPIC, self.told)
        for key, task in self.tasks.items():
            before = [self.futures[task.parent]] if task.parent else []
            name = f"{key}-{self.sent.sign.name}"
            self.futures[key] = self.client.submit(self.sent, task, *before, key=name, priority=task.rank, pure=False)
            self.futures[key].add_done_callback(lambda _, key=key: self.ended.put(key))
        failed: dict[str, Exception] = {}
        try:
            for _ in self.tasks:
                key = self.next()
                error = self.error(key)
                if isinstance(error, StoreError | OSError):
                    raise error
                if error is not None:
                    failed[key] = error
                self.board.end(self.tasks[key].spec, error)
        except KeyboardInterrupt:
            self.sent.sign.unlink(missing_ok=True)
            with suppress(KeyboardInterrupt):  # the second one ends the waiting
                end = time.monotonic() + GRACE
                while time.monotonic() < end and not all(future.done() for future in self.futures.values()):
                    time.sleep(0.05)
            raise
        return failed

    def told(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """A worker's message: which run, and what its progress is told."""
        _, message = event
        key, call, words = message["key"], message["call"], message["words"]
        if message["sign"] != self.sent.sign.name:
            return
        if call != "begin":
            getattr(self.rows[key], call)(*words)
            return
        spec = self.tasks[key].spec
        if key in self.began:
            self.board.note(f"{spec.directory}: its worker, {self.last(key)}; another goes on with it")
        else:
            self.rows[key] = self.board.begin(spec)
        self.began[key] = words

    def last(self, key: str, *, patience: float = 0.0) -> str:
        """The worker that had a run last, and how its process ended, for which it waits up to `patience` seconds."""
        pid, host = self.began[key]
        end = time.monotonic() + patience * (host == socket.gethostname())  # another machine's log is not here
        while pid not in self.deaths and time.monotonic() < end:
            time.sleep(0.05)
        return f"process {pid} on {host}, {self.deaths.get(pid, 'is gone')}"

    def next(self) -> str:
        """The key of the next task that has ended. Raises: StoreError when the scheduler is gone."""
        silent = 0.0
        while silent < LOST:
            with suppress(queue.Empty):
                return self.ended.get(timeout=TOLD)
            silent = silent + TOLD if self.client.status != "running" else 0.0
        raise StoreError("The scheduler is gone", hint=RESUMES)

    def error(self, key: str) -> Exception | None:
        """Why a task failed, None where it did not."""
        from distributed import KilledWorker

        task, future = self.tasks[key], self.futures[key]
        if future.status == "finished":
            return None
        if task.parent and self.futures[task.parent].status == "error":
            return parent_error(task)
        if future.status != "error":
            return StoreError("The scheduler is gone, or has forgotten the runs", hint=RESUMES)
        error = future.exception()
        if isinstance(error, KilledWorker):
            last = self.last(key, patience=TOLD_DEATH)
            return DeadWorkerError(
                f"{error.allowed_failures + 1} workers died while they made it; the last, {last}",
                hint="too little memory is the most frequent cause; the same command resumes it",
            )
        return error if isinstance(error, Exception) else RuntimeError(repr(error))


@dataclass(frozen=True)
class Sent:
    """The function that workers call, with all that it needs."""

    work: Work
    sign: Path

    def __call__(self, task: Task, *before: str) -> str:
        """Make one run on a worker, and return its key."""
        from distributed import get_worker

        told = Told(task.spec.key, self.sign, get_worker().log_event)
        if told.stops:
            raise StoppedError("the command was stopped")
        told.tell("begin", os.getpid(), socket.gethostname())
        _carrier(self.work).carry(task, told)
        return task.spec.key


class Told:
    """The progress of a run on a worker, which tells the command of it."""

    def __init__(self, key: str, sign: Path, send: Callable[[str, Any], None]) -> None:
        self.key, self.sign, self.send = key, sign, send
        self.looked = self.said = 0.0
        self.is_stopped = False

    @property
    def stops(self) -> bool:
        """Whether the command has ended or was stopped."""
        now = time.monotonic()
        if not self.is_stopped and now - self.looked >= TOLD:
            self.looked, self.is_stopped = now, not self.sign.exists()
        return self.is_stopped

    def tell(self, call: str, *words: Any) -> None:
        """Send one message."""
        self.send(TOPIC, {"sign": self.sign.name, "key": self.key, "call": call, "words": words})

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None:
        """Begin a stage."""
        self.tell("start", title, total, done, unit)

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        """Epoch `number` has ended; said now and then."""
        now = time.monotonic()
        if now - self.said >= TOLD:
            self.said = now
            self.tell("epoch", number, dict(losses))

    def note(self, text: str) -> None:
        """Say something beside the epochs."""
        self.tell("note", text)

    def stop(self) -> None:
        """The stage has ended."""
        self.tell("stop")


_carriers: list[Carrier] = []  # of this worker's process: the one of the command that it works for


def _carrier(work: Work) -> Carrier:
    if not _carriers or _carriers[0].work != work:
        _carriers[:] = [Carrier(work)]
    return _carriers[0]


@contextmanager
def started(where: Where, notify: Callable[[str], None]) -> "Iterator[Client]":
    """A block with a client of the scheduler, and of workers that end with the block where they are this machine's.

    Raises: ConfigError where nobody listens.
    """
    from distributed import Client

    if where.cluster is None:
        with _local(where) as address:
            with Client(address, timeout=CONNECT, set_as_default=False) as client:
                yield client
        return
    is_file = where.cluster.endswith(".json")
    if is_file and not Path(where.cluster).is_file():  # a scheduler that has just been started writes it soon
        notify(f"waiting for {where.cluster}")
        end = time.monotonic() + JOIN
        while not Path(where.cluster).is_file() and time.monotonic() < end:
            time.sleep(TOLD)
    if is_file and not Path(where.cluster).is_file():
        raise ConfigError(f"--cluster {where.cluster}: there is no such file", hint="dask scheduler writes it")
    given = {"scheduler_file": where.cluster} if is_file else {"address": where.cluster}
    try:
        client = Client(**given, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"No scheduler answers at {where.cluster}", hint="dask scheduler starts one, and says its address"
        ) from error
    with client:
        yield client


@contextmanager
def _local(where: Where) -> Iterator[str]:
    """A block with a scheduler and workers on this machine, each a process of one thread; its address.

    They need not end well: when the block ends, what is to be kept is in the runs directory.
    """
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    options = {"nthreads": 1, "memory_limit": 0, "host": "127.0.0.1", "preload": [__name__]}

    def worker(place: int) -> dict[str, Any]:
        seen = {"CUDA_VISIBLE_DEVICES": str(place % where.gpus)} if where.gpus else {}
        return {"cls": Nanny, "options": {**options, "name": f"worker-{place}", "env": seen}}

    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    }
    with dask.config.set(settings):
        cluster = SpecCluster(
            {place: worker(place) for place in range(where.jobs or 1)}, scheduler=scheduler, silence_logs=False
        )
    try:
        yield str(cluster.scheduler_address)
    finally:
        for nanny in cluster.workers.values():
            process = nanny.process and nanny.process.process
            if process is not None and process.pid:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        cluster.close(timeout=GRACE)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def check_workers(client: "Client", sign: Path) -> None:
    """Refuse workers that would make other runs than this process, or elsewhere. Raises: ConfigError."""
    try:
        client.wait_for_workers(1, timeout=JOIN)
        answers = client.run(about, sign)
    except TimeoutError as error:
        raise ConfigError("The scheduler has no worker", hint="dask worker starts one") from error
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"A worker lacks this version of robust_cluster, {version()}: {error}") from error
    for address, found in answers.items():
        who = f"The worker {address} on {found['host']}"
        if found["version"] != version():
            raise ConfigError(f"{who} has robust_cluster {found['version']}, this command {version()}")
        if not found["sees"]:
            mine = f"{sign.parents[1]} on {socket.gethostname()}"
            raise ConfigError(
                f"{who} does not see the runs directory of this command, {mine}: there it is {found['has']}",
                hint="--runs-dir with a folder that all machines share under one path",
            )
        if found["threads"] != 1:
            raise ConfigError(f"{who} would make {found['threads']} runs at once", hint="give dask worker one thread")


def about(sign: Path, dask_worker: "Worker") -> dict[str, Any]:
    """What a worker is."""
    has = "another folder" if sign.parents[1].is_dir() else "not there"
    threads = dask_worker.state.nthreads
    return {"version": version(), "sees": sign.exists(), "has": has, "host": socket.gethostname(), "threads": threads}


def dask_setup(worker: "Worker") -> None:
    """What Dask calls in each new worker of this machine, which leaves Ctrl-C to the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def version() -> str:
    """The package's version and a digest of its source, which an editable install changes without a new version."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{__version__} ({digest.hexdigest()[:8]})"


@contextmanager
def _sign(root: Path) -> Iterator[Path]:
    """A block in which the runs directory has a file that says that this command is at work. Raises: StoreError."""
    path = root / COMMANDS / uuid4().hex[:12]
    with sentences(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()  # when it was the last


class _Deaths(logging.Handler):
    """Keeps how workers' processes ended, which Dask writes into its log and not into its errors."""

    def __init__(self) -> None:
        super().__init__()
        self.causes: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line of the log."""
        if found := re.search(r"process (\d+) (was killed .+|exited .+)", record.getMessage()):
            self.causes[int(found[1])] = found[2]


@contextmanager
def _deaths() -> Iterator[Mapping[int, str]]:
    """A block in which Dask's log is not shown, with process id -> how it ended."""
    import distributed  # noqa: F401  # sets its loggers up

    handler = _Deaths()
    known = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    tops = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    loggers = [*tops, *map(logging.getLogger, known)]
    before = [(one.level, one.propagate, one.handlers[:]) for one in loggers]
    for one in loggers:
        one.propagate, one.handlers = one not in tops, [handler] if one in tops else []
    tops[0].setLevel(logging.INFO)
    try:
        yield handler.causes
    finally:
        for one, (level, propagate, handlers) in zip(loggers, before, strict=True):
            one.level, one.propagate, one.handlers = level, propagate, handlers
