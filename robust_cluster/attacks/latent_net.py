"""The learned perturbation network of ALRDC (NeurIPS 2020): a small vector delta(x) on the embedding.

L_A = recon_weight * E||x_hat - x_hat'||^2 + gamma * E<y, y'> + size_weight * E||delta||^2, over the attacker alone:
the decoded image stays, the cluster changes, the step is small. x_hat = dec(z), x_hat' = dec(z + delta) with one
draw of z; y = head(mu), y' = head(mu + delta). The released code sums the middle term over a batch of 1000 with weight
0.04, which is gamma = 40 as a mean. The attacker reads x, not z, and is affine in it.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from robust_cluster.attacks.base import Attack, Space, Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Losses
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import device_of, flat, glorot, perceptron
from robust_cluster.nn.losses import assignment_overlap, squared_error
from robust_cluster.nn.optim import Stateful, adam, descend

PROFILES = {
    "smoke": {"hidden": (64, 32), "schedule": {"epochs": 10, "batch_size": 128, "steps_per_epoch": 20, "window": 3}},
    "cpu": {"hidden": (256, 128), "schedule": {"epochs": 40, "batch_size": 300}},  # 2,000 steps
    "short": {"hidden": (256, 128), "schedule": {"epochs": 8, "batch_size": 100, "window": 3}},  # 400 steps
}


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the attack."""

    gamma: float = 40.0  # weight of the overlap as a batch mean
    recon_weight: float = 2.5  # weight of the change of the decoded image
    size_weight: float = 1.0  # weight of ||delta||^2
    hidden: tuple[int, ...] = (1024, 512)  # widths of the attacker
    attacker_activation: Literal["none", "relu"] = "none"  # none in the code; relu is a labeled stronger attacker
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=200, batch_size=1000, steps_per_epoch=50, window=10)
    )

    def __post_init__(self) -> None:
        check_at_least(0, self, "gamma", "recon_weight", "size_weight")
        check_at_least(1, self, "hidden")


class LatentNet(Attack):
    """One attacker against one model; only its own network learns."""

    space: Space = "latent"
    trained: ClassVar[bool] = True
    budget = Budget()  # none: size is a term of the objective and is reported as D

    def __init__(self, config: Config, surface: Surface) -> None:
        model, self.config = surface.model, config
        self.check_model(type(model))
        inputs = sum(torch.Size(shape).numel() for shape in model.info.shapes)
        with torch.no_grad():
            probe = tuple(torch.zeros(1, *shape) for shape in model.info.shapes)
            device = device_of(model)
            outputs = model.encode(tuple(view.to(device) for view in probe)).z.shape[1]
        activation = nn.ReLU if config.attacker_activation == "relu" else None
        self.network = perceptron([inputs, *config.hidden, outputs], activation).to(device)
        glorot(self.network)
        self.optimizer = adam(self.network.parameters(), config.schedule.lr)

    @classmethod
    def check_model(cls, model: type[ClusterModel]) -> None:
        """Refuse a method without a decoder. Raises: ConfigError."""
        if not model.has_decoder():
            raise ConfigError(
                f"latent_net watches the decoded image, and {model.__name__} has no decoder",
                hint="--attack view_gan, --attack pgd or another --model",
            )

    def delta(self, batch: Batch) -> Tensor:
        """The perturbation (n, d) of each sample."""
        delta: Tensor = self.network(flat(batch.views))
        return delta

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """(mu + delta(x),)."""
        return (surface.point(batch)[0] + self.delta(batch),)

    def losses(self, surface: Surface, batch: Batch) -> Losses:
        """The three weighted terms of L_A. The model's own forward pass carries no gradient to it."""
        model, config, delta = surface.model, self.config, self.delta(batch)
        with torch.no_grad():
            embedding = surface.embedding(batch)
            z = embedding.draw()
            decoded = flat(model.decode(z))
            clean = model.assign(embedding.z)
        moved = flat(model.decode(z + delta))
        return {
            "reconstruction": config.recon_weight * squared_error(decoded, moved),
            "overlap": config.gamma * assignment_overlap(clean, model.assign(embedding.z + delta)),
            "size": config.size_weight * delta.square().sum(dim=1).mean(),
        }

    def step(self, surface: Surface, batch: Batch) -> dict[str, float]:
        """One Adam step of the attacker."""
        self.queries += 2 * len(batch)
        return descend(self.losses(surface, batch), self.optimizer)

    def state(self) -> dict[str, Stateful]:
        """Network and optimizer."""
        return {"network": self.network, "optimizer": self.optimizer}
