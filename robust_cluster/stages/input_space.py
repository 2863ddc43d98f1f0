"""What moved inputs do: the attack, and beside it all that it must beat, in one batch-norm mode.

An attack at eps in input space says nothing unless noise of the same size does less: with stored batch-norm statistics
any dense texture may throw a network off its range. Every move is scored in the same fixed batches: with statistics of
the batch a score depends on its composition. Gradients may come from reduced products, by the run's `precision`,
scores never.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Gain, Surface
from robust_cluster.attacks.bounded import Ascent, known
from robust_cluster.attacks.budget import Budget
from robust_cluster.attacks.pgd import climb, pixel_budget, representation_shift
from robust_cluster.data.base import Batch, Views
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.models.base import Embedding
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import margin
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator, seed_for
from robust_cluster.stages.context import Context, Trial
from robust_cluster.stages.evaluate import Details, Metrics, Predicted, attacked_scores, batch_of, scores
from robust_cluster.stages.loop import Summary

PGD_VERSION = 1  # of the control `pgd` below; raise it when its numbers change
MEASUREMENT = 1  # version of everything below that scores an attack; raise it when the numbers change
BATCH = 100  # rows scored at once; AR-DMVC's batches
PGD_ROWS = 500  # rows that PGD is tried on
PGD_STEPS = 20
PGD_RELATIVE_STEP = 2.0  # step size times steps, over eps
PGD_EPS = 0.2  # beside the attack's own: what AR-DMVC's models are trained to withstand
REFITS = 3  # fits of k-means that a refit score is the mean of
LEAST_GAP = 0.02  # of ACC, by which an attack must be below the worst noise

OBJECTIVES: dict[str, Gain] = {
    "shift": lambda model, clean, moved, labels: representation_shift(model, clean, moved),
    # not the cross-entropy to the clean label: its gradient fades where the model is sure
    "assignment": lambda model, clean, moved, labels: margin(model.log_assign(moved.z), labels),
}
Move = Callable[[Batch], Views]


@dataclass(frozen=True)
class Outcome:
    """What one move does to the scored rows: z (n, d), labels (n,), representation shift (n,), L2 norm moved (n,)."""

    z: Tensor
    labels: Predicted
    shift: Tensor
    norm: Tensor


class Scorer:
    """The rows of a context in fixed random batches, or the given `rows`, under one model and batch-norm mode."""

    def __init__(
        self, surface: Surface, context: Context, *, most: int | None = None, rows: Tensor | None = None
    ) -> None:
        n = context.info.n_samples
        order = torch.randperm(n, generator=generator(seed_for(0, "scored batches", context.dataset.ref.label)))
        self.rows = order[:most] if rows is None else rows.cpu()
        self.surface = replace(surface, memory=None)
        self.views, self.parts = context.views, portions(self.rows.to(context.torch_device))
        self.truth = None if context.labels is None else context.labels[self.rows.numpy()]
        self.n_clusters = context.info.n_clusters
        with torch.no_grad():
            self.embeddings: list[Embedding] = [self.surface.encode(batch.views) for batch in self.batches]
        self.clean = self.outcome(lambda batch: batch.views, Budget())

    @property
    def batches(self) -> Iterator[Batch]:
        """The batches, each cut out of the data as it is needed: all of them would be a copy of the data."""
        return (batch_of(self.views, rows) for rows in self.parts)

    def outcome(self, move: Move, budget: Budget) -> Outcome:
        """What a move, clipped to the budget, does; gradients are the move's own affair."""
        found: list[tuple[Tensor, ...]] = []
        model = self.surface.model
        with torch.no_grad():
            for batch, clean in zip(self.batches, self.embeddings, strict=True):
                moved = budget.clip(batch.views, move(batch))
                with precision("highest"):
                    embedding = self.surface.encode(moved)
                    shift, labels = representation_shift(model, clean, embedding), model.labels(embedding.z)
                norm = (flat(moved) - flat(batch.views)).norm(dim=1)
                found.append((embedding.z, labels, shift, norm))
        z, labels, shift, norm = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Outcome(z, labels.cpu().numpy(), shift, norm)

    def attacked(self, outcome: Outcome) -> Metrics:
        """Starred scores and the flip rate of an outcome."""
        found = attacked_scores(self.truth, self.clean.labels, outcome.labels, self.n_clusters)
        return {**found, "flip": flip_rate(self.clean.labels, outcome.labels)}


def portions(rows: Tensor) -> list[Tensor]:
    """The rows in batches of 100; one left over joins the last batch, as a single row has no statistics."""
    parts = list(rows.split(BATCH))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"pgd": PGD_VERSION, "input_measurement": MEASUREMENT}


