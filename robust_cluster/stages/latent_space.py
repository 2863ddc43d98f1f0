"""What moved embeddings do: the attack's effect in latent space, and the controls that must stand beside it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from robust_cluster.attacks import latent_pgd
from robust_cluster.attacks.base import Attack, Surface, equal_norm_noise
from robust_cluster.metrics.distortion import distortion
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.models.base import Embedding
from robust_cluster.nn.layers import flat
from robust_cluster.runs.seeds import generator, seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages.context import Context, Trial
from robust_cluster.stages.evaluate import Details, Metrics, Predicted, attacked_scores, batch_of, finite, in_portions
from robust_cluster.stages.loop import Summary

MEASUREMENT = 1  # version of everything below that scores an attack; raise it when the numbers change
PGD_ROWS = 1000  # samples that latent PGD is tried on: 80 gradients each


@dataclass(frozen=True)
class Effect:
    """What moved points do: clean and moved points and labels of the whole data set."""

    clean: Tensor  # (n, p), the point flattened
    moved: Tensor  # (n, p)
    clean_labels: Predicted
    moved_labels: Predicted

    @property
    def delta(self) -> Tensor:
        """The perturbation, (n, p)."""
        return self.moved - self.clean


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"latent_pgd": latent_pgd.LatentPGD.version, "measurement": MEASUREMENT}


def score(trial: Trial, *, is_final: bool = True) -> tuple[Metrics, Details]:
    """The effect on the scored rows, and the controls; the same for an attack (`is_final`) and for a defense."""
    effect = measure(trial.attacker, trial.surface, trial.held)
    metrics = effect_metrics(effect, trial.surface, trial.held)
    return metrics | controls(effect, trial.surface, trial.spec, trial.held), {}


def measure(attacker: Attack, surface: Surface, context: Context) -> Effect:
    """Clean and moved points of the whole data set, moved ones inside the budget."""

    def part(rows: Tensor) -> tuple[Tensor, ...]:
        batch = batch_of(context.views, rows)
        clean = surface.point(batch)
        moved = attacker.budget.clip(clean, attacker.perturb(surface, batch))
        return flat(clean), flat(moved), surface.labels(clean), surface.labels(moved)

    clean, moved, clean_labels, moved_labels = in_portions(context.info.n_samples, part, context.torch_device)
    return Effect(clean, moved, clean_labels.cpu().numpy(), moved_labels.cpu().numpy())


def effect_metrics(effect: Effect, surface: Surface, context: Context) -> Metrics:
    """Starred scores, flip rate, D in every variant, and the change of the decoded image E||dec(z) - dec(z')||^2."""
    size = distortion(effect.clean.cpu().numpy(), effect.delta.cpu().numpy())
    metrics = attacked_scores(context.labels, effect.clean_labels, effect.moved_labels, context.info.n_clusters)
    metrics["flip"] = flip_rate(effect.clean_labels, effect.moved_labels)
    metrics |= {name: finite(value) for name, value in asdict(size).items()}
    metrics["delta_norm"] = float(effect.delta.norm(dim=1).mean())

    def change(rows: Tensor) -> tuple[Tensor, ...]:
        decoded = [flat(surface.model.decode(z[rows])) for z in (effect.clean, effect.moved)]
        return ((decoded[0] - decoded[1]).square().sum(dim=1),)

    (changes,) = in_portions(context.info.n_samples, change, context.torch_device)
    metrics["reconstruction_change"] = float(changes.mean())
    return metrics


def controls(effect: Effect, surface: Surface, spec: RunSpec, context: Context) -> Metrics:
    """What must stand beside every starred number: an attack counts only if these do less.

    Flip rates of: no perturbation, Gaussian noise of each sample's own norm, the same perturbations handed to other
    samples, latent PGD at the attack's mean norm and half of it (and random directions of that norm), these on PGD_ROWS
    evenly spaced samples. A re-attack takes the norm of the attack on the undefended model, so that victim, control and
    defended are compared at one radius.
    """
    random = generator(seed_for(spec.seed, "controls", spec.key))
    delta, clean = effect.delta, effect.clean
    n = len(clean)
    probe_rows = torch.linspace(0, n - 1, min(PGD_ROWS, n)).long()

    def flips(moved: Tensor, rows: Tensor | slice = slice(None)) -> float:
        with torch.no_grad():
            return flip_rate(effect.clean_labels[rows], surface.labels((moved,)).cpu().numpy())

    radius = pgd_radius(float(delta.norm(dim=1).mean()), spec, context)
    found: Metrics = {
        "zero_flip": flips(clean + torch.zeros_like(delta)),
        "noise_flip": flips(clean + equal_norm_noise(delta, random)),
        "shuffled_flip": flips(clean + delta[torch.randperm(n, generator=random).to(delta.device)]),
        "pgd_radius": radius,
        "pgd_samples": len(probe_rows),
    }
    rows = probe_rows.to(clean.device)
    probe = Surface(surface.model, "latent", Embedding(clean[rows], ()))
    batch = batch_of(tuple(view[rows] for view in context.views), torch.arange(len(rows), device=rows.device))
    for suffix, eps in (("", radius), ("_half", radius / 2)):
        (moved,) = latent_pgd.LatentPGD(latent_pgd.Config(eps=eps), probe).perturb(probe, batch)
        direction = equal_norm_noise(torch.full_like(clean[rows], eps / clean.shape[1] ** 0.5), random)
        found[f"pgd_flip{suffix}"] = flips(moved, probe_rows)
        found[f"pgd_noise_flip{suffix}"] = flips(clean[rows] + direction, probe_rows)
    return found


def pgd_radius(own: float, spec: RunSpec, context: Context) -> float:
    """The mean norm of the attack on the undefended model: this run's own, or that of the attack before the defense."""
    if spec.stage == "attack":
        return own
    victim = context.store.record(spec.ancestor("attack"))
    return float(victim["metrics"]["delta_norm"]) if victim else own


def curve(trial: Trial) -> Callable[[], dict[str, float]]:
    """Nothing to log after an epoch but the attacker's losses."""
    return dict


def flags(metrics: dict[str, Any], summary: Summary, *, is_trained: bool) -> list[str]:
    """Warnings: what was moved can be seen, gradients may be masked, noise does as much, the attacker still learned."""
    is_visible = metrics["reconstruction_change"] > metrics["reconstruction_error"]
    is_large = metrics["D_norm"] is None or metrics["D_norm"] > 0.5
    named = {
        "not imperceptible": is_visible or is_large,
        "masked": metrics["flip"] < 0.1 and metrics["pgd_flip"] > metrics["flip"] + 0.2,
        "no better than noise": metrics["flip"] <= metrics["noise_flip"],
        "unconverged": is_trained and summary.stop_reason == "epochs",
    }
    return [name for name, holds in named.items() if holds]
