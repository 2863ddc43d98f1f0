"""Checks 9 to 17: whether a stronger attack was in reach. They take minutes, on at most 1,000 points, in an audit."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster import discover
from robust_cluster.attacks.base import Attack, Gain
from robust_cluster.attacks.ensemble import kinds
from robust_cluster.audit import probes
from robust_cluster.audit.base import (
    ACC_KEPT,
    ACC_MATCHED,
    FLIP,
    Evidence,
    Predicted,
    Status,
    Verdict,
    graded,
    joined,
    lightened,
    not_run,
    setting,
)
from robust_cluster.audit.mechanics import NO_GRADIENT, UNBOUNDED
from robust_cluster.data.base import Views
from robust_cluster.measure.metric import Metric
from robust_cluster.metrics.accuracy import accuracy, accuracy_under, chance_accuracy, match

POINT = 0.01  # one point of a flip rate
CLIMB = 0.01  # the share of its climb that the objective may add with twice the steps
FLOOR = 0.99  # the flip rate that an attack without a bound must reach
RADII = (0.25, 0.5, 1.0, 2.0)  # times the audited one
NOISE_DRAWS = 100  # random points of each sample; Carlini et al. 2019 speak of 10,000
QUERIES = 500  # a sample, of an attack that sees scores
TRANSFER_SHARE = 0.005  # the share of points that a transferred attack may flip and this one not
SWEEP_ROWS = 200
LISTED = 20  # points that a note names
STILL = "eps is 0: nothing moves"
DOUBLED = ("steps", "queries", "draws", "restarts", "targets", "rounds")
SWEEP: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("pgd", {"objective": "margin"}),
    ("pgd", {"objective": "kl"}),
    ("apgd", {"objective": "margin"}),
    ("apgd", {"objective": "kl"}),
)

Flags = npt.NDArray[np.bool_]


def cannot_compare(evidence: Evidence, *, gradients: bool = False) -> Verdict | None:
    """Why no other attack of this radius, or none with `gradients`, can be compared with this one; None: one can."""
    if evidence.attacker.budget.norm is None:
        return not_run(UNBOUNDED, needed=False)
    if probes.is_still(evidence):
        return not_run(STILL, needed=False)
    return not_run(NO_GRADIENT, needed=False) if gradients and evidence.knowledge != "white" else None


def beats_one_step(evidence: Evidence) -> Verdict:
    """No fewer samples flip than under one gradient step of the whole radius, beyond the slack.

    Value: the flip rate less that of the one step. A learned attack, which takes no steps at a sample, is warned of.
    Source: Carlini et al. 2019; Athalye et al. 2018.
    """
    if (reason := cannot_compare(evidence, gradients=True)) is not None:
        return reason
    found, one = evidence.flips(evidence.points), evidence.flips(probes.one_step(evidence))
    value = probes.rate(found) - probes.rate(one)
    if not probes.exceeds(one, found):
        return Verdict("pass", value, 0.0, len(evidence))
    note = f"one gradient step flips {probes.rate(one):.1%}, the attack {probes.rate(found):.1%}"
    return Verdict("warn" if evidence.attacker.trained else "fail", value, 0.0, len(evidence), note)


def converged(evidence: Evidence) -> Verdict:
    """Twice the steps (queries, draws), or twice the restarts, flip at most 1 point more and climb at most 1 % more.

    Value: the largest rise of the flip rate. The climb is compared on samples that neither flips. For a learned attack:
    the rise over the second half of its training log. Source: Carlini et al. 2019; Madry's 20- and 100-step cells.
    """
    attacker = evidence.attacker
    if attacker.trained:
        return learned_converged(evidence)
    if attacker.blind:
        return not_run("noise does not converge: more draws always find more", needed=False)
    if probes.is_still(evidence):
        return not_run(STILL, needed=False)
    evidence = fewer(evidence)
    amounts = {name: setting(attacker, name) for name in DOUBLED}
    amounts = {name: value for name, value in amounts.items() if isinstance(value, int) and value > 0}
    if not amounts:
        return not_run("the attack has no steps, queries, draws or restarts to double", needed=attacker.bounded)
    gain, _ = probes.objective_of(attacker)
    found, height = evidence.flips(evidence.points), heights(evidence, evidence.points, gain)
    start = heights(evidence, evidence.clean, gain)
    value, notes = 0.0, []
    for name, amount in amounts.items():
        points = evidence.move(evidence.build({name: 2 * amount}))
        more = evidence.flips(points)
        rise = probes.rate(more) - probes.rate(found)
        value = max(value, rise)
        if rise > POINT and probes.exceeds(more, found):
            notes.append(f"{2 * amount} {name} flip {rise:.1%} more")
        stay = ~more & ~found
        climbed = (height - start)[stay].sum()
        further = (heights(evidence, points, gain) - height)[stay]
        if stay.any() and further.sum() > CLIMB * abs(climbed) and probes.mean_bound(further, side="lower") > 0:
            notes.append(f"{2 * amount} {name} climb {further.sum() / max(abs(climbed), 1e-12):.1%} more")
    return Verdict("warn" if notes else "pass", value, POINT, len(evidence), "; ".join(notes))


def fewer(evidence: Evidence) -> Evidence:
    """At most 200 rows for an ensemble, which is many attacks."""
    return evidence.probe(SWEEP_ROWS) if hasattr(evidence.attacker, "members") else evidence


def learned_converged(evidence: Evidence) -> Verdict:
    """The verdict on a learned attack: the flip rate no longer rises in the second half of its training log."""
    points = evidence.record.get("curve") or []
    log = [point[str(FLIP)] for point in points if point.get(str(FLIP)) is not None]
    if len(log) < 2:
        return not_run("the training log has no flip rates")
    value = float(log[-1] - log[len(log) // 2 - 1])
    note = f"flips rose by {value:.1%} over the second half of {len(log)} epochs" if value > POINT else ""
    return Verdict("warn" if note else "pass", value, POINT, len(log), note)


def heights(evidence: Evidence, points: Views, gain: Gain) -> npt.NDArray[np.float64]:
    """The objective (n,) as an array of NumPy."""
    found: npt.NDArray[np.float64] = probes.heights(evidence, points, gain).cpu().double().numpy()
    return found


def monotone(evidence: Evidence) -> Verdict:
    """A larger radius flips no fewer samples, at 1/4, 1/2, 1 and 2 times the audited radius and on the record's curve.

    It fails where a sample that a smaller radius flips is lost although its point lies in the larger ball too (budgets
    are not nested), or where the radius changes nothing. It warns where the attack's own curve falls beyond the slack,
    in flips or in the margins of samples that stay. Value: the largest fall of that curve. Source: Carlini et al. 2019;
    ART issue 840; robust-ml issue 3.
    """
    if (reason := cannot_compare(evidence)) is not None:
        return reason
    value, notes = recorded_curve(evidence)
    if evidence.attacker.trained:
        if value is None:
            return not_run("a learned attack has to be trained for every radius: the record has one radius")
        return Verdict("warn" if notes else "pass", value, 0.0, len(evidence), "; ".join(notes))
    evidence = fewer(evidence)
    value, problems = value or 0.0, []
    raw: list[tuple[Flags, npt.NDArray[np.float64]]] = []
    best = np.zeros(len(evidence), dtype=bool)
    held = first = evidence.clean
    for multiple in RADII:
        attacker = evidence.build(probes.at_radius(evidence, multiple * probes.pixels(evidence)))
        points = evidence.points if multiple == 1 else evidence.move(attacker)
        first = points if multiple == RADII[0] else first
        kept = attacker.budget.clip(evidence.clean, held)
        found, still = evidence.flips(points), evidence.flips(kept)
        if (best & ~(found | still)).any():
            problems.append(f"{int((best & ~(found | still)).sum())} flips are lost at {multiple:g} times the radius")
        if raw:
            before, low = raw[-1]
            value = max(value, probes.rate(before) - probes.rate(found))
            if probes.exceeds(before, found):
                less = f"{probes.rate(found):.1%} flip, before it {probes.rate(before):.1%}"
                notes.append(f"at {multiple:g} times the radius {less}")
            fall = (low - heights(evidence, points, probes.margin))[~before & ~found]
            if probes.mean_bound(fall, side="lower") > probes.EDGE:
                notes.append(f"at {multiple:g} times the radius the margins of those that stay are lower")
        raw.append((found, heights(evidence, points, probes.margin)))
        chosen = torch.as_tensor(found, device=points[0].device)
        held = tuple(torch.where(chosen.view(-1, *[1] * (p.ndim - 1)), p, k) for p, k in zip(points, kept, strict=True))
        best = best | found
        last = points
    if all(torch.equal(a, b) for a, b in zip(first, last, strict=True)):
        problems.append("the points are the same at every radius")
    rates = ", ".join(f"{multiple:g}x {probes.rate(f):.1%}" for multiple, (f, _) in zip(RADII, raw, strict=True))
    note = "; ".join([*problems, *notes, f"flips at {rates}"])
    return Verdict(graded(problems, notes), value, 0.0, len(evidence), note)


def recorded_curve(evidence: Evidence) -> tuple[float | None, list[str]]:
    """The largest fall of the record's curve, of the best attack at every radius, and a note where it is too large."""
    best: dict[float, float] = {}
    for line in evidence.record.get("radii") or []:
        if (found := line.get(str(evidence.success))) is not None:
            best[line["eps"]] = max(best.get(line["eps"], 0.0), found)
    rates = [best[eps] for eps in sorted(best)]
    if len(rates) < 2:
        return None, []
    fall = max(0.0, *(before - after for before, after in pairwise(rates)))
    return fall, [f"the record's curve falls by {fall:.1%}"] if fall > POINT else []


