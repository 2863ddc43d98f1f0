"""The attack of AR-DMVC (ICML 2024) on multi-view clustering: one generator and one discriminator per view.

x~^v = clip(x^v + delta^v), delta^v = eps tanh(G^v(x^v)) by default. The D^v tell clean views from moved ones; the G^v
descend gan_weight L_GAN - com_weight L_com - con_weight L_con + penalty_weight L_size against a frozen model:
L_com = E sum_v ||z^v - z~^v||^2 (complementarity: what each view alone tells), L_con = E ||c - c~||^2 (consistency:
what they agree on), L_GAN = sum_v E log(1 - D^v(x~^v)). No label is read. Where representations differ in size, one of
the two is all (of Multi-VAE L_con is 0.01 and L_com 1,700, of InfoDDC 450 and 0.5): `terms` "balanced", our own, takes
log L_com and log L_con, whose gradients do not know the size.
Mode "clean" is the talk's objective, with a bound on pixels in place of its penalty on ||delta||^2. Mode "paper" is the
released code: least-squares GAN, norms in place of squared norms, summed over the batch (so their weight grows with
it), times 5/2; delta = tanh(G) cut to eps with weights from N(0, 1), which leaves no gradient on nearly all pixels; a
penalty on the norm of delta; optimizers made anew at the drop of lr, as epoch 20 of 30 starts. Batch norm takes the
batch's statistics as there; Multi-VAE's codes, which are drawn there, are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.attacks.base import Attack, Space, Surface
from robust_cluster.attacks.bounded import check_mode
from robust_cluster.attacks.pgd import changes, pixel_budget
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least, check_share
from robust_cluster.models.base import ClusterModel, Embedding, Losses
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.gan import Discriminator, Generator, image_shape, normal_init
from robust_cluster.nn.layers import BatchNormMode, batch_norm_mode, device_of
from robust_cluster.nn.optim import Stateful, adam, descend

MODES: dict[str, dict[str, Any]] = {
    "paper": {
        "bn": "batch",
        "param": "clamp",
        "init_std": 1.0,
        "gan_loss": "lsgan",
        "shift": "norm",
        "reduction": "sum",
        "com_weight": 2.5,
        "con_weight": 2.5,
        "penalty": "l2",
        "train_share": 1.0,
        "lr_drop": 19 / 30,  # as epoch 20 starts
        "reset_adam": True,
    }
}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"schedule": {"epochs": 1, "batch_size": 50}},
    "cpu": {"schedule": {"epochs": 10}},
}
LEAST = 1e-12  # shift whose logarithm is taken


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the attack; schedule as in AR-DMVC's code, which trains EAMC to SEM alike."""

    mode: Literal["clean", "paper"] = "clean"
    bn: BatchNormMode = "eval"  # batch norm of the model while it learns: stored statistics, or each batch's (the code)
    eps: float | None = None  # L-infinity radius in pixels; None: AR-DMVC's for the data set
    # complementarity and consistency, one of them, or the logarithms of both: our own, which weighs them alike
    terms: Literal["com+con", "com", "con", "balanced"] = "com+con"
    param: Literal["scaled_tanh", "clamp"] = "scaled_tanh"  # eps tanh(u), or tanh(u) cut to [-eps, eps]
    init_std: float | None = None  # of the convolutions' weights; None: PyTorch's default initialization
    gan_loss: Literal["minimax", "lsgan"] = "minimax"  # of generators against discriminators
    gan_weight: float = 1.0  # of the generators' GAN term
    shift: Literal["squared", "norm"] = "squared"  # ||.||^2 or ||.|| of each sample's change
    reduction: Literal["mean", "sum"] = "mean"  # of the shifts, over the batch
    com_weight: float = 1.0  # of complementarity; the code's 5 times 1/2 in mode "paper"
    con_weight: float = 1.0  # of consistency; 5 times 1/2 in mode "paper" too
    penalty: Literal["none", "l2", "hinge"] = "none"  # E sum_v of ||delta^v||, or of max(||delta^v||^2 - radius^2, 0)
    penalty_weight: float = 1.0  # of that penalty
    hinge_radius: float = 1.0  # L2, pixels; the talk's epsilon is its square, for which it gives no value
    train_share: float = 0.8  # of the samples the generators are trained on; the others are scored. 1: all for both
    lr_drop: float = 2 / 3  # share of the epochs after which lr is a tenth; 1: never
    reset_adam: bool = False  # whether Adam's moments are forgotten at the drop
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=30, batch_size=100))

    def __post_init__(self) -> None:
        check_at_least(0, self, "gan_weight", "com_weight", "con_weight", "penalty_weight", "hinge_radius")
        check_at_least(0, self, "eps", "init_std")
        check_share(self, "train_share", "lr_drop")


