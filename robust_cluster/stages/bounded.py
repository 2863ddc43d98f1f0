"""What standard attacks do: every member at every radius on evenly spaced rows, with noise and no move beside them.

A point that a smaller radius misleads counts at every larger one, whose ball it lies in: such a sample is not attacked
again, and the curve cannot fall. An attack that learns is measured at every radius by what it learned for that one
alone. With batch norm on statistics of the batch a label depends on the batch: there all samples are attacked at every
radius, and what is counted is what the whole moved batch gives.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Surface, equal_norm_noise
from robust_cluster.attacks.bounded import at_radius
from robust_cluster.attacks.budget import Budget
from robust_cluster.data.base import Batch, Labels, Views
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import margin
from robust_cluster.nn.precision import precision
from robust_cluster.runs.seeds import generator, seed_for
from robust_cluster.stages import adaptive
from robust_cluster.stages.context import Context, Trial
from robust_cluster.stages.evaluate import Details, Metrics, Predicted, attacked_scores, batch_of, finite, scores
from robust_cluster.stages.input_space import portions
from robust_cluster.stages.loop import Summary

MEASUREMENT = 1  # version of everything below that scores an attack; raise it when the numbers change
WHOLE = "all"  # the name of the worst case over the members in the lines of a curve
BATCH = 500  # rows that are attacked at once where no row depends on another


@dataclass(frozen=True)
class Line:
    """What one attack does at one radius: moved labels (n,), mean margin by which clusters are left, mean L2 norm.

    `trained_at`: the radius at which an attack that learns took its last step, where it took one.
    """

    eps: float
    attack: str
    labels: Predicted
    gain: float | None
    norm: float
    trained_at: float | None = None


class Probe:
    """Evenly spaced rows of a context under one frozen surface, in fixed batches, with their clean labels.

    Raises: ConfigError for an attack on the embedding of a model that has none of its own.
    """

    def __init__(self, surface: Surface, context: Context, rows: int) -> None:
        index = spaced(context.info.n_samples, rows).to(context.torch_device)
        self.surface = replace(surface, memory=None)
        is_joint = surface.bn == "batch"
        parts = portions(index) if is_joint else list(index.split(BATCH))
        self.batches = [batch_of(context.views, part) for part in parts]
        self.is_joint = is_joint
        self.truth: Labels | None = None if context.labels is None else context.labels[index.cpu().numpy()]
        self.n_clusters = context.info.n_clusters
        with torch.no_grad():
            self.clean: list[Views] = [self.surface.point(batch) for batch in self.batches]
            self.own: list[Tensor] = [self.surface.labels(point) for point in self.clean]
        self.labels: Predicted = torch.cat(self.own).cpu().numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def line(self, eps: float, name: str, moved: list[Views]) -> Line:
        """What the moved points give."""
        gains, labels, norms = [], [], []
        with torch.no_grad(), precision("highest"):
            for clean, own, point in zip(self.clean, self.own, moved, strict=True):
                z = self.surface.latent(point)
                labels.append(self.surface.model.labels(z))
                gains.append(margin(self.surface.model.log_assign(z), own))
                norms.append((flat(point) - flat(clean)).norm(dim=1))
        mean = finite(float(torch.cat(gains).double().mean()))
        return Line(eps, name, torch.cat(labels).cpu().numpy(), mean, float(torch.cat(norms).mean()))

    def flipped(self, moved: Views, number: int) -> Tensor:
        """Which samples of batch `number` are in another cluster, (m,)."""
        with torch.no_grad(), precision("highest"):
            return self.surface.labels(moved) != self.own[number]

    def metrics(self, line: Line) -> Metrics:
        """Starred scores and the flip rate of a line."""
        found = attacked_scores(self.truth, self.labels, line.labels, self.n_clusters)
        return {**found, "flip": flip_rate(self.labels, line.labels)}


def spaced(n: int, rows: int) -> Tensor:
    """The numbers of at most `rows` evenly spaced samples of n."""
    return torch.linspace(0, n - 1, min(rows, n)).long()


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"bounded_measurement": MEASUREMENT}


def score(trial: Trial, *, is_final: bool = True) -> tuple[Metrics, Details]:
    """Scores at the largest radius with their controls, and the lines of the whole curve with the labels behind them.

    `is_final` False, after a defense: the same.
    """
    began = time.monotonic()
    probe = Probe(trial.surface, trial.held, trial.attack_spec.settings["attack"]["rows"])
    lines, points = curve_lines(trial, probe)
    last = max(line.eps for line in lines)
    final = {line.attack: line for line in lines if line.eps == last}
    whole = final[WHOLE]
    found = scores(probe.truth, probe.labels, probe.n_clusters) | probe.metrics(whole)
    found |= {f"flip_{name}": flip_rate(probe.labels, line.labels) for name, line in final.items() if name != WHOLE}
    flipped = {name: line.labels != probe.labels for name, line in final.items() if name != WHOLE}
    found |= {"eps": last, "delta_norm": whole.norm, "samples": len(probe)}
    found |= controls(trial, probe, points)
    return found, {
        **({"adaptive": adaptive.gaps(flipped)} if trial.spec.stage == "reattack" else {}),
        "radii": [
            {"eps": line.eps, "attack": line.attack, "gain": line.gain, **probe.metrics(line)}
            | ({"trained_at": line.trained_at} if trial.attacker.trained else {})
            for line in lines
        ],
        "samples": samples(probe, whole),
        "measured": {"seconds": time.monotonic() - began, "radii": len({line.eps for line in lines})},
    }


def members(attacker: Attack, companions: Mapping[str, Attack], name: str) -> Mapping[str, Attack]:
    """The attacks that are measured each on its own: an ensemble's members, or the attack itself, called `name`.

    Beside those of a re-attack stand its companions.
    """
    own: Mapping[str, Attack] = getattr(attacker, "members", {})
    return {**(own or {name if companions else WHOLE: attacker}), **companions}


def curve_lines(trial: Trial, probe: Probe) -> tuple[list[Line], list[Views]]:
    """A line per radius and member and one for the worst case of each radius; the worst points of the last radius."""
    settings = trial.attack_spec.settings["attack"]
    budget = trial.attacker.budget
    own = budget.eps / unit(trial) if settings["eps"] is None else settings["eps"]  # the largest: see BoundedConfig
    radii = sorted({*settings["curve"], own})
    lines: list[Line] = []
    best: dict[str, list[Views]] = {}
    worst: list[Views] = []
    beside = adaptive.Companions(trial) if trial.spec.stage == "reattack" else None
    progress = trial.seen.progress
    progress.start(f"{trial.spec.stage} {trial.spec.model}: {len(probe)} samples", len(radii), 0, unit="curve point")
    try:
        for count, eps in enumerate(radii, start=1):
            attacker = trial.attacker
            if eps != own:
                attacker = trial.seen.learned_attack(trial.attack_spec, trial.surface, **at_radius(budget, eps))
            companions = beside.at(attacker, eps) if beside else {}
            for name, member in members(attacker, companions, str(trial.attack_spec.attack)).items():
                before = probe.clean if attacker.trained else best.get(name, probe.clean)
                best[name] = [worsened(member, probe, number, points) for number, points in enumerate(before)]
            worst = [
                worst_of([points[number] for points in best.values()], probe, number)
                for number in range(len(probe.clean))
            ]
            at = None if attacker.trained_at is None else attacker.trained_at / unit(trial)
            found = {**best, WHOLE: worst}
            lines += [replace(probe.line(eps, name, points), trained_at=at) for name, points in found.items()]
            flips = flip_rate(probe.labels, lines[-1].labels)
            progress.epoch(count, {"eps": eps, "flips": math.nan if flips is None else flips})
    finally:
        progress.stop()
    return lines, worst


def worsened(attack: Attack, probe: Probe, number: int, before: Views) -> Views:
    """The points of batch `number` that mislead already, and the attack's for the others, inside its budget."""
    batch, clean = probe.batches[number], probe.clean[number]
    if probe.is_joint:
        moved = attack.budget.clip(clean, attack.perturb(probe.surface, batch))
        is_better = probe.flipped(moved, number).sum() >= probe.flipped(before, number).sum()
        return moved if is_better else before
    rows = (~probe.flipped(before, number)).nonzero()[:, 0]
    if not len(rows):
        return before
    part = Batch(tuple(view[rows] for view in batch.views), batch.index[rows])
    moved = attack.budget.clip(tuple(view[rows] for view in clean), attack.perturb(probe.surface, part))
    result = tuple(view.clone() for view in before)
    for view, value in zip(result, moved, strict=True):
        view[rows] = value
    return result


