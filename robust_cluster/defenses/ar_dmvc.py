"""AR-DMVC: adversarial training of a multi-view model against its own contrastive loss (Huang et al., ICML 2024).

L = L_victim(x) + lam * L_victim(x~), x~ = argmax of L_CL over |x~^v - x^v| <= eps and valid values. L_CL is the
contrastive loss between the views' representations alone, L_victim all of the model's clustering loss: for CoMVC, on
which the paper builds, L_DDC + 0.1 kappa L_CL. Training starts where the clustering did; no attack is used.
What changes in the course of a clustering, Multi-VAE's capacities by steps and SEM's W by rounds, does so here too.
Mode "paper" is the released code: L_CL of the first pair of views only, so that it trains on no third one; every pass
of the inner ascent moves batch norm's running statistics; the gradient is not cut. Mode "clean" takes all pairs, moves
no statistics while it ascends and cuts the gradient to a global norm of 10, as the victims do.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_cluster.attacks.base import Attack, Gain, Space, Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.data.multiview import published
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.base import ClusterModel, Embedding, Losses, Outputs
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.contrastive import all_pairs, contrastive
from robust_cluster.nn.layers import batch_norm_mode
from robust_cluster.nn.optim import Stateful, adam, descend

MODES: dict[str, dict[str, Any]] = {"paper": {"pairs": "first", "pgd_bn": "train", "max_norm": None}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 2, "schedule": {"epochs": 1, "batch_size": 50}},
    "cpu": {"steps": 4, "step_size": 0.05, "schedule": {"epochs": 15}},
}
# by the start of the data set's name; AR-DMVC's code, but RegDB's, which were not released, are ours
LAM = {"noisymnist": 1.0, "noisyfashion": 0.1, "patchedmnist": 0.1, "regdb": 1.0}
EPS = {"regdb": 0.1}
STEP_SIZE = {"regdb": 0.01}


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the defense, as in AR-DMVC's code; None: by data set, as said beside it."""

    mode: Literal["clean", "paper"] = "clean"
    lam: float | None = None  # of the loss on moved views; 0.1 NoisyFashion and PatchedMNIST, else 1
    eps: float | None = None  # in units of the values, not tied to an attack's; 0.1 RegDB, else 0.2
    step_size: float | None = None  # of the inner ascent, same units; 0.01 RegDB, else 0.02
    steps: int = 10  # of the inner ascent
    pairs: Literal["all", "first"] = "all"  # of views whose contrastive loss the ascent raises
    pgd_bn: Literal["batch_nostat", "train"] = "batch_nostat"  # whether the ascent moves running statistics ("train")
    temperature: float = 0.1  # divides the cosines of the ascent's loss
    max_norm: float | None = 10.0  # of the gradient; None in AR-DMVC's code
    # AR-DMVC's code trains 40 epochs on PatchedMNIST: --set defense.schedule.epochs=40, for RegDB too
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=30, batch_size=100))

    def __post_init__(self) -> None:
        check_at_least(1, self, "steps")
        check_at_least(0, self, "lam", "eps")
        check_positive(self, "step_size", "temperature", "max_norm")