def unbounded(evidence: Evidence) -> Verdict:
    """Where every valid value may be reached, at least 99 % flip, and ACC under the clean matching is at chance.

    Value: the flip rate. ACC counts samples that were right before, for those that were wrong may come right. ACC
    matched anew may stay high where clusters were permuted or joined, which the note says. An attack that sees scores
    or labels only is warned of. Source: Carlini et al. 2019 (100 % success without a bound); ART's SecurityCurve.
    """
    attacker = evidence.attacker
    if (reason := cannot_compare(evidence)) is not None:
        return reason
    if evidence.knowledge in ("none", "transfer"):
        return not_run("the attack does not ask the victim: it need not reach everything", needed=False)
    if not all(attacker.budget.radii(len(evidence.clean))):
        return not_run("not all views are attacked: the others may hold the cluster", needed=False)
    if attacker.trained:
        return not_run("a learned attack has to be trained for every radius: the record has one radius")
    points = evidence.move(evidence.build(probes.at_radius(evidence, probes.largest_radius(evidence))))
    after, n = evidence.clusters(points), len(evidence)
    value = probes.rate(evidence.flips(points))
    problems = [f"{value:.1%} flip"] if value < FLOOR else []
    note = ""
    if evidence.labels is not None:
        found = at_the_floor(evidence, evidence.labels, after)
        problems += found[0]
        note = found[1]
    weak: Status = "fail" if evidence.knowledge == "white" else "warn"
    return Verdict(weak if problems else "pass", value, FLOOR, n, "; ".join([*problems, *[note] * bool(note)]))


