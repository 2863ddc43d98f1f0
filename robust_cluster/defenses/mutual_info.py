"""ALRDC's defense (NeurIPS 2020): train on with a loss that ties the clean and the perturbed branch together.

L_D = L_victim + weight * (I1 + I2), I1 = JS(T; mu', (x_hat, y)), I2 = JS(T; mu, (x_hat', y')): the perturbed embedding
must tell of the clean outputs and the other way round; one shared discriminator T, one Adam over model and T.
mode "frozen" is the published defense (the attacker does not move, methods get a "+"); "alternating" also trains the
attacker for as many steps after each epoch; "control" trains on L_victim alone for as long, which tells what is owed to
longer training. All three take every step of the schedule: they descend different losses, and a plateau would end each
at another step.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from robust_cluster.attacks.base import Attack, Gain, Space, Surface
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Embedding, Losses, Outputs
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import flat, glorot, perceptron
from robust_cluster.nn.losses import jensen_shannon
from robust_cluster.nn.optim import Stateful, adam, descend
from robust_cluster.nn.precision import precision

PROFILES = {  # a window of 10 ends nothing in 10 epochs, and stands in the keys of runs that there are
    "smoke": {"schedule": {"epochs": 10, "batch_size": 128, "steps_per_epoch": 20, "window": 10}},
    "cpu": {"schedule": {"epochs": 50, "batch_size": 300}},  # 2,500 steps
    "short": {"schedule": {"epochs": 10, "batch_size": 100, "window": 10}},  # 500 steps
}


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the defense."""

    # the attacker stays as it was, is trained on, or the steps go without the defense's loss
    mode: Literal["frozen", "alternating", "control"] = "frozen"
    weight: float = 2.5  # of I1 + I2; ALRDC's code
    # the released code runs 1,000 epochs: --set defense.schedule.epochs=1000
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=300, batch_size=1000, steps_per_epoch=50))

    def __post_init__(self) -> None:
        check_at_least(0, self, "weight")


class MutualInfo:
    """The defense of one model; it owns T and the optimizer."""

    version: ClassVar[int] = 2
    spaces: ClassVar[tuple[Space, ...]] = ("latent",)
    meets: ClassVar[str] = "latent_net"
    restarts: bool = False

    @classmethod
    def check(cls, model: type[ClusterModel], info: DataInfo, config: Config) -> None:
        """Refuse a method without a decoder, and a schedule that a plateau may end. Raises: ConfigError."""
        schedule = config.schedule
        if 0 < 2 * schedule.window < schedule.epochs:
            raise ConfigError(
                "the three forms of mutual_info take the same steps, so no plateau may end one: "
                f"defense.schedule.window must be 0 or at least half of the epochs, {schedule.epochs}, "
                f"got {schedule.window}",
                hint="--set defense.schedule.window=0",
            )
        if not model.has_decoder():
            raise ConfigError(
                f"mutual_info learns from decoded images, and {model.__name__} has no decoder",
                hint="--attack view_gan --defense ar_dmvc",
            )

    def __init__(self, config: Config, surface: Surface) -> None:
        self.config, self.schedule, model = config, config.schedule, surface.model
        self.trains_attacker = config.mode == "alternating"
        sizes = sum(torch.Size(shape).numel() for shape in model.info.shapes)
        device, d = next(model.parameters()).device, model.latent_dim
        widths = [d + sizes + model.info.n_clusters, d, d, 1]
        self.discriminator = nn.Sequential(perceptron(widths), nn.Sigmoid()).to(device)
        glorot(self.discriminator)
        parameters = [*model.parameters(), *self.discriminator.parameters()]
        self.optimizer = adam(parameters, config.schedule.lr)

    def step(self, surface: Surface, attack: Attack, batch: Batch) -> dict[str, float]:
        """One Adam step of model and T."""
        outputs = surface.model(batch.views)
        terms = surface.model.losses(batch, "cluster", outputs)
        if self.config.mode != "control":
            terms = terms | self.information(surface, attack, batch, outputs)
        return descend(terms, self.optimizer)

    def information(self, surface: Surface, attack: Attack, batch: Batch, outputs: Outputs) -> Losses:
        """weight * I1 and weight * I2. delta depends on x alone, so nothing flows through the attacker."""
        model, z = surface.model, outputs.embedding.z
        rows = torch.arange(len(batch), device=z.device)
        memory = Embedding(z.detach(), ())  # the batch's own embedding, so that perturb() need not encode again
        with torch.no_grad(), precision("highest"):
            (moved,) = attack.perturb(Surface(model, "latent", memory), Batch(batch.views, rows))
        delta = moved - z.detach()
        clean_side = torch.cat([flat(outputs.decoded), outputs.soft_labels], dim=1)
        decoded = flat(model.decode(outputs.z_drawn + delta))
        moved_side = torch.cat([decoded, model.assign(z + delta)], dim=1)
        return {
            "information_1": self.config.weight * jensen_shannon(self.discriminator, z + delta, clean_side),
            "information_2": self.config.weight * jensen_shannon(self.discriminator, z, moved_side),
        }

    def gain(self, surface: Surface, attack: Attack, batches: Iterable[Batch]) -> Gain | None:
        """-log T(z', (x_hat, y)) - log T(z, (x_hat', y')): what a moved embedding z' has part in of I1 and I2.

        T is not kept with a defended model: it learns anew here, on the frozen model and the attack that was met. None
        for the control, which has no such loss.
        """
        if self.config.mode == "control":
            return None
        model, discriminator = surface.model, self.discriminator
        optimizer = adam(discriminator.parameters(), self.config.schedule.lr)
        for batch in batches:
            with torch.no_grad():
                outputs = model(batch.views)
            descend(self.information(surface, attack, batch, outputs), optimizer)
        discriminator.requires_grad_(False)

        def terms(model: ClusterModel, clean: Embedding, moved: Embedding, labels: Tensor) -> Tensor:
            sides = [torch.cat([flat(model.decode(e.z)), model.assign(e.z)], dim=1) for e in (clean, moved)]
            pairs = torch.cat([torch.cat([moved.z, sides[0]], dim=1), torch.cat([clean.z, sides[1]], dim=1)])
            told = (discriminator(pairs)[:, 0] + 1e-6).log()
            found: Tensor = -(told[: len(labels)] + told[len(labels) :])
            return found

        return terms

    def state(self) -> dict[str, Stateful]:
        """Discriminator and optimizer."""
        return {"discriminator": self.discriminator, "optimizer": self.optimizer}
