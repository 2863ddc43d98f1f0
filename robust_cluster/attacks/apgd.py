"""APGD: projected gradient ascent with momentum whose step size halves by itself (Croce and Hein, ICML 2020).

Algorithm 1 of the paper in the L-infinity and the L2 ball on a label-free objective of `nn/objectives.py`:
z = P(x_k + eta s_k), x_{k+1} = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})), s_k the sign of the gradient or the
normalized gradient, eta = 2 eps at first. At checkpoints a sample whose objective rose in fewer than rho = 75 % of the
steps since the last one, or whose step and best objective stood still since then, halves eta and goes on from its best
point. All of it is per sample. Differs from the paper: a sample that has changed its cluster is done; with several
views every view has its own radius and normalized step, and one step size.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robust_cluster.attacks.bounded import Ascent, Ball, GradientAttack, GradientConfig, column, cut, direction
from robust_cluster.data.base import Views
from robust_cluster.errors import check_at_least, check_positive, check_share

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"steps": 3}, "cpu": {"steps": 50}, "short": {"steps": 20}}
FIRST_CHECK, LEAST_CHECK, SHORTER = 0.22, 0.06, 0.03  # shares of the steps: p_1, least period, its decrease


@dataclass(frozen=True)
class Config(GradientConfig):
    """Hyper-parameters of the attack; the values are those of the paper."""

    steps: int = 100  # of each run
    momentum: float = 0.75  # alpha, the share of the new step
    rho: float = 0.75  # share of rising steps below which the step size halves
    relative_step: float = 2.0  # first step size over eps

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "steps")
        check_share(self, "momentum", "rho")
        check_positive(self, "relative_step")


class Apgd(GradientAttack):
    """Steps that need no tuning; nothing is learned."""

    config: Config

    def ascend(self, ascent: Ascent, start: Views) -> None:
        """One run from x_0 = start."""
        config, budget = self.config, self.budget
        radii, ball = budget.radii(len(start)), Ball(budget, ascent.known.point)
        answer = ascent.ask(start, gradient=config.steps > 0)
        point = before = cut(start, answer.stays)
        gain = best_gain = checked_gain = answer.gain
        gradient = answer.gradients
        best, best_gradient = (tuple(view.clone() for view in views) for views in (point, gradient))
        ball.cut(answer.stays)
        size = torch.full_like(gain, config.relative_step)  # eta over the radius
        rises, has_halved = torch.zeros_like(gain), torch.zeros_like(gain, dtype=torch.bool)
        checks, last_check = checkpoints(config.steps), 0
        for step in range(1, config.steps + 1):
            if not len(ascent.known):
                return
            share = config.momentum if step > 1 else 1.0
            moved = tuple(
                torch.addcmul(x, column(size, x), direction(g, budget.norm), value=radius)
                for x, g, radius in zip(point, gradient, radii, strict=True)
            )
            moved = ball.clip(moved)
            if share < 1:
                moved = ball.clip(tuple(mixed(*views, share) for views in zip(point, moved, before, strict=True)))
            answer = ascent.ask(moved, gradient=step < config.steps)
            if (stays := answer.stays) is not None:
                ball.cut(stays)
                moved, point, best, best_gradient = (cut(v, stays) for v in (moved, point, best, best_gradient))
                gain, best_gain, checked_gain, size = (t[stays] for t in (gain, best_gain, checked_gain, size))
                rises, has_halved = rises[stays], has_halved[stays]
            rises += answer.gain > gain
            before, point, gain, gradient = point, moved, answer.gain, answer.gradients
            is_better = gain > best_gain
            rows = is_better.nonzero()[:, 0]
            for held, view in zip((*best, *best_gradient), (*point, *gradient), strict=True):
                held.index_copy_(0, rows, view.index_select(0, rows))  # half the time of where()
            best_gain = torch.where(is_better, gain, best_gain)
            if step in checks:
                has_stalled = rises < config.rho * (step - last_check)
                has_stalled |= ~has_halved & (best_gain <= checked_gain)
                size = torch.where(has_stalled, size / 2, size)
                point, gradient = chosen(has_stalled, best, point), chosen(has_stalled, best_gradient, gradient)
                gain = torch.where(has_stalled, best_gain, gain)
                rises, has_halved, checked_gain, last_check = torch.zeros_like(rises), has_stalled, best_gain, step
        ascent.offer(best, best_gain)


def checkpoints(steps: int) -> set[int]:
    """The steps w_j = ceil(p_j N): p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06) up to 1."""
    found, before, share = set(), 0.0, FIRST_CHECK
    while share <= 1 + 1e-9:
        found.add(math.ceil(share * steps - 1e-9))
        before, share = share, share + max(share - before - SHORTER, LEAST_CHECK)
    return found


def chosen(is_first: Tensor, first: Views, second: Views) -> Views:
    """For every sample its row of the one or the other, in every view."""
    return tuple(torch.where(column(is_first, a), a, b) for a, b in zip(first, second, strict=True))


def mixed(x: Tensor, ahead: Tensor, before: Tensor, share: float) -> Tensor:
    """x + share (z - x) + (1 - share) (x - x_before), z = `ahead`."""
    return torch.lerp(x, ahead, share).add_(x, alpha=1 - share).sub_(before, alpha=1 - share)
