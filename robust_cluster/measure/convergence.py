"""Whether a learned attacker was done when its training ended: one rule for runs and their records. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

RISE = 0.01  # of the flips, over the second half of a training that has converged
SATURATED = 0.1  # of the samples, at most, for a plateau to count


def is_unconverged(stop_reason: str, flips: Sequence[float], saturated: float | None) -> bool:
    """Whether the schedule ended while it still learned, or a plateau came of a head that passes no gradient.

    `flips`: flip rates after each epoch; with fewer than two nothing says that a schedule sufficed, else they must have
    risen over its second half. `saturated`: the share of samples that are left in their cluster with a soft label of
    exactly 1 (None: not measured). There a loss on soft labels has no slope, so it stands still unsolved.
    """
    if stop_reason == "epochs":
        return len(flips) < 2 or flips[-1] - flips[len(flips) // 2 - 1] > RISE
    return stop_reason == "plateau" and (saturated or 0.0) > SATURATED


def of_record(record: Mapping[str, Any]) -> bool:
    """`is_unconverged` of an attack whose attacker learned and logged its flips; older records lack the flag."""
    flips = [point["flip"] for point in record.get("curve", ()) if "flip" in point]
    training = record.get("training") or {}
    if record["spec"]["stage"] not in ("attack", "reattack") or not training.get("steps") or not flips:
        return False
    return is_unconverged(training["stop_reason"], flips, record["metrics"].get("saturated"))
