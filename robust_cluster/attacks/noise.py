"""Random noise of the attack's norm, the best of R draws: what every attack must beat (Carlini et al. 2019, section 4).

"uniform" is drawn from the whole ball, "sign" has every value at plus or minus the radius (in L2: the signs scaled to
it), "gaussian" is N(0, eps^2) cut to the L-infinity ball or a Gaussian direction of length eps; "all" takes R draws of
each. Draws need nothing of the victim, so its knowledge is called "none"; the best of them is found by asking it, as
`queries` counts: with R = 1 nothing is chosen. Draws do not depend on the batch.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from robust_cluster.attacks.base import Feedback, Surface
from robust_cluster.attacks.bounded import (
    Best,
    BoundedAttack,
    BoundedConfig,
    Known,
    check_choice,
    direction,
    draw_in_ball,
    look,
)
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Views
from robust_cluster.errors import check_at_least
from robust_cluster.nn.draws import normal, signs

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"draws": 2}}
Kind = Literal["uniform", "gaussian", "sign", "all"]
KINDS = ("uniform", "gaussian", "sign")


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of the noise."""

    kind: Kind = "all"  # of the draws; all: the worst of the three
    draws: int = 100  # R, of each kind

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kind", self.kind, Kind)
        check_at_least(1, self, "draws")


class Noise(BoundedAttack):
    """Random points of the ball; nothing is learned and no gradient is read."""

    feedback: Feedback = "none"
    option: ClassVar[str] = "kind"
    aims: ClassVar[bool] = True
    config: Config

    def search(self, surface: Surface, known: Known) -> Views:
        """The best of all draws by the margin; samples that have flipped draw no more."""
        best = Best(known, known.margin(known.log_y))
        kinds = KINDS if self.config.kind == "all" else (self.config.kind,)
        rows, part = best.open(), known
        for number in range(self.config.draws):
            for kind in kinds:
                point = draw(kind, part, self.budget, self.seed, (number, KINDS.index(kind)))
                self.queries += len(part)
                is_flipped = look(surface, part, rows, point, best)
                if surface.bn == "eval" and is_flipped.any():
                    rows, part = rows[~is_flipped], part.take((~is_flipped).nonzero()[:, 0])
                if not len(part):
                    return best.point
        return best.point


def draw(kind: str, known: Known, budget: Budget, seed: int, stream: tuple[int, ...]) -> Views:
    """One draw of a kind for every sample, inside ball and box."""
    if kind == "uniform":
        return draw_in_ball(known, budget, seed, stream)
    moved = []
    for number, view in enumerate(known.point):
        drawn = (signs if kind == "sign" else normal)(seed, known.index, view.shape[1:], (*stream, number))
        if budget.norm == "l2":
            drawn = direction(drawn, "l2")
        moved.append(view + budget.radius(number) * drawn.to(view.dtype))
    return budget.clip(known.point, tuple(moved))
