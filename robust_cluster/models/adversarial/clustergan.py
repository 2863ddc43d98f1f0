"""ClusterGAN: a generator whose input names a cluster, and an encoder that finds it again (Mukherjee et al., 2019).

z = (z_n, z_c), z_n ~ N(0, 0.1^2 I), z_c one-hot, uniform over K. A step: the critic D descends
E D(x) - E D(G(z)) + 10 E (||grad D(x~)|| - 1)^2, x~ between samples and fakes, five times, each on samples of its own;
then generator G and encoder E descend E D(G(z)) + noise_weight * mean (z_n - z_n^)^2 + category_weight * CE(z_c, c^),
(z_n^, c^) = E(G(z)), all as in the authors' code. Labels are k-means on [z_n^, softmax c^] of the samples, on softmax
c^ alone where noise_weight is 0. The code takes the best of five models by labels and reports purity: neither here.

Networks and settings are those of its MNIST; vectors, of which it has none but gene counts, take perceptrons. A batch
holds the samples of all critic's steps: 5 * 64.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.images import check_size, image_shape, ranged, unranged
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.adversarial import frozen, gradient_penalty
from robust_cluster.nn.gan import ImageCritic, ImageMaker
from robust_cluster.nn.layers import glorot, perceptron
from robust_cluster.nn.mixture import lloyd_pass
from robust_cluster.nn.optim import adam, descend

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"maps": (16, 32), "dense": 128, "cluster": {"epochs": 15, "steps_per_epoch": 20, "lr": 2e-3}},
    # 1,000 steps: 8 minutes on one core
    "cpu": {"maps": (16, 32), "dense": 128, "cluster": {"epochs": 10, "steps_per_epoch": 100, "lr": 1e-3}},
}
PENALTY = 10.0  # of the critic's gradient [code]
NOISE_STD = 0.1  # of z_n [code]
INIT_STD = 0.02  # of all weights of the networks for images [code]
SMALLEST = 4  # pixels a side that the critic's two convolutions leave one of


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of ClusterGAN, as in the authors' code for MNIST."""

    image_shape: tuple[int, ...] = ()  # (channels, height, width) of vectors that are flattened images
    noise_dim: int | None = None  # entries of z_n; 30 for MNIST, 40 for Fashion-MNIST [code], None: --dim
    maps: tuple[int, ...] = (64, 128)  # of critic's and encoder's 4x4 convolutions, mirrored in the generator [code]
    dense: int = 1024  # width of the layer between maps and code [code]
    hidden: tuple[int, ...] = (256, 256)  # widths of the perceptrons that vectors take [our choice]
    noise_weight: float = 10.0  # beta_n; 0 for Fashion-MNIST [code]
    category_weight: float = 10.0  # beta_c [code]
    critic_steps: int = 5  # for one of generator and encoder [code]
    n_init: int = 10  # k-means restarts [our choice]
    # 500,000 steps [code]
    cluster: Schedule = field(
        default_factory=lambda: Schedule(epochs=500, batch_size=320, steps_per_epoch=1000, lr=1e-4)
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "noise_dim", "maps", "dense", "hidden", "critic_steps", "n_init")
        check_at_least(0, self, "noise_weight", "category_weight")
        if len(self.maps) != 2:
            raise ConfigError(f"maps must be two numbers such as [64, 128], got {list(self.maps)}")


