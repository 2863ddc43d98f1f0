"""How exactly float32 products are computed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def precision(level: str) -> Iterator[None]:
    """Float32 products at this level, restored afterwards.

    "medium" on a CPU lets oneDNN compute them: in float32, or in bfloat16 where the CPU has AMX. "highest" is for
    attacks, measurements and gradient checks.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(level)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
