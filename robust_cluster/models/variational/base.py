"""What the variational methods share: LPVDN's network for one view, D-500-500-2000-J and its mirror."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig
from robust_cluster.nn.variational import VariationalAutoencoder

Output = Literal["auto", "sigmoid", "linear"]
UNIT = (0.0, 1.0)  # bounds of data that a sigmoid can give


@dataclass(frozen=True)
class VariationalConfig(ModelConfig):
    """The network's settings."""

    hidden: tuple[int, ...] = (500, 500, 2000)  # widths of the encoder, mirrored in the decoder; the paper
    output: Output = "auto"  # of the decoder; auto: sigmoid for data in [0, 1], else linear

    def __post_init__(self) -> None:
        check_hidden(self.hidden)


class Variational(ClusterModel):
    """A method whose z is the mean of a variational encoder's posterior."""

    def __init__(self, config: VariationalConfig, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_output(config.output, info)
        is_bounded = config.output == "sigmoid" or (config.output == "auto" and info.bounds == UNIT)
        self.network = VariationalAutoencoder(single_view(info), latent_dim, config.hidden, is_bounded=is_bounded)

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse data that the decoder cannot give. Raises: ConfigError."""
        check_output(config.output, info)

    def encode(self, views: Views) -> Embedding:
        """Mean and log-variance of the posterior, each (n, d)."""
        mean, log_var = self.network.encode(views[0])
        return Embedding(mean, (mean,), log_var)

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape)."""
        return (self.network.decode(z),)


def check_output(output: Output, info: DataInfo) -> None:
    """Refuse several views, and a sigmoid where the data are not in [0, 1]. Raises: ConfigError."""
    single_view(info)
    if output == "sigmoid" and info.bounds != UNIT:
        raise ConfigError(
            f"output 'sigmoid' needs data in [0, 1], {info.name} has no such bounds; 'linear' and 'auto' are allowed",
            hint="--set model.output=linear, or images with --flatten --normalize none",
        )


def check_hidden(hidden: tuple[int, ...], name: str = "hidden") -> None:
    """Refuse no widths, and one below 1. Raises: ConfigError."""
    if not hidden or min(hidden) < 1:
        raise ConfigError(f"{name} must be a list of widths >= 1 such as [500, 500, 2000], got {list(hidden)}")