def score(trial: Trial, *, is_final: bool = True) -> tuple[Metrics, Details]:
    """Scores of the held rows: clean, attacked, under every control; those of the seen rows with the suffix _seen."""
    found = held_scores(trial, is_final=is_final)
    if trial.seen is not trial.held:
        seen = Scorer(trial.surface, trial.seen)
        attacked = seen.attacked(seen.outcome(partial(trial.attacker.perturb, seen.surface), trial.attacker.budget))
        both = scores(seen.truth, seen.clean.labels, seen.n_clusters) | attacked
        found |= {f"{name}_seen": value for name, value in both.items() if name != "chance"}
    return found, {}


def held_scores(trial: Trial, *, is_final: bool) -> Metrics:
    """Scores of the held rows: clean, attacked, under every control.

    Blind noise has no controls: it is one. A defense's record does without PGD, which knows nothing of the original
    attacker: its re-attack has it.
    """
    budget = trial.attacker.budget
    scorer = Scorer(trial.surface, trial.held)
    move = partial(trial.attacker.perturb, scorer.surface)
    moved = scorer.outcome(move, budget)
    found = scores(scorer.truth, scorer.clean.labels, scorer.n_clusters) | scorer.attacked(moved)
    found |= {
        "eps": budget.eps,
        "delta_norm": float(moved.norm.mean()),
        "shift": float(moved.shift.mean()),
        "samples": len(scorer.rows),
        "zero_flip": scorer.attacked(scorer.outcome(lambda batch: batch.views, budget))["flip"],
    }
    found |= refit(scorer, moved, seed_for(trial.spec.seed, "refit", trial.spec.key))
    if not trial.attacker.blind:
        found |= noise(trial, scorer, move)
    if is_final and not trial.attacker.blind:
        found |= pgd(trial)
    return found


def refit(scorer: Scorer, moved: Outcome, seed: int) -> Metrics:
    """ACC_refit, ACC*_refit and so on: scores after k-means has been fitted to the very points that it labels.

    AR-DMVC's protocol, which understates an attack. Methods without `refit_labels`, whose head labels, have nothing to
    refit: the scores are the plain ones. Clean and moved points are fitted each on their own, the mean of 3 fits.
    """
    names = ("ACC", "NMI", "AMI", "ARI")
    found: Metrics = {}
    for star, outcome in (("", scorer.clean), ("*", moved)):
        fits = [scorer.surface.model.refit_labels(outcome.z, seed_for(seed, str(fit))) for fit in range(REFITS)]
        labels = [outcome.labels if fitted is None else fitted.cpu().numpy() for fitted in fits]
        each = [scores(scorer.truth, fitted, scorer.n_clusters) for fitted in labels]
        for name in names:
            values = [one[name] for one in each]
            found[f"{name}{star}_refit"] = None if None in values else float(np.mean(values))  # type: ignore[arg-type]
    return found


def noise(trial: Trial, scorer: Scorer, move: Move) -> Metrics:
    """What moves without knowledge of the model do: sign and uniform noise of size eps, the attack's own perturbation
    with its pixels shuffled within each image, and an untrained attacker.

    Starred scores, flip rate and shift of each; `ACC*_noise` and `noise_flip` are the worst of them.
    """
    random = generator(seed_for(trial.spec.seed, "controls", trial.spec.key))
    budget = trial.attacker.budget
    moves: dict[str, Move] = {
        "sign": lambda batch: tuple(v + budget.eps * (2 * uniform(v, random) - 1).sign() for v in batch.views),
        "uniform": lambda batch: tuple(v + budget.eps * (2 * uniform(v, random) - 1) for v in batch.views),
        "shuffled": lambda batch: tuple(
            v + shuffled(m - v, random) for v, m in zip(batch.views, budget.clip(batch.views, move(batch)), strict=True)
        ),
    }
    if trial.attacker.trained:
        untrained: Attack = trial.seen.new_attack(trial.attack_spec, scorer.surface)
        moves["untrained"] = partial(untrained.perturb, scorer.surface)
    found: Metrics = {}
    for name, one in moves.items():
        outcome = scorer.outcome(one, budget)
        starred = scorer.attacked(outcome)
        found |= {f"{key}_{name}": starred[key] for key in ("ACC*", "NMI*", "ARI*")}
        found |= {f"{name}_flip": starred["flip"], f"{name}_shift": float(outcome.shift.mean())}
    accuracies = [value for name in moves if (value := found[f"ACC*_{name}"]) is not None]
    found["ACC*_noise"] = min(accuracies, default=None)
    found["noise_flip"] = max(found[f"{name}_flip"] or 0.0 for name in moves)
    return found