def worst_of(points: list[Views], probe: Probe, number: int) -> Views:
    """For every sample the first of the points that misleads it, else the first; whole batches where rows depend."""
    is_flipped = [probe.flipped(point, number) for point in points]
    if probe.is_joint:
        return points[int(torch.stack([one.sum() for one in is_flipped]).argmax())]
    result = tuple(view.clone() for view in points[0])
    is_open = ~is_flipped[0]
    for point, flips in zip(points[1:], is_flipped[1:], strict=True):
        taken = is_open & flips
        for view, value in zip(result, point, strict=True):
            view[taken] = value[taken]
        is_open &= ~flips
    return result


def controls(trial: Trial, probe: Probe, moved: list[Views]) -> Metrics:
    """Flip rates of no move, and the worst of noise of each sample's own norm and of sign noise of the whole radius.

    An attack that is noise itself has no noise beside it.
    """
    budget = trial.attacker.budget
    random = generator(seed_for(trial.spec.seed, "controls", trial.spec.key))

    def flips(points: Iterator[Views]) -> float:
        pairs = zip(points, probe.clean, strict=True)
        inside = [budget.clip(clean, point) for point, clean in pairs]
        return flip_rate(probe.labels, probe.line(0.0, WHOLE, inside).labels)

    found: Metrics = {"zero_flip": flips(iter(probe.clean))}
    if trial.attacker.blind:
        return found
    both = list(zip(probe.clean, moved, strict=True))
    found["equal_norm_flip"] = flips(
        tuple(c + equal_norm_noise(m - c, random) for c, m in zip(clean, point, strict=True)) for clean, point in both
    )
    found["sign_flip"] = flips(tuple(sign_noise(c, budget, v, random) for v, c in enumerate(p)) for p in probe.clean)
    found["noise_flip"] = max(found["equal_norm_flip"] or 0.0, found["sign_flip"] or 0.0)
    return found


