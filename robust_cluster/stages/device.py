"""Where tensors are computed: device and memory layout."""

import torch
from torch import Tensor, nn

from robust_cluster.data.base import Stored
from robust_cluster.data.sparse import SparseView
from robust_cluster.errors import ConfigError


def choose(name: str) -> torch.device:
    """The device of a name; "auto" takes CUDA, then MPS, then the CPU. Raises: ConfigError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, is_there in there.items() if is_there))
    if not there.get(name.partition(":")[0], False):
        usable = ", ".join(device for device, is_there in there.items() if is_there)
        raise ConfigError(f"device must be one of auto, {usable} on this machine, got {name!r}", hint="--device auto")
    return torch.device(name)


def place(views: Stored, device: torch.device) -> Stored:
    """Views on the device; images in channels_last, which convolutions take faster. No copy where nothing changes."""
    return tuple(view.to(device, memory_format=layout(view)) for view in views)


def layout(view: Tensor | SparseView) -> torch.memory_format:
    """channels_last for images (n, C, H, W), plain rows for the rest."""
    return torch.channels_last if view.ndim == 4 else torch.contiguous_format


def place_model(model: nn.Module, device: torch.device) -> None:
    """Parameters on the device; 4-d kernels in channels_last."""
    model.to(device)
    if any(parameter.ndim == 4 for parameter in model.parameters()):
        model.to(memory_format=torch.channels_last)