class ViewGan(Attack):
    """The generators and discriminators of one model's views; only they learn."""

    space: Space = "input"
    trained: ClassVar[bool] = True

    def __init__(self, config: Config, surface: Surface) -> None:
        model, self.config = surface.model, config
        self.budget = pixel_budget(config.eps, model.info)
        self.generators = nn.ModuleList(Generator(shape) for shape in model.info.shapes)
        self.discriminators = nn.ModuleList(Discriminator(shape) for shape in model.info.shapes)
        device = device_of(model)
        for networks in (self.generators, self.discriminators):
            if config.init_std is not None:
                normal_init(networks, config.init_std)
            networks.to(device)
        self.optimizer_generators = adam(self.generators.parameters(), config.schedule.lr)
        self.optimizer_discriminators = adam(self.discriminators.parameters(), config.schedule.lr)

    @classmethod
    def check_data(cls, info: DataInfo, config: Config) -> None:
        """Refuse all but images of a known range of values. Raises: ConfigError, ShapeError."""
        pixel_budget(config.eps, info)
        for shape in info.shapes:
            image_shape(shape)

    def delta(self, views: Views) -> Views:
        """The perturbation (n, C, H, W) of every view, each value in [-eps, eps], before the cut to pixels."""
        eps = self.budget.eps
        bounded = (generator(view).tanh() for generator, view in zip(self.generators, views, strict=True))
        if self.config.param == "clamp":
            return tuple(value.clamp(-eps, eps) for value in bounded)
        return tuple(eps * value for value in bounded)

    def moved(self, views: Views, delta: Views) -> Views:
        """x + delta of every view, cut to the range of pixels."""
        return self.budget.clip(views, tuple(view + change for view, change in zip(views, delta, strict=True)))

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The moved views. Instance norm has no state, so there is no mode to switch to; the model is not asked."""
        return self.moved(batch.views, self.delta(batch.views))

    def step(self, surface: Surface, batch: Batch) -> dict[str, float]:
        """One Adam step of the discriminators, then one of the generators on the same perturbation.

        Raises: ConfigError for batches of 1 and for a surface whose batch norm is in another mode than the config's.
        """
        check_mode(self.config.bn, surface)
        if len(batch) < 2:
            raise ConfigError(f"the discriminators need batches of at least 2 samples, got {len(batch)}")
        delta = self.delta(batch.views)
        moved = self.moved(batch.views, delta)
        detached = tuple(view.detach() for view in moved)
        self.queries += 2 * len(batch)
        seen = descend(self.discriminator_losses(batch.views, detached), self.optimizer_discriminators)
        terms = self.losses(surface, batch, delta=delta, moved=moved)
        return descend(terms, self.optimizer_generators, is_alone=True) | seen

    def discriminator_losses(self, clean: Views, moved: Views) -> Losses:
        """-sum_v E[log D(x) + log(1 - D(x~))], or E (D(x) - 1)^2 + E D(x~)^2 over samples and views."""
        real, fake = self.logits(clean), self.logits(moved)
        if self.config.gan_loss == "minimax":
            return {"discriminator": (F.softplus(-real) + F.softplus(fake)).mean(dim=0).sum()}
        return {"discriminator": (real.sigmoid() - 1).square().mean() + fake.sigmoid().square().mean()}

    def losses(self, surface: Surface, batch: Batch, *, delta: Views, moved: Views) -> Losses:
        """The generators' weighted terms: gan, complementarity, consistency, penalty; those that are switched on."""
        config, model = self.config, surface.model
        with torch.no_grad():
            clean = surface.embedding(batch)
        *per_view, consensus = (self.size(change) for change in changes(model, clean, surface.encode(moved)))
        with batch_norm_mode(self.discriminators, "batch"):  # their running statistics stay those of their own steps
            terms = {"gan": config.gan_weight * self.fooling(self.logits(moved))}
        if config.terms != "con":
            terms["complementarity"] = -config.com_weight * self.scaled(torch.stack(per_view).sum())
        if config.terms != "com":
            terms["consistency"] = -config.con_weight * self.scaled(consensus)
        if config.penalty != "none":
            terms["penalty"] = config.penalty_weight * torch.stack([*self.excess(delta)]).sum()
        return terms

    def logits(self, views: Views) -> Tensor:
        """What each discriminator says of its view, (n, V)."""
        return torch.stack([d(view) for d, view in zip(self.discriminators, views, strict=True)], dim=1)

    def fooling(self, logits: Tensor) -> Tensor:
        """sum_v E log(1 - D(x~)), or E (D(x~) - 1)^2 over samples and views, of logits (n, V)."""
        if self.config.gan_loss == "minimax":
            return -F.softplus(logits).mean(dim=0).sum()
        return (logits.sigmoid() - 1).square().mean()

    def sizes(self, change: Tensor) -> Tensor:
        """How far each of the representations (n, d) moved: its squared norm or norm, (n,)."""
        return change.square().sum(dim=1) if self.config.shift == "squared" else change.norm(dim=1)

    def size(self, change: Tensor) -> Tensor:
        """How far representations (n, d) moved: `sizes`, their mean or sum over the batch."""
        rows = self.sizes(change)
        return rows.mean() if self.config.reduction == "mean" else rows.sum()

    def objective(self, model: ClusterModel, clean: Embedding, moved: Embedding, labels: Tensor) -> Tensor:
        """What the generators make large of each sample, (n,): the weighted shifts in the terms that are switched on.

        `representation_shift` by default.
        """
        config = self.config
        *per_view, consensus = (self.sizes(change) for change in changes(model, clean, moved))
        parts = [config.com_weight * self.scaled(torch.stack(per_view).sum(dim=0))] if config.terms != "con" else []
        parts += [config.con_weight * self.scaled(consensus)] if config.terms != "com" else []
        return torch.stack(parts).sum(dim=0)

    def scaled(self, shift: Tensor) -> Tensor:
        """A shift as it stands in the objective: itself, or its logarithm where terms are "balanced"."""
        return shift.clamp_min(LEAST).log() if self.config.terms == "balanced" else shift

    def excess(self, delta: Views) -> Iterator[Tensor]:
        """E ||delta^v||, or E max(||delta^v||^2 - radius^2, 0), of every view; before the cut to pixels."""
        for rows in (change.flatten(1) for change in delta):
            if self.config.penalty == "l2":
                yield rows.norm(dim=1).mean()
            else:
                yield (rows.square().sum(dim=1) - self.config.hinge_radius**2).clamp_min(0.0).mean()

    def after_epoch(self, epoch: int) -> None:
        """Lower lr to a tenth when the share `lr_drop` of the epochs, rounded, is done; lr is saved with the state."""
        if epoch != round(self.config.lr_drop * self.config.schedule.epochs):
            return
        for optimizer in (self.optimizer_generators, self.optimizer_discriminators):
            for group in optimizer.param_groups:
                group["lr"] = self.config.schedule.lr / 10
            if self.config.reset_adam:
                optimizer.state.clear()

    def state(self) -> dict[str, Stateful]:
        """Networks and optimizers."""
        return {
            "generators": self.generators,
            "discriminators": self.discriminators,
            "optimizer_generators": self.optimizer_generators,
            "optimizer_discriminators": self.optimizer_discriminators,
        }
