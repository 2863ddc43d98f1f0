"""CIFAR-10: small photographs, train and test part together, from Python's pickled batches without unpickling code."""

import io
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_cluster.data.archive import contents
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.sources import AGAIN, NO_LICENSE, Collection, SourceFile
from robust_cluster.errors import DataError

DESCRIPTION = "CIFAR-10, 60,000 images (train, then test), 32x32 in color, 10 classes"
CITATION = "Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009"
LICENSE = NO_LICENSE
SHAPE = (3, 32, 32)
UNPACKED = Collection(
    "cifar10",
    (
        SourceFile("data_batch_1", md5="c99cafc152244af753f735de768cd75f"),
        SourceFile("data_batch_2", md5="d4bba439e000b95fd0a9bffe97cbabec"),
        SourceFile("data_batch_3", md5="54ebc095f3ab1f0389bbae665268c751"),
        SourceFile("data_batch_4", md5="634d18415352ddfa80567beed471001a"),
        SourceFile("data_batch_5", md5="482c414d41f54cd18b22e5b47cb7c3cb"),
        SourceFile("test_batch", md5="40351d587109b95175f43aff81a1287e"),
    ),
    ("cifar10/cifar-10-batches-py", "cifar-10-batches-py"),
)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE = SourceFile("cifar-10-python.tar.gz", URL, 170_498_071, "c58f30108f718f92721af3b95e74349a")
COLLECTION = Collection("cifar10", (ARCHIVE,), instead=UNPACKED)
find = COLLECTION.find  # the unpacked files, or the archive alone
# What a batch needs to rebuild its array of bytes, and nothing else: such a pickle can run no code.
REBUILD = np.empty(0, np.uint8).__reduce__()[0]
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): REBUILD,
    ("numpy._core.multiarray", "_reconstruct"): REBUILD,
}


class SafeUnpickler(pickle.Unpickler):
    """Reads plain containers and NumPy arrays, refuses every other object."""

    def find_class(self, module: str, name: str) -> Any:
        """The one of ALLOWED that has the name. Raises: pickle.UnpicklingError."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return ALLOWED[module, name]


def read(folders: Folders) -> Raw:
    """Images (60000, 3, 32, 32) uint8 and labels 0 to 9. Raises: DataError."""
    parts = [read_batch(*batch) for batch in contents(COLLECTION, folders).items()]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Raw((images,), labels, image=True, source="pickled batches of cifar10")


def read_batch(name: str, content: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (n, 3, 32, 32) and labels of one batch: a dictionary with `data` (n, 3072) and `labels`, a list.

    Raises: DataError for a truncated batch, for one that asks for objects, and for another content.
    """
    try:
        batch = SafeUnpickler(io.BytesIO(content), encoding="bytes").load()
        data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int64)
    except pickle.UnpicklingError as error:
        raise DataError(f"cifar10: {name} is no batch that can be read safely: {error}") from error
    except (EOFError, LookupError, TypeError, ValueError, AttributeError, MemoryError, OverflowError) as error:
        raise DataError(f"cifar10: {name} is damaged or truncated: {error!r}", hint=AGAIN) from error
    if data.dtype != np.uint8 or data.shape != (len(labels), int(np.prod(SHAPE))):
        raise DataError(
            f"cifar10: {name} must hold bytes (n, 3072) and n labels, got {data.dtype} {data.shape} "
            f"and {len(labels)} labels"
        )
    return data.reshape(-1, *SHAPE), labels
