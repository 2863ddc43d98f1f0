"""Check 27: whether the numbers of the record are those that are found when they are measured again."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from robust_cluster.audit import probes
from robust_cluster.audit.base import FLIP, Evidence, Verdict
from robust_cluster.measure.metric import WHOLE, Metric

SLACK = 0.02  # of a flip rate, beside three standard errors of the probe rows
CURVE_ROWS = 200  # on which the radii of a curve are measured again
STILL = 0.1  # of the samples that hold out: more than these do not stand where they were
EXACT = 1e-9
ROUNDED = 0.005  # of the clean labels, which other batches may round to the other side of a boundary


def as_recorded(evidence: Evidence) -> Verdict:
    """Clean and moved labels, flips, the curve, the noise and the rows of the record are those measured here.

    Value: the flip rate of the record less that of the probe rows. Points that a smaller radius misled count in a
    record and may not be found again: it may have a few flips more, and hardly any fewer. With statistics of the batch
    labels depend on the batch, and the record is only held against itself. Source: RobustBench issue 7.
    """
    found = evidence.flips(evidence.points) if evidence.surface.bn == "eval" else None
    recorded = own_flips(evidence)
    problems = [*against_itself(evidence), *(() if found is None else against_measured(evidence, found))]
    value = None if found is None or recorded is None else recorded - probes.rate(found)
    return Verdict("fail" if problems else "pass", value, SLACK, len(evidence), "; ".join(problems))


def own_flips(evidence: Evidence) -> float | None:
    """The recorded flip rate of the audited attack, without what stands beside a re-attack."""
    beside = evidence.record.get("adaptive")
    return evidence.success.read(evidence.record) if beside is None else float(beside["afresh"])


def against_itself(evidence: Evidence) -> Iterator[str]:
    """What disagrees inside the record: rows that are scored, its list of labels, what no move does."""
    metrics, listed = evidence.record.get("metrics") or {}, evidence.record.get("samples")
    if evidence.scored is not None and metrics.get("samples", evidence.scored) != evidence.scored:
        yield f"{metrics['samples']} rows are scored, {evidence.scored} are asked for"
    if (still := Metric("flip", "zero").read(evidence.record)) is not None and still > 0:
        yield f"no move flips {still:.1%}"
    flip = FLIP.read(evidence.record)
    if listed and "moved" in listed and flip is not None:
        apart = np.mean([one != other for one, other in zip(listed["clean"], listed["moved"], strict=True)])
        if abs(float(apart) - flip) > EXACT:
            yield f"flip is {flip:.1%}, and {float(apart):.1%} of its list of labels"
    lines = [line for line in evidence.record.get("radii") or () if line["attack"] == WHOLE]
    if lines and flip is not None and abs(max(lines, key=lambda line: float(line["eps"]))["flip"] - flip) > EXACT:
        yield "the curve ends elsewhere than the headline"


def against_measured(evidence: Evidence, found: probes.Flags) -> Iterator[str]:
    """What the probe rows contradict: clean labels, flips, points that stand still, radii of the curve, noise."""
    listed, rate, places = evidence.record.get("samples"), probes.rate(found), evidence.places
    flip = own_flips(evidence)
    if listed and "moved" in listed and places is not None:
        clean = np.array([int(listed["clean"][place], 36) for place in places.tolist()])
        moved = np.array([int(listed["moved"][place], 36) for place in places.tolist()])
        if (other := probes.rate(clean != evidence.own)) > ROUNDED:
            yield f"{other:.1%} of the clean labels are others"
        lost = found & (moved == clean if evidence.target is None else moved != evidence.target)
        if probes.rate(lost) > SLACK:
            yield f"{probes.rate(lost):.1%} of the samples flip here and not in the record"
    if flip is not None and not within(flip, rate, len(evidence)):
        yield f"{flip:.1%} flip in the record, {rate:.1%} here"
    if evidence.attacker.feedback == "gradient" and not probes.is_still(evidence):
        stands = np.ones(len(evidence), dtype=bool)
        for before, after in zip(evidence.clean, evidence.points, strict=True):
            stands &= (before == after).flatten(1).all(dim=1).cpu().numpy()
        if probes.rate((stands & ~found)[~found]) > STILL:
            yield f"{int((stands & ~found).sum())} samples that hold out were not moved at all"
    yield from curve(evidence)
    noise, own = replace(evidence.success, points="noise").read(evidence.record), own_noise(evidence)
    if noise is not None and noise < own and not within(noise, own, len(evidence)):
        yield f"noise flips {noise:.1%} in the record, {own:.1%} here"


def curve(evidence: Evidence) -> Iterator[str]:
    """The radii of a curve at which the attack flips another share than the record says."""
    attacker = evidence.attacker
    lines = [line for line in evidence.record.get("radii") or () if line["attack"] == WHOLE]
    if attacker.trained or attacker.budget.norm is None or len(lines) < 2:
        return
    few = evidence.probe(CURVE_ROWS)
    for line in lines:
        rate = probes.rate(few.flips(few.move(few.build(probes.at_radius(few, line["eps"])))))
        is_alone = "adaptive" not in evidence.record
        recorded = line[str(evidence.success)]
        if not within(recorded, rate, len(few)) and (is_alone or recorded < rate):
            yield f"at {line['eps']:g} {recorded:.1%} flip in the record, {rate:.1%} here"


def own_noise(evidence: Evidence) -> float:
    """The share that noise of the attack's size flips, the kind that does most, over as many draws as the record's."""
    draws = int((evidence.record.get("metrics") or {}).get("noise_draws") or 1)
    has_radius = evidence.attacker.budget.norm is not None and not probes.is_still(evidence)
    torch.manual_seed(evidence.seed)

    def draw(kind: str) -> probes.Flags:
        is_sign = kind == "sign"
        points = probes.noise_draw(evidence, "sign") if is_sign else probes.equal_noise(evidence, evidence.points)
        return evidence.flips(evidence.attacker.budget.clip(evidence.clean, points))

    kinds = ("equal norm", "sign") if has_radius else ("equal norm",)
    return max(probes.rate(np.logical_or.reduce([draw(kind) for _ in range(draws)])) for kind in kinds)


def within(recorded: float, measured: float, n: int) -> bool:
    """Whether two shares may be of the same samples, of which `n` were measured again."""
    return abs(recorded - measured) <= SLACK + 3 * math.sqrt(measured * (1 - measured) / max(n, 1))
