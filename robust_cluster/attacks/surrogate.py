"""Surrogate: points made on a model that is fitted to the victim's labels alone (Papernot et al., AsiaCCS 2017).

A round fits the surrogate to every point and label so far, at first to the clean ones, climbs it from each sample by
the steps of PGD, and asks the victim about the end of the climb and about points scattered further out that way, beyond
the ball too. No gradient and no score of the victim is read, so nothing that masks these is in its way. What is fitted
depends on the samples that are given together, so a point does too; its random draws do not.
Its constants were chosen on 300 digits at radius 0.05. Of 200 others (3 seeds, radii 0.03 to 0.12) it finds 29 to 76 %
of the flips that a mask hides from the other members, of MNIST's 784 pixels (one seed, radii 0.02 and 0.04) a third.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from robust_cluster.attacks.base import Feedback, Surface
from robust_cluster.attacks.bounded import Ascent, Best, BoundedAttack, BoundedConfig, Known, check_choice, draw_in_ball
from robust_cluster.attacks.pgd import climb
from robust_cluster.data.base import Views
from robust_cluster.errors import check_at_least, check_positive
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.nn.draws import normal
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import nearest_others, targeted
from robust_cluster.nn.optim import PlainAdam

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"rounds": 2, "fit_steps": 10, "climb": 4}}
Kind = Literal["means", "network"]
FURTHER = (1.5, 2.0, 2.5, 3.0)  # times the step from the clean point, where the victim is asked too
AROUND = 6.0  # radii by which these points are scattered: what it answers there shows which way the border runs
GOALS = 3  # nearest other clusters of the surrogate that the rounds aim at in turn
ABSENT = -1e9  # the score of a cluster that no point is in


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the attack, our choice."""

    surrogate: Kind = "network"  # one hidden layer, or the mean of each cluster's points
    rounds: int = 10  # of fitting and climbing
    width: int = 64  # of the hidden layer
    fit_steps: int = 30  # of Adam on all points at once, in each round
    lr: float = 1e-2  # of that Adam
    climb: int = 20  # steps of PGD in each round

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("surrogate", self.surrogate, Kind)
        check_at_least(1, self, "rounds", "width", "fit_steps", "climb")
        check_positive(self, "lr")


class Surrogate(BoundedAttack):
    """Points of a model of the victim; what it has learned is forgotten after each batch."""

    feedback: Feedback = "label"
    option: ClassVar[str] = "surrogate"
    aims: ClassVar[bool] = True
    config: Config

    def search(self, surface: Surface, known: Known) -> Views:
        """The points that change the victim's label; of the others, like PGD, the end of the last climb."""
        best = Best(known, torch.zeros_like(known.log_y[:, 0]))
        moves = tuple(radius > 0 for radius in self.budget.radii(len(known.point)))
        weights, points, labels = self.first(known), [flat(known.point)], [known.labels]
        rows, part = best.open(), known
        for number in range(self.config.rounds):
            weights = self.fitted(weights, torch.cat(points), torch.cat(labels))
            nearest = nearest_others(scores(weights, flat(part.point)), part.labels)
            goals = nearest[:, number % min(GOALS, nearest.shape[1])] if part.target is None else part.goals
            # a point in latent space is its own embedding: the victim is not asked
            ascent = Ascent(Surface(surface.model, "latent"), part, partial(gain, weights, goals), moves=moves)
            start = draw_in_ball(part, self.budget, self.seed, (number, 0)) if number else part.point
            moved = climb(ascent, start, self.budget, steps=self.config.climb, relative_step=2.0)
            for step, times in enumerate((1.0, *FURTHER)):
                drawn = draw_in_ball(part, self.budget, self.seed, (number, step)) if step else part.point
                triples = zip(part.point, moved, drawn, strict=True)
                asked = tuple(torch.lerp(c, m, times) + AROUND * (d - c) for c, m, d in triples)
                if self.budget.bounds is not None:
                    asked = tuple(view.clamp(*self.budget.bounds) for view in asked)
                points, labels = [*points, flat(asked)], [*labels, surface.labels(asked)]
                self.queries += len(part)
                inside = self.budget.clip(part.point, asked)
                is_inside = torch.isclose(flat(inside), points[-1]).all(dim=1)
                is_flipped = part.is_moved(labels[-1]) & is_inside
                best.offer(rows, inside, torch.full_like(best.gain[rows], number + 1.0), is_flipped)  # later: better
            if surface.bn == "eval":
                rows = best.open()
                part = known.take(rows)
            if not len(rows):
                break
        return best.point

    def first(self, known: Known) -> list[Tensor]:
        """The network before it is fitted: weights (h, d), biases (h,), weights (K, h) and biases (K,)."""
        points, n_clusters, width = flat(known.point), known.log_y.shape[1], self.config.width
        center = points.mean(dim=0)
        spread = (points - center).square().sum(dim=1).mean().sqrt().clamp_min(1e-12)
        hidden, out = (torch.arange(count, device=points.device) for count in (width, n_clusters))
        inner = normal(self.seed, hidden, points.shape[1:], 0).to(points) / spread
        outer = normal(self.seed, out, (width,), 1).to(points) / width**0.5
        return [inner, -inner @ center, outer, torch.zeros_like(outer[:, 0])]

    @torch.enable_grad()
    def fitted(self, weights: list[Tensor], points: Tensor, labels: Tensor) -> list[Tensor]:
        """The weights after more steps on points (m, d) and the victim's labels (m,); of "means" one linear layer."""
        if self.config.surrogate == "means":
            own = functional.one_hot(labels, len(weights[-1])).to(points)  # (m, K)
            count = own.sum(dim=0)
            means = own.T @ points / count.clamp_min(1)[:, None]
            return [2 * means, torch.where(count > 0, -means.square().sum(dim=1), ABSENT)]
        learned = [value.detach().clone().requires_grad_() for value in weights]
        optimizer = PlainAdam(learned, self.config.lr)
        for _ in range(self.config.fit_steps):
            optimizer.zero_grad()
            functional.cross_entropy(scores(learned, points), labels).backward()
            optimizer.step()
        return [value.detach() for value in learned]


def scores(weights: list[Tensor], points: Tensor) -> Tensor:
    """Log-probabilities (n, K) of points (n, d) by one linear layer, or by two."""
    first = functional.linear(points, weights[0], weights[1])
    return (first if len(weights) == 2 else functional.linear(first.relu(), weights[2], weights[3])).log_softmax(dim=1)


def gain(
    weights: list[Tensor], goals: Tensor, model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor
) -> Tensor:
    """How far moved points (n,) are on the surrogate's way from their own clusters (n,) to the goals (n,)."""
    return targeted(scores(weights, flat(moved.per_view)), own, goals)