class ClusterGAN(CenterModel):
    """z of the embedding is [z_n^, softmax c^] (n, noise_dim + K), which the generator decodes."""

    descends_losses: ClassVar[bool] = False
    config: Config

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse images that the critic's convolutions leave no pixel of. Raises: ConfigError."""
        if shape := image_shape(config.image_shape, info):
            check_size("ClusterGAN", shape, info, smallest=SMALLEST)

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        self.n_noise = config.noise_dim or latent_dim
        super().__init__(config, info, self.n_noise + info.n_clusters)
        check_at_least(2, info, "n_clusters")
        shape, code = image_shape(config.image_shape, info), self.latent_dim
        ends: nn.Module = nn.Identity() if info.box is None else nn.Sigmoid()
        if shape:
            self.shape, (first, second) = shape, config.maps
            maker: nn.Module = ImageMaker(shape, code, maps=(second, first), dense=config.dense)
            critics = [ImageCritic(shape, size, maps=config.maps, dense=config.dense) for size in (1, code)]
        else:
            self.shape, leaky = info.shapes[0], partial(nn.LeakyReLU, 0.2)
            n = math.prod(self.shape)
            maker = perceptron([code, *config.hidden, n], leaky)
            critics = [perceptron([n, *config.hidden, size], leaky) for size in (1, code)]  # type: ignore[misc]
        self.generator = nn.Sequential(maker, ends)
        self.critic, self.encoder = critics
        glorot(self)
        for layer in self.modules() if shape else ():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, INIT_STD)
        self.add_centers(self.latent_dim if config.noise_weight else info.n_clusters)

    def samples(self, views: Views) -> Tensor:
        """The samples (n, *shape) as the networks see them, in [0, 1] where their range is known."""
        return ranged(views[0].reshape(-1, *self.shape), self.info, 0, 1)

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z_n^ (n, noise_dim) and the logits of c^ (n, K) that the encoder makes of samples x."""
        noise, logits = self.encoder(x).split([self.n_noise, self.info.n_clusters], dim=1)
        return noise, logits

    def encode(self, views: Views) -> Embedding:
        """[z_n^, softmax c^] (n, noise_dim + K)."""
        noise, logits = self.told(self.samples(views))
        z = torch.cat([noise, logits.softmax(dim=1)], dim=1)
        return Embedding(z, (z,))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape), in the data's own units."""
        return (unranged(self.generator(z), self.info, 0, 1).reshape(len(z), *self.info.shapes[0]),)

    def points(self, z: Tensor) -> Tensor:
        """What k-means clusters: z, or softmax c^ alone where no loss taught the encoder z_n."""
        return z if self.config.noise_weight else z[:, self.n_noise :]

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """n inputs of the generator (n, noise_dim + K), and the clusters (n,) that they name."""
        device = self.centers.device
        noise = NOISE_STD * torch.randn(n, self.n_noise, device=device)
        clusters = torch.randint(self.info.n_clusters, (n,), device=device)
        return torch.cat([noise, F.one_hot(clusters, self.info.n_clusters)], dim=1), clusters

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """adversarial, noise and category, of as many fakes as one critic's step has samples."""
        if phase == "pretrain":
            raise ConfigError("ClusterGAN has no pretraining")
        z, clusters = self.draw(max(2, len(batch) // self.config.critic_steps))  # batch norm needs two
        fakes = self.generator(z)
        noise, logits = self.told(fakes)
        return {
            "adversarial": frozen(self.critic, fakes).mean(),
            "noise": self.config.noise_weight * F.mse_loss(noise, z[:, : self.n_noise]),
            "category": self.config.category_weight * F.cross_entropy(logits, clusters),
        }

    def critic_loss(self, x: Tensor) -> Tensor:
        """E D(x) - E D(G(z)) + 10 E (||grad D(x~)|| - 1)^2, a scalar, for samples x and as many fakes."""
        with torch.no_grad():
            fakes = self.generator(self.draw(len(x))[0])
        penalty = gradient_penalty(self.critic, x, fakes)
        loss: Tensor = self.critic(x).mean() - self.critic(fakes).mean() + PENALTY * penalty
        return loss

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """Adam (0.5, 0.9) for generator and encoder ("model") and for the critic."""
        lr, betas = self.schedule(phase).lr, (0.5, 0.9)
        return {
            "model": adam([*self.generator.parameters(), *self.encoder.parameters()], lr, betas),
            "critic": adam(self.critic.parameters(), lr, betas),
        }

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update of generator and encoder, then the critic's, each on a part of the batch.

        Returns the terms of the former. The code begins with the critic; in a row of steps only the first differs.
        """
        values = descend(self.losses(batch, phase), optimizers["model"], is_alone=True)
        for part in self.samples(batch.views).chunk(self.config.critic_steps):
            descend({"critic": self.critic_loss(part)}, optimizers["critic"], is_alone=True)
        return values

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """k-means on the untrained codes, so that there are labels to watch."""
        self.fit_centers(embed().z, seed)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Let the centers follow the codes."""
        self.centers, self.variance = lloyd_pass(self.points(embed().z), self.centers)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How sure the encoder is of its clusters: the mean of the largest entry of softmax c^."""
        soft = embedding.z[:, self.n_noise :]
        return {"mean_largest_soft_label": float(soft.max(dim=1).values.mean())}
