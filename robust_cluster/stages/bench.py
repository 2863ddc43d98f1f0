"""From an attack run to the floor that measures it: its surface, its rows, its threat, what is made beside it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch

from robust_cluster.attacks.base import Space, Surface
from robust_cluster.attacks.bounded import at_radius
from robust_cluster.data import split
from robust_cluster.data.multiview import shares_images
from robust_cluster.measure import controls, curve, embeddings, pgd, views
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import Details, Metrics, batch_of, embed, spaced, stays_sparse
from robust_cluster.models.base import ClusterModel
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import adaptive, methods
from robust_cluster.stages.context import Context, Trial, frozen_surface

ROUNDING = 1e-6
MEASURES: dict[str, ModuleType] = {"latent": embeddings, "input": views, "bounded": curve}


def parts(spec: RunSpec, context: Context) -> tuple[Context, Context]:
    """What the attacker learns on and what it is scored on: all rows for both, unless the attack holds some back.

    The rows that are held back depend on the data alone, so that all methods are scored on the same. Where samples
    share images, as noisy pairs do, no held row shows an image that the attacker learns on; runs from before that was
    so keep their rows.
    """
    share = spec.settings["attack"].get("train_share", 1.0)
    if share == 1:
        return context, context
    n, seed = context.info.n_samples, seed_for(0, "held back", spec.data.label)
    if spec.versions.get("held_back") and context.dataset.sources is not None:
        seen, held = split.apart(context.dataset.sources, share, seed)
        return context.rows(seen), context.rows(held)
    order = np.random.default_rng(seed).permutation(n)
    count = min(n - 1, max(1, round(share * n)))
    return context.rows(np.sort(order[:count])), context.rows(np.sort(order[count:]))


def held_back(settings: Mapping[str, Any], name: str) -> dict[str, int]:
    """What else changes an attack's numbers, for its key: how rows are held back where samples share images.

    1, which stands in no key: row by row, so that two of three held rows showed an image that the attacker learned on.
    """
    return {"held_back": 2} if settings.get("train_share", 1.0) < 1 and shares_images(name) else {}


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
    """The rows of a context that a trial scores: all of them, or as many as a standard attack asks for.

    Of an aimed attack, those of them that are in other clusters. Raises: ConfigError where there is none.
    """
    data = context.placed
    settings = trial.attack_spec.settings["attack"]
    few, target = settings.get("rows"), settings.get("target")
    rows = Rows(trial.surface, data, None if few is None else spaced(data.info.n_samples, few))
    return rows if target is None else rows.aimed_at(target)


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
    return views.curve(trial.attacker, scored(trial, trial.held).few(pgd.ROWS))


def warnings(trial: Trial, metrics: Metrics, stop_reason: str, log: list[dict[str, float]]) -> list[str]:
    """The flags of an attack's record: see measure/controls.py, and of the embedding whether the change can be seen."""
    seen = embeddings.warnings(metrics) if measure_of(trial) is embeddings else []
    budget = trial.attacker.budget
    is_beyond = budget.norm is not None and budget.eps > corners(trial)[1] * (1 + ROUNDING)
    beyond = ["radius beyond the data's range"] if is_beyond else []
    return [*seen, *controls.warnings(trial.attacker, metrics, stop_reason, log), *beyond]


def threat(trial: Trial) -> dict[str, Any]:
    """The threat model of an attack: what it may move, how far, what it knows, and how often the victim was asked.

    eps in input space also in pixels, i.e. as a share of the range of valid values: there as the settings declare it,
    so that an audit can compare the two; and in the units of the data before they were scaled. None where nothing
    bounds a move. `range`: of the values that are moved, in the model's units.
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
        "eps_data": None if eps is None or surface.space == "latent" or info.columns else eps / info.scale,
        "unit": unit_in_words(surface, trial.held),
        "range": corners(trial)[0],
        "box": list(budget.bounds) if budget.bounds else None,
        "views": list(settings.get("views") or ()) or None,  # None: all
        "view_eps": list(settings.get("view_eps") or ()) or None,  # in pixels, in place of one radius for all
        **({} if settings.get("target") is None else {"target": settings["target"]}),  # cluster that is aimed at
        "sigma": settings.get("sigma"),  # of Gaussian noise, which has no radius
        "train_share": settings.get("train_share", 1.0 if attacker.trained else None),
        "stage": "frozen",
        "knowledge": attacker.knowledge,
        "queries": sum(one.queries for one in (attacker, *getattr(attacker, "members", {}).values())),
        "bn": surface.bn,
    }


def unit_in_words(surface: Surface, context: Context) -> str:
    """What a radius of 1 is of."""
    info, normalize = context.info, context.dataset.ref.normalize
    if surface.space == "latent":
        return "units of the embedding"
    if info.columns is not None:
        return "standard deviations of each column" if normalize == "standard" else "the range of each column"
    return "units of the data" if info.box is None else "the range of values"


def corners(trial: Trial) -> tuple[float, float]:
    """The range of the values that are moved and the longest move inside it, both in the model's units.

    Data without a known range, and embeddings, have that of 1,000 evenly spaced points.
    """
    held, surface = trial.held, replace(trial.surface, memory=None)
    rows = spaced(held.info.n_samples, 1000).to(held.torch_device)
    with torch.no_grad():
        points = surface.point(batch_of(held.views, rows))
    is_known = surface.space == "input" and held.info.box is not None
    spread = held.info.unit if is_known else max(float(view.max() - view.min()) for view in points)
    entries = max(view[0].numel() for view in points)
    return spread, spread * (entries**0.5 if trial.attacker.budget.norm == "l2" else 1.0)
