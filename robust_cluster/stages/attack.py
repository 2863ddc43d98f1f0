"""Attack and re-attack: train an attacker against a frozen model, then measure what it does and what noise does.

The attack proposes points; the stage clips them to the attack's budget, checks that the model did not change by a
byte, and scores clean and moved points with the same code. A re-attack is an attack whose parent is a defended model.
"""

from typing import Any

from robust_cluster.attacks.base import Attack
from robust_cluster.errors import ConfigError
from robust_cluster.nn.precision import precision
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages import auditing, bench
from robust_cluster.stages.cluster import describe_model
from robust_cluster.stages.context import Asked, Context, Trial, fingerprint, record
from robust_cluster.stages.loop import Summary, Task, fit


def attack(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of an attack or re-attack run."""
    if spec.parent is None:
        raise ConfigError("an attack needs a trained model before it")
    context = context.part(2)
    with precision("highest"):
        model = context.trained_model(spec.parent)
        description = describe_model(model, context)
        seen, held = bench.parts(spec, context)
        surface = bench.attacked_surface(model, spec, seen)
        before = fingerprint(model)
        attacker = context.new_attack(spec, surface)
        trial = Trial(attacker, surface, spec, seen, held)
        summary = train_attacker(trial, run)
        run.save_model(checkpoint(attacker))
        scores, details = bench.measured(trial)
        metrics = description["metrics"] | scores
        is_unchanged = fingerprint(model) == before
        found = {
            "metrics": metrics,
            "threat": bench.threat(trial),
            **details,
            "checks": {"victim_unchanged": is_unchanged},
        }
        found["audit"] = auditing.findings(trial, found, "quick")
    log = [line["health"] for line in run.lines() if line["health"]]
    flags = [*description["flags"], *bench.warnings(trial, metrics, summary.stop_reason, log)]
    return {
        **record(context, spec, summary),
        **found,
        "curve": log,
        "health": description["health"],
        "flags": flags if is_unchanged else [*flags, "victim changed"],
    }


def train_attacker(trial: Trial, run: Run) -> Summary:
    """Train the attacker alone; attacks that are not trained have a schedule of no epochs."""
    attacker, surface, spec = trial.attacker, trial.surface, trial.spec
    task = Task(
        title=f"{spec.stage} {spec.model} with {spec.attack} {spec.attack_seed}",
        step=lambda batch: attacker.step(surface, batch),
        state={**attacker.state(), "queries": Asked(attacker)},
        after_epoch=lambda epoch, batches: attacker.after_epoch(epoch),
        watch=bench.watch(trial),
    )
    with precision(spec.precision):
        return fit(task, trial.seen.batches(attacker.schedule, spec), run, trial.seen.progress)


def checkpoint(attacker: Attack) -> dict[str, Any]:
    """The states of the attacker's networks; its optimizers are of no use once it is trained."""
    return {name: part.state_dict() for name, part in attacker.state().items() if not name.startswith("optimizer")}
