"""How exactly float32 products are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn


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


@cache
def medium_is_bfloat16() -> bool:
    """Whether oneDNN takes "medium" products on this CPU in bfloat16: one tells that loses what float32 keeps."""
    ones = torch.ones(256, 256)
    with precision("medium"):
        return bool((ones * (1 + 2**-12) @ torch.eye(256) != ones * (1 + 2**-12)).any())


def is_reduced(x: Tensor) -> bool:
    """Whether products with x are to be bfloat16: a float32 tensor on such a CPU, at precision "medium"."""
    is_float32_here = x.dtype == torch.float32 and x.device.type == "cpu"
    return is_float32_here and torch.get_float32_matmul_precision() == "medium" and medium_is_bfloat16()


class Conv2d(nn.Conv2d):
    """PyTorch's, which also follows `precision`: oneDNN by itself keeps convolutions of float32 tensors in float32.

    Takes and gives float32; sums are float32 inside. Twice as fast a training step with AMX, measured.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maps (n, C', H', W') of maps (n, C, H, W)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=is_reduced(input)):
            return super().forward(input).to(input.dtype)


class ConvTranspose2d(nn.ConvTranspose2d):
    """PyTorch's, which also follows `precision`, as `Conv2d` does."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (n, C', H', W') of maps (n, C, H, W)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=is_reduced(input)):
            return super().forward(input, output_size).to(input.dtype)
