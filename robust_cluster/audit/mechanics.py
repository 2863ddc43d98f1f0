"""Checks 1 to 8: whether the attack does what it says. They take seconds, on 64 points, inside every attack."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_cluster.attacks.base import Gain
from robust_cluster.audit import probes
from robust_cluster.audit.base import Evidence, Status, Verdict, cut, graded, joined, lightened, not_run, setting
from robust_cluster.data.base import Batch, Views
from robust_cluster.models.base import ClusterModel, Embedding

ROUNDING = 1e-6  # relative error of a norm that rounding may cause
BATCHES = (1, 7, 256)  # sizes that must give the same labels
ZERO_GRADIENT = (0.01, 0.10)  # shares of points without a gradient: from here warn, from here fail
AGREE = 1e-2  # by which log_assign may differ from the logarithm of assign, and a hard label be less likely
SHORT = (0.1, 0.01, 0.001)  # of the attack's way, over one of which the margin must rise
LEAST_RISE = 0.1  # of what its slope says
LEAST_SHARE = 1e-4  # of the soft labels that are compared as logarithms
DIRECTIONS = 20  # of finite differences
STEP = 1e-7  # size of finite differences, in root mean squares of the points
JITTER = 1e-3  # how far beside the clean points gradients are compared with differences, in the same unit
GRADIENT_ERROR = 1e-3  # the largest relative error that passes
GRADIENT_ROWS = 5
SINGLE_ROWS = 6  # samples that are attacked one by one
SINGLE_STEPS = 10  # at most, of these attacks
ONE_STEP_SHARE = 0.5  # the share of one gradient step's climb that an attack with gradients must reach
NO_GRADIENT = "the attack takes no gradient of the victim"
UNBOUNDED = "the attack has no radius: it penalizes size instead"


def identity(evidence: Evidence) -> Verdict:
    """At eps = 0 every point is bit-equal to its clean one, no cluster changes, all scores are the clean ones.

    Value: samples that differ. It catches attacks that clamp normalized data, or step before they project
    (torchattacks issue 172).
    """
    if evidence.attacker.budget.norm is None:
        return not_run(UNBOUNDED, needed=False)
    overrides = probes.at_radius(evidence, 0.0) | lightened(evidence.attacker)
    attacker = evidence.rebuilt(overrides)
    proposed = evidence.propose(attacker)
    clipped = attacker.budget.clip(evidence.clean, proposed)
    differs = torch.zeros(len(evidence), dtype=torch.bool)
    for clean, *others in zip(evidence.clean, proposed, clipped, strict=True):
        for other in others:
            differs |= (clean != other).flatten(1).any(dim=1).cpu()
    count, flipped = int(differs.sum()), int(evidence.flips(clipped).sum())
    score_differs = []
    if evidence.score is not None:
        before = evidence.own
        found = evidence.score(evidence.labels, before, evidence.clusters(clipped))
        same = evidence.score(evidence.labels, before, before)
        score_differs = [name for name, value in found.items() if value != same[name]]
    note = f"{count} points moved, {flipped} flipped at eps = 0" if count or flipped else ""
    note += f"; other scores than the clean ones: {', '.join(score_differs)}" if score_differs else ""
    is_clean = not (count or flipped or score_differs)
    return Verdict("pass" if is_clean else "fail", float(count), 0.0, len(evidence), note)


def within_budget(evidence: Evidence) -> Verdict:
    """No point is further than the declared radius, outside the box of valid values, or not a number.

    Value: the largest ||delta|| over the radius, in the declared units, of the points that the attack proposes and of
    those that were scored; rounding of x + delta is allowed for. The radius itself must be the declared pixels in the
    model's units. Views that are not attacked must be bit-equal.
    """
    budget = evidence.attacker.budget
    points = {"proposed": evidence.light, "scored": evidence.points}
    for name, views in points.items():
        if not all(bool(view.isfinite().all()) for view in views):
            return Verdict("fail", None, 1.0, len(evidence), f"a {name} value is not a number")
    if budget.norm is None:
        return not_run(f"{UNBOUNDED}; all points are finite", needed=False)
    problems = declared_otherwise(evidence)
    worst = 0.0
    for name, views in points.items():
        for view, (clean, moved) in enumerate(zip(evidence.clean, views, strict=True)):
            eps = declared_radius(evidence, view)
            size = float(probes.sizes(moved.double() - clean.double(), budget.norm).max())
            rounding = 2.0**-23 * (float(clean.abs().max()) + eps)
            rounding *= math.sqrt(clean[0].numel()) if budget.norm == "l2" else 1.0
            if eps == 0 and not torch.equal(clean, moved):
                problems.append(f"view {view} must not move, and the {name} one does")
            elif eps > 0:
                worst = max(worst, size / eps)
                if size > eps * (1 + ROUNDING) + rounding:
                    problems.append(f"view {view} {name} up to {size:.6g}, allowed {eps:.6g}")
            if (box := declared_box(evidence)) is not None:
                slack = ROUNDING * (box[1] - box[0])
                low, high = float(moved.min()), float(moved.max())
                if low < box[0] - slack or high > box[1] + slack:
                    problems.append(f"view {view} {name} in [{low:.6g}, {high:.6g}], valid {box}")
    return Verdict("fail" if problems else "pass", worst, 1.0, len(evidence), "; ".join(problems))


def declared_otherwise(evidence: Evidence) -> list[str]:
    """Sentences on where the attacker's budget differs from the threat model that the record declares."""
    threat, budget = evidence.threat, evidence.attacker.budget
    problems = []
    if "norm" in threat and threat["norm"] != budget.norm:
        problems.append(f"declared norm {threat['norm']}, used {budget.norm}")
    if "space" in threat and threat["space"] != evidence.surface.space:
        problems.append(f"declared space {threat['space']}, used {evidence.surface.space}")
    if budget.norm is None:
        return problems
    for view in range(len(evidence.clean)):
        used, declared = budget.radius(view), declared_radius(evidence, view)
        if not math.isclose(used, declared, rel_tol=ROUNDING):
            problems.append(f"the radius of view {view} is {used:.6g}, declared {declared:.6g}")
    if threat.get("eps_model") is not None and threat.get("eps_pixels") is not None:
        unit = probes.unit_of(evidence)
        if not math.isclose(threat["eps_model"], threat["eps_pixels"] * unit, rel_tol=ROUNDING):
            problems.append(f"eps {threat['eps_pixels']:.6g} is {threat['eps_pixels'] * unit:.6g} in the model's units")
    return problems


