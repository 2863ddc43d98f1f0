"""What a re-attack of a defended model is measured beside, from its run: see measure/companions.py."""

from collections.abc import Iterable
from itertools import islice

import torch

from robust_cluster.attacks.base import Gain, Surface
from robust_cluster.data.base import Batch
from robust_cluster.measure.companions import Companions, is_random
from robust_cluster.measure.scores import batch_of
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import seed_for
from robust_cluster.stages import methods
from robust_cluster.stages.context import Trial

LESSONS = 300  # batches on which a defense's networks that are not kept learn anew
BATCH = 256


def companions(trial: Trial) -> Companions:
    """The attacks that stand beside that of a re-attack."""
    spec, surface = trial.spec, trial.surface
    rows = torch.arange(min(BATCH, trial.held.info.n_samples), device=trial.held.torch_device)
    return Companions(
        surface=surface,
        twin=trial.undefended,
        learned=lambda other, changes: trial.seen.learned_attack(spec, other, **changes),
        gain=own_loss(trial),
        settings=spec.settings["attack"],
        is_random=is_random(surface, batch_of(trial.held.views, rows)),
        seed=seed_for(spec.seed, "adaptive", spec.key),
    )


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
