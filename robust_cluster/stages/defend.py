"""Defense: train the attacked model on with the defense's loss, then score it clean and under the original attacker."""

from typing import Any

import torch

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.defenses.base import Defense
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import Watch, embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.optim import Stateful
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages import bench, methods
from robust_cluster.stages.cluster import begin, between_epochs, describe_model, own_seed
from robust_cluster.stages.context import Context, Trial, fingerprint, frozen_surface, record
from robust_cluster.stages.loop import Batches, Summary, Task, fit, run_epoch


def defend(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of a defend run; its starred scores are under the original, unchanged attacker.

    That shows adaptation to one attacker, not robustness: only a re-attack does."""
    if spec.parent is None or spec.parent.parent is None:
        raise ConfigError("a defense needs an attacked model before it")
    attack_spec, victim_spec = spec.parent, spec.parent.parent
    model = context.trained_model(victim_spec)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"{spec.model} has nothing that a defense could train", hint="--model convae")
    surface = Surface(model, bench.space_of(attack_spec))
    original = context.trained_attack(attack_spec, surface)
    before = [fingerprint(part) for part in networks(original)]
    with precision(spec.precision):
        summary = train(spec, run, context.part(1), surface)
    run.save_model(model.state_dict())
    context = context.part(2)
    description = describe_model(model, context)
    with precision("highest"):
        seen, held = bench.parts(attack_spec, context)
        surface = bench.attacked_surface(model, attack_spec, seen)
        trial = Trial(original, surface, spec, seen, held)
        found, details = bench.measured(trial, is_final=False)
    checks = {"attacker_unchanged": before == [fingerprint(part) for part in networks(original)]}
    metrics = description["metrics"] | found
    # what learned from the undefended model has never seen this one
    knowledge = "transfer" if original.trained else original.knowledge
    stated = {**bench.threat(trial), "knowledge": knowledge}
    measured = {"metrics": metrics, "threat": stated, **details, "checks": checks}
    return {**record(context, spec, summary), **description, **measured}


def train(spec: RunSpec, run: Run, context: Context, surface: Surface) -> Summary:
    """Train the surface's model against a copy of its attacker, which moves only if the defense says so."""
    model = surface.model
    assert spec.parent is not None  # defend() has looked
    attacker = context.trained_attack(spec.parent, surface)
    torch.manual_seed(seed_for(spec.seed, "defend", spec.key))
    defense = methods.new_defense(str(spec.defense), spec.settings["defense"], surface)
    if defense.trains_attacker and not attacker.trained:
        raise ConfigError(
            f"{spec.parent.attack} learns nothing, so it cannot alternate with a defense", hint="--mode frozen"
        )
    if defense.restarts:
        restart(model, spec, context)
    watch = Watch(model, context.views)
    model.train()
    state: dict[str, Stateful] = {"model": model, "watch": watch, **defense.state()}
    if defense.trains_attacker:
        state |= {f"attacker_{name}": part for name, part in attacker.state().items()}

    def after_epoch(epoch: int, batches: Batches) -> dict[str, float]:
        if defense.restarts:
            between_epochs(model, spec, context, epoch)
        return follow(defense, attacker, model, batches)

    task = Task(
        title=f"defend {spec.model} with {spec.defense}",
        step=lambda batch: defense.step(surface, attacker, batch),
        state=state,
        after_epoch=after_epoch,
        watch=watch,
    )
    summary = fit(task, context.batches(defense.schedule, spec), run, context.progress)
    model.eval()
    with precision("highest"):
        model.finish("cluster", lambda: embed(model, context.views), own_seed(spec))
    return summary


def restart(model: ClusterModel, spec: RunSpec, context: Context) -> None:
    """Put the model back to where its clustering began, with the same initialization; then the defense's own seed."""
    victim = spec.ancestor("cluster")
    model.load_state_dict(context.new_model(victim).state_dict())
    with precision("highest"):
        begin(model, victim, context)
    torch.manual_seed(seed_for(spec.seed, "defend", spec.key, "restarted"))


def follow(defense: Defense, attacker: Attack, model: ClusterModel, batches: Batches) -> dict[str, float]:
    """One epoch of the attacker against the model as it is now; nothing for defenses whose attacker stays."""
    if not defense.trains_attacker:
        return {}
    surface = frozen_surface(model, attacker.space, None)
    with precision("highest"):
        losses, _ = run_epoch(Task("attacker", lambda batch: attacker.step(surface, batch), {}), batches, 0)
    model.train().requires_grad_(True)
    return {f"attacker_{name}": value for name, value in losses.items()}


def networks(attack: Attack) -> list[Any]:
    """The attacker's modules, without its optimizers."""
    return [part for part in attack.state().values() if isinstance(part, torch.nn.Module)]
