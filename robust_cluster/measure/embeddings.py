"""What an attack on the embedding does to every sample: scores, its size D, and what can be seen of it."""

from dataclasses import asdict

from torch import Tensor

from robust_cluster.attacks.base import Attack
from robust_cluster.attacks.latent_pgd import LatentPGD
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.controls import VERSION, controls
from robust_cluster.measure.pgd import latent_pgd
from robust_cluster.measure.rows import Outcome, Rows
from robust_cluster.measure.scores import Details, Metrics, finite, in_portions
from robust_cluster.metrics.distortion import distortion
from robust_cluster.nn.layers import flat

LARGE = 0.5  # D_norm above which a move is seen


def versions() -> dict[str, int]:
    """What else changes the numbers, for the key."""
    return {"latent_pgd": LatentPGD.version, "measurement": VERSION}


def score(attacker: Attack, rows: Rows, beside: Beside) -> tuple[Metrics, Details]:
    """Starred scores, flip rate, D in every variant, the change of the decoded image, and the controls."""
    outcome = rows.outcome(rows.moved(attacker))
    clean, delta = rows.clean.z, outcome.z - rows.clean.z
    size = asdict(distortion(clean.cpu().numpy(), delta.cpu().numpy()))
    found = rows.attacked_scores(outcome) | {name: finite(value) for name, value in size.items()}
    found |= {"delta_norm": float(outcome.norm.mean()), "reconstruction_change": reconstruction_change(rows, outcome)}
    found["saturated"] = rows.saturated(outcome)
    found |= controls(attacker, rows, lambda number: (outcome.z[rows.places[number].to(outcome.z.device)],), beside)
    return found | latent_pgd(rows, float(outcome.norm.mean()), beside), {}


def reconstruction_change(rows: Rows, moved: Outcome) -> float:
    """E ||dec(z) - dec(z')||^2, summed over pixels: how far the decoded image moves."""

    def change(part: Tensor) -> tuple[Tensor, ...]:
        decoded = [flat(rows.surface.model.decode(z[part])) for z in (rows.clean.z, moved.z)]
        return ((decoded[0] - decoded[1]).square().sum(dim=1),)

    (changes,) = in_portions(len(rows), change, moved.z.device)
    return float(changes.mean())


def warnings(metrics: Metrics) -> list[str]:
    """Whether what was moved can be seen: the image changes more than decoding changes it, or the move is large."""
    is_visible = metrics["reconstruction_change"] > metrics["reconstruction_error"]  # type: ignore[operator]
    is_large = metrics["D_norm"] is None or metrics["D_norm"] > LARGE
    return ["not imperceptible"] if is_visible or is_large else []
