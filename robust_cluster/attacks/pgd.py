"""PGD: gradient steps inside an L-infinity or L2 ball (Madry et al., ICLR 2018) on a label-free objective.

The steps move all views at once, signs of the gradient in L-infinity and normalized gradients in L2, and are projected
onto the ball and the range of valid values. The best visited point of every sample is returned, which is one in another
cluster if there is any. What is ascended is `nn/objectives.py`; no label of the data is read. The attack of AR-DMVC
(ICML 2024) on representations is objective "displacement".
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from robust_cluster.attacks.base import representations
from robust_cluster.attacks.bounded import Ascent, GradientAttack, GradientConfig, cut, direction, pixel_radius
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.nn.objectives import displacement

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"steps": 4}}


@dataclass(frozen=True)
class Config(GradientConfig):
    """Hyper-parameters of the attack."""

    steps: int = 20  # of each run
    relative_step: float = 2.0  # step size times steps, over eps

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "steps")
        check_positive(self, "relative_step")


class PGD(GradientAttack):
    """Steps of one size from a random start; nothing is learned."""

    version: ClassVar[int] = 2
    config: Config

    def ascend(self, ascent: Ascent, start: Views) -> None:
        """One run of `steps` steps; the last point is looked at too."""
        climb(ascent, start, self.budget, steps=self.config.steps, relative_step=self.config.relative_step)


def climb(ascent: Ascent, point: Views, budget: Budget, *, steps: int, relative_step: float) -> Views:
    """The last points, of those that are left, after `steps` projected steps of relative_step * eps / steps.

    Every visited point is offered to the ascent's best where it keeps one; without one, nothing but the steps is done.
    """
    sizes = [relative_step * radius / max(steps, 1) for radius in budget.radii(len(point))]
    for _ in range(steps):
        answer = ascent.ask(point)
        point = cut(point, answer.stays)
        ascent.offer(point, answer.gain)
        pairs = zip(point, sizes, answer.gradients, strict=True)
        point = budget.clip(ascent.known.point, tuple(p + size * direction(g, budget.norm) for p, size, g in pairs))
    if ascent.best is not None and len(ascent.known):
        answer = ascent.ask(point, gradient=False)
        point = cut(point, answer.stays)
        ascent.offer(point, answer.gain)
    return point


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
    return Budget("linf", pixel_radius(eps, info), info.bounds)


def changes(model: ClusterModel, clean: Embedding, moved: Embedding) -> Views:
    """z^v - z~^v (n, d_v) of every view, then c - c~ (n, c) of the consensus: what AR-DMVC's attack makes large."""
    pairs = zip(representations(model, clean), representations(model, moved), strict=True)
    return tuple((z - other).flatten(1) for z, other in pairs)


def representation_shift(model: ClusterModel, clean: Embedding, moved: Embedding) -> Tensor:
    """sum_v ||z^v - z~^v||^2 + ||c - c~||^2 of each sample, (n,): complementarity and consistency, equal weights.

    z^v are the view-specific representations, c the consensus. Source: AR-DMVC (ICML 2024).
    """
    return displacement(representations(model, clean), representations(model, moved))
