"""What an attack on the views does, and beside it all that it must beat, in one batch-norm mode.

Gradients may come from reduced products, by the run's `precision`, scores never.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import Dataset
from robust_cluster.measure.controls import PGD_VERSION, Beside, pgd, view_controls
from robust_cluster.measure.rows import Outcome, Rows
from robust_cluster.measure.scores import Details, Metrics, scores
from robust_cluster.runs.seeds import generator, seed_for

MEASUREMENT = 1  # version of everything below that scores an attack; raise it when the numbers change
REFITS = 3  # fits of k-means that a refit score is the mean of
LEAST_GAP = 0.02  # of ACC, by which an attack must be below the worst noise


def order(data: Dataset) -> Tensor:
    """All rows in the random order in which their batches are scored."""
    return torch.randperm(data.info.n_samples, generator=generator(seed_for(0, "scored batches", data.ref.label)))


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"pgd": PGD_VERSION, "input_measurement": MEASUREMENT}


def score(attacker: Attack, rows: Rows, beside: Beside) -> tuple[Metrics, Details]:
    """Scores of the held rows: clean, attacked, under every control; those of the seen rows with the suffix _seen.

    Blind noise has no controls: it is one. A defense's record does without PGD, which knows nothing of the original
    attacker: its re-attack has it.
    """
    move = partial(attacker.perturb, rows.surface)
    moved = rows.outcome(move, attacker.budget)
    found = rows.clean_scores() | rows.attacked_scores(moved)
    found |= {
        "eps": attacker.budget.eps,
        "delta_norm": float(moved.norm.mean()),
        "shift": float(moved.shift.mean()),
        "samples": len(rows),
        "zero_flip": rows.attacked_scores(rows.outcome(rows.surface.point, attacker.budget))["flip"],
    }
    found |= refit(rows, moved, beside.seed("refit"))
    if not attacker.blind:
        found |= view_controls(attacker, rows, move, beside)
    if beside.is_final and not attacker.blind:
        found |= pgd(attacker, rows, beside)
    if beside.seen is not None:
        seen = beside.seen()
        attacked = seen.attacked_scores(seen.outcome(partial(attacker.perturb, seen.surface), attacker.budget))
        both = seen.clean_scores() | attacked
        found |= {f"{name}_seen": value for name, value in both.items() if name != "chance"}
    return found, {}


def refit(rows: Rows, moved: Outcome, seed: int) -> Metrics:
    """ACC_refit, ACC*_refit and so on: scores after k-means has been fitted to the very points that it labels.

    AR-DMVC's protocol, which understates an attack. Methods without `refit_labels`, whose head labels, have nothing to
    refit: the scores are the plain ones. Clean and moved points are fitted each on their own, the mean of 3 fits.
    """
    names = ("ACC", "NMI", "AMI", "ARI")
    found: Metrics = {}
    for star, outcome in (("", rows.clean), ("*", moved)):
        fits = [rows.surface.model.refit_labels(outcome.z, seed_for(seed, str(fit))) for fit in range(REFITS)]
        labels = [outcome.labels if fitted is None else fitted.cpu().numpy() for fitted in fits]
        each = [scores(rows.truth, fitted, rows.n_clusters) for fitted in labels]
        for name in names:
            values = [one[name] for one in each]
            found[f"{name}{star}_refit"] = None if None in values else float(np.mean(values))  # type: ignore[arg-type]
    return found


def curve(attacker: Attack, rows: Rows) -> Callable[[], dict[str, float]]:
    """After each epoch of the attacker: flip rate and ACC* of the rows. Nothing is chosen by them."""

    def point() -> dict[str, float]:
        attacked = rows.attacked_scores(rows.outcome(partial(attacker.perturb, rows.surface), attacker.budget))
        return {name: value for name in ("flip", "ACC*") if (value := attacked[name]) is not None}

    return point


def flags(metrics: dict[str, Any], stop_reason: str, *, is_trained: bool) -> list[str]:
    """Warnings: noise does as much (flips, or ACC* up to the least gap), PGD does far more. Blind noise has none."""
    if "noise_flip" not in metrics:
        return []
    is_below = metrics["ACC*"] is None or metrics["ACC*"] <= metrics["ACC*_noise"] - LEAST_GAP
    named = {
        "masked": metrics["flip"] < 0.1 and metrics.get("pgd_flip", 0.0) > metrics["flip"] + 0.2,
        "no better than noise": metrics["flip"] <= metrics["noise_flip"] or not is_below,
    }
    return [name for name, holds in named.items() if holds]
