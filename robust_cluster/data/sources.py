"""How published files are found and fetched: folders in one order, downloads that resume and are checked."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock

from robust_cluster.data.base import Folders
from robust_cluster.errors import ConfigError, DataError

TIMEOUT = 5.0  # seconds without an answer after which a server is given up
CHUNK = 1 << 20  # bytes
NO_LICENSE = "not known here; ask its publisher"
OTHER_CACHE = "RC_CACHE=FOLDER keeps data elsewhere"
AGAIN = "delete it and fetch it again"  # what to do with a damaged file


@dataclass(frozen=True)
class SourceFile:
    """A file as its publisher gives it out, e.g. MNIST's t10k-labels-idx1-ubyte.gz.

    `size` in bytes is for messages; `md5` or `sha256`, in hexadecimal, tell whether the file is whole. None: not known.
    """

    name: str
    url: str | None = None  # None: it cannot be downloaded
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def description(self) -> str:
        """Name, size and checksum for a message: "usps.bz2 (6.6 MB, MD5 ec16...)"."""
        facts = [
            bytes_in_words(self.size) if self.size else "",
            f"SHA-256 {self.sha256}" if self.sha256 else f"MD5 {self.md5}" if self.md5 else "",
        ]
        known = ", ".join(fact for fact in facts if fact)
        return f"{self.name} ({known})" if known else self.name

    @property
    def checksum(self) -> tuple[str, str] | None:
        """("sha256" or "md5", hexadecimal digits), None where neither is known."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5) if self.md5 else None


@dataclass(frozen=True)
class Collection:
    """Published files that lie together, such as MNIST's: in the subfolder `name`, in one of `subfolders`, or in none.

    A file whose name ends in .gz may also lie there unpacked. `instead`: other files with the same content, such as the
    members of an archive, which are looked for first. `install`: another way to get the files, for messages.
    """

    name: str
    files: tuple[SourceFile, ...]
    subfolders: tuple[str, ...] = ()
    install: str = ""
    instead: "Collection | None" = None

    @property
    def every_file(self) -> tuple[SourceFile, ...]:
        """The files, then those of `instead`."""
        return self.files + (self.instead.files if self.instead else ())

    def find(self, folders: Folders) -> tuple[Path, ...] | None:
        """The files, or those of `instead`, in the first of the folders that has all of them; None when none has.

        Raises: ConfigError for a --data-dir that is no folder or cannot be read.
        """
        check_folder(folders.data_dir)
        either = (self.instead, self) if self.instead else (self,)
        return next((found for root in folders.roots for one in either if (found := one._below(root))), None)

    def _below(self, root: Path) -> tuple[Path, ...] | None:
        """The paths of all files in the first folder below `root` that has them, in the order of `files`, or None."""
        for folder in (root / self.name, *(root / name for name in self.subfolders), root):
            paths = [next((p for p in _forms(folder / file.name) if p.is_file()), None) for file in self.files]
            if all(paths):
                return tuple(path for path in paths if path)
        return None

    def get(self, folders: Folders) -> tuple[Path, ...]:
        """The files that `find` finds, else `files`, downloaded into the cache.

        Raises: DataError that says what to put where, or that a download is not what was published.
        """
        return self.find(folders) or self.download(folders)

    def download(self, folders: Folders) -> tuple[Path, ...]:
        """The files, downloaded into the cache's folder of this name unless they are there already.

        A download that was cut off goes on where it ended. Raises: DataError.
        """
        folder = folders.cache / self.name
        if any(file.url is None for file in self.files):
            raise self._absent()
        if not folders.downloads:
            raise self._absent(" and is downloaded for a run only")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}", hint=OTHER_CACHE) from error
        try:
            with FileLock(folder / ".lock"):
                for file in self.files:
                    if not (folder / file.name).is_file():
                        _fetch(file, folder, folders)
        except (OSError, HTTPException, ValueError) as error:  # also a timeout, no space, a folder that is a file
            reason = getattr(error, "reason", None) or error
            raise self._absent(f" and could not be downloaded ({reason})") from error
        return tuple(folder / file.name for file in self.files)

    def _absent(self, why: str = "") -> DataError:
        """The error for missing files: it names each with its size and checksum, and the folder to put it into."""
        urls = {file.url.rpartition("/")[0] + "/" for file in self.files if file.url}
        source = f" from {' and '.join(sorted(urls))}" if urls else ""
        other = f", or {self.install}" if self.install else ""
        files = ", ".join(file.description for file in self.files)
        return DataError(
            f"The data set {self.name} is not there{why}: it needs {files}{source}",
            hint=f"put them into a folder {self.name} below the one given as --data-dir{other}",
        )


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """A block in which what reading a published file raises, where it breaks off or is no such file, is a DataError."""
    try:
        yield
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} cannot be read or is truncated: {error}", hint=AGAIN) from error


