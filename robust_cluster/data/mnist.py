"""MNIST, and how it and the data sets of its format are read: four IDX files, on disk or downloaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.files import read_idx
from robust_cluster.data.sources import Collection, SourceFile
from robust_cluster.errors import DataError

Part = Literal["train", "t10k"]

DESCRIPTION = "MNIST, 70,000 digits (train, then test), 28x28 images, 10 classes"
CITATION = "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 1998"
LICENSE = "CC BY-SA 3.0, as Keras' documentation says"


@dataclass(frozen=True)
class Family:
    """A data set of IDX files in MNIST's format, such as Fashion-MNIST.

    All families call their files alike, so `first_labels`, with which the test part must begin, tell them apart.
    `name`: its folder; `torchvision`: the folder that torchvision.datasets would use. `files`: image and label file of
    the train part, then of the test part; `parts`: those of them that the data set has.
    """

    name: str
    torchvision: str
    first_labels: tuple[int, ...]
    files: tuple[SourceFile, ...]
    install: str = ""  # another way to get it
    parts: tuple[Part, ...] = ("train", "t10k")

    @property
    def collection(self) -> Collection:
        """The published files of its parts."""
        wanted = tuple(file for file in self.files if file.name.startswith(self.parts))
        return Collection(self.name, wanted, (f"{self.torchvision}/raw",), self.install)

    def find(self, folders: Folders) -> tuple[Path, ...] | None:
        """Image and label file of each part, where all of them are in one folder, or None."""
        return self.collection.find(folders)

    def read(self, folders: Folders) -> Raw:
        """Images (n, 28, 28) uint8 and labels of the parts, one after the other. Raises: DataError."""
        paths = self.collection.get(folders)
        pairs = zip(self.parts, paths[::2], paths[1::2], strict=True)
        images, labels = zip(*(self._read_part(part, left, right) for part, left, right in pairs), strict=True)
        return Raw((np.concatenate(images),), np.concatenate(labels), image=True, source=f"IDX files of {self.name}")

    def _read_part(
        self, part: Part, images_path: Path, labels_path: Path
    ) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
        """Images and labels of one part. Raises: DataError."""
        folder = images_path.parent
        images, labels = read_idx(images_path), read_idx(labels_path)
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


def idx_files(url: str, sizes: tuple[int, ...], md5: tuple[str, ...]) -> tuple[SourceFile, ...]:
    """Image and label file of the train part, then of the test part; sizes in bytes and MD5 in this order."""
    names = (f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
    return tuple(SourceFile(n, url + n, size, digest) for n, size, digest in zip(names, sizes, md5, strict=True))


FAMILY = Family(
    "mnist",
    "MNIST",
    first_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
    files=idx_files(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (9_912_422, 28_881, 1_648_877, 4_542),
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
)
COLLECTION, find, read = FAMILY.collection, FAMILY.find, FAMILY.read
