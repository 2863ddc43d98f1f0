"""Features of images that a ResNet-50 has computed once: a file that is found, never made up and never downloaded."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_cluster.data import files, sources
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.features import UNTRAINED, provenance
from robust_cluster.data.sources import Collection, SourceFile
from robust_cluster.data.sparse import Matrix
from robust_cluster.errors import DataError

WIDTH = 2048  # of the global average pool
NET = "resnet50"
FILE = f"{NET}.npz"


def find(name: str, folders: Folders) -> tuple[Path, ...] | None:
    """The feature file `<name>/resnet50.npz` below one of the folders, or None."""
    return sources.find(folders, Collection(name, (SourceFile(f"{name}/{FILE}"),)))


def read(name: str, n_samples: int, folders: Folders) -> Raw:
    """Features (n, 2048) and labels. Raises: DataError when there is no file, or it holds something else."""
    found = find(name, folders)
    if found is None:
        raise DataError(
            f"The features of {name} are not there: {name}/{FILE} with x ({n_samples}, {WIDTH}) and y ({n_samples},) "
            "is in no known folder",
            hint=f"{_command(name)} --output DIR/{name}/{FILE}, then --data-dir DIR",
        )
    made = provenance(found[0])
    if made is not None and made.get("weights") == UNTRAINED:
        raise DataError(f"{found[0]} holds the features of random weights, which are no result for {name}")
    if made is not None and (made.get("net"), made.get("source")) != (NET, f"{name}-raw"):
        raise DataError(
            f"{found[0]} must hold {NET}'s features of {name}-raw, got {made.get('net')}'s of {made.get('source')}",
            hint=_command(name),
        )
    raw = files.read(found[0])
    shape = raw.views[0].shape
    if raw.labels is None or len(raw.views) != 1 or shape != (n_samples, WIDTH):
        labels = "no labels" if raw.labels is None else f"{len(raw.labels)} labels"
        raise DataError(
            f"{found[0]} must hold the features of {name}, x ({n_samples}, {WIDTH}) and y ({n_samples},), "
            f"got {len(raw.views)} view of {shape} and {labels}"
        )
    weights = "weights not known" if made is None else f"weights {made.get('weights')}"
    return Raw(raw.views, raw.labels, image=False, source=f"ResNet-50 features of {name}, {weights}")


def _command(name: str) -> str:
    """What makes the features, by weights that ALRDC could have used: torchvision's default ones are of late 2021."""
    return f"rc data features {name}-raw --net {NET} --weights IMAGENET1K_V1"


def standardized(features: npt.NDArray[np.generic] | Matrix) -> npt.NDArray[np.float32]:
    """Features with mean 0 and standard deviation 1 in each column, in float64; constant columns become 0."""
    dense = features if isinstance(features, np.ndarray) else features.toarray()
    x = dense.astype(np.float64)
    x -= x.mean(axis=0)
    spread = x.std(axis=0)
    x /= np.where(spread > 0, spread, 1)
    return x.astype(np.float32)
