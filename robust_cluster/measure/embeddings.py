"""What an attack on the embedding does to every sample: scores, its size D, and what can be seen of it."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from robust_cluster.attacks import latent_pgd
from robust_cluster.attacks.base import Attack
from robust_cluster.measure.controls import Beside, embedding_controls
from robust_cluster.measure.rows import Outcome, Rows
from robust_cluster.measure.scores import Details, Metrics, finite, in_portions
from robust_cluster.metrics.distortion import distortion
from robust_cluster.nn.layers import flat

MEASUREMENT = 1  # version of everything below that scores an attack; raise it when the numbers change


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"latent_pgd": latent_pgd.LatentPGD.version, "measurement": MEASUREMENT}


def score(attacker: Attack, rows: Rows, beside: Beside) -> tuple[Metrics, Details]:
    """Starred scores, flip rate, D in every variant, the change of the decoded image, and the controls."""
    moved = rows.outcome(lambda batch: attacker.perturb(rows.surface, batch), attacker.budget)
    size = distortion(rows.clean.z.cpu().numpy(), (moved.z - rows.clean.z).cpu().numpy())
    found = rows.attacked_scores(moved) | {name: finite(value) for name, value in asdict(size).items()}
    found["delta_norm"] = float((moved.z - rows.clean.z).norm(dim=1).mean())
    found["reconstruction_change"] = reconstruction_change(rows, moved)
    return found | embedding_controls(rows, moved, beside), {}


def reconstruction_change(rows: Rows, moved: Outcome) -> float:
    """E ||dec(z) - dec(z')||^2, summed over pixels: how far the decoded image moves."""

    def change(part: Tensor) -> tuple[Tensor, ...]:
        decoded = [flat(rows.surface.model.decode(z[part])) for z in (rows.clean.z, moved.z)]
        return ((decoded[0] - decoded[1]).square().sum(dim=1),)

    (changes,) = in_portions(len(rows), change, moved.z.device)
    return float(changes.mean())


def flags(metrics: dict[str, Any], stop_reason: str, *, is_trained: bool) -> list[str]:
    """Warnings: what was moved can be seen, gradients may be masked, noise does as much, the attacker still learned."""
    is_visible = metrics["reconstruction_change"] > metrics["reconstruction_error"]
    is_large = metrics["D_norm"] is None or metrics["D_norm"] > 0.5
    named = {
        "not imperceptible": is_visible or is_large,
        "masked": metrics["flip"] < 0.1 and metrics["pgd_flip"] > metrics["flip"] + 0.2,
        "no better than noise": metrics["flip"] <= metrics["noise_flip"],
        "unconverged": is_trained and stop_reason == "epochs",
    }
    return [name for name, holds in named.items() if holds]
