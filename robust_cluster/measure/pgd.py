"""PGD beside a learned attack: what a direct look at the gradient finds inside the same radius."""

from functools import partial
from itertools import product

import torch

from robust_cluster.attacks.base import Attack, Gain, Surface
from robust_cluster.attacks.bounded import Ascent, known
from robust_cluster.attacks.budget import Budget
from robust_cluster.attacks.latent_pgd import Config, LatentPGD
from robust_cluster.attacks.pgd import climb, pixel_budget, representation_shift
from robust_cluster.data.base import Batch, Views
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.noise import equal_norm_noise
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import Metrics
from robust_cluster.nn.objectives import margin
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator

VERSION = 1  # of what a control finds on the views; raise it when the numbers change
ROWS = 500  # that PGD is tried on
STEPS = 20
RELATIVE_STEP = 2.0  # step size times steps, over eps
EPS = 0.2  # beside the attack's own: what AR-DMVC's models are trained to withstand

OBJECTIVES: dict[str, Gain] = {
    "shift": lambda model, clean, moved, labels: representation_shift(model, clean, moved),
    # not the cross-entropy to the clean label: its gradient fades where the model is sure
    "assignment": lambda model, clean, moved, labels: margin(model.log_assign(moved.z), labels),
}


def pgd(attacker: Attack, rows: Rows, beside: Beside) -> Metrics:
    """PGD on the shift and on the model's own labels, at the attack's eps and at 0.2 (_at_0.2), on at most 500 rows.

    The shift is what the attack itself makes large, where it has an `objective`, e.g. in the terms that it is left.
    `pgd_flip` is the worse of the two objectives at the attack's eps, `ACC_pgd_rows` the clean score of those rows.
    """
    rows = rows.few(ROWS)
    found: Metrics = {"ACC_pgd_rows": rows.clean_scores()["ACC"], "pgd_samples": len(rows)}
    torch.manual_seed(beside.seed("pgd"))
    gains = OBJECTIVES | {"shift": getattr(attacker, "objective", OBJECTIVES["shift"])}
    for (suffix, eps), objective in product((("", attacker.budget.eps), ("_at_0.2", EPS)), gains):
        budget = pixel_budget(eps, rows.info)
        with precision(beside.precision):
            attacked = rows.attacked_scores(rows.outcome(partial(climbed, rows, budget, gains[objective])))
        found[f"ACC*_pgd_{objective}{suffix}"] = attacked["ACC*"]
        found[f"NMI*_pgd_{objective}{suffix}"] = attacked["NMI*"]
        found[f"pgd_{objective}_flip{suffix}"] = attacked["flip"]
    accuracies = [value for name in OBJECTIVES if (value := found[f"ACC*_pgd_{name}"]) is not None]
    found["ACC*_pgd"] = min(accuracies, default=None)
    found["pgd_flip"] = max(found[f"pgd_{name}_flip"] or 0.0 for name in OBJECTIVES)
    return found


def climbed(rows: Rows, budget: Budget, objective: Gain, number: int) -> Views:
    """Where `ascended` leaves the points of a batch."""
    return ascended(rows.surface, budget, objective, rows.batch(number))


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
        return climb(ascent, start, budget, steps=STEPS, relative_step=RELATIVE_STEP)


def latent_pgd(rows: Rows, norm: float, beside: Beside) -> Metrics:
    """PGD on the embedding at the attack's mean norm and at half of it, and noise of that norm, on at most 500 rows.

    A re-attack takes the norm of the attack on the undefended model, so that victim, control and defended model are
    compared at one radius.
    """
    radius, random = norm if beside.radius is None else beside.radius, generator(beside.seed("pgd"))
    rows = rows.few(ROWS)
    found: Metrics = {"pgd_radius": radius, "pgd_samples": len(rows)}
    torch.manual_seed(beside.seed("pgd"))
    for suffix, eps in (("", radius), ("_half", radius / 2)):
        move = rows.moved(LatentPGD(Config(eps=eps), rows.surface))
        for name, one in (("pgd", move), ("pgd_noise", partial(directions, rows, eps, random))):
            found[f"{name}_flip{suffix}"] = rows.attacked_scores(rows.outcome(one))["flip"]
    return found


def directions(rows: Rows, norm: float, random: torch.Generator, number: int) -> Views:
    """The embeddings of a batch, each moved by this norm in a random direction."""
    (clean,) = rows.point(number)
    return (clean + equal_norm_noise(torch.full_like(clean, norm / clean.shape[1] ** 0.5), random),)
