"""One perturbation for all samples (Moosavi-Dezfooli et al., CVPR 2017), by stochastic gradient (Shafahi et al. 2020).

A step ascends the batch mean of the objective, cut off at `cap` for each sample so that those that have long flipped do
not outweigh the others, by a step of the perturbation's own direction and back into the ball. Every sample gets the
same perturbation, inside the range of valid values, whether or not it helps that sample.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import (
    Ascent,
    BoundedAttack,
    BoundedConfig,
    Known,
    Objective,
    check_choice,
    direction,
    draw_in_ball,
    known,
)
from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import check_positive
from robust_cluster.models.base import Embedding
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.layers import device_of
from robust_cluster.nn.objectives import nearest_others
from robust_cluster.nn.optim import Stateful

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"schedule": {"epochs": 2, "batch_size": 50}},
    "cpu": {"schedule": {"epochs": 10}},
    "short": {"schedule": {"epochs": 5}},
}


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the attack."""

    objective: Objective = "margin"  # what the steps raise, all of it label-free
    cap: float | None = 9.0  # most that a sample counts for; Shafahi et al.'s beta. None: no cap
    relative_step: float = 0.1  # step size over eps
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=20, batch_size=128))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("objective", self.objective, Objective)
        check_positive(self, "relative_step")


class Universal(BoundedAttack):
    """One learned perturbation of every view, or of the embedding."""

    trained: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config, surface: Surface) -> None:
        super().__init__(config, surface)
        model = surface.model
        device = device_of(model)
        blank = tuple(torch.zeros(1, *shape, device=device) for shape in model.info.shapes)
        if self.space == "latent":
            with torch.no_grad():
                blank = (torch.zeros_like(surface.encode(blank).z),)
        row = torch.zeros(1, dtype=torch.int64, device=device)
        nowhere = Known(blank, Embedding(blank[0], blank), row, row[:, None], row)
        bare = type(self.budget)(self.budget.norm, self.budget.eps, None, self.budget.view_eps)
        start = draw_in_ball(nowhere, bare, self.seed, ())
        self.delta = nn.ParameterList(nn.Parameter(view[0], requires_grad=False) for view in start)

    def moved(self, clean: Views) -> Views:
        """x + delta of every view, inside ball and box."""
        return self.budget.clip(clean, tuple(view + delta for view, delta in zip(clean, self.delta, strict=True)))

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The one perturbation on every sample. Raises: ConfigError for another space or batch-norm mode."""
        self.check_surface(surface)
        with torch.no_grad():
            return self.moved(tuple(view.detach() for view in surface.point(batch)))

    def search(self, surface: Surface, known: Known) -> Views:
        """The same from what is known of the samples."""
        return self.moved(known.point)

    @torch.enable_grad()
    def step(self, surface: Surface, batch: Batch) -> dict[str, float]:
        """One step up the mean objective; its value and the share of samples that change their cluster."""
        self.check_surface(surface)
        with torch.no_grad():
            clean = known(surface, batch)
        goals = nearest_others(clean.log_y, clean.labels)[:, 0]
        moves = tuple(radius > 0 for radius in self.budget.radii(len(clean.point)))
        deltas = [delta.detach().clone().requires_grad_() for delta in self.delta]
        moved = tuple(view + delta for view, delta in zip(clean.point, deltas, strict=True))
        if self.budget.bounds is not None:
            moved = tuple(view.clamp(*self.budget.bounds) for view in moved)
        embedding = surface.embedding_of(moved)
        gain = Ascent(surface, clean, self.config.objective, moves=moves, goals=goals).gain(embedding)
        mean = gain.mean() if self.config.cap is None else gain.clamp_max(self.config.cap).mean()
        gradients = torch.autograd.grad(mean, deltas)
        self.queries += 2 * len(batch)
        self.trained_at = self.budget.eps
        with torch.no_grad():
            for number, (delta, gradient) in enumerate(zip(self.delta, gradients, strict=True)):
                delta.copy_(self.stepped(delta, gradient, self.budget.radius(number)))
            share = (surface.model.labels(embedding.z) != clean.labels).float().mean()
        return {"objective": float(mean.detach()), "changed": float(share)}

    def stepped(self, delta: Tensor, gradient: Tensor, radius: float) -> Tensor:
        """delta after one step along the gradient, back in the ball."""
        ahead = delta + self.config.relative_step * radius * direction(gradient[None], self.budget.norm)[0]
        if self.budget.norm == "linf":
            return ahead.clamp(-radius, radius)
        return ahead * min(1.0, radius / max(float(ahead.norm()), 1e-12))

    def state(self) -> dict[str, Stateful]:
        """The perturbation."""
        return {"delta": self.delta}