class ArDmvc:
    """The defense of one model of two or more views; it owns the optimizer."""

    version: ClassVar[int] = 1
    spaces: ClassVar[tuple[Space, ...]] = ("latent", "input")
    meets: ClassVar[str] = "view_gan"
    trains_attacker: bool = False  # it makes its own moved views
    restarts: bool = True
    config: Config

    def __init__(self, config: Config, surface: Surface) -> None:
        model = surface.model
        self.check(type(model), model.info, config)
        self.config, self.schedule, name = config, config.schedule, model.info.name
        self.lam = or_published(config.lam, LAM, name=name, default=1.0)
        self.step_size = or_published(config.step_size, STEP_SIZE, name=name, default=0.02)
        eps = or_published(config.eps, EPS, name=name, default=0.2)
        self.budget = Budget("linf", eps, model.info.bounds)
        self.optimizer = adam(model.parameters(), config.schedule.lr)

    @classmethod
    def check(cls, model: type[ClusterModel], info: DataInfo, config: Config) -> None:
        """Refuse a method or data that AR-DMVC cannot train on. Raises: ConfigError."""
        n_views, size = len(info.shapes), config.schedule.batch(info.n_samples)
        if n_views < 2:
            raise ConfigError(
                f"AR-DMVC sets views against each other and needs at least 2, {info.name} has 1", hint="rc ls data"
            )
        if config.pairs == "first" and n_views > 2:
            raise ConfigError(
                f"pairs = first moves the first 2 views alone, {info.name} has {n_views}",
                hint="--set defense.pairs=all",
            )
        if info.bounds is None:
            raise ConfigError(
                f"AR-DMVC moves values within their bounds, and those of {info.name} have none", hint="rc ls data"
            )
        if size < info.n_clusters:
            raise ConfigError(
                f"AR-DMVC needs batches of at least n_clusters = {info.n_clusters} samples, got {size}",
                hint=f"--set defense.schedule.batch_size={info.n_clusters}, or more data: a batch is at most a fifth "
                "of them",
            )

    def step(self, surface: Surface, attack: Attack, batch: Batch) -> dict[str, float]:
        """One Adam step on the model's terms of the views and, "moved_" and times lam, of the moved views.

        The views are moved before the first outer pass, as in AR-DMVC's code; both outer passes count in batch norm's
        running statistics.
        """
        model = surface.model
        moved_batch = Batch(self.adversary(model, batch.views), batch.index)
        clean = model(batch.views)
        terms = model.losses(batch, "cluster", clean)
        moved = model(moved_batch.views)
        for name, term in model.losses(moved_batch, "cluster", moved).items():
            terms[f"moved_{name}"] = self.lam * term
        values = descend(terms | self.extra_terms(clean, moved), self.optimizer, max_norm=self.config.max_norm)
        model.after_step("cluster")
        return values

    def extra_terms(self, clean: Outputs, moved: Outputs) -> Losses:
        """More weighted terms of the two outer passes; none here."""
        return {}

    def adversary(self, model: ClusterModel, views: Views) -> Views:
        """Moved views: `steps` signed gradient steps up L_CL from a uniform draw in the ball, all views together.

        They are within eps of `views` and valid values; the start is only within eps, as in AR-DMVC's code. Gradients
        are taken of the views alone, so that no `.grad` of a parameter changes. Raises: ConfigError.
        """
        moved = tuple(view + self.budget.eps * (2 * torch.rand_like(view) - 1) for view in views)
        for _ in range(self.config.steps):
            points = tuple(view.detach().requires_grad_() for view in moved)
            with torch.enable_grad(), batch_norm_mode(model, "eval" if self.config.pgd_bn == "train" else "batch"):
                loss = self.contrast(model.encode(points).per_view)
            gradients = torch.autograd.grad(loss, points)
            ascended = (p.detach() + self.step_size * g.sign() for p, g in zip(points, gradients, strict=True))
            moved = self.budget.clip(views, tuple(ascended))
        return moved

    def gain(self, surface: Surface, attack: Attack, batches: Iterable[Batch]) -> Gain | None:
        """Each sample's part of L_CL of the moved views, (n,): what the defense's inner attack ascends; None in latent
        space.

        Negatives are the clean samples of the first of `batches`, so that no sample's loss depends on which others are
        attacked with it. There is nothing to train: `attack` and the other batches are not used.
        """
        if surface.space == "latent":
            return None
        with torch.no_grad():
            others = surface.encode(next(iter(batches)).views).per_view
        return lambda model, clean, moved, labels: self.contrasts(model, clean, moved, others)

    def contrasts(self, model: ClusterModel, clean: Embedding, moved: Embedding, others: Views) -> Tensor:
        """Each sample's two anchors in L_CL, (n,), its mean over the pairs: the views `others` are their negatives."""
        own, others = (tuple(F.normalize(view) for view in views) for views in (moved.per_view, others))
        pairs = [(0, 1)] if self.config.pairs == "first" else list(itertools.combinations(range(len(own)), 2))
        losses = []
        for u, v in pairs:
            negatives = torch.cat([others[u], others[v]])
            positive = (own[u] * own[v]).sum(dim=1, keepdim=True)
            for anchor in (own[u], own[v]):
                cosines = torch.cat([positive, anchor @ negatives.T], dim=1)
                losses.append(-(cosines / self.config.temperature).log_softmax(dim=1)[:, 0])
        return torch.stack(losses).sum(dim=0) / len(pairs)

    def contrast(self, per_view: Views) -> Tensor:
        """L_CL, a scalar, of the views' representations (n, d). Raises: ConfigError when their widths differ."""
        widths = [view.shape[1] for view in per_view]
        if len(set(widths)) > 1:
            raise ConfigError(
                f"AR-DMVC compares the views' representations, which must be of one width, got {widths}",
                hint="views of one shape",
            )
        if self.config.pairs == "first":
            return contrastive(per_view[0], per_view[1], self.config.temperature)
        return all_pairs(per_view, self.config.temperature)

    def state(self) -> dict[str, Stateful]:
        """The optimizer."""
        return {"optimizer": self.optimizer}


def or_published(given: float | None, values: Mapping[str, float], *, name: str, default: float) -> float:
    """`given`, or where it is None the value published for the data set `name`."""
    return published(values, name, default) if given is None else given
