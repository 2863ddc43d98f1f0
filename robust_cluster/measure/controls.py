"""The moves that stand beside an attack, and what they say of it.

An attack at eps says nothing unless noise of the same size does less: with stored batch-norm statistics any dense
texture may throw a network off its range.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from robust_cluster.attacks import latent_pgd
from robust_cluster.attacks.base import Attack, Budget, Gain, Surface, equal_norm_noise
from robust_cluster.attacks.bounded import Ascent, known
from robust_cluster.attacks.pgd import climb, pixel_budget, representation_shift
from robust_cluster.data.base import Batch, Views
from robust_cluster.measure.rows import Move, Outcome, Rows, portions
from robust_cluster.measure.scores import Metrics, batch_of
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.models.base import Embedding
from robust_cluster.nn.objectives import margin
from robust_cluster.nn.precision import precision
from robust_cluster.runs.progress import Progress
from robust_cluster.runs.seeds import generator

PGD_ROWS = 500  # rows that PGD is tried on
LATENT_PGD_ROWS = 1000  # samples that latent PGD is tried on: 80 gradients each
PGD_STEPS = 20
PGD_RELATIVE_STEP = 2.0  # step size times steps, over eps
PGD_EPS = 0.2  # beside the attack's own: what AR-DMVC's models are trained to withstand
PGD_VERSION = 1  # of the control `pgd` below; raise it when its numbers change

OBJECTIVES: dict[str, Gain] = {
    "shift": lambda model, clean, moved, labels: representation_shift(model, clean, moved),
    # not the cross-entropy to the clean label: its gradient fades where the model is sure
    "assignment": lambda model, clean, moved, labels: margin(model.log_assign(moved.z), labels),
}


@dataclass(frozen=True)
class Beside:
    """What can be made beside an attack, and how it is called.

    `seed(purpose)`: of a control's draws. `untrained(surface)`: the same attacker before it learned. `at_radius(eps)`:
    the same attack at another radius, learned for it. `companions(attack, eps)`: what stands beside a re-attack, None
    for others. `radius`: the mean norm of the attack on the undefended model, None where this is that attack. `seen`:
    the rows that the attacker learned on, where others are scored. `is_final`: False after a defense, whose re-attack
    has what knows nothing of the original attacker.
    """

    attack: str
    title: str
    settings: Mapping[str, Any]
    seed: Callable[[str], int]
    untrained: Callable[[Surface], Attack]
    at_radius: Callable[[float], Attack]
    companions: Callable[[Attack, float], Mapping[str, Attack]] | None
    radius: float | None
    seen: Callable[[], Rows] | None
    is_final: bool
    precision: str
    progress: Progress


def standard_controls(attacker: Attack, rows: Rows, moved: list[Views], beside: Beside) -> Metrics:
    """Flip rates of no move, and the worst of noise of each sample's own norm and of sign noise of the whole radius.

    An attack that is noise itself has no noise beside it.
    """
    budget, clean = attacker.budget, list(rows.points)
    random = generator(beside.seed("controls"))

    def flips(points: Iterator[Views]) -> float:
        pairs = ((before, budget.clip(before, after)) for before, after in zip(clean, points, strict=True))
        return flip_rate(rows.clean.labels, rows.look(pairs).labels)

    found: Metrics = {"zero_flip": flips(iter(clean))}
    if attacker.blind:
        return found
    both = list(zip(clean, moved, strict=True))
    found["equal_norm_flip"] = flips(
        tuple(c + equal_norm_noise(m - c, random) for c, m in zip(before, point, strict=True)) for before, point in both
    )
    found["sign_flip"] = flips(tuple(sign_noise(c, budget, v, random) for v, c in enumerate(p)) for p in clean)
    found["noise_flip"] = max(found["equal_norm_flip"] or 0.0, found["sign_flip"] or 0.0)
    return found


def sign_noise(clean: Tensor, budget: Budget, view: int, random: torch.Generator) -> Tensor:
    """The point moved to a random corner of the L-infinity ball, or by a random direction of the L2 radius."""
    size = budget.radius(view) / (clean[0].numel() ** 0.5 if budget.norm == "l2" else 1.0)
    return clean + size * (2 * torch.rand(clean.shape, generator=random) - 1).sign().to(clean.device)


def embedding_controls(rows: Rows, moved: Outcome, beside: Beside) -> Metrics:
    """What must stand beside every starred number: an attack counts only if these do less.

    Flip rates of: no perturbation, Gaussian noise of each sample's own norm, the same perturbations handed to other
    samples, latent PGD at the attack's mean norm and half of it (and random directions of that norm), these on PGD_ROWS
    evenly spaced samples. A re-attack takes the norm of the attack on the undefended model, so that victim, control and
    defended are compared at one radius.
    """
    random, surface = generator(beside.seed("controls")), rows.surface
    clean, delta = rows.clean.z, moved.z - rows.clean.z
    n = len(clean)
    probe_rows = torch.linspace(0, n - 1, min(LATENT_PGD_ROWS, n)).long()

    def flips(points: Tensor, which: Tensor | slice = slice(None)) -> float:
        with torch.no_grad():
            return flip_rate(rows.clean.labels[which], surface.labels((points,)).cpu().numpy())

    radius = float(delta.norm(dim=1).mean()) if beside.radius is None else beside.radius
    found: Metrics = {
        "zero_flip": flips(clean + torch.zeros_like(delta)),
        "noise_flip": flips(clean + equal_norm_noise(delta, random)),
        "shuffled_flip": flips(clean + delta[torch.randperm(n, generator=random).to(delta.device)]),
        "pgd_radius": radius,
        "pgd_samples": len(probe_rows),
    }
    chosen = probe_rows.to(clean.device)
    probe = Surface(surface.model, "latent", Embedding(clean[chosen], ()))
    batch = batch_of(tuple(view[chosen] for view in rows.data.views), torch.arange(len(chosen), device=chosen.device))
    for suffix, eps in (("", radius), ("_half", radius / 2)):
        (points,) = latent_pgd.LatentPGD(latent_pgd.Config(eps=eps), probe).perturb(probe, batch)
        direction = equal_norm_noise(torch.full_like(clean[chosen], eps / clean.shape[1] ** 0.5), random)
        found[f"pgd_flip{suffix}"] = flips(points, probe_rows)
        found[f"pgd_noise_flip{suffix}"] = flips(clean[chosen] + direction, probe_rows)
    return found


def view_controls(attacker: Attack, rows: Rows, move: Move, beside: Beside) -> Metrics:
    """What moves without knowledge of the model do: sign and uniform noise of size eps, the attack's own perturbation
    with its pixels shuffled within each image, and an untrained attacker.

    Starred scores, flip rate and shift of each; `ACC*_noise` and `noise_flip` are the worst of them.
    """
    random = generator(beside.seed("controls"))
    budget = attacker.budget
    moves: dict[str, Move] = {
        "sign": lambda batch: tuple(v + budget.eps * (2 * uniform(v, random) - 1).sign() for v in batch.views),
        "uniform": lambda batch: tuple(v + budget.eps * (2 * uniform(v, random) - 1) for v in batch.views),
        "shuffled": lambda batch: tuple(
            v + shuffled(m - v, random) for v, m in zip(batch.views, budget.clip(batch.views, move(batch)), strict=True)
        ),
    }
    if attacker.trained:
        moves["untrained"] = partial(beside.untrained(rows.surface).perturb, rows.surface)
    found: Metrics = {}
    for name, one in moves.items():
        outcome = rows.outcome(one, budget)
        starred = rows.attacked_scores(outcome)
        found |= {f"{key}_{name}": starred[key] for key in ("ACC*", "NMI*", "ARI*")}
        found |= {f"{name}_flip": starred["flip"], f"{name}_shift": float(outcome.shift.mean())}
    accuracies = [value for name in moves if (value := found[f"ACC*_{name}"]) is not None]
    found["ACC*_noise"] = min(accuracies, default=None)
    found["noise_flip"] = max(found[f"{name}_flip"] or 0.0 for name in moves)
    return found


def pgd(attacker: Attack, rows: Rows, beside: Beside) -> Metrics:
    """PGD on the shift and on the model's own labels, at the attack's eps and at 0.2 (_at_0.2), on at most 500 rows.

    The shift is what the attack itself makes large, where it has an `objective`, e.g. in the terms that it is left.
    `pgd_flip` is the worse of the two objectives at the attack's eps, `ACC_pgd_rows` the clean score of those rows.
    """
    rows = Rows(rows.surface, rows.data, portions(torch.as_tensor(rows.index[:PGD_ROWS]), 100))
    found: Metrics = {"ACC_pgd_rows": rows.clean_scores()["ACC"], "pgd_samples": len(rows)}
    torch.manual_seed(beside.seed("pgd"))
    gains = OBJECTIVES | {"shift": getattr(attacker, "objective", OBJECTIVES["shift"])}
    for (suffix, eps), objective in product((("", attacker.budget.eps), ("_at_0.2", PGD_EPS)), gains):
        budget = pixel_budget(eps, rows.surface.model.info)
        move = partial(ascended, rows.surface, budget, gains[objective])
        with precision(beside.precision):
            attacked = rows.attacked_scores(rows.outcome(move, budget))
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