def fault(file: SourceFile, path: Path) -> str | None:
    """What is wrong with the file at `path`: another checksum than published, or size where no checksum is known."""
    size = path.stat().st_size
    if file.checksum is not None:
        kind, expected = file.checksum
        found = hash_of(path, kind)
        short = f" ({size:,} of {file.size:,} bytes)" if file.size and size < file.size else ""
        wrong = f"{path} has the wrong checksum{short}: {kind.upper()} {expected} expected, got {found}"
        return None if found == expected else wrong
    if file.size in (None, size):
        return None
    return f"{path} has {size} bytes, published are {file.size}: it is truncated, or another file"


def hash_of(path: Path, kind: str = "sha256") -> str:
    """The checksum of a file in hexadecimal; `kind` is "sha256" or "md5"."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, partial(hashlib.new, kind, usedforsecurity=False)).hexdigest()


def unpacks(path: Path) -> bool:
    """Whether a .gz file is whole: its own checksum fits what it unpacks to."""
    try:
        with whole(path), gzip.open(path) as stream:
            while stream.read(CHUNK):
                pass
    except DataError:
        return False
    return True


def check_folder(folder: Path | None) -> None:
    """Raises ConfigError unless --data-dir is left out or a folder that can be read."""
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--data-dir must be an existing folder, got {folder}")
    if folder is not None and not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"--data-dir must be a folder that can be read, got {folder}", hint=f"chmod u+rx {folder}")


def bytes_in_words(size: int) -> str:
    """A size as people write it: "5,148 bytes", "9.9 MB", "2.64 GB"."""
    if size < 10**6:
        return f"{size:,} bytes"
    return f"{size / 1e6:.1f} MB" if size < 10**9 else f"{size / 1e9:.2f} GB"


def _forms(path: Path) -> Iterator[Path]:
    """The paths at which a published file may lie: `path`, and without its .gz where the file was unpacked."""
    yield path
    if path.suffix == ".gz" and not path.name.endswith(".tar.gz"):
        yield path.with_suffix("")


def _fetch(file: SourceFile, folder: Path, folders: Folders) -> None:
    """Download one file into the folder; until it is checked it is `<name>.part`. Raises: DataError, OSError, ..."""
    part = folder / f"{file.name}.part"
    if not (part.exists() and file.checksum and fault(file, part) is None):
        _receive(file, part, folders)
    if wrong := fault(file, part):
        part.unlink()
        raise DataError(wrong)
    os.replace(part, folder / file.name)


def _receive(file: SourceFile, part: Path, folders: Folders) -> None:
    """Append to `part` what it lacks of the file. Raises: OSError when the download ends early, HTTPException."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(file.url or "", headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # there is nothing after what is there: begin anew next time
            part.unlink()
        raise
    with answer:
        resumed = answer.status == 206  # 200: the server sends all of it again
        done = done if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else file.size
        with part.open("ab" if resumed else "wb") as stream:
            while chunk := answer.read(CHUNK):
                done += stream.write(chunk)
                if folders.progress:
                    folders.progress(file.name, done, total)
    if folders.progress and total is None:
        folders.progress(file.name, done, done)
    if length and total is not None and done < total:
        raise OSError(f"{file.name} ended after {done:,} of {total:,} bytes; the same command resumes")
