"""Data sets that are published as one .tar.gz and may also lie there unpacked; nothing is written to read them."""

import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from robust_cluster.data.base import Folders
from robust_cluster.data.sources import Collection, damaged
from robust_cluster.errors import DataError


def contents(archive: Collection, folders: Folders) -> dict[str, bytes]:
    """Name -> content of the archive's members, which are the files that may lie there `instead` of it.

    Raises: DataError when the archive cannot be had, is truncated or lacks one of the files.
    """
    inside = archive.instead.files if archive.instead else ()
    return members(archive.get(folders), [file.name for file in inside])


def members(found: Sequence[Path], names: Sequence[str]) -> dict[str, bytes]:
    """Name -> content of files, in this order: `found` are they, or the archive alone, where they may lie in a folder.

    Raises: DataError when the archive is truncated or lacks one.
    """
    if len(found) != 1 or not found[0].name.endswith(".tar.gz"):
        return {path.name: path.read_bytes() for path in found}
    inside: dict[str, bytes] = {}
    try:
        with tarfile.open(found[0], "r|gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                stream = archive.extractfile(member) if name in names and member.isfile() else None
                if stream is not None:
                    inside[name] = stream.read()
                if len(inside) == len(names):
                    break  # the rest may be gigabytes
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise damaged(found[0], error) from error
    lacking = [name for name in names if name not in inside]
    if lacking:
        raise DataError(f"{found[0]} does not hold {', '.join(lacking)}")
    return {name: inside[name] for name in names}
