"""How exactly float32 products are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor


@contextmanager
def precision(level: str) -> Iterator[None]:
    """A block in which float32 products have this level of precision.

    "medium" on a CPU lets oneDNN compute them: in float32, or in bfloat16 where the CPU has AMX. "highest" is for
    attacks, measurements and gradient checks.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(level)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def reduced(x: Tensor) -> Iterator[None]:
    """A block in which networks on x run in bfloat16, where precision "medium" allows it and the CPU has such products.

    By itself oneDNN keeps convolutions of float32 tensors in float32. Weights and gradients stay float32, and so do
    sums and statistics inside; what comes out is bfloat16. A training step of the multi-view encoder takes 40 % of the
    time with AMX, measured. Float64 tensors and other devices are left alone.
    """
    is_float32_here = x.dtype == torch.float32 and x.device.type == "cpu"
    is_allowed = is_float32_here and torch.get_float32_matmul_precision() == "medium" and medium_is_bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_allowed):
        yield


@cache
def medium_is_bfloat16() -> bool:
    """Whether "medium" means bfloat16 on this CPU: found by a product whose last digit only float32 keeps."""
    ones = torch.ones(256, 256)
    with precision("medium"):
        return bool((ones * (1 + 2**-12) @ torch.eye(256) != ones * (1 + 2**-12)).any())
