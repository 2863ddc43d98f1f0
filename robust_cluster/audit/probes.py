"""The yardsticks of the checks: moves and flips of the probe rows, bounds of differences, weak attacks.

The weak attacks (one gradient step, random noise, the direction to the nearest other cluster's mean) are written here a
second time on purpose: an error in an attack's file must not also stand in what it is measured by.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.attacks import bounded
from robust_cluster.attacks.base import Attack, Gain, Surface, representations
from robust_cluster.audit.base import Evidence, cut, joined, setting
from robust_cluster.data.base import Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.nn import objectives

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Visited = list[Views]

DRAWS = 1000  # resamples of a bootstrap
JITTER = 0.1  # share of the radius at which a step starts where the objective is flat at the clean point
EDGE = 1e-4  # log units: a point so close to the boundary may fall on either side by rounding alone


def rate(flags: Flags) -> float:
    """The share that is true, 0 of none."""
    return float(flags.mean()) if len(flags) else 0.0


def attempt(what: Callable[[], Views]) -> tuple[Views | None, str]:
    """The points, or None and the sentence with which an attack refused its settings."""
    try:
        return what(), ""
    except ConfigError as error:
        return None, str(error)


def at_radius(evidence: Evidence, eps: float) -> dict[str, Any]:
    """The settings that give the audited attack another radius, in pixels or units of the embedding.

    Where each view has its own radius, all keep their proportions.
    """
    attacker, budget = evidence.attacker, evidence.attacker.budget
    if not attacker.bounded:
        return {"eps": eps}
    if each := setting(attacker, "view_eps"):
        return {"norm": budget.norm, "view_eps": tuple(eps * view / (max(each) or 1.0) for view in each)}
    return bounded.at_radius(budget, eps)


def pixels(evidence: Evidence) -> float:
    """The audited attack's largest radius in pixels, or units of the embedding."""
    return evidence.attacker.budget.eps / unit_of(evidence)


def unit_of(evidence: Evidence) -> float:
    """How large a radius of 1 in a config is in the units that the model sees."""
    return evidence.surface.model.info.unit if evidence.surface.space == "input" else 1.0


def is_still(evidence: Evidence) -> bool:
    """Whether the budget lets nothing move."""
    budget = evidence.attacker.budget
    return budget.norm is not None and all(budget.radius(view) == 0 for view in range(len(evidence.clean)))


def sizes(delta: Tensor, norm: Literal["linf", "l2"]) -> Tensor:
    """The norm (n,) of each sample's change (n, ...), in float64."""
    rows = delta.flatten(1).double()
    return rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)


def margin(model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor) -> Tensor:
    """max_{k != c} log y_k - log y_c of the clean cluster c, (n,): above 0 once the sample has left it."""
    return objectives.margin(model.log_assign(moved.z), own)


def divergence(model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor) -> Tensor:
    """KL(y_clean || y_moved), (n,)."""
    return objectives.divergence(model.log_assign(clean.z), model.log_assign(moved.z))


def displacement(model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor) -> Tensor:
    """How far the representations of views and consensus moved, squared, (n,)."""
    return objectives.displacement(representations(model, clean), representations(model, moved))


OBJECTIVES: Mapping[str, Gain] = {"margin": margin, "targeted": margin, "kl": divergence, "displacement": displacement}
FLAT = (divergence, displacement)  # without a gradient at the clean point


def objective_of(attacker: Attack) -> tuple[Gain, bool]:
    """The objective that an attacker ascends, and whether that is certain; the margin where it is not.

    A named objective is computed by the code here; a function that the attacker was made with is taken as it is.
    """
    objective = getattr(attacker, "objective", None)
    if callable(objective):
        return objective, True
    if objective in OBJECTIVES:
        return OBJECTIVES[str(objective)], objective != "targeted"
    return margin, False


def aimed(evidence: Evidence, gain: Gain) -> Gain:
    """The objective as an attack that is aimed at cluster t ascends it; the same where it is not aimed.

    log y_t less the largest other in place of the margin, log y_t in place of the divergence.
    """
    t = evidence.target
    if t is None or gain not in (margin, divergence):
        return gain

    def towards(model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor) -> Tensor:
        log_y = model.log_assign(moved.z)
        others = torch.cat([log_y[:, :t], log_y[:, t + 1 :]], dim=1).amax(dim=1)
        return log_y[:, t] - others if gain is margin else log_y[:, t]

    return towards


def heights(evidence: Evidence, points: Views, gain: Gain = margin) -> Tensor:
    """The objective of each sample at points of the probe rows, (n,)."""
    gain = aimed(evidence, gain)
    with torch.no_grad():
        own = torch.as_tensor(evidence.own, device=points[0].device)
        parts = []
        for rows in evidence.portions():
            before, after = (evidence.surface.embedding_of(cut(at, rows)) for at in (evidence.clean, points))
            parts.append(gain(evidence.surface.model, before, after, own[rows]))
        return torch.cat(parts)