def declared_radius(evidence: Evidence, view: int) -> float:
    """The radius of a view that the record declares, in the model's units; the attacker's own without a threat model.

    `view_eps` and `eps_pixels` are shares of the range of valid values in input space, and units of the embedding in
    latent space.
    """
    threat = evidence.threat
    unit = probes.unit_of(evidence)
    if each := threat.get("view_eps"):
        return float(each[view]) * unit
    if threat.get("views") and view not in threat["views"]:
        return 0.0
    for name, scale in (("eps_pixels", unit), ("eps_model", 1.0)):
        if threat.get(name) is not None:
            return float(threat[name]) * scale
    return evidence.attacker.budget.radius(view)


def declared_box(evidence: Evidence) -> tuple[float, float] | None:
    """The valid values: the data's where the record has a threat model, else those that the budget keeps to."""
    if evidence.surface.space == "latent":
        return None
    return evidence.surface.model.info.box if evidence.threat else evidence.attacker.budget.bounds


def reproduction(evidence: Evidence) -> Verdict:
    """Clean clusters and scores on the attack's path are those of the clustering's record (RobustBench issue 7).

    Value: share of probe rows whose clean cluster is another. Batch statistics change clusters by design: that warns.
    """
    differs = evidence.clean_labels != evidence.own
    value, n = probes.rate(differs), len(evidence)
    apart = [
        f"{name} {recorded:.6g} in the record, {again:.6g} measured"
        for name, (recorded, again) in evidence.clean_scores.items()
        if recorded is not None and again is not None and abs(recorded - again) > ROUNDING
    ]
    note = "; ".join([f"{int(differs.sum())} of {n} points are in another cluster"] * bool(value) + apart)
    if value and not apart and evidence.surface.bn == "batch":
        return Verdict("warn", value, 0.0, n, f"{note}: batch norm takes the statistics of the batch, as declared")
    if value or apart:
        return Verdict("fail", value, 0.0, n, note)
    if not any(None not in pair for pair in evidence.clean_scores.values()):
        return not_run("the clustering's record has no score to compare with; the clusters of the points agree")
    return Verdict("pass", value, 0.0, n)