def at_the_floor(evidence: Evidence, labels: Predicted, after: Predicted) -> tuple[list[str], str]:
    """Problems with the ACC of unbounded points, and a note that is no problem."""
    n_clusters = evidence.surface.model.info.n_clusters
    mapping = match(labels, evidence.own, n_clusters=n_clusters)
    was, is_now = mapping[evidence.own] == labels, mapping[after] == labels
    kept, chance = float(np.mean(is_now & was)), chance_accuracy(labels, n_clusters)
    matched = accuracy(labels, after)
    problems = [f"ACC under the clean matching {kept:.1%} of samples that were right, chance {chance:.1%}"]
    largest = np.bincount(after).max() / len(after)
    note = ""
    if matched > chance + 0.05:
        what = "clusters were joined" if largest > 1.5 * np.bincount(evidence.own).max() / len(after) else "permuted"
        note = f"ACC matched anew stays at {matched:.1%} (chance {chance:.1%}): {what}"
    return (problems if kept > chance else []), note


def real_points(evidence: Evidence) -> Verdict:
    """Real points of other clusters in place of the samples flip all of them, and the scores say so.

    Value: the flip rate. It tests the scorer, not the attack: flips and ACC under the clean matching must be among the
    scores, and clusters that merely change their numbers must show in both, though not in ACC matched anew. Source:
    Foolbox's DatasetAttack.
    """
    if evidence.surface.bn == "batch":
        return not_run("labels depend on the batch, whose statistics batch norm takes")
    own, n = evidence.own, len(evidence)
    if len(np.unique(own)) < 2:
        return not_run("all points are in one cluster")
    elsewhere = {int(cluster): np.flatnonzero(own != cluster) for cluster in np.unique(own)}
    others = np.array([elsewhere[cluster][row % len(elsewhere[cluster])] for row, cluster in enumerate(own.tolist())])
    rows = torch.as_tensor(others, device=evidence.clean[0].device)
    after = evidence.clusters(tuple(view[rows] for view in evidence.clean))
    value = float(np.mean(after != own))
    n_clusters = evidence.surface.model.info.n_clusters
    problems = [f"{value:.1%} flip"] if value < 1 else []
    problems += wrong_scores(evidence, after) + wrong_scores(evidence, (own + 1) % n_clusters)
    return Verdict("fail" if problems else "pass", value, 1.0, n, "; ".join(dict.fromkeys(problems)))


