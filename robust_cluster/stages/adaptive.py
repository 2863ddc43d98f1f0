"""What stands beside a standard re-attack of a defended model: the old attack's points, and an attacker who knows the
defense.

A defense that only beats what was made for the undefended model has a gap between the points that are handed over and
those that are found afresh; one that hides its gradients or its randomness has one between these and the adaptive ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster.attacks import apgd
from robust_cluster.attacks.base import Attack, Budget, Surface
from robust_cluster.data.base import Batch, Views
from robust_cluster.models.base import Schedule
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

    knowledge = "transfer"

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
    """Flip rates of a re-attack at its largest radius, and the gap between its worst case and the transferred points.

    `flipped`: which samples each member flips. "afresh" is the worst case of the attack as it stands on an undefended
    model too, "adaptive" of the one that ascends the defense's own loss alone; None where the defense has no such loss.
    """
    fresh = [flags for name, flags in flipped.items() if name not in (TRANSFERRED, ADAPTIVE)]
    worst = float(np.logical_or.reduce(list(flipped.values())).mean())
    transferred = float(flipped[TRANSFERRED].mean())
    return {
        "transferred": transferred,
        "afresh": float(np.logical_or.reduce(fresh).mean()),
        "adaptive": float(flipped[ADAPTIVE].mean()) if ADAPTIVE in flipped else None,
        "worst": worst,
        "gap": worst - transferred,
    }


def companions(trial: Trial, attacker: Attack, eps: float) -> dict[str, Attack]:
    """The transferred and the adaptive attack of a re-attack at one radius; the latter where the defense has a loss."""
    spec, seen = trial.spec, trial.seen
    twin = seen.trained_model(spec.ancestor("cluster")).eval().requires_grad_(False)
    other = Surface(twin, trial.surface.space, None, trial.surface.bn)
    old = seen.new_attack(spec, other, eps=eps)
    found: dict[str, Attack] = {TRANSFERRED: Transferred(old, other, attacker.budget)}
    knowing = adaptive(trial, eps)
    return found if knowing is None else {**found, ADAPTIVE: knowing}


def adaptive(trial: Trial, eps: float) -> Attack | None:
    """APGD up the defense's own loss; the mean gradient of several passes where the model is random."""
    spec, seen, surface = trial.spec, trial.seen, trial.surface
    run = spec.ancestor("defend")
    assert run.parent is not None
    torch.manual_seed(seed_for(spec.seed, "adaptive", spec.key))
    with precision("highest"):
        defense = methods.new_defense(str(run.defense), run.settings["defense"], surface)
        space = methods.attack_space(str(run.parent.attack), run.parent.settings["attack"])
        met = Surface(surface.model, space, None, surface.bn)
        gain = defense.gain(surface, seen.trained_attack(run.parent, met), lessons(trial))
    surface.model.requires_grad_(False)
    if gain is None:
        return None
    known = {f.name for f in fields(apgd.Config)}
    own = {name: value for name, value in spec.settings["attack"].items() if name in known}
    eot = max(own.get("eot", 1), DRAWS if is_random(trial) else 1)
    changes = {**own, "objective": "margin", "random_start": True, "eot": eot, "eps": eps}
    config = settings.build(apgd.Config, changes, "attack")
    return apgd.Apgd(config, surface, gain=gain)


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