def frozen_victim(evidence: Evidence) -> Verdict:
    """The victim is in eval mode, an attack changes no bit of it, and labels do not depend on the batch.

    Labels of batches of 1, 7 and 256 and of shuffled rows must agree; value: share of points where they do not. Where
    batch norm takes the batch's statistics they cannot, and that warns. Source: AR-DMVC's released code, where the
    victim is never put into eval mode.
    """
    surface, n = evidence.surface, len(evidence)
    if kinds := training_parts(surface.model):
        return Verdict("fail", None, 0.0, n, ", ".join(f"{kind} in training mode" for kind in kinds))
    victim = copy.deepcopy(surface.model)
    before = {name: value.clone() for name, value in victim.state_dict().items()}
    modes = modes_while(victim, surface.bn == "batch", lambda: attack_once(evidence, victim))
    problems = [f"{kind} in training mode while attacked" for kind in modes]
    changed = [name for name, value in victim.state_dict().items() if not same_bits(value, before[name])]
    problems += [f"the attack changes {name}" for name in changed]
    if any(parameter.grad is not None for parameter in victim.parameters()):
        problems.append("gradients reach the victim's parameters")
    if (evidence.record.get("checks") or {}).get("victim_unchanged") is False:
        problems.append("the stage found the victim changed")
    differs = depends_on_batch(evidence)
    value = probes.rate(differs)
    if problems or (value and surface.bn == "eval"):
        note = "; ".join([*problems, *[f"{int(differs.sum())} labels depend on the batch"] * bool(value)])
        return Verdict("fail", value, 0.0, n, note)
    if value:
        note = "labels depend on the batch, whose statistics batch norm takes, as declared"
        return Verdict("warn", value, 0.0, n, note)
    return Verdict("pass", value, 0.0, n)


def training_parts(model: nn.Module) -> list[str]:
    """The kinds of the model's parts that are in training mode."""
    return sorted({type(module).__name__ for module in model.modules() if module.training})


def modes_while(model: nn.Module, batch_statistics: bool, work: Callable[[], object]) -> list[str]:
    """The kinds of the parts that were called in training mode while some work was done."""
    found: set[str] = set()

    def note(module: nn.Module, inputs: object) -> None:
        if module.training and not (batch_statistics and isinstance(module, _BatchNorm)):
            found.add(type(module).__name__)

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return sorted(found)


def attack_once(evidence: Evidence, victim: ClusterModel) -> Views:
    """One lightened attack on a copy of the victim."""
    surface = replace(evidence.surface, model=victim)
    return evidence.propose(evidence.rebuilt(lightened(evidence.attacker)), surface)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, NaN to NaN too."""
    return torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan())


def depends_on_batch(evidence: Evidence) -> np.ndarray:
    """Whether each sample's cluster depends on the batch it comes in, (n,); those on a boundary do not count."""
    surface, clean, n = evidence.surface, evidence.clean, len(evidence)
    smallest = 1 if surface.bn == "eval" else 2
    orders = [torch.arange(n), torch.randperm(n, generator=torch.Generator().manual_seed(evidence.seed))]
    runs = [(orders[0], max(size, smallest)) for size in BATCHES] + [(orders[1], max(BATCHES))]
    found = []
    with torch.no_grad():
        for order, size in runs:
            parts = [part for part in order.split(size) if len(part) >= smallest]
            given = torch.full((n,), -1)
            for part in parts:
                given[part] = surface.labels(cut(clean, part.to(clean[0].device))).cpu()
            found.append(given)
    first = found[-2]  # the largest batch
    sure = (probes.heights(evidence, clean).abs() > probes.EDGE).cpu()
    differs = torch.stack([(labels != first) & (labels >= 0) for labels in found]).any(dim=0)
    return (differs & sure).numpy()


def determinism(evidence: Evidence) -> Verdict:
    """Two forward passes agree bit by bit, and one seed gives one set of moved points.

    Value: share of points that differ. A random victim needs gradients that are means over draws (`eot` > 1, Athalye et
    al. 2018): with them it warns. On a GPU, sums have no fixed order: there clusters must agree, not bits.
    """
    surface, n = evidence.surface, len(evidence)
    with torch.no_grad():
        passes = [surface.latent(evidence.clean) for _ in range(2)]
    is_exact = passes[0].device.type == "cpu"
    if is_exact:
        unequal = (passes[0] != passes[1]).flatten(1).any(dim=1).cpu().numpy()
    else:
        unequal = evidence.own != evidence.clusters(evidence.clean)
    runs = [evidence.light, evidence.propose(evidence.rebuilt(lightened(evidence.attacker)))]
    if is_exact:
        apart = np.zeros(n, dtype=bool)
        for one, other in zip(*runs, strict=True):
            apart |= (one != other).flatten(1).any(dim=1).cpu().numpy()
    else:
        apart = evidence.clusters(runs[0]) != evidence.clusters(runs[1])
    value = probes.rate(unequal | apart)
    if unequal.any():
        is_averaged = (setting(evidence.attacker, "eot") or 1) > 1
        note = "the victim's forward pass is random" + ("" if is_averaged else ": set attack.eot above 1")
        return Verdict("warn" if is_averaged else "fail", value, 0.0, n, note)
    return Verdict("fail" if value else "pass", value, 0.0, n, "one seed gave two sets of points" if value else "")