def wrong_scores(evidence: Evidence, after: Predicted) -> list[str]:
    """Problems with the stage's scores of these clusters; without a scorer, scores that the record lacks."""
    own, labels = evidence.own, evidence.labels
    if evidence.score is None:
        record = evidence.record
        needed = [FLIP] + [ACC_KEPT] * (ACC_MATCHED.read(record) is not None)
        missing = [metric for metric in needed if record.get("metrics") and metric.read(record) is None]
        return [f"{metric} is not among the scores" for metric in missing]
    found = evidence.score(labels, own, after)
    expected = {FLIP: float(np.mean(own != after))}
    if labels is not None:
        mapping = match(labels, own, n_clusters=evidence.surface.model.info.n_clusters)
        expected |= {ACC_KEPT: accuracy_under(mapping, labels, after), ACC_MATCHED: accuracy(labels, after)}
    problems = []
    for metric, value in expected.items():
        given = found.get(str(metric))
        if given is None:
            problems.append(f"{metric} is not among the scores")
        elif abs(given - value) > 1e-9:
            problems.append(f"{metric} is {given:.6g}, must be {value:.6g}")
    return problems


def beats_weaker(evidence: Evidence) -> Verdict:
    """No attack that knows less flips more samples, beyond the slack: else gradients are masked.

    White-box attacks stand against those that see scores (Square), against the direction to the nearest other
    cluster's mean, and against 100 random draws of their size; those that see scores or labels against noise. A learned
    attack, which does not search at a sample, is warned of. Value: the flip rate less the largest of the weaker ones.
    Source: Carlini et al. 2019; Athalye et al. 2018; AutoAttack's flags.
    """
    attacker, n = evidence.attacker, len(evidence)
    if attacker.blind or evidence.knowledge == "none":
        return not_run("the attack is noise itself", needed=False)
    if probes.is_still(evidence):
        return not_run(STILL, needed=False)
    weaker: dict[str, Flags] = {f"{NOISE_DRAWS} random draws": probes.best_noise(evidence, NOISE_DRAWS)}
    missing: list[str] = []
    if attacker.budget.norm is not None and evidence.knowledge == "white":
        if (points := probes.to_other_means(evidence)) is not None:
            weaker["the direction of other means"] = evidence.flips(points)
        for name in (name for name, kind in kinds().items() if kind.feedback == "score"):
            few = {"queries": QUERIES} if hasattr(discover.load("attacks", name).Config, "queries") else {}
            points, why_not = other(evidence, name, few)
            if points is None:
                missing.append(f"{name}: {why_not}")
            else:
                weaker[f"{name} with {QUERIES} queries" if few else name] = evidence.flips(points)
    found = evidence.flips(evidence.points)
    value = probes.rate(found) - max(probes.rate(flags) for flags in weaker.values())
    stronger = [f"{name} flips {probes.rate(f):.1%}" for name, f in weaker.items() if probes.exceeds(f, found)]
    if stronger:
        note = f"{', '.join(stronger)}; the attack {probes.rate(found):.1%}"
        return Verdict("warn" if attacker.trained else "fail", value, 0.0, n, note)
    if missing:
        return not_run(f"{'; '.join(missing)}; random draws flip no more")
    return Verdict("pass", value, 0.0, n, ", ".join(f"{name}: {probes.rate(f):.1%}" for name, f in weaker.items()))


def other(evidence: Evidence, name: str, overrides: Mapping[str, Any]) -> tuple[Views | None, str]:
    """The points of another attack at the same budget, or None and why there are none."""
    build = evidence.others
    if build is None:
        return None, "no other attack is at hand"
    return probes.attempt(lambda: evidence.move(build(name, overrides)))


