"""Projected gradient descent on the embedding inside an L2 ball: the check that a learned attacker is not masked.

It descends the margin log y'_c - log max_{k != c} y'_k of the clean label c (Madry et al. 2018 with a label-free loss),
normalized L2 steps from a uniform start in the ball, keeping each sample's lowest margin. It runs in float64, where a
saturated softmax still has a gradient: a net that merely became over-confident must not look robust.
"""

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Space, Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import check_at_least, check_positive
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.layers import device_of
from robust_cluster.nn.objectives import log_margin


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the attack."""

    eps: float = 1.0  # L2 radius, units of the embedding
    steps: int = 40  # from a random start
    relative_step: float = 2.5  # step size times steps, over eps

    def __post_init__(self) -> None:
        check_at_least(0, self, "eps", "steps")
        check_positive(self, "relative_step")


class LatentPGD(Attack):
    """Gradient attack on the embedding; nothing is learned."""

    space: Space = "latent"

    def __init__(self, config: Config, surface: Surface) -> None:
        self.config, self.budget = config, Budget("l2", config.eps)

    @torch.enable_grad()
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The visited point of lowest margin for each sample, (z',). Callers may have gradients switched off."""
        model = exact(surface.model)
        budget, config = self.budget, self.config
        self.queries += (config.steps + 2) * len(batch)
        clean = surface.point(batch)[0].detach().to(next(itertools.chain(model.parameters(), model.buffers())).dtype)
        labels = model.labels(clean)
        start = torch.randn_like(clean)
        radius = torch.rand(len(clean), 1, device=clean.device, dtype=clean.dtype) ** (1 / clean.shape[1])
        point = clean + config.eps * radius * start / start.norm(dim=1, keepdim=True).clamp_min(1e-12)
        best, lowest = clean.clone(), margin(model, clean, labels)
        for _ in range(config.steps):
            point.requires_grad_(True)
            margins = margin(model, point, labels)
            (gradient,) = torch.autograd.grad(margins.sum(), point)
            with torch.no_grad():
                best, lowest = keep_lower(best, lowest, point, margins)
                direction = gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
                point = point - config.relative_step * config.eps / config.steps * direction
                (point,) = budget.clip((clean,), (point,))
        with torch.no_grad():
            best, _ = keep_lower(best, lowest, point, margin(model, point, labels))
        return (best.to(batch.views[0].dtype),)


def margin(model: ClusterModel, z: Tensor, labels: Tensor) -> Tensor:
    """log y_c - log max_{k != c} y_k, (n,): negative once the sample has left its cluster c."""
    return log_margin(model.assign(z).clamp_min(torch.finfo(z.dtype).tiny).log(), labels)


def keep_lower(best: Tensor, lowest: Tensor, point: Tensor, margins: Tensor) -> tuple[Tensor, Tensor]:
    """Per sample, the point with the lower margin and that margin."""
    better = margins < lowest
    return torch.where(better[:, None], point.detach(), best), torch.where(better, margins.detach(), lowest.detach())


def exact(model: ClusterModel) -> ClusterModel:
    """A frozen copy in float64; on a device without it (MPS), float32."""
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    return twin if device_of(twin).type == "mps" else twin.double()
