"""Autoencoder + k-means: pretrain an autoencoder, then k-means on its embedding. The yardstick of every deep method.

The same pretrained network starts ConvAE, MIE and Graph (ALRDC, NeurIPS 2020), so that a
table compares what each adds to one embedding. `warmup` "ae" minimizes ||x - x_hat||^2 with z = mu; "vae" minimizes
recon_weight * ||x - x_hat||^2 + KL(N(mu, e^s) || N(0, I)) with a drawn z.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import GaussianAutoencoder
from robust_cluster.nn.losses import squared_error, standard_normal_kl

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": (128, 128), "pretrain": {"epochs": 20, "batch_size": 128}},
    "cpu": {"hidden": (256, 256)},
    "short": {"pretrain": {"epochs": 10, "batch_size": 100}},
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of the autoencoder and of k-means on it."""

    hidden: tuple[int, ...] = (500, 500, 2000)  # widths of the vector encoder; images have their own network
    warmup: Literal["ae", "vae"] = "ae"  # chosen by the lower joint loss after clustering; no label is read
    recon_weight: float = 2.5  # lambda of ALRDC's code; the weight of ||x - x_hat||^2 against the KL
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=50, batch_size=256))
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=0))
    n_init: int = 20  # k-means restarts

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init", "hidden")
        check_at_least(0, self, "recon_weight")
        if not self.hidden:
            raise ConfigError("hidden must be a list of widths such as [500, 500, 2000], got none")


class AEKMeans(CenterModel):
    """k-means on the means of an autoencoder's encoder."""

    pretrained_by: ClassVar[str | None] = "ae_kmeans"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("hidden", "warmup", "recon_weight", "pretrain")
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.autoencoder = GaussianAutoencoder(single_view(info), latent_dim, config.hidden)
        self.add_centers(latent_dim)

    def pretrained(self) -> nn.Module:
        """The autoencoder."""
        return self.autoencoder

    def encode(self, views: Views) -> Embedding:
        """The encoder's mean (n, d)."""
        mean, _ = self.autoencoder.encode(views[0])
        return Embedding(mean, (mean,))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape)."""
        return (self.autoencoder.decode(z),)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The autoencoder's loss; k-means itself is not trained by descent."""
        return autoencoder_losses(self.autoencoder, batch.views[0], self.config)


def autoencoder_losses(autoencoder: GaussianAutoencoder, x: Tensor, config: Config) -> Losses:
    """The warm-up's terms for a batch x (n, *shape); see the module's first lines for both forms."""
    mean, log_var = autoencoder.encode(x)
    if config.warmup == "ae":
        return {"reconstruction": config.recon_weight * squared_error(autoencoder.decode(mean), x)}
    drawn = Embedding(mean, (mean,), log_var).draw()
    return {
        "reconstruction": config.recon_weight * squared_error(autoencoder.decode(drawn), x),
        "kl": standard_normal_kl(mean, log_var),
    }


def single_view(info: DataInfo) -> tuple[int, ...]:
    """The shape of the only view. Raises: ConfigError for multi-view data."""
    if len(info.shapes) != 1:
        raise ConfigError(f"this method takes one view, {info.name} has {len(info.shapes)}", hint="rc ls models")
    return info.shapes[0]
