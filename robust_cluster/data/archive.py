"""Data sets that are published as one .tar.gz and may also lie there unpacked; nothing is written to read them."""

import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from robust_cluster.data.base import Folders
from robust_cluster.data.sources import Collection, whole
from robust_cluster.errors import DataError


def contents(archive: Collection, folders: Folders) -> dict[str, bytes]:
    """Name -> content of the archive's members, which are the files that may lie there `instead` of it.

    Raises: DataError when the archive cannot be had, is truncated or lacks one of the files.
    """
    found = archive.get(folders)
    if found[0].name != archive.files[0].name:
        return {path.name: path.read_bytes() for path in found}
    names = [file.name for file in archive.instead.files] if archive.instead else []
    pairs = islice(members(found[0], lambda path: Path(path).name in names), len(names))  # the rest may be gigabytes
    inside = {Path(path).name: content for path, content in pairs}
    lacking = [name for name in names if name not in inside]
    if lacking:
        raise DataError(f"{found[0]} does not hold {', '.join(lacking)}")
    return {name: inside[name] for name in names}


def members(archive: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of a .tar.gz whose path is wanted, in the archive's order. Raises: DataError."""
    with whole(archive), tarfile.open(archive, "r|gz") as stream:
        for member in stream:
            file = stream.extractfile(member) if member.isfile() and is_wanted(member.name) else None
            if file is not None:
                yield member.name, file.read()
