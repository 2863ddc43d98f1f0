"""What is in a runs directory: runs, their state and size, which of them others start from, and how to remove one."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robust_cluster.errors import ConfigError, MissingResultError, StoreError
from robust_cluster.runs.lock import is_owned, owner
from robust_cluster.runs.record import Record, read, spec_of
from robust_cluster.runs.spec import STAGES, RunSpec
from robust_cluster.runs.store import LOG, RESULT, SPEC, RunStore, sentences

State = Literal["done", "running", "unfinished"]


@dataclass(frozen=True)
class Entry:
    """One run of a store. "running": a living process works on it; "unfinished": nobody does, and it has no record."""

    path: Path
    spec: RunSpec
    record: Record | None
    is_running: bool

    @property
    def state(self) -> State:
        """Whether it is done, and if not, whether somebody is at it."""
        return "done" if self.record is not None else "running" if self.is_running else "unfinished"

    @property
    def epochs(self) -> int:
        """Epochs that it has logged."""
        log = self.path / LOG
        return log.read_bytes().count(b"\n") if log.exists() else 0

    @property
    def bytes(self) -> int:
        """What its files take."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


def entries(root: Path) -> list[Entry]:
    """Every run below `root` by path, the finished ones first. Raises: StoreError."""
    store, found = RunStore(root), []
    with sentences(root):
        paths = sorted(root.glob(f"*/*/{SPEC}"))
    for path in paths:
        content = path.read_bytes()
        spec = spec_of(read(content, path), path)
        record = store.record(spec) if (path.parent / RESULT).exists() else None
        found.append(Entry(path.parent, spec, record, record is None and is_owned(path.parent)))
    return sorted(found, key=lambda entry: (entry.record is None, entry.path))


def named(name: str, known: Sequence[Entry]) -> Entry:
    """The run of a key, the beginning of one, or a folder. Raises: MissingResultError, ConfigError for several."""
    place = Path(name).resolve()
    found = [one for one in known if one.spec.key.startswith(name) or one.path.resolve() == place]
    if not found:
        raise MissingResultError(f"There is no run {name}", hint="rc runs ls")
    if len(found) > 1:
        raise ConfigError(f"{name} begins the keys of {len(found)} runs: {', '.join(one.spec.key for one in found)}")
    return found[0]


def children(chosen: Collection[str], known: Sequence[Entry]) -> list[Entry]:
    """The runs that start from one with these keys, or from one that does, and are not among them."""
    return [
        one
        for one in known
        if one.spec.key not in chosen and any(before.key in chosen for before in list(one.spec.lineage())[1:])
    ]


def orphans(root: Path, known: Sequence[Entry]) -> Iterator[Path]:
    """Folders of runs that have no record and that nobody works on, and those that hold no run at all."""
    yield from (one.path for one in known if one.state == "unfinished")
    runs = {one.path for one in known}
    for stage in STAGES:
        folder = root / stage
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_dir() and path not in runs and not is_owned(path):
                yield path


def remove(path: Path) -> None:
    """Delete a run's folder, and its stage's when that is left empty. Raises: StoreError, also for one at work."""
    if is_owned(path):
        raise StoreError(f"{path} is being run by {owner(path)}", hint="stop it first")
    with sentences(path):
        (path / RESULT).unlink(missing_ok=True)  # first: half a run must not count as done
        shutil.rmtree(path)
        if not any(os.scandir(path.parent)):
            path.parent.rmdir()
