"""From an attack run to the floor that measures it: which rows are scored, and what can be made beside the attack."""

from collections.abc import Callable
from functools import partial
from types import ModuleType

from robust_cluster.attacks.bounded import at_radius
from robust_cluster.measure import controls, curve, embeddings, views
from robust_cluster.measure.controls import PGD_ROWS, Beside
from robust_cluster.measure.rows import Rows, spaced
from robust_cluster.measure.scores import Details, Metrics
from robust_cluster.runs.seeds import seed_for
from robust_cluster.stages import adaptive, methods
from robust_cluster.stages.context import Context, Trial

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


def scored(trial: Trial, context: Context) -> Rows:
    """The rows of a context that a trial scores: all of them, or as many as a standard attack asks for."""
    data = context.placed
    few = trial.attack_spec.settings["attack"].get("rows")
    return Rows(trial.surface, data, None if few is None else spaced(data.info.n_samples, few))


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
    if trial.surface.space != "input" or not trial.attacker.trained:
        return dict
    return views.curve(trial.attacker, scored(trial, trial.held).few(PGD_ROWS))


def warnings(trial: Trial, metrics: Metrics, stop_reason: str, log: list[dict[str, float]]) -> list[str]:
    """The flags of an attack's record: see measure/controls.py, and of the embedding whether the change can be seen."""
    seen = embeddings.warnings(metrics) if measure_of(trial) is embeddings else []
    return [*seen, *controls.warnings(trial.attacker, metrics, stop_reason, log)]
