"""How far an attack may move a point."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from robust_cluster.data.base import Views
from robust_cluster.errors import ConfigError, check_at_least

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Budget:
    """How far a point may move, per sample and view. `norm` None: unbounded, the attack penalises size instead.

    `eps` is in the units of the space; `bounds` (low, high) is the box of valid values, None for latent points.
    `view_eps`: a radius for each view in place of `eps`; a view of radius 0 keeps its bits.
    """

    norm: Norm | None = None
    eps: float = 0.0
    bounds: tuple[float, float] | None = None
    view_eps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.eps >= 0:  # NaN too
            raise ConfigError(f"eps must be >= 0, got {self.eps}")
        check_at_least(0, self, "view_eps")

    def radius(self, view: int) -> float:
        """The radius of the ball around view number `view`, from 0."""
        return self.view_eps[view] if self.view_eps else self.eps

    def radii(self, count: int) -> tuple[float, ...]:
        """The radii of `count` views."""
        return tuple(self.radius(view) for view in range(count))

    def clip(self, clean: Views, moved: Views) -> Views:
        """The nearest allowed point to each moved view: inside the norm ball around the clean one, then in the box."""
        pairs = zip(clean, moved, self.radii(len(clean)), strict=True)
        return tuple(self._clip_view(c, m, radius) for c, m, radius in pairs)

    def _clip_view(self, clean: Tensor, moved: Tensor, radius: float) -> Tensor:
        if self.norm is not None and radius == 0:
            return clean
        delta = moved - clean
        if self.norm == "linf":
            delta = delta.clamp(-radius, radius)
        elif self.norm == "l2":
            norms = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
            delta = delta * (radius / norms).clamp_max(1.0).view(-1, *[1] * (delta.ndim - 1))
        result = clean + delta
        return result if self.bounds is None else result.clamp(*self.bounds)