def sign_noise(clean: Tensor, budget: Budget, view: int, random: torch.Generator) -> Tensor:
    """The point moved to a random corner of the L-infinity ball, or by a random direction of the L2 radius."""
    size = budget.radius(view) / (clean[0].numel() ** 0.5 if budget.norm == "l2" else 1.0)
    return clean + size * (2 * torch.rand(clean.shape, generator=random) - 1).sign().to(clean.device)


def samples(probe: Probe, line: Line) -> dict[str, Any] | None:
    """Truth, clean and moved label of every scored row, one character each; None above 36 clusters or 2,000 rows."""
    truth = probe.truth
    most = max(probe.n_clusters, 0 if truth is None else int(truth.max()) + 1)
    if most > 36 or len(probe) > 2000:
        return None

    def text(labels: Labels) -> str:
        return "".join(np.base_repr(label, 36).lower() for label in labels.tolist())

    return {
        "rows": len(probe),
        "truth": None if truth is None else text(truth),
        "clean": text(probe.labels),
        "moved": text(line.labels),
    }


def unit(trial: Trial) -> float:
    """What a radius of 1 is in the units of the model: pixels in input space."""
    return trial.held.info.unit if trial.surface.space == "input" else 1.0


def curve(trial: Trial) -> Callable[[], dict[str, float]]:
    """Nothing to log after an epoch but the attacker's losses."""
    return dict


def flags(metrics: dict[str, Any], summary: Summary, *, is_trained: bool) -> list[str]:
    """Warnings: noise does as much, attacks without gradients do more than those with them."""
    if "noise_flip" not in metrics:
        return []
    asked = [value for name, value in metrics.items() if name.startswith("flip_square")]
    led = [value for name, value in metrics.items() if name.startswith(("flip_apgd", "flip_pgd"))]
    named = {
        "masked": bool(asked and led) and max(asked) > max(led) + 0.02,
        "no better than noise": metrics["flip"] <= metrics["noise_flip"],
    }
    return [name for name, holds in named.items() if holds]
