"""What a stage hands over with an attack, so that the moves beside it can be made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.measure.rows import Rows
from robust_cluster.runs.progress import Progress


@dataclass(frozen=True)
class Beside:
    """What can be made beside an attack, and how it is called.

    `seed(purpose)`: of a control's draws. `untrained(surface)`: the same attacker before it learned. `at_radius(eps)`:
    the same attack at another radius, learned for it. `companions(attack, eps)`: what stands beside a re-attack, None
    for others. `radius`: the mean norm of the attack on the undefended model, None where this is that attack. `seen`:
    the rows that the attacker learned on, where others are scored. `is_final`: False after a defense, whose re-attack
    has what knows nothing of the original attacker.
    """

    attack: str
    title: str
    settings: Mapping[str, Any]
    seed: Callable[[str], int]
    untrained: Callable[[Surface], Attack]
    at_radius: Callable[[float], Attack]
    companions: Callable[[Attack, float], Mapping[str, Attack]] | None
    radius: float | None
    seen: Callable[[], Rows] | None
    is_final: bool
    precision: str
    progress: Progress
