"""Members of a published .tar.gz, or of the folder that it unpacks to, read without writing anything."""

import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from robust_cluster.errors import DataError


def members(found: Sequence[Path], names: Sequence[str]) -> dict[str, bytes]:
    """Name -> content of files: `found` are these files, or the archive alone, where they may lie in a folder.

    Raises: DataError when the archive is truncated or lacks one.
    """
    if len(found) != 1 or not found[0].name.endswith(".tar.gz"):
        return {path.name: path.read_bytes() for path in found}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(found[0], "r|gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                stream = archive.extractfile(member) if name in names and member.isfile() else None
                if stream is not None:
                    contents[name] = stream.read()
                if len(contents) == len(names):
                    break  # the rest may be gigabytes
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{found[0]} cannot be read or is truncated: {error}", hint="delete it and fetch it again"
        ) from error
    lacking = [name for name in names if name not in contents]
    if lacking:
        raise DataError(f"{found[0]} does not hold {', '.join(lacking)}")
    return contents