def beats_transfer(evidence: Evidence) -> Verdict:
    """At most 0.5 % of the samples are flipped by points made for another model and not by the attack itself.

    The other models: the nearest mean of the clean clusters in the attacked space, the model before its defense, and
    the source of a transfer attack where the evidence has one. Value: the share of such samples; the note names them.
    Source: Carlini et al. 2019.
    """
    if (reason := cannot_compare(evidence)) is not None:
        return reason
    if evidence.knowledge != "white":
        return not_run("only a white-box attack must be stronger than transferred points", needed=False)
    sources: dict[str, Flags] = {}
    if (points := probes.to_other_means(evidence)) is not None:
        sources["nearest means"] = evidence.flips(points)
    if evidence.undefended is not None and evidence.surface.space == "input" and not evidence.attacker.trained:
        moved = evidence.propose(evidence.build({}), evidence.undefended)
        sources["the undefended model"] = evidence.flips(evidence.attacker.budget.clip(evidence.clean, moved))
    transferred, _ = other(evidence, "transfer", {})
    if transferred is not None:
        sources["the transfer's source"] = evidence.flips(transferred)
    if not sources:
        return not_run("there is no other model to transfer from")
    lost = np.asarray(np.stack(list(sources.values())).any(axis=0)) & ~evidence.flips(evidence.points)
    value, rows = probes.rate(lost), evidence.batch.index.cpu().numpy()[lost][:LISTED].tolist()
    note = f"from {', '.join(sources)}"
    note += f"; rows {', '.join(map(str, rows))}" if rows else ""
    return Verdict("warn" if value > TRANSFER_SHARE else "pass", value, TRANSFER_SHARE, len(evidence), note)


def worst_case(evidence: Evidence) -> Verdict:
    """A headline counts a sample as flipped if any of its attacks flips it, which is not the best attack's mean.

    Value: the flip rate less the share that any member flips, on at most 200 points with lightened members. One attack
    alone is no headline: the check is not run there. Source: Carlini et al. 2019; AutoAttack issue 45.
    """
    few = evidence.probe(SWEEP_ROWS)
    attacker = few.rebuilt(lightened(few.attacker))
    each: Mapping[str, Attack] = getattr(attacker, "members", {})
    if not each:
        return not_run("one attack alone: a headline needs the worst case of several")
    rate, metrics = evidence.success, map(Metric.parse, evidence.record.get("metrics") or ())
    whole = rate.read(evidence.record)
    members = {m: m.read(evidence.record) or 0.0 for m in metrics if m.member and m == replace(rate, member=m.member)}
    problems = []
    if members and whole is not None and whole < max(members.values()) - 1e-9:
        problems.append(f"{rate} {whole:.1%} is below {max(members, key=members.__getitem__)}")
    torch.manual_seed(few.seed)
    apart = [[member.perturb(few.surface, batch) for member in each.values()] for batch in few.batches()]
    clipped = [attacker.budget.clip(few.clean, joined(parts)) for parts in zip(*apart, strict=True)]
    union = np.asarray(np.stack([few.flips(points) for points in clipped]).any(axis=0))
    found = few.flips(few.move(attacker))
    missed = int((union & ~found).sum())
    if missed > TRANSFER_SHARE * len(few):  # one on a boundary may differ by rounding
        problems.append(f"{missed} samples that a member flips are not counted")
    value = probes.rate(found) - probes.rate(union)
    return Verdict("fail" if problems else "pass", value, 0.0, len(few), "; ".join(problems))


def sweep(evidence: Evidence) -> Verdict:
    """No other step size, objective or optimizer flips over 1 point more, on at most 200 points.

    PGD and APGD on margin and divergence are tried, and the attack's own step times 1/2 and 2. Value: the flip rate of
    the best of them less the attack's. Source: Carlini et al. 2019, hyper-parameters.
    """
    if (reason := cannot_compare(evidence, gradients=True)) is not None:
        return reason
    few = evidence.probe(SWEEP_ROWS)
    found, tried, refused = few.flips(few.points), dict[str, Flags](), list[str]()
    for name, points, sentence in variants(few):
        if points is None:
            refused.append(f"{name}: {sentence}")
        else:
            tried[name] = few.flips(points)
    if not tried:
        return not_run("; ".join(refused))
    best = max(tried, key=lambda name: probes.rate(tried[name]))
    value = probes.rate(tried[best]) - probes.rate(found)
    if value > POINT and probes.exceeds(tried[best], found):
        note = f"{best} flips {probes.rate(tried[best]):.1%}, the attack {probes.rate(found):.1%}"
        return Verdict("warn", value, POINT, len(few), note)
    if refused:
        return not_run("; ".join(refused))
    return Verdict("pass", value, POINT, len(few), f"best of {len(tried)}: {best}")


def variants(evidence: Evidence) -> Iterator[tuple[str, Views | None, str]]:
    """Name, points and "" of each other setting that is tried; None and the reason where it was refused."""
    step = setting(evidence.attacker, "relative_step")
    if isinstance(step, float):
        for factor in (0.5, 2.0):
            points = evidence.move(evidence.build({"relative_step": factor * step}))
            yield f"{factor:g} times the step", points, ""
    for name, overrides in SWEEP:
        yield f"{name} on {overrides['objective']}", *other(evidence, name, overrides)
