"""MNIST, and how it and the data sets in its format are found: four IDX files, on disk or downloaded."""

import contextlib
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from robust_cluster.data.base import Places, Raw
from robust_cluster.data.files import read_idx
from robust_cluster.errors import DataError

Part = Literal["train", "t10k"]
SYSTEM = Path("/usr/share/datasets")  # where Debian's dataset packages put their files
TIMEOUT = 5.0  # seconds without an answer after which a server is given up

DESCRIPTION = "MNIST, 70,000 digits (train, then test), 28x28 images, 10 classes"
CITATION = "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 1998"


@dataclass(frozen=True)
class Family:
    """A data set of four IDX files that all families name alike; `first_labels` of the test part tell them apart."""

    name: str  # its folder; the class of torchvision.datasets is `torchvision`
    torchvision: str
    first_labels: tuple[int, ...]
    package: str | None = None  # Debian's

    def folders(self, places: Places) -> Iterator[Path]:
        """Where the files may be, first hit wins."""
        for root in (places.data_dir, SYSTEM, places.cache):
            if root is not None:
                yield from (root / self.name, root / self.torchvision / "raw", root)

    def find(self, places: Places, parts: tuple[Part, ...]) -> Path | None:
        """The first folder with all files of the parts, or None."""
        wanted = [name for part in parts for name in file_names(part)]
        return next((f for f in self.folders(places) if all(_existing(f, name) for name in wanted)), None)

    def read(self, places: Places, parts: tuple[Part, ...]) -> Raw:
        """Images (n, 28, 28) uint8 and labels of the parts, one after the other. Raises: DataError."""
        folder = self.find(places, parts)
        if folder is None:
            self._download(places, parts)
            folder = places.cache / self.torchvision / "raw"
        images, labels = zip(*(self._read_part(folder, part) for part in parts), strict=True)
        return Raw((np.concatenate(images),), np.concatenate(labels), image=True, source=f"IDX files of {self.name}")

    def _read_part(self, folder: Path, part: Part) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
        """Images and labels of one part. Raises: DataError."""
        images, labels = (read_idx(_existing(folder, name) or folder / name) for name in file_names(part))
        if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
            raise DataError(
                f"The {part} files in {folder} must hold images (n, 28, 28) and labels (n,), "
                f"got {images.shape} and {labels.shape}"
            )
        first = tuple(int(label) for label in labels[: len(self.first_labels)])
        if part == "t10k" and first != self.first_labels:
            raise DataError(
                f"The files in {folder} are another data set under the names of {self.name}: the test labels must "
                f"begin {self.first_labels}, got {first}",
                hint=f"keep each data set in its own folder, here <data-dir>/{self.name}",
            )
        return images, labels

    def _download(self, places: Places, parts: tuple[Part, ...]) -> None:
        """Puts the four files into the cache with torchvision, or raises the DataError that says how to get them."""
        import torchvision.datasets  # seconds, and only a missing data set needs it

        patience = socket.getdefaulttimeout()
        try:
            places.cache.mkdir(parents=True, exist_ok=True)
            socket.setdefaulttimeout(TIMEOUT)
            noise = io.StringIO()
            with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise), FileLock(places.cache / ".lock"):
                getattr(torchvision.datasets, self.torchvision)(places.cache, download=True)
        except (RuntimeError, OSError, HTTPException) as error:
            files = ", ".join(name for part in parts for name in file_names(part))
            install = f", or `apt-get install {self.package}`" if self.package else ""
            raise DataError(
                f"The data set {self.name} is not there and could not be downloaded: {files} (or each with .gz) "
                "are in no known folder",
                hint=f"put them into a folder {self.name} below the one given as --data-dir{install}",
            ) from error
        finally:
            socket.setdefaulttimeout(patience)


def file_names(part: Part) -> tuple[str, str]:
    """Image and label file of a part, without .gz."""
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


def _existing(folder: Path, name: str) -> Path | None:
    """The file itself or its .gz, whichever is there, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


FAMILY = Family("mnist", "MNIST", first_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9))


def is_ready(places: Places) -> bool:
    """Whether all files are on disk."""
    return FAMILY.find(places, ("train", "t10k")) is not None


def read(places: Places) -> Raw:
    """All 70,000 images, the 60,000 for training first."""
    return FAMILY.read(places, ("train", "t10k"))