def gradient_health(evidence: Evidence) -> Verdict:
    """Hardly any point has a margin whose gradient is zero or not a number, and soft and hard labels agree.

    Such gradients are masked. So are those of a log_assign that is not the logarithm of assign, of soft labels whose
    argmax is not the hard label, and of a margin that is flat in steps. All are looked at on clean and moved points;
    samples on a border are not. Value: the largest share of points. Source: AutoAttack's flag for zero gradients,
    ART's loss_gradient_check, Athalye et al. 2018 on shattered gradients.
    """
    if evidence.knowledge != "white":
        return not_run(NO_GRADIENT, needed=False)
    found = probes.gradients(evidence, evidence.clean)
    norms = torch.stack([view.flatten(1).double().square().sum(dim=1) for view in found]).sum(dim=0)
    shares = {"have no gradient": float(((norms == 0) | ~norms.isfinite()).double().mean())}
    astray = float(shattered(evidence, found).double().mean())
    if astray >= ZERO_GRADIENT[1]:  # fewer overshoot where a margin is curved, as a mixture's with narrow covariances
        shares["do not rise along it"] = astray
    for points in (evidence.clean, evidence.points):
        for what, share in disagreements(evidence, points).items():
            shares[what] = max(shares.get(what, 0.0), share)
    value = max(shares.values())
    with torch.no_grad():
        sure = float((evidence.surface.soft_labels(evidence.clean).amax(dim=1) == 1).double().mean())
    notes = [f"{share:.0%} {what}" for what, share in shares.items() if share >= ZERO_GRADIENT[0]]
    notes += [f"{sure:.0%} of the soft labels are exactly 1"] if sure else []
    status = graded(value >= ZERO_GRADIENT[1], value >= ZERO_GRADIENT[0])
    return Verdict(status, value, ZERO_GRADIENT[0], len(evidence), "; ".join(notes))


def shattered(evidence: Evidence, gradients: Views) -> Tensor:
    """Whether the margin (n,) rises along its gradient on no part of the attack's way as far as the slope says."""
    lengths = [(m - c).flatten(1).square().sum(dim=1) for c, m in zip(evidence.clean, evidence.points, strict=True)]
    way = float(torch.stack(lengths).sum(dim=0).sqrt().mean())
    slope = torch.stack([view.flatten(1).square().sum(dim=1) for view in gradients]).sum(dim=0).sqrt()
    start, is_still = probes.heights(evidence, evidence.clean), torch.ones_like(slope, dtype=torch.bool)
    for length in (share * way for share in SHORT):
        size = length / slope.clamp_min(torch.finfo(slope.dtype).tiny)
        pairs = zip(evidence.clean, gradients, strict=True)
        ahead = tuple(x + size.view(-1, *[1] * (x.ndim - 1)) * g for x, g in pairs)
        rise, told = probes.heights(evidence, ahead) - start, slope * length
        is_still &= (told > probes.EDGE * (1 + start.abs())) & (rise < LEAST_RISE * told)
    return is_still


def disagreements(evidence: Evidence, points: Views) -> dict[str, float]:
    """The shares of the probe rows at whose points log_assign, assign and the hard labels tell different things."""
    with torch.no_grad():
        z = torch.cat([evidence.surface.latent(cut(points, rows)) for rows in evidence.portions()])
        model = evidence.surface.model
        log_y, y, labels = model.log_assign(z).double(), model.assign(z).double(), model.labels(z)
    seen = y > LEAST_SHARE  # soft labels that float32 holds to more than their first digits
    apart = ((log_y.exp() - y).abs() > AGREE) | (seen & ((log_y - y.clamp_min(LEAST_SHARE).log()).abs() > AGREE))
    top = y.topk(2, dim=1).values
    is_other = (y.argmax(dim=1) != labels) & (top[:, 0] - top[:, 1] > AGREE)
    return {
        "have a log_assign that is not the logarithm of assign": float(apart.any(dim=1).double().mean()),
        "have a hard label that is not the likeliest": float(is_other.double().mean()),
    }


