"""Whether data, or a fit to them, take more memory than there is: a process that does is killed without a word."""

import os
from pathlib import Path

from robust_cluster.errors import DataError, OutOfMemory, shortage


def available() -> int | None:
    """Bytes that can be had without swapping; where the system does not tell, all its memory, or None."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check(name: str, needed: int, hint: str) -> None:
    """Raises DataError when reading `name` needs more bytes than there are."""
    there = available()
    if there is not None and needed > there:
        raise DataError(shortage(name, needed, there), hint=hint)


def claim(what: str, needed: int, limit: float | None) -> None:
    """Raises OutOfMemory when `what` takes more bytes than there are, or than `limit` GiB."""
    bounds = [bound for bound in (available(), None if limit is None else int(limit * 2**30)) if bound is not None]
    if bounds and needed > min(bounds):
        raise OutOfMemory(what, needed, min(bounds))
