"""What standard attacks do: every member at every radius on evenly spaced rows, with noise and no move beside them.

A point that a smaller radius misleads counts at every larger one, whose ball it lies in: such a sample is not attacked
again, and the curve cannot fall. An attack that learns is measured at every radius by what it learned for that one
alone. With batch norm on statistics of the batch a label depends on the batch: there all samples are attacked at every
radius, and what is counted is what the whole moved batch gives.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import Batch, Views
from robust_cluster.measure import companions
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.controls import VERSION, controls
from robust_cluster.measure.metric import WHOLE
from robust_cluster.measure.rows import Outcome, Rows, unit, worst
from robust_cluster.measure.scores import Details, Metrics, characters, finite
from robust_cluster.metrics.flips import flip_rate


@dataclass(frozen=True)
class Line:
    """What one attack does at one radius. `trained_at`: the radius of the last step of an attack that learns."""

    eps: float
    attack: str
    outcome: Outcome
    trained_at: float | None = None


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"bounded_measurement": VERSION}


def score(attacker: Attack, rows: Rows, beside: Beside) -> tuple[Metrics, Details]:
    """Scores at the largest radius with their controls, and the lines of the whole curve."""
    began = time.monotonic()
    lines, points = curve_lines(attacker, rows, beside)
    last = max(line.eps for line in lines)
    final = {line.attack: line.outcome for line in lines if line.eps == last}
    whole = final.pop(WHOLE)
    found = rows.clean_scores() | rows.attacked_scores(whole)
    found |= {f"flip_{name}": flip_rate(rows.clean.labels, one.labels) for name, one in final.items()}
    if rows.target is not None:
        found |= {f"reached_{name}": float(rows.are_misled(one.labels).mean()) for name, one in final.items()}
    found |= {"eps": last, "delta_norm": float(whole.norm.mean()), "samples": len(rows)}
    found["saturated"] = rows.saturated(whole)
    found |= controls(attacker, rows, points.__getitem__, beside, draws=len(final) or 1)
    feedback = {name: one.feedback for name, one in members(attacker, beside.attack).items()}
    flipped = {name: rows.are_misled(one.labels) for name, one in final.items()}
    return found, {
        **({"adaptive": companions.gaps(flipped, feedback)} if beside.companions else {}),
        "radii": [described(line, rows, is_trained=attacker.trained) for line in lines],
        "samples": listed(rows, whole),
        "measured": {"seconds": time.monotonic() - began, "radii": len({line.eps for line in lines})},
    }


def described(line: Line, rows: Rows, *, is_trained: bool) -> dict[str, Any]:
    """A line as the record has it; the gain is the mean margin by which clusters are left."""
    gain = finite(float(line.outcome.gain.double().mean()))
    found = {"eps": line.eps, "attack": line.attack, "gain": gain, **rows.attacked_scores(line.outcome)}
    return found | ({"trained_at": line.trained_at} if is_trained else {})


def members(attacker: Attack, name: str) -> Mapping[str, Attack]:
    """The attacks that are measured each on its own: an ensemble's members, or the attack itself, called `name`."""
    own: Mapping[str, Attack] = getattr(attacker, "members", {})
    return own or {name: attacker}


def curve_lines(attacker: Attack, rows: Rows, beside: Beside) -> tuple[list[Line], list[Views]]:
    """A line per radius and member and one for the worst case of each radius; the worst points of the last radius."""
    own = attacker.budget.eps / unit(rows.surface) if beside.settings["eps"] is None else beside.settings["eps"]
    radii = sorted({*beside.settings["curve"], own})  # the attack's own is the largest: see BoundedConfig
    clean = [rows.point(number) for number in range(len(rows.parts))]
    lines: list[Line] = []
    best: dict[str, list[Views]] = {}
    moved: list[Views] = []
    beside.progress.start(f"{beside.title}: {len(rows)} samples", len(radii), 0, unit="curve point")
    try:
        for count, eps in enumerate(radii, start=1):
            at = attacker if eps == own else beside.at_radius(eps)
            others = beside.companions(at, eps) if beside.companions else {}
            for name, member in {**members(at, beside.attack if others else WHOLE), **others}.items():
                before = clean if at.trained else best.get(name, clean)
                best[name] = [worsened(member, rows, number, points) for number, points in enumerate(before)]
            trained_at = None if at.trained_at is None else at.trained_at / unit(rows.surface)
            outcomes = {name: rows.outcome(points.__getitem__) for name, points in best.items()}
            whole, chosen = worst(list(outcomes.values()), rows)
            outcomes[WHOLE] = whole
            lines += [Line(eps, name, outcome, trained_at) for name, outcome in outcomes.items()]
            moved = taken(list(best.values()), chosen, rows)
            flips = flip_rate(rows.clean.labels, lines[-1].outcome.labels)
            beside.progress.epoch(count, {"eps": eps, "flips": math.nan if flips is None else flips})
    finally:
        beside.progress.stop()
    return lines, moved


def worsened(attack: Attack, rows: Rows, number: int, before: Views) -> Views:
    """The points of batch `number` that mislead already, and the attack's for the others, inside its budget."""
    batch, clean = rows.batch(number), rows.point(number)
    if rows.is_joint:
        moved = attack.budget.clip(clean, attack.perturb(rows.surface, batch))
        is_better = rows.misled(moved, number).sum() >= rows.misled(before, number).sum()
        return moved if is_better else before
    held = (~rows.misled(before, number)).nonzero()[:, 0]
    if not len(held):
        return before
    part = Batch(tuple(view[held] for view in batch.views), batch.index[held])
    moved = attack.budget.clip(tuple(view[held] for view in clean), attack.perturb(rows.surface, part))
    result = tuple(view.clone() for view in before)
    for view, value in zip(result, moved, strict=True):
        view[held] = value
    return result


def taken(points: Sequence[Sequence[Views]], chosen: Tensor, rows: Rows) -> list[Views]:
    """The points of every batch, each row's from the attack that `chosen` (n,) numbers."""
    found = []
    for number, places in enumerate(rows.places):
        own, count = chosen[places].to(points[0][number][0].device), len(places)
        at = own, torch.arange(count, device=own.device)
        found.append(tuple(torch.stack(views)[at] for views in zip(*(one[number] for one in points), strict=True)))
    return found


def listed(rows: Rows, outcome: Outcome) -> dict[str, Any] | None:
    """Truth, clean and moved label of every scored row, one character each; None above 36 clusters or 2,000 rows."""
    truth = rows.truth
    most = max(rows.n_clusters, 0 if truth is None else int(truth.max()) + 1)
    if most > 36 or len(rows) > 2000:
        return None
    return {
        "rows": len(rows),
        "truth": None if truth is None else characters(truth),
        "clean": characters(rows.clean.labels),
        "moved": characters(outcome.labels),
    }
