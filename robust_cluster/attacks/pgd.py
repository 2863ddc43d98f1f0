"""PGD: signed gradient steps on the views inside an L-infinity ball (Madry et al., ICLR 2018); it bounds a GAN's harm.

The steps move all views at once and are projected onto the ball and the range of pixels; the last point is returned.
Either it ascends what AR-DMVC's generators ascend (ICML 2024), the shift of the representations
sum_v ||z^v - z~^v||^2 + ||c - c~||^2, or it descends the margin log y_c - log max_{k != c} y_k of the model's own clean
label c. No label of the data is read.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from robust_cluster.attacks.base import (
    OTHER_EPS,
    PUBLISHED_EPS,
    Attack,
    Budget,
    Space,
    Surface,
    check_mode,
    representations,
)
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.data.multiview import published
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.nn.objectives import displacement, log_margin

Objective = Literal["shift", "assignment"]
PROFILES: dict[str, dict[str, Any]] = {"smoke": {"steps": 4}}


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the attack."""

    bn: BatchNormMode = "eval"  # of the surface it is called on
    eps: float | None = None  # L-infinity radius in pixels; None: AR-DMVC's for the data set
    steps: int = 20
    relative_step: float = 2.0  # step size times steps, over eps
    objective: Objective = "assignment"
    random_start: bool = True  # uniform in the ball

    def __post_init__(self) -> None:
        check_at_least(0, self, "steps", *(["eps"] if self.eps is not None else []))
        if self.relative_step <= 0:
            raise ConfigError(f"relative_step must be > 0, got {self.relative_step}")
        if self.objective == "shift" and not self.random_start:
            hint = "--set attack.random_start=true"
            raise ConfigError("the shift has no gradient at the clean point, so it needs a random start", hint=hint)


class PGD(Attack):
    """Gradient attack on the views; nothing is learned. Noise comes from torch's global generator."""

    version: ClassVar[int] = 1
    space: Space = "input"

    def __init__(self, config: Config, surface: Surface) -> None:
        self.config = config
        self._budget = pixel_budget(config.eps, surface.model.info)

    @property
    def budget(self) -> Budget:
        """The L-infinity ball of radius eps around every view, and the range of pixels."""
        return self._budget

    @torch.enable_grad()
    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The last point of every sample. Callers may have gradients switched off.

        Raises: ConfigError when the surface's batch norm is in another mode than the config's.
        """
        check_mode(self.config.bn, surface)
        size = self.config.relative_step * self.budget.eps / max(self.config.steps, 1)
        with torch.no_grad():
            embedding = surface.embedding(batch)
            labels = surface.model.labels(embedding.z)
            point = self.start(batch.views)
        for _ in range(self.config.steps):
            leaves = tuple(view.detach().requires_grad_() for view in point)
            gain = self.gain(surface.model, embedding, surface.encode(leaves), labels)
            gradients = torch.autograd.grad(gain.sum(), leaves)  # of the views only: the model's .grad is not touched
            with torch.no_grad():
                moved = tuple(p + size * g.sign() for p, g in zip(point, gradients, strict=True))
                point = self.budget.clip(batch.views, moved)
        return point

    def start(self, views: Views) -> Views:
        """A uniform draw from the ball around each view, inside the range of pixels; or the views themselves."""
        if not self.config.random_start:
            return tuple(view.detach() for view in views)
        eps = self.budget.eps
        drawn = tuple(view + eps * (2 * torch.rand_like(view) - 1) for view in views)
        return self.budget.clip(views, drawn)

    def gain(self, model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor) -> Tensor:
        """What is ascended, (n,): the shift, or how far the clean labels `own` (n,) are behind another cluster's."""
        if self.config.objective == "shift":
            return representation_shift(model, clean, moved)
        return -log_margin(model.log_assign(moved.z), own)


def pixel_budget(eps: float | None, info: DataInfo) -> Budget:
    """The L-infinity ball of radius `eps` in the range of pixels; None takes AR-DMVC's radius for the data set.

    The released code moves pixels of NoisyMNIST and PatchedMNIST by 0.3 and of NoisyFashion by 0.15; for RegDB nothing
    is known: 0.1 there and elsewhere. Raises: ConfigError for data without bounds.
    """
    if info.bounds is None:
        raise ConfigError(
            f"attacks on the views move pixels, so they need image data, and values of {info.name} have no bounds",
            hint="rc ls data",
        )
    return Budget("linf", published(PUBLISHED_EPS, info.name, OTHER_EPS) if eps is None else eps, info.bounds)


def changes(model: ClusterModel, clean: Embedding, moved: Embedding) -> Views:
    """z^v - z~^v (n, d_v) of every view, then c - c~ (n, c) of the consensus: what AR-DMVC's attack makes large."""
    pairs = zip(representations(model, clean), representations(model, moved), strict=True)
    return tuple((z - other).flatten(1) for z, other in pairs)


def representation_shift(model: ClusterModel, clean: Embedding, moved: Embedding) -> Tensor:
    """sum_v ||z^v - z~^v||^2 + ||c - c~||^2 of each sample, (n,): complementarity and consistency, equal weights.

    z^v are the view-specific representations, c the consensus. Source: AR-DMVC (ICML 2024).
    """
    return displacement(representations(model, clean), representations(model, moved))
