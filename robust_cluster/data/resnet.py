"""Features of images that a ResNet-50 has computed once: a file that is found, never made up and never downloaded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_cluster.data import files
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.features import UNTRAINED, provenance
from robust_cluster.data.sources import Collection, SourceFile
from robust_cluster.data.sparse import Matrix
from robust_cluster.errors import DataError

HE_ET_AL = "He et al., Deep residual learning for image recognition, CVPR 2016"
WIDTH = 2048  # of the global average pool
NET = "resnet50"
FILE = f"{NET}.npz"


@dataclass(frozen=True)
class Features:
    """What a ResNet-50 makes of the images of the data set `name`: a file that `rc data features` has written.

    `is_standardized`: each column is given mean 0 and standard deviation 1.
    """

    name: str
    n_samples: int
    is_standardized: bool = False

    def find(self, folders: Folders) -> tuple[Path, ...] | None:
        """The file `<name>/resnet50.npz` below one of the folders, or None."""
        return Collection(self.name, (SourceFile(f"{self.name}/{FILE}"),)).find(folders)

    def read(self, folders: Folders) -> Raw:
        """Features (n, 2048) and labels. Raises: DataError when there is no file, or it holds something else."""
        name, shape, found = self.name, (self.n_samples, WIDTH), self.find(folders)
        if found is None:
            raise DataError(
                f"The features of {name} are not there: {name}/{FILE} with x {shape} and y ({self.n_samples},) "
                "is in no known folder",
                hint=f"{self._command} --output DIR/{name}/{FILE}, then --data-dir DIR",
            )
        made = provenance(found[0])
        if made is not None and made.get("weights") == UNTRAINED:
            raise DataError(f"{found[0]} holds the features of random weights, which are no result for {name}")
        if made is not None and (made.get("net"), made.get("source")) != (NET, f"{name}-raw"):
            got = f"{made.get('net')}'s of {made.get('source')}"
            message = f"{found[0]} must hold {NET}'s features of {name}-raw, got {got}"
            raise DataError(message, hint=self._command)
        raw = files.read(found[0])
        if raw.labels is None or len(raw.views) != 1 or raw.views[0].shape != shape:
            labels = "no labels" if raw.labels is None else f"{len(raw.labels)} labels"
            raise DataError(
                f"{found[0]} must hold the features of {name}, x {shape} and y ({self.n_samples},), "
                f"got {len(raw.views)} view of {raw.views[0].shape} and {labels}"
            )
        weights = "weights not known" if made is None else f"weights {made.get('weights')}"
        views = (standardized(raw.views[0]),) if self.is_standardized else raw.views
        return Raw(views, raw.labels, image=False, source=f"ResNet-50 features of {name}, {weights}")

    @property
    def _command(self) -> str:
        """What makes the file, by weights that ALRDC could have used: torchvision's default ones are of late 2021."""
        return f"rc data features {self.name}-raw --net {NET} --weights IMAGENET1K_V1"


def standardized(features: npt.NDArray[np.generic] | Matrix) -> npt.NDArray[np.float32]:
    """Features with mean 0 and standard deviation 1 in each column, in float64; constant columns become 0."""
    dense = features if isinstance(features, np.ndarray) else features.toarray()
    x = dense.astype(np.float64)
    x -= x.mean(axis=0)
    spread = x.std(axis=0)
    x /= np.where(spread > 0, spread, 1)
    return x.astype(np.float32)