def gradients(evidence: Evidence, points: Views, gain: Gain = margin) -> Views:
    """The gradient of each sample's objective at points of the probe rows."""
    gain = aimed(evidence, gain)
    own = torch.as_tensor(evidence.own, device=points[0].device)
    parts = []
    for rows in evidence.portions():
        with torch.no_grad():
            before = evidence.surface.embedding_of(cut(evidence.clean, rows))
        with torch.enable_grad():
            leaves = tuple(view[rows].detach().requires_grad_() for view in points)
            height = gain(evidence.surface.model, before, evidence.surface.embedding_of(leaves), own[rows]).sum()
            found = (
                torch.autograd.grad(height, leaves, allow_unused=True) if height.requires_grad else [None] * len(leaves)
            )
        parts.append(tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)))
    return joined(parts)


def step_along(evidence: Evidence, start: Views, directions: Views) -> Views:
    """A step of the whole radius from `start` along directions, steepest in the budget's norm, clipped."""
    budget = evidence.attacker.budget
    moved = []
    for view, (point, direction) in enumerate(zip(start, directions, strict=True)):
        if budget.norm == "linf":
            unit = direction.sign()
        else:
            norms = direction.flatten(1).norm(dim=1).clamp_min(1e-30)
            unit = direction / norms.view(-1, *[1] * (direction.ndim - 1))
        moved.append(point + budget.radius(view) * unit)
    return budget.clip(evidence.clean, tuple(moved))


def one_step(evidence: Evidence, gain: Gain = margin) -> Views:
    """The fast gradient method (Goodfellow et al. 2015) on the objective: one step of the whole radius."""
    start = noise_draw(evidence, "uniform", JITTER) if gain in FLAT else evidence.clean
    return step_along(evidence, start, gradients(evidence, start, gain))


def noise_draw(evidence: Evidence, kind: Literal["uniform", "sign", "gaussian"], share: float = 1.0) -> Views:
    """One random point for every sample, on the sphere of `share` of its radius ("sign", "gaussian") or inside it.

    "gaussian" has the radius as its L2 norm under an L2 budget, and is cut to the ball under L-infinity.
    """
    budget, moved = evidence.attacker.budget, []
    for view, clean in enumerate(evidence.clean):
        eps, shape = share * budget.radius(view), (-1, *[1] * (clean.ndim - 1))
        draw = torch.randn_like(clean) if kind == "gaussian" else 2 * torch.rand_like(clean) - 1
        draw = draw.sign() if kind == "sign" else draw
        if budget.norm == "l2":
            draw = draw / draw.flatten(1).norm(dim=1).clamp_min(1e-12).view(shape)
        moved.append(clean + eps * draw)
    return budget.clip(evidence.clean, tuple(moved))


def equal_noise(evidence: Evidence, points: Views) -> Views:
    """Clean points moved in random directions as far as the attack moved them: noise for attacks without a radius."""
    moved = []
    for clean, point in zip(evidence.clean, points, strict=True):
        shape, draw = (-1, *[1] * (clean.ndim - 1)), torch.randn_like(clean)
        norms = (point - clean).flatten(1).norm(dim=1) / draw.flatten(1).norm(dim=1).clamp_min(1e-12)
        moved.append(clean + draw * norms.view(shape))
    return tuple(moved)


def best_noise(evidence: Evidence, draws: int) -> Flags:
    """Whether any of so many random draws of the attack's size changes a sample's cluster, (n,)."""
    kinds: tuple[Literal["uniform", "sign", "gaussian"], ...] = ("sign", "uniform", "gaussian")
    has_radius = evidence.attacker.budget.norm is not None
    points, found = (None if has_radius else evidence.points), np.zeros(len(evidence), dtype=bool)
    torch.manual_seed(evidence.seed)
    for draw in range(draws):
        moved = noise_draw(evidence, kinds[draw % 3]) if points is None else equal_noise(evidence, points)
        found |= evidence.flips(moved)
    return found


def to_other_means(evidence: Evidence) -> Views | None:
    """Points moved from their cluster's mean toward the nearest other one's, None where there is one cluster.

    It attacks a nearest-mean surrogate, so it uses the victim's clean labels and no gradient of it.
    """
    budget, own = evidence.attacker.budget, torch.as_tensor(evidence.own)
    present = own.unique()
    if len(present) < 2 or budget.norm is None:
        return None
    flat = torch.cat([view.flatten(1) for view in evidence.clean], dim=1)
    own, present = own.to(flat.device), present.to(flat.device)
    means = torch.stack([flat[own == cluster].mean(dim=0) for cluster in present])
    distances = torch.cdist(flat, means).masked_fill(own[:, None] == present[None], torch.inf)
    home = means[torch.searchsorted(present, own)]
    direction = means[distances.argmin(dim=1)] - home
    parts = direction.split([view[0].numel() for view in evidence.clean], dim=1)
    shaped = tuple(part.view_as(view) for part, view in zip(parts, evidence.clean, strict=True))
    return step_along(evidence, evidence.clean, shaped)


