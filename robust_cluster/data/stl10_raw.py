"""STL-10's 13,000 labeled images; the 100,000 without a label are not used, as in ALRDC."""

import numpy as np
import numpy.typing as npt

from robust_cluster.data.archive import contents
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.sources import AGAIN, NO_LICENSE, Collection, SourceFile
from robust_cluster.errors import DataError

DESCRIPTION = "STL-10, 13,000 labeled images (train, then test), 96x96 in color, 10 classes"
CITATION = "Coates, Lee, Ng, An analysis of single-layer networks in unsupervised feature learning, AISTATS 2011"
LICENSE = NO_LICENSE
SHAPE = (3, 96, 96)  # channels, columns, rows: as the file has them
UNPACKED = Collection(
    "stl10",
    (
        SourceFile("train_X.bin", md5="918c2871b30a85fa023e0c44e0bee87f"),
        SourceFile("train_y.bin", md5="5a34089d4802c674881badbb80307741"),
        SourceFile("test_X.bin", md5="7f263ba9f9e0b06b93213547f721ac82"),
        SourceFile("test_y.bin", md5="36f9794fa4beb8a2c72628de14fa638e"),
    ),
    ("stl10/stl10_binary", "STL10/stl10_binary", "stl10_binary"),
)
URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
ARCHIVE = SourceFile("stl10_binary.tar.gz", URL, 2_640_397_119, "91f7769df0f17e558f3565bffb0c7dfb")
COLLECTION = Collection("stl10", (ARCHIVE,), instead=UNPACKED)
find = COLLECTION.find  # the unpacked files, or the archive alone


def read(folders: Folders) -> Raw:
    """Images (13000, 3, 96, 96) uint8 and labels 0 to 9. Raises: DataError."""
    files = contents(COLLECTION, folders)
    parts = [read_part(part, files[f"{part}_X.bin"], files[f"{part}_y.bin"]) for part in ("train", "test")]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Raw((images,), labels, image=True, source="binary files of stl10")


def read_part(part: str, pixels: bytes, classes: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (n, 3, 96, 96) and labels 0 to 9 of one part.

    The files are bytes: each image's red, green and blue plane, column after column; a label from 1 to 10 an image.
    Raises: DataError for other lengths or labels.
    """
    size = int(np.prod(SHAPE))
    labels = np.frombuffer(classes, np.uint8).astype(np.int64)
    if not classes or len(pixels) != size * len(labels):
        raise DataError(
            f"stl10: {part}_X.bin must hold {size} bytes for each of the {len(labels)} labels in {part}_y.bin, "
            f"got {len(pixels)}: it is truncated, or another file",
            hint=AGAIN,
        )
    if labels.min() < 1 or labels.max() > 10:
        raise DataError(f"stl10: {part}_y.bin must hold labels from 1 to 10, got {labels.min()} to {labels.max()}")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *SHAPE).transpose(0, 1, 3, 2)
    return images, labels - 1
