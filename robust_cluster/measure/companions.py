"""What stands beside a standard re-attack of a defended model: the old attack's points, and an attacker who knows the
defense.

A defense that only beats what was made for the undefended model has a gap between the points that are handed over and
those that are found afresh; one that hides its gradients or its randomness has one between the members that need them
and the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster.attacks import apgd
from robust_cluster.attacks.base import Attack, Feedback, Gain, Surface
from robust_cluster.attacks.bounded import at_radius
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, Views

Flags = npt.NDArray[np.bool_]
TRANSFERRED, ADAPTIVE = "transferred", "adaptive"  # names among the members of a curve
DRAWS = 16  # forward passes of a gradient where the model is random


class Transferred(Attack):
    """The steps that another attacker takes on another model, taken here, inside this budget."""

    feedback: Feedback = "none"
    borrows: bool = True

    def __init__(self, attacker: Attack, other: Surface, budget: Budget) -> None:
        self.attacker, self.other, self.space, self.budget = attacker, other, other.space, budget

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The clean points and the other attacker's steps from the other model's clean points."""
        with torch.no_grad():
            away = self.other.point(batch)
            moved = self.attacker.budget.clip(away, self.attacker.perturb(self.other, batch))
            return tuple(c + (m - a) for c, m, a in zip(surface.point(batch), moved, away, strict=True))


def gaps(flipped: Mapping[str, Flags], feedback: Mapping[str, Feedback]) -> dict[str, float | None]:
    """Flip rates of a re-attack at its largest radius, and by how much its worst case is above them.

    `flipped`: which samples each member flips. `feedback`: what the victim tells those members that an undefended model
    meets too: "afresh" is the worst case of these, "gradient" and "queried" the best single one that follows gradients
    and that asks for answers. "adaptive" ascends the defense's own loss alone. None where there is no such member.
    "gap" is to the transferred points; "gap_gradient" is large for a defense that hides its gradients, "gap_queried"
    for one whose answers change by themselves, "gap_afresh" for one that holds until its own loss is attacked.
    """
    fresh = {name: flipped[name] for name in feedback}
    shares = {name: float(flags.mean()) for name, flags in flipped.items()}

    def best(*kinds: Feedback) -> float | None:
        return max((shares[name] for name in fresh if feedback[name] in kinds), default=None)

    worst = float(np.logical_or.reduce(list(flipped.values())).mean())
    single = {"gradient": best("gradient"), "queried": best("score", "label")}
    single["afresh"] = float(np.logical_or.reduce(list(fresh.values())).mean())
    return {
        "transferred": shares[TRANSFERRED],
        **single,
        "adaptive": shares.get(ADAPTIVE),
        "worst": worst,
        "gap": worst - shares[TRANSFERRED],
        **{f"gap_{name}": None if share is None else worst - share for name, share in single.items()},
    }


@dataclass(frozen=True)
class Companions:
    """What stands beside the attack of one re-attack, at every radius.

    `twin`: the surface of the model before its defense; `learned(surface, changes)`: the re-attack's attack against it.
    `gain`: what the defense lets an attacker ascend who knows it, None where it has no loss of its own. `settings`: the
    re-attack's; `seed`: of the adaptive attack.
    """

    surface: Surface
    twin: Surface
    learned: Callable[[Surface, Mapping[str, Any]], Attack]
    gain: Gain | None
    settings: Mapping[str, Any]
    is_random: bool
    seed: int

    def at(self, attacker: Attack, eps: float) -> dict[str, Attack]:
        """The transferred and the adaptive attack at a radius; the latter where the defense has a loss of its own."""
        radius = at_radius(attacker.budget, eps)
        old = self.learned(self.twin, radius)
        found: dict[str, Attack] = {TRANSFERRED: Transferred(old, self.twin, attacker.budget)}
        if self.gain is None:
            return found
        known = {f.name for f in fields(apgd.Config)}
        own = {name: value for name, value in self.settings.items() if name in known}
        eot = max(own.get("eot", 1), DRAWS if self.is_random else 1)
        changes = {**own, "objective": "margin", "random_start": True, "eot": eot, **radius}
        torch.manual_seed(self.seed)
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
        config = apgd.Config(**plain)
        return {**found, ADAPTIVE: apgd.Apgd(config, self.surface, gain=self.gain)}


def is_random(surface: Surface, batch: Batch) -> bool:
    """Whether two passes over the same samples differ."""
    with torch.no_grad():
        return not torch.equal(surface.encode(batch.views).z, surface.encode(batch.views).z)
