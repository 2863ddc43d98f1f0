"""Attack and re-attack: train an attacker against a frozen model, then measure what it does and what noise does.

The attack proposes points; the stage clips them to the attack's budget, checks that the model did not change by a
byte, and scores clean and moved points with the same code. A re-attack is an attack whose parent is a defended model.
"""

from typing import Any

import numpy as np

from robust_cluster.attacks.base import Attack, Space, Surface
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed, stays_sparse
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import Run
from robust_cluster.stages import auditing, bench, methods
from robust_cluster.stages.cluster import describe_model
from robust_cluster.stages.context import Context, Trial, fingerprint, frozen_surface, record
from robust_cluster.stages.loop import Summary, Task, fit


def attack(spec: RunSpec, run: Run, context: Context) -> dict[str, Any]:
    """The record of an attack or re-attack run."""
    if spec.parent is None:
        raise ConfigError("an attack needs a trained model before it")
    context = context.part(2)
    with precision("highest"):
        model = context.trained_model(spec.parent)
        description = describe_model(model, context)
        seen, held = parts(spec, context)
        surface = attacked_surface(model, spec, seen)
        before = fingerprint(model)
        attacker = context.new_attack(spec, surface)
        trial = Trial(attacker, surface, spec, seen, held)
        summary = train_attacker(trial, run)
        run.save_model(checkpoint(attacker))
        scores, details = bench.measured(trial)
        metrics = description["metrics"] | scores
        is_unchanged = fingerprint(model) == before
        found = {"metrics": metrics, "threat": threat(trial), **details, "checks": {"victim_unchanged": is_unchanged}}
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


def parts(spec: RunSpec, context: Context) -> tuple[Context, Context]:
    """What the attacker learns on and what it is scored on: all rows for both, unless the attack holds some back.

    The rows that are held back depend on the data alone, so that all methods are scored on the same.
    """
    share = spec.settings["attack"].get("train_share", 1.0)
    if share == 1:
        return context, context
    n = context.info.n_samples
    order = np.random.default_rng(seed_for(0, "held back", spec.data.label)).permutation(n)
    count = min(n - 1, max(1, round(share * n)))
    return context.rows(np.sort(order[:count])), context.rows(np.sort(order[count:]))


def attacked_surface(model: ClusterModel, spec: RunSpec, seen: Context) -> Surface:
    """The surface that an attack run asks for; clean embeddings are computed once where no batch changes them."""
    bn = spec.settings["attack"].get("bn", "eval")
    model.eval()
    # Of data that stay sparse, each batch is its own embedding.
    memory = embed(model, seen.views) if bn == "eval" and not stays_sparse(model, seen.views) else None
    return frozen_surface(model, space_of(spec), memory, bn)


def space_of(spec: RunSpec) -> Space:
    """The space that an attack run moves points in."""
    return methods.attack_space(str(spec.attack), spec.settings["attack"])


def threat(trial: Trial) -> dict[str, Any]:
    """The threat model of an attack: what it may move, how far, what it knows, and how often the victim was asked.

    eps in input space also in pixels, i.e. as a share of the range of valid values: there as the settings declare it,
    so that an audit can compare the two; None where nothing bounds a move.
    `stage` "frozen": labels come from the model as it was, no cluster is fitted anew. `queries` are samples that
    the attacker of the largest radius and its members asked about in this process, without those that smaller radii of
    a curve had misled before; 0 for one that asks nothing.
    """
    attacker, surface, settings = trial.attacker, trial.surface, trial.attack_spec.settings["attack"]
    budget, info = attacker.budget, trial.held.info
    eps = None if budget.norm is None else budget.eps
    is_pixels = surface.space == "input" and info.box is not None
    declared = max(settings.get("view_eps") or (), default=settings.get("eps"))
    return {
        "space": surface.space,
        "norm": budget.norm,
        "eps_model": eps,
        "eps_pixels": (eps / info.unit if declared is None else declared) if is_pixels and eps is not None else None,
        "box": list(budget.bounds) if budget.bounds else None,
        "views": list(settings.get("views") or ()) or None,  # None: all
        "view_eps": list(settings.get("view_eps") or ()) or None,  # in pixels, in place of one radius for all
        "sigma": settings.get("sigma"),  # of Gaussian noise, which has no radius
        "train_share": settings.get("train_share", 1.0 if attacker.trained else None),
        "stage": "frozen",
        "knowledge": attacker.knowledge,
        "queries": sum(one.queries for one in (attacker, *getattr(attacker, "members", {}).values())),
        "bn": surface.bn,
    }


def train_attacker(trial: Trial, run: Run) -> Summary:
    """Train the attacker alone; attacks that are not trained have a schedule of no epochs."""
    attacker, surface, spec = trial.attacker, trial.surface, trial.spec
    task = Task(
        title=f"{spec.stage} {spec.model} with {spec.attack} {spec.attack_seed}",
        step=lambda batch: attacker.step(surface, batch),
        state=dict(attacker.state()),
        after_epoch=lambda epoch, batches: ended(attacker, epoch),
        watch=bench.watch(trial),
    )
    with precision(spec.precision):
        return fit(task, trial.seen.batches(attacker.schedule, spec), run, trial.seen.progress)


def ended(attacker: Attack, epoch: int) -> dict[str, float]:
    """Tell the attacker that an epoch has ended; there is nothing of it to log."""
    attacker.after_epoch(epoch)
    return {}


def checkpoint(attacker: Attack) -> dict[str, Any]:
    """The states of the attacker's networks; its optimizers are of no use once it is trained."""
    return {name: part.state_dict() for name, part in attacker.state().items() if not name.startswith("optimizer")}
