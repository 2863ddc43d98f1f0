"""What methods on the raw data share: the embedding is the data, and `start` is the whole fit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import flat


@dataclass(frozen=True)
class ShallowConfig(ModelConfig):
    """A config without epochs."""

    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=0))  # fitted by start(), not by descent

    def __post_init__(self) -> None:
        if self.cluster.epochs:
            name = type(self).__module__.rpartition(".")[2]
            raise ConfigError(f"{name} is not trained by descent: cluster.epochs must be 0, got {self.cluster.epochs}")


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