def mean_bound(values: npt.ArrayLike, *, side: Literal["lower", "upper"], seed: int = 0) -> float:
    """The one-sided 95 % bound of a mean by the percentile bootstrap over samples (Efron 1979): the slack of a check.

    `values` (n,) are differences on the same samples, so that the comparison is paired. 0 where there are none.
    """
    of = np.asarray(values, dtype=float)
    if not len(of):
        return 0.0
    rows = np.random.default_rng(seed).integers(len(of), size=(DRAWS, len(of)))
    return float(np.quantile(of[rows].mean(axis=1), 0.05 if side == "lower" else 0.95))


def exceeds(stronger: Flags, weaker: Flags) -> bool:
    """Whether `stronger` is true for more samples than `weaker`, beyond the slack."""
    return mean_bound(stronger.astype(float) - weaker, side="lower") > 0


def watched(surface: Surface, seen: Visited) -> Surface:
    """The surface on a copy of its model that adds every point it is asked about to `seen`, in float32.

    The copy has a class of its own, so that a copy of the copy (in float64, say) does so too.
    """
    kind, names = type(surface.model), ("encode",) if surface.space == "input" else ("assign", "log_assign", "labels")

    def noting(name: str) -> Callable[..., Any]:
        plain = getattr(kind, name)

        def method(self: ClusterModel, point: Any) -> Any:
            views = point if isinstance(point, tuple) else (point,)
            seen.append(tuple(view.detach().float() for view in views))
            return plain(self, point)

        return method

    model = copy.deepcopy(surface.model)
    model.__class__ = type(kind.__name__, (kind,), {name: noting(name) for name in names})
    return replace(surface, model=model)


def visited(alone: Evidence, attacker: Attack, surface: Surface, seen: Visited) -> tuple[Views, Views]:
    """The point that an attacker returns for one sample, and all points inside the budget that it asked about.

    `surface` is `watched` with `seen`. Shapes: (1, ...) and (m, ...) of every view. The attacker gets that sample
    alone, so every point that it asks about is one of that sample.
    """
    seen.clear()
    returned = attacker.budget.clip(alone.clean, alone.propose(attacker, surface))
    shapes = [view.shape[1:] for view in alone.clean]
    asked = [views for views in seen if [view.shape[1:] for view in views] == shapes]
    if not asked:
        return returned, cut(alone.clean, slice(0, 0))
    points = joined(asked)
    clean = tuple(view.expand(len(points[0]), *view.shape[1:]) for view in alone.clean)
    allowed = attacker.budget.clip(clean, points)
    pairs = zip(allowed, points, strict=True)
    near = [torch.isclose(a, p, rtol=1e-4, atol=1e-5).flatten(1).all(dim=1) for a, p in pairs]
    return returned, cut(points, torch.stack(near).all(dim=0))


@dataclass
class Gradients:
    """Whether a gradient flowed back through a watched model."""

    flowed: bool = False


def wired(surface: Surface, found: Gradients) -> Surface:
    """The surface on a copy of its model that sets `found.flowed` when a gradient flows back through it."""
    kind = type(surface.model)

    def tell(gradient: Tensor) -> None:
        found.flowed = True

    def tied(value: Any) -> Any:
        tensors = (value.z, *value.per_view) if isinstance(value, Embedding) else (value,)
        for tensor in tensors:
            if tensor.requires_grad:
                tensor.register_hook(tell)
        return value

    def wiring(name: str) -> Callable[..., Any]:
        plain = getattr(kind, name)
        return lambda self, point: tied(plain(self, point))

    model = copy.deepcopy(surface.model)
    model.__class__ = type(kind.__name__, (kind,), {name: wiring(name) for name in ("encode", "assign", "log_assign")})
    return replace(surface, model=model)


def largest_radius(evidence: Evidence) -> float:
    """A radius, in pixels or latent units, that reaches every valid value; without a box, every other probe row."""
    budget, clean = evidence.attacker.budget, evidence.clean
    entries = max(view[0].numel() for view in clean)
    if budget.bounds is not None:
        return 1.0 if budget.norm == "linf" else math.sqrt(entries)
    flat = torch.cat([view.flatten(1) for view in clean], dim=1)
    spread = float((flat.amax(dim=0) - flat.amin(dim=0)).max())
    reach = spread if budget.norm == "linf" else float(torch.cdist(flat, flat).max())
    return 2 * reach / unit_of(evidence)
