"""How exactly float32 products are computed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LAYERS = (F.linear, F.conv2d, F.conv_transpose2d)
_layers_are_bfloat16 = ContextVar("layers_are_bfloat16", default=False)


@contextmanager
def precision(level: str) -> Iterator[None]:
    """A block in which float32 products have this level of precision.

    "medium" on a CPU lets oneDNN compute them: in float32, or in bfloat16 where the CPU has AMX. "highest" is for
    attacks, measurements and gradient checks. "bf16" is "highest" too, for only training steps have less: `training`.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if level == "bf16" else level)
    token = _layers_are_bfloat16.set(False)
    try:
        yield
    finally:
        _layers_are_bfloat16.reset(token)
        torch.set_float32_matmul_precision(before)


@contextmanager
def training(level: str) -> Iterator[None]:
    """A block for one training step of a run of this level: at "bf16" layers multiply in bfloat16, forward and back.

    Layers are `LAYERS`. Each gives float32 again, so that activations, batch norm, loss terms, weights and what their
    gradients add up to are float32, and a `precision` block inside is exact. At other levels it is `precision`'s block
    around the training that counts. Float64 tensors are left alone. An epoch of DEC's autoencoder takes 59 % of the
    time of "highest" on a CPU with avx512_bf16 and 66 % of that of "medium", measured; narrow networks gain nothing.
    """
    if level != "bf16":
        yield
        return
    token = _layers_are_bfloat16.set(True)
    try:
        with Bfloat16Layers():
            yield
    finally:
        _layers_are_bfloat16.reset(token)


class Bfloat16Layers(TorchFunctionMode):
    """Autocast around each layer alone: around a whole step it would reduce the products of the losses as well."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What `func` gives, in float32 where a layer has computed it in bfloat16."""
        kwargs = kwargs or {}
        if func not in LAYERS or not _layers_are_bfloat16.get():
            return func(*args, **kwargs)
        x: Tensor = args[0] if args else kwargs["input"]
        with torch.autocast(x.device.type, torch.bfloat16):
            return func(*args, **kwargs).to(x.dtype)


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