def gradient_right(evidence: Evidence) -> Verdict:
    """The gradient of the margin is that of finite differences along 20 random directions, in float64.

    It is taken a little beside the clean points: in the flat parts of an image, max pooling and ReLU have a kink at the
    point itself, where the mean of both sides' slopes is no gradient. Value: the largest relative error over points and
    directions. Where two step sizes disagree there is another kink, which is left out. Source: the kind of bug in
    cleverhans pull request 1175.
    """
    if evidence.knowledge != "white":
        return not_run(NO_GRADIENT, needed=False)
    device = evidence.clean[0].device
    if device.type == "mps":
        return not_run("this device has no float64")
    few = evidence.probe(GRADIENT_ROWS)
    memory = Embedding(few.clean[0].double(), ()) if few.surface.space == "latent" else None
    surface = replace(few.surface, model=copy.deepcopy(few.surface.model).double(), memory=memory)
    rows = torch.arange(len(few), device=device)
    exact = replace(few, surface=surface, batch=Batch(tuple(v.double() for v in few.batch.views), rows), moved=None)
    random = torch.Generator().manual_seed(evidence.seed)
    entries = sum(view[0].numel() for view in exact.clean)
    scale = max(1.0, math.sqrt(sum(float(v.square().sum()) for v in exact.clean) / (len(exact) * entries)))
    apart, step = JITTER * scale * entries**0.5, STEP * scale
    points = tuple(x + apart * u for x, u in zip(exact.clean, directions(exact.clean, random), strict=True))
    found = probes.gradients(exact, points)
    slope = torch.stack([view.flatten(1).square().sum(dim=1) for view in found]).sum(dim=0).sqrt() / entries**0.5
    floor = 0.1 * slope + 1e-4 * (probes.heights(exact, points).abs() + 1e-2)
    worst, kinks, is_coupled = 0.0, 0, surface.bn == "batch"  # coupled samples: their sum alone is comparable
    least = floor.sum()[None] if is_coupled else floor
    for _ in range(DIRECTIONS):
        unit = directions(points, random)
        told = torch.stack([(g * u).flatten(1).sum(dim=1) for g, u in zip(found, unit, strict=True)]).sum(dim=0)
        told = told.sum()[None] if is_coupled else told
        narrow = difference(exact, points, unit, step / 4)
        size = torch.stack([told.abs(), narrow.abs(), least]).amax(dim=0)
        errors = (told - narrow).abs() / size
        if not bool((errors <= GRADIENT_ERROR).all()):
            smooth = (difference(exact, points, unit, step) - narrow).abs() <= 0.1 * GRADIENT_ERROR * size
            kinks, errors = kinks + int((~smooth).sum()), errors[smooth]
        worst = max(worst, float(errors.max()) if len(errors) else 0.0)
    if kinks == DIRECTIONS * len(least):
        return not_run("no point is smooth enough for finite differences")
    notes = [f"{kinks} differences over a kink left out"] if kinks else []
    status: Status = "pass"
    if worst > GRADIENT_ERROR:
        is_declared = few.surface.model.straight_through
        notes += ["the model rounds, and passes gradients straight through, as declared"] if is_declared else []
        status = "warn" if is_declared else "fail"
    return Verdict(status, worst, GRADIENT_ERROR, len(few), "; ".join(notes))


def directions(views: Views, random: torch.Generator) -> Views:
    """Random directions of unit L2 norm over all views of each sample."""
    drawn = [torch.randn(view.shape, generator=random, dtype=torch.float64).to(view.device) for view in views]
    norms = torch.stack([view.flatten(1).square().sum(dim=1) for view in drawn]).sum(dim=0).sqrt()
    return tuple(view / norms.view(-1, *[1] * (view.ndim - 1)) for view in drawn)


def difference(evidence: Evidence, points: Views, unit: Views, size: float) -> Tensor:
    """The margin's central difference quotient along directions, (n,); where samples couple, their sum's, (1,)."""
    ahead, behind = (
        probes.heights(evidence, tuple(x + sign * size * u for x, u in zip(points, unit, strict=True)))
        for sign in (1, -1)
    )
    quotient = (ahead - behind) / (2 * size)
    return quotient.sum()[None] if evidence.surface.bn == "batch" else quotient


