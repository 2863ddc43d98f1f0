"""Gaussian noise on every value of the data, x + N(0, sigma^2) (LPVDN, AAAI 2021, Figure 3): pollution, no adversary.

A model trained on clean data meets polluted data; nothing is clipped, and nothing of the model is known to the noise.
One draw per run: a sweep over sigma scales the same noise. It is drawn batch by batch, so that a point depends on the
batches it is in. The paper
does not say how polluted points are labeled: the record has both, clusters fitted anew to them (ACC*_refit) and the
clean model's clusters and matching (ACC*_clean_map).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from robust_cluster.attacks.base import Attack, Feedback, Space, Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import check_at_least


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the noise."""

    sigma: float = 0.1  # standard deviation: a share of the range of valid values, or units of data without one

    def __post_init__(self) -> None:
        check_at_least(0, self, "sigma")


class GaussianPollution(Attack):
    """Independent noise on the views, from torch's global generator."""

    version: ClassVar[int] = 3
    space: Space = "input"
    feedback: Feedback = "none"

    def __init__(self, config: Config, surface: Surface) -> None:
        self.config = config
        self.sigma = config.sigma * surface.model.info.unit
        self.budget = Budget(eps=self.sigma)  # no bound and no range of values

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The views with noise of their own on every value."""
        # drawn on the CPU: one seed is one draw on every device
        return tuple(view + self.sigma * torch.randn(view.shape).to(view.device) for view in batch.views)
