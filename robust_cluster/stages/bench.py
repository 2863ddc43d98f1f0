"""From an attack run to the floor that measures it: which rows are scored, and what can be made beside the attack."""

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch

from robust_cluster.attacks.bounded import at_radius
from robust_cluster.measure import curve, embeddings, views
from robust_cluster.measure.controls import PGD_ROWS, Beside
from robust_cluster.measure.rows import Rows, portions, spaced
from robust_cluster.measure.scores import Details, Metrics
from robust_cluster.runs.seeds import seed_for
from robust_cluster.stages import adaptive, methods
from robust_cluster.stages.context import Context, Trial

JOINT = 100  # rows that are scored at once where batch norm takes their statistics; AR-DMVC's batches
MEASURES: dict[str, ModuleType] = {"latent": embeddings, "input": views, "bounded": curve}


def measured(trial: Trial, *, is_final: bool = True) -> tuple[Metrics, Details]:
    """The scores of a trial with their controls, and what else goes into the record."""
    found: tuple[Metrics, Details] = measure_of(trial).score(
        trial.attacker, scored(trial, trial.held), beside(trial, is_final=is_final)
    )
    return found


def measure_of(trial: Trial) -> ModuleType:
    """The module of `MEASURES` that scores a trial."""
    spec = trial.attack_spec
    return MEASURES[methods.measured_as(str(spec.attack), spec.settings["attack"])]


def scored(trial: Trial, context: Context, most: int | None = None) -> Rows:
    """The rows of a context that a trial scores, at most so many of them, in its batches."""
    data, spec, is_joint = context.placed, trial.attack_spec, trial.surface.bn == "batch"
    match methods.measured_as(str(spec.attack), spec.settings["attack"]):
        case "latent":
            parts = list(torch.arange(data.info.n_samples).split(1000))
        case "input":
            parts = portions(views.order(data)[:most], JOINT)
        case _:
            index = spaced(data.info.n_samples, spec.settings["attack"]["rows"])
            parts = portions(index, JOINT) if is_joint else list(index.split(500))
    return Rows(trial.surface, data, parts)


def beside(trial: Trial, *, is_final: bool = True) -> Beside:
    """What can be made beside a trial's attack."""
    spec, seen, run = trial.attack_spec, trial.seen, trial.spec
    others = adaptive.companions(trial) if run.stage == "reattack" and measure_of(trial) is curve else None
    return Beside(
        attack=str(spec.attack),
        title=f"{run.stage} {run.model}",
        settings=spec.settings["attack"],
        seed=lambda purpose: seed_for(run.seed, purpose, run.key),
        untrained=lambda surface: seen.new_attack(spec, surface),
        at_radius=lambda eps: seen.learned_attack(spec, trial.surface, **at_radius(trial.attacker.budget, eps)),
        companions=None if others is None else others.at,
        radius=None if run.stage == "attack" else victims_norm(trial),
        seen=None if seen is trial.held else partial(scored, trial, seen),
        is_final=is_final,
        precision=run.precision,
        progress=seen.progress,
    )


def victims_norm(trial: Trial) -> float | None:
    """The mean norm of the attack on the undefended model, at which a defended one is compared with it."""
    victim = trial.seen.store.record(trial.spec.ancestor("attack"))
    return float(victim["metrics"]["delta_norm"]) if victim else None


def watch(trial: Trial) -> Callable[[], dict[str, float]]:
    """What is logged after each epoch of an attacker beside its losses: of one on the views how far it is."""
    if measure_of(trial) is not views or not trial.attacker.trained:
        return dict
    return views.curve(trial.attacker, scored(trial, trial.held, PGD_ROWS))
