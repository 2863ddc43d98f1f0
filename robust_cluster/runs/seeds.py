"""Seeds for the parts of an experiment: each random choice has its own stream, named by what it may depend on."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_for(base: int, *axes: str | int) -> int:
    """A seed in [0, 2**31) for the random choice that `axes` name, e.g. seed_for(0, "split", "digits").

    SHA-256 of the JSON list [base, *axes], so ("a", "bc") and ("ab", "c"), or 1 and "1", are different choices, and the
    seed is the same on every machine and Python version.
    """
    digest = hashlib.sha256(json.dumps([base, *axes]).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**31


def generator(seed: int) -> "torch.Generator":
    """A CPU random generator that starts at `seed`; torch's global generator is not touched."""
    import torch  # late: this module is read by the command line, which must answer without torch

    return torch.Generator().manual_seed(seed)
