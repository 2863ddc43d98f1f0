"""What an attack on the views does, and beside it all that it must beat, in one batch-norm mode.

Gradients may come from reduced products, by the run's `precision`, scores never.
"""

from collections.abc import Callable

import numpy as np

from robust_cluster.attacks.base import Attack
from robust_cluster.measure import pgd
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.controls import VERSION, controls
from robust_cluster.measure.rows import Outcome, Rows, unit
from robust_cluster.measure.scores import Details, Metrics, scores
from robust_cluster.runs.seeds import seed_for

REFITS = 3  # fits of k-means that a refit score is the mean of


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"pgd": pgd.VERSION, "input_measurement": VERSION}


def score(attacker: Attack, rows: Rows, beside: Beside) -> tuple[Metrics, Details]:
    """Scores of the held rows: clean, attacked, under every control; those of the seen rows with the suffix _seen.

    Blind noise has no controls: it is one. A defense's record does without PGD, which knows nothing of the original
    attacker: its re-attack has it.
    """
    moved = rows.moved(attacker)
    outcome = rows.outcome(moved)
    found = rows.clean_scores() | rows.attacked_scores(outcome)
    found |= {
        "eps": attacker.budget.eps / unit(rows.surface),
        "delta_norm": float(outcome.norm.mean()),
        "shift": float(outcome.shift.mean()),
        "samples": len(rows),
        "consistency_share": share(outcome),
        "saturated": rows.saturated(outcome),
    }
    found |= refit(rows, outcome, beside.seed("refit")) | controls(attacker, rows, moved, beside)
    if beside.is_final and not attacker.blind:
        found |= pgd.pgd(attacker, rows, beside)
    if beside.seen is not None:
        seen = beside.seen()
        both = seen.clean_scores() | seen.attacked_scores(seen.outcome(seen.moved(attacker)))
        found |= {f"{name}_seen": value for name, value in both.items() if name != "chance"}
    return found, {}


def share(outcome: Outcome) -> float | None:
    """How much of the squared shift is that of the views' consensus, in [0, 1]; the rest is that of the single views.

    They are the two terms of AR-DMVC's attack: near 0 or 1 one of them is all that it descends. None without a move.
    """
    whole = float(outcome.shift.sum())
    return float(outcome.consistency.sum()) / whole if whole else None


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
        attacked = rows.attacked_scores(rows.outcome(rows.moved(attacker)))
        return {name: value for name in ("flip", "ACC*") if (value := attacked[name]) is not None}

    return point
