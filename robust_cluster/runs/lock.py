"""Who owns a run's folder: one process at a time, on one machine or on many that share a file system.

Two locks are held together. The kernel's (`.lock`) is free the moment its process dies, but on some shared file systems
it binds the processes of one machine alone. The file `owner.json` is made only where there is none, which binds all
machines; its owner touches it every BEAT seconds. One that was not touched for SILENCE seconds, or is of a process of
this machine whose kernel's lock is free, is of a dead owner and taken over.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from robust_cluster.errors import StoreError

LOCK, OWNER = ".lock", "owner.json"
BEAT = 10.0  # seconds between two signs of life
SILENCE = 90.0  # seconds without one after which an owner on another machine is dead
POLL = 1.0  # seconds between two looks at the owner on another machine


class Lease:
    """One process's hold on a folder, whose signs of life come from a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / OWNER
        self.content = json.dumps(
            {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine(), "id": uuid4().hex}
        ).encode()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._live, name=f"owner of {folder.name}", daemon=True)

    def take(self) -> bool:
        """Whether the folder was free and is now this lease's."""
        if not _made(self.path, self.content):
            return False
        self.thread.start()
        return True

    def check(self) -> None:
        """Raises StoreError when another machine took the folder over, since this process was silent for too long."""
        if self.thread.is_alive() or _content(self.path) == self.content:
            return
        raise StoreError(
            f"{self.path.parent} was taken over by {owner(self.path.parent)}, for this process gave no sign of life "
            f"for {SILENCE:.0f} s",
            hint="its result is the one that counts",
        )

    def end(self) -> None:
        """Give the folder back."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()
        if _content(self.path) == self.content:
            with suppress(OSError):  # who finds it finds a dead owner
                self.path.unlink()

    def _live(self) -> None:
        while not self.ended.wait(BEAT):
            if _content(self.path) not in (None, self.content):
                return  # another owner's
            with suppress(OSError):  # a server that is away for a while ends neither the training nor these signs
                os.utime(self.path)


@contextmanager
def owned(folder: Path, *, wait: bool, notify: Callable[[str], None]) -> Iterator[Lease]:
    """A block in which this process alone owns the folder, which is made if need be.

    When another process owns it, `notify` gets one sentence and this one waits.
    Raises: StoreError when it is owned and `wait` is False; OSError.
    """
    with _kernel_lock(folder, wait=wait, notify=notify):
        lease = Lease(folder)
        is_told = False
        while not lease.take():
            if is_dead(folder):
                _evict(folder)
            elif not wait:
                raise _is_run(folder)
            else:
                if not is_told:
                    notify(f"{_is_run(folder).message}; waiting for it to end")
                    is_told = True
                time.sleep(POLL)
        try:
            yield lease
        finally:
            lease.end()


def owner(folder: Path) -> str:
    """Who owns the folder, in words; "another process" where it has just taken it and has not told its name."""
    try:
        found = _read(folder)
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"


def is_owned(folder: Path) -> bool:
    """Whether a living process owns the folder."""
    if not (folder / OWNER).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    try:
        return not is_dead(folder)
    finally:
        lock.release()


def is_dead(folder: Path) -> bool:
    """Whether the owner that the folder names is gone; asked by who holds the kernel's lock."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        if _read(folder)["machine"] == machine():
            return True
    return _silence(folder) > SILENCE


@cache
def machine() -> str:
    """What tells machines apart that may have one name: the kernel's boot id where there is one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _kernel_lock(folder: Path, *, wait: bool, notify: Callable[[str], None]) -> Any:
    """A folder's lock, held until the block ends or the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise _is_run(folder) from None
        notify(f"{_is_run(folder).message}; waiting for it to end")
        held = lock.acquire()
    if (folder / LOCK).exists():
        return held
    lock.release()  # its owner was refused, and has removed it with the folder
    return _kernel_lock(folder, wait=wait, notify=notify)


def _is_run(folder: Path) -> StoreError:
    return StoreError(f"{folder} is being run by {owner(folder)}", hint="wait for it to end, or stop it")


def _read(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / OWNER).read_bytes()))


def _content(path: Path) -> bytes | None:
    """A file's bytes, None where it is not there or cannot be read now."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _made(path: Path, content: bytes) -> bool:
    """Make a file with this content, as a whole; False where there is one already."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.link(temporary, path)  # fails where there is one, on every file system that has links
    except (FileExistsError, FileNotFoundError):  # there is one, or its owner tidied the temporary file away
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _silence(folder: Path) -> float:
    """Seconds since the owner's last sign of life, by the clock of the file system, which all machines share."""
    temporary = folder / f".now.{uuid4().hex}.tmp"
    try:
        temporary.touch()
        return temporary.stat().st_mtime - (folder / OWNER).stat().st_mtime
    except FileNotFoundError:
        return 0.0  # it has just ended
    finally:
        temporary.unlink(missing_ok=True)


def _evict(folder: Path) -> None:
    """Take a dead owner's file away; one that a new owner has made meanwhile is put back."""
    seen = _content(folder / OWNER)
    aside = folder / f".dead.{uuid4().hex}.tmp"
    with suppress(FileNotFoundError):
        os.rename(folder / OWNER, aside)
        if aside.read_bytes() != seen:
            _made(folder / OWNER, aside.read_bytes())
        aside.unlink()
