"""The moves that stand beside every attack, and what they say of it: one rule each, in both spaces.

An attack says nothing unless noise of the same size does less: with stored batch-norm statistics any dense texture may
throw a network off its range. A worst case over several attacks stands beside a worst case of noise over as many draws.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Views
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.convergence import is_unconverged
from robust_cluster.measure.noise import draw, equal_norm_noise, shuffled
from robust_cluster.measure.rows import Moved, Rows, worst
from robust_cluster.measure.scores import Metrics
from robust_cluster.runs.seeds import generator

VERSION = 2  # of everything in measure/ that scores an attack; raise it when the numbers change
LITTLE, MUCH = 0.1, 0.2  # of the flips: what a masked attack finds at most, and by how much PGD finds more
GAP = 0.02  # of the flips, by which a member without gradients may be above those with them


def controls(attacker: Attack, rows: Rows, moved: Moved, beside: Beside, draws: int = 1) -> Metrics:
    """What no move and every kind of noise do: starred scores, flip rate and shift of each.

    `draws`: how many attacks the moved points are the worst case of; of each kind of noise it is the worst of as many
    draws. `noise_flip` and `ACC*_noise` are of the kind that does most. An attack that is noise has none beside it.
    """
    found: Metrics = {"zero_flip": rows.attacked_scores(rows.outcome(partial(held, attacker.budget, rows)))["flip"]}
    if attacker.blind:
        return found
    kinds, rates = noise(attacker, rows, moved, beside), ("flip",) if rows.target is None else ("flip", "reached")
    for name, move in kinds.items():
        each = [rows.outcome(move) for _ in range(1 if name == "untrained" else draws)]
        outcome, _ = worst(each, rows)
        starred = rows.attacked_scores(outcome)
        found |= {f"{score}_{name}": starred[score] for score in ("ACC*", "NMI*", "ARI*")}
        found |= {f"{name}_{rate}": starred[rate] for rate in rates} | {f"{name}_shift": float(outcome.shift.mean())}
    accuracies = [value for name in kinds if (value := found[f"ACC*_{name}"]) is not None]
    return found | {
        "ACC*_noise": min(accuracies, default=None),
        **{f"noise_{rate}": max(found[f"{name}_{rate}"] or 0.0 for name in kinds) for rate in rates},
        "noise_draws": draws,
    }


def held(budget: Budget, rows: Rows, number: int) -> Views:
    """The clean points of a batch as an attack that does nothing would leave them."""
    clean = rows.point(number)
    return budget.clip(clean, clean)


def noise(attacker: Attack, rows: Rows, moved: Moved, beside: Beside) -> dict[str, Moved]:
    """The moves that know nothing of the victim, by name, all inside the attack's budget; each call draws anew.

    "equal_norm": a Gaussian direction with each sample's own norm. "shuffled": each sample's own move with its values
    in a random order. Where there is a radius, "sign": a random corner of the ball; "uniform": values between corners;
    and "untrained", the attacker before it learned.
    """
    budget = attacker.budget

    def made(name: str, change: Callable[[int, Tensor, Tensor, torch.Generator], Tensor]) -> Moved:
        random = generator(beside.seed(f"{name} noise"))

        def points(number: int) -> Views:
            clean = rows.point(number)
            pairs = enumerate(zip(clean, moved(number), strict=True))
            return budget.clip(clean, tuple(change(view, before, after, random) for view, (before, after) in pairs))

        return points

    changes: dict[str, Callable[[int, Tensor, Tensor, torch.Generator], Tensor]] = {
        "equal_norm": lambda view, before, after, random: before + equal_norm_noise(after - before, random),
        "shuffled": lambda view, before, after, random: before + shuffled(after - before, random),
    }
    if budget.norm is not None:
        changes["sign"] = lambda view, before, after, random: draw(before, budget, view, random, is_corner=True)
        changes["uniform"] = lambda view, before, after, random: draw(before, budget, view, random, is_corner=False)
    kinds = {name: made(name, change) for name, change in changes.items()}
    if budget.norm is not None and attacker.trained:
        kinds["untrained"] = rows.moved(beside.untrained(rows.surface))
    return kinds


def warnings(
    attacker: Attack, metrics: Mapping[str, Any], stop_reason: str, log: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What is wrong with an attack's numbers, in the words of a record's flags; noise itself has nothing beside it.

    "no better than noise": as many samples change cluster (or reach the one aimed at) under noise; not ACC matched
    anew, which stays where clusters trade names. "masked": it finds next to nothing where PGD finds much, or a member
    that reads scores or labels alone flips more than those that follow gradients. "unconverged": it learned, and
    `is_unconverged`.
    """
    if "noise_flip" not in metrics:
        return []
    rate = "reached" if "reached" in metrics else "flip"
    flip, pgd_flip = metrics[rate], metrics.get("pgd_flip") or 0.0
    members: Mapping[str, Attack] = getattr(attacker, "members", {})
    led = [metrics[f"{rate}_{name}"] for name, one in members.items() if one.feedback == "gradient"]
    asked = [metrics[f"{rate}_{name}"] for name, one in members.items() if one.feedback in ("score", "label")]
    flips = [point["flip"] for point in log if "flip" in point]
    named = {
        "no better than noise": flip <= metrics[f"noise_{rate}"],
        "masked": (flip < LITTLE and pgd_flip > flip + MUCH) or (bool(led and asked) and max(asked) > max(led) + GAP),
        "unconverged": attacker.trained and is_unconverged(stop_reason, flips, metrics.get("saturated")),
    }
    return [name for name, holds in named.items() if holds]
