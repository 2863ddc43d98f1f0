"""What stands beside a standard re-attack of a defended model: the old attack's points, and an attacker who knows the
defense.

A defense that only beats what was made for the undefended model has a gap between the points that are handed over and
those that are found afresh; one that hides its gradients or its randomness has one between the members that need them
and the others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster.attacks import apgd
from robust_cluster.attacks.base import Attack, Feedback, Gain, Surface
from robust_cluster.attacks.bounded import at_radius
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, Views
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import seed_for
from robust_cluster.stages import methods, settings
from robust_cluster.stages.context import Trial

Flags = npt.NDArray[np.bool_]
TRANSFERRED, ADAPTIVE = "transferred", "adaptive"  # names among the members of a curve
LESSONS = 300  # batches on which a defense's networks that are not kept learn anew
BATCH = 256
DRAWS = 16  # forward passes of a gradient where the model is random


class Transferred(Attack):
    """The steps that another attacker takes on another model, taken here, inside this budget."""

    feedback: Feedback = "none"
    borrows: bool = True

    def __init__(self, attacker: Attack, other: Surface, budget: Budget) -> None:
        self.attacker, self.other, self.space = attacker, other, other.space
        self._budget = budget

    @property
    def budget(self) -> Budget:
        """The ball and the box of the attack that it stands beside."""
        return self._budget

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        """The clean points and the other attacker's steps from the other model's clean points."""
        with torch.no_grad():
            away = self.other.point(batch)
            moved = self.attacker.budget.clip(away, self.attacker.perturb(self.other, batch))
            return tuple(c + (m - a) for c, m, a in zip(surface.point(batch), moved, away, strict=True))


def gaps(flipped: Mapping[str, Flags]) -> dict[str, float | None]:
    """Flip rates of a re-attack at its largest radius, and by how much its worst case is above them.

    `flipped`: which samples each member flips. "afresh" is the worst case of the attack as it stands on an undefended
    model too, "gradient" and "queried" its best single member that follows gradients and that asks for answers,
    "adaptive" the one that ascends the defense's own loss alone; None where there is no such member. "gap" is to the
    transferred points; "gap_gradient" is large for a defense that hides its gradients, "gap_queried" for one whose
    answers change by themselves, "gap_afresh" for one that holds until its own loss is attacked.
    """
    fresh = {name: flags for name, flags in flipped.items() if name not in (TRANSFERRED, ADAPTIVE)}
    shares = {name: float(flags.mean()) for name, flags in flipped.items()}

    def best(*kinds: str) -> float | None:
        return max((shares[name] for name in fresh if name.partition(":")[0] in kinds), default=None)

    worst = float(np.logical_or.reduce(list(flipped.values())).mean())
    single = {"gradient": best("apgd", "pgd"), "queried": best("square")}
    single["afresh"] = float(np.logical_or.reduce(list(fresh.values())).mean())
    return {
        "transferred": shares[TRANSFERRED],
        **single,
        "adaptive": shares.get(ADAPTIVE),
        "worst": worst,
        "gap": worst - shares[TRANSFERRED],
        **{f"gap_{name}": None if share is None else worst - share for name, share in single.items()},
    }


class Companions:
    """What stands beside the attack of one re-attack, at every radius."""

    def __init__(self, trial: Trial) -> None:
        twin = trial.seen.trained_model(trial.spec.ancestor("cluster")).eval().requires_grad_(False)
        self.trial, self.other = trial, Surface(twin, trial.surface.space, None, trial.surface.bn)
        self.gain = own_loss(trial)

    def at(self, attacker: Attack, eps: float) -> dict[str, Attack]:
        """The transferred and the adaptive attack at a radius; the latter where the defense has a loss of its own."""
        radius = at_radius(attacker.budget, eps)
        old = self.trial.seen.learned_attack(self.trial.spec, self.other, **radius)
        found: dict[str, Attack] = {TRANSFERRED: Transferred(old, self.other, attacker.budget)}
        if self.gain is None:
            return found
        known = {f.name for f in fields(apgd.Config)}
        own = {name: value for name, value in self.trial.spec.settings["attack"].items() if name in known}
        eot = max(own.get("eot", 1), DRAWS if is_random(self.trial) else 1)
        changes = {**own, "objective": "margin", "random_start": True, "eot": eot, **radius}
        torch.manual_seed(seed_for(self.trial.spec.seed, "adaptive", self.trial.spec.key))
        config = settings.build(apgd.Config, changes, "attack")
        return {**found, ADAPTIVE: apgd.Apgd(config, self.trial.surface, gain=self.gain)}


def own_loss(trial: Trial) -> Gain | None:
    """What the defense of a re-attacked model lets an attacker ascend who knows it."""
    spec, surface = trial.spec, trial.surface
    run = spec.ancestor("defend")
    assert run.parent is not None
    torch.manual_seed(seed_for(spec.seed, "adaptive", spec.key))
    with precision("highest"):
        defense = methods.new_defense(str(run.defense), run.settings["defense"], surface)
        space = methods.attack_space(str(run.parent.attack), run.parent.settings["attack"])
        met = Surface(surface.model, space, None, surface.bn)
        gain: Gain | None = defense.gain(surface, trial.seen.trained_attack(run.parent, met), lessons(trial))
    surface.model.requires_grad_(False)
    return gain


def lessons(trial: Trial) -> Iterable[Batch]:
    """The batches that a defense's own networks learn from again."""
    batches = trial.seen.batches(Schedule(batch_size=BATCH, steps_per_epoch=LESSONS), trial.spec)
    return islice(batches.epoch(), LESSONS)


def is_random(trial: Trial) -> bool:
    """Whether two passes over the same samples differ."""
    rows = torch.arange(min(BATCH, trial.held.info.n_samples), device=trial.held.torch_device)
    views = tuple(view[rows] for view in trial.held.views)
    with torch.no_grad():
        first, second = trial.surface.encode(views).z, trial.surface.encode(views).z
    return not torch.equal(first, second)
