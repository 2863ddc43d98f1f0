"""What methods on the raw data share: the embedding is the data, and `start` is the whole fit."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.data.formats import memory
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import flat
from robust_cluster.nn.sparse import scipy_csr


@dataclass(frozen=True)
class ShallowConfig(ModelConfig):
    """A config without epochs."""

    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=0))  # fitted by start(), not by descent

    def __post_init__(self) -> None:
        if self.cluster.epochs:
            name = type(self).__module__.rpartition(".")[2]
            raise ConfigError(f"{name} is not trained by descent: cluster.epochs must be 0, got {self.cluster.epochs}")


@dataclass(frozen=True)
class BoundedConfig(ShallowConfig):
    """A config of a method whose fit may take more memory than there is."""

    memory: float | None = None  # GiB that the fit may take; None: what the machine has left

    def __post_init__(self) -> None:
        check_positive(self, "memory")
        super().__post_init__()


class Shallow(ClusterModel):
    """A method whose z (n, sum of sizes) is the data, views side by side: there is no latent space to move points in.

    `takes_csr`: `start`, `assign`, `labels` and `health` get a whole data set of one sparse view in torch's CSR layout.
    """

    takes_csr: ClassVar[bool] = False

    def __init__(self, config: ShallowConfig, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.sizes = [torch.Size(shape).numel() for shape in info.shapes]

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Leave everything as `start` has fitted it."""

    def encode(self, views: Views) -> Embedding:
        """The data themselves: z (n, sum of sizes)."""
        return Embedding(flat(views), tuple(view.flatten(1) for view in views))

    def decode(self, z: Tensor) -> Views:
        """The views that z (n, sum of sizes) is made of."""
        parts = z.split(self.sizes, dim=1)
        return tuple(part.unflatten(1, shape) for part, shape in zip(parts, self.info.shapes, strict=True))


class Transductive(Shallow):
    """A method that labels only the rows that it was fitted on, which `fit.labels` has."""

    transductive: ClassVar[bool] = True
    config: BoundedConfig

    def __init__(self, config: BoundedConfig, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_at_least(2, info, "n_clusters")

    @abstractmethod
    def needed(self) -> int:
        """Bytes that `clustered` takes beside the data, about."""

    @abstractmethod
    def clustered(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) int64 of the rows z (n, d)."""

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Label the rows. Raises: OutOfMemory before anything is allocated, ConfigError for too few distinct rows."""
        name = type(self).__module__.rpartition(".")[2]
        memory.claim(f"{name} of {self.info.n_samples} samples", self.needed(), self.config.memory)
        z = embed().z
        check_distinct(z, self.info.n_clusters)
        self.fit.labels = self.clustered(z, seed)


def check_distinct(z: Tensor, n_clusters: int) -> None:
    """Raises ConfigError where z (n, d), dense or in torch's CSR layout, has fewer distinct rows than clusters."""
    seen: set[bytes] = set()
    for row in scipy_csr(z) if z.layout == torch.sparse_csr else z.detach().cpu().numpy():
        seen.add(row.tobytes() if isinstance(row, np.ndarray) else row.indices.tobytes() + row.data.tobytes())
        if len(seen) >= n_clusters:  # mostly among the first
            return
    raise ConfigError(
        f"{n_clusters} clusters need as many distinct samples, there are {len(seen)}", hint="--clusters K"
    )