def loss_rises(evidence: Evidence) -> Verdict:
    """The objective ends above its start, and the attack returns the best of the points that it has visited.

    No sample may end below its clean point. On samples that stay in their cluster, an attack that takes gradients must
    climb at least half as far as one gradient step of the whole radius. No visited point may flip a sample that is
    returned unflipped, or lie higher. Value: the mean climb of samples that stay. Visited points are seen through a
    copy of the victim, sample by sample. Source: Carlini et al. 2019, basic sanity tests.
    """
    attacker = evidence.attacker
    if attacker.blind and not attacker.bounded:
        return not_run("the attack ascends nothing", needed=False)
    if probes.is_still(evidence):
        return not_run("eps is 0: nothing can rise", needed=False)
    gain, is_known = probes.objective_of(attacker)
    points = evidence.points
    stays = ~evidence.flips(points)
    start, end = (probes.heights(evidence, at, gain).cpu().double().numpy() for at in (evidence.clean, points))
    climb = (end - start)[stays]
    value = float(climb.mean()) if len(climb) else None
    n, threshold = len(evidence), 0.0
    if attacker.trained:
        return learned_climb(np.minimum(end, 0.0) - start, n)
    problems = []
    lower = climb < -probes.EDGE * (1 + np.abs(start[stays]))
    if is_known and lower.any():
        problems.append(f"{int(lower.sum())} samples end below their clean point")
    if evidence.knowledge == "white":
        stepped = probes.heights(evidence, probes.one_step(evidence, gain), gain).cpu().double().numpy()
        one = np.maximum(stepped - start, 0.0)[stays]
        threshold = ONE_STEP_SHARE * float(one.mean()) if len(one) else 0.0
        if probes.mean_bound(climb - ONE_STEP_SHARE * one, side="upper", seed=evidence.seed) < 0:
            problems.append(f"the objective climbs {value:.3g}, one gradient step climbs {float(one.mean()):.3g}")
    worse = not_the_best(evidence, gain if is_known else None)
    if worse:
        problems.append(f"{worse} of {min(n, SINGLE_ROWS)} samples were moved better on the way than returned")
    return Verdict("fail" if problems else "pass", value, threshold, n, "; ".join(problems))


def learned_climb(climb: np.ndarray, n: int) -> Verdict:
    """The verdict on a learned attack: margins, cut at 0, must not fall, and it warns where they do not rise."""
    value = float(climb.mean()) if len(climb) else None
    if len(climb) and probes.mean_bound(climb, side="upper") < 0:
        return Verdict("fail", value, 0.0, n, "the margins fall")
    if len(climb) and probes.mean_bound(climb, side="lower") <= 0:
        return Verdict("warn", value, 0.0, n, "the margins do not rise")
    return Verdict("pass", value, 0.0, n)


def not_the_best(evidence: Evidence, gain: Gain | None) -> int:
    """How many of a few samples, attacked one by one, came back worse than a point that the attack had visited."""
    if evidence.surface.bn == "batch" or training_parts(evidence.surface.model):
        return 0  # a sample alone has no statistics
    light = lightened(evidence.attacker)
    if light.get("steps", setting(evidence.attacker, "steps") or 0) > SINGLE_STEPS:
        light["steps"] = SINGLE_STEPS
    attacker, seen = evidence.rebuilt(light), list[Views]()
    surface = probes.watched(evidence.surface, seen)
    rows = torch.linspace(0, len(evidence) - 1, min(len(evidence), SINGLE_ROWS)).long()
    alone = [evidence.take(row[None]) for row in rows]
    return sum(is_worse(one, *probes.visited(one, attacker, surface, seen), gain) for one in alone)


def is_worse(one: Evidence, returned: Views, seen: Views, gain: Gain | None) -> bool:
    """Whether a visited point flips this sample, or lies higher by `gain`, while the returned one does not.

    Shapes: returned (1, ...) and seen (m, ...) of every view.
    """
    many = one.take(torch.zeros(len(seen[0]) + 1, dtype=torch.long))
    points = joined([returned, seen])
    flipped, margins = many.flips(points), probes.heights(many, points).cpu().numpy()
    if flipped[0] or len(flipped) == 1:
        return False
    if (flipped & (margins > probes.EDGE)).any():
        return True
    if gain is None:
        return False
    heights = probes.heights(many, points, gain)
    return bool(heights[1:].max() > heights[0] + 1e-3 * (1 + heights[0].abs()))