def pgd(trial: Trial) -> Metrics:
    """PGD on the shift and on the model's own labels, at the attack's eps and at 0.2 (_at_0.2), on at most 500 rows.

    The shift is what the attack itself makes large, where it has an `objective`, e.g. in the terms that it is left.
    `pgd_flip` is the worse of the two objectives at the attack's eps, `ACC_pgd_rows` the clean score of those rows.
    """
    scorer = Scorer(trial.surface, trial.held, most=PGD_ROWS)
    clean = scores(scorer.truth, scorer.clean.labels, scorer.n_clusters)
    found: Metrics = {"ACC_pgd_rows": clean["ACC"], "pgd_samples": len(scorer.rows)}
    torch.manual_seed(seed_for(trial.spec.seed, "pgd", trial.spec.key))
    gains = OBJECTIVES | {"shift": getattr(trial.attacker, "objective", OBJECTIVES["shift"])}
    for (suffix, eps), objective in product((("", trial.attacker.budget.eps), ("_at_0.2", PGD_EPS)), gains):
        budget = pixel_budget(eps, scorer.surface.model.info)
        move = partial(ascended, scorer.surface, budget, gains[objective])
        with precision(trial.spec.precision):
            attacked = scorer.attacked(scorer.outcome(move, budget))
        found[f"ACC*_pgd_{objective}{suffix}"] = attacked["ACC*"]
        found[f"NMI*_pgd_{objective}{suffix}"] = attacked["NMI*"]
        found[f"pgd_{objective}_flip{suffix}"] = attacked["flip"]
    accuracies = [value for name in OBJECTIVES if (value := found[f"ACC*_pgd_{name}"]) is not None]
    found["ACC*_pgd"] = min(accuracies, default=None)
    found["pgd_flip"] = max(found[f"pgd_{name}_flip"] or 0.0 for name in OBJECTIVES)
    return found


def ascended(surface: Surface, budget: Budget, objective: Gain, batch: Batch) -> Views:
    """The last point of signed gradient steps from a uniform draw in the L-infinity ball, of every sample.

    The draw is of torch's global generator, all samples take all steps and none is chosen: the control that stands in
    AR-DMVC's records, weaker than attacks/pgd.py, which keeps the best point.
    """
    with torch.no_grad():
        clean = known(surface, batch)
        drawn = tuple(view + budget.eps * (2 * torch.rand_like(view) - 1) for view in batch.views)
        start = budget.clip(batch.views, drawn)
        ascent = Ascent(surface, clean, objective, moves=(True,) * len(start))
        return climb(ascent, start, budget, steps=PGD_STEPS, relative_step=PGD_RELATIVE_STEP)


def uniform(view: Tensor, random: torch.Generator) -> Tensor:
    """Draws from [0, 1) in the shape of a view, on its device."""
    return torch.rand(view.shape, generator=random).to(view.device)


def shuffled(delta: Tensor, random: torch.Generator) -> Tensor:
    """The perturbation (n, ...) with the values of each sample in a random order: equal norms and histogram."""
    order = torch.rand((len(delta), delta[0].numel()), generator=random).argsort(dim=1).to(delta.device)
    return delta.flatten(1).gather(1, order).view_as(delta)


def curve(trial: Trial) -> Callable[[], dict[str, float]]:
    """After each epoch of the attacker: flip rate and ACC* on at most 500 scored rows. Nothing is chosen by them."""
    scorer = Scorer(trial.surface, trial.held, most=PGD_ROWS)

    def point() -> dict[str, float]:
        attacker = trial.attacker
        outcome = scorer.outcome(partial(attacker.perturb, scorer.surface), attacker.budget)
        attacked = scorer.attacked(outcome)
        return {name: value for name in ("flip", "ACC*") if (value := attacked[name]) is not None}

    return point


def flags(metrics: dict[str, Any], summary: Summary, *, is_trained: bool) -> list[str]:
    """Warnings: noise does as much (flips, or ACC* up to the least gap), PGD does far more. Blind noise has none."""
    if "noise_flip" not in metrics:
        return []
    is_below = metrics["ACC*"] is None or metrics["ACC*"] <= metrics["ACC*_noise"] - LEAST_GAP
    named = {
        "masked": metrics["flip"] < 0.1 and metrics.get("pgd_flip", 0.0) > metrics["flip"] + 0.2,
        "no better than noise": metrics["flip"] <= metrics["noise_flip"] or not is_below,
    }
    return [name for name, holds in named.items() if holds]
