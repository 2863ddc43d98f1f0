"""Convolutions that follow the precision: the same function, reduced only where it is allowed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.nn import precision as module
from robust_cluster.nn.precision import Conv2d, ConvTranspose2d, precision

LAYERS: list[Callable[..., nn.Module]] = [Conv2d, ConvTranspose2d]


def both(ours: Callable[..., nn.Module]) -> tuple[nn.Module, nn.Module]:
    """One of our layers and PyTorch's of the same name with the same weights."""
    torch.manual_seed(0)
    layer, plain = ours(16, 32, 3), getattr(nn, ours.__name__)(16, 32, 3)  # type: ignore[attr-defined]
    plain.load_state_dict(layer.state_dict())
    return layer, plain


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.norm())


def gradient(layer: nn.Module, images: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(layer(images).square().sum(), [layer.weight])
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("ours", LAYERS)
def test_exact_convolutions_are_pytorchs_to_the_bit(ours: Callable[..., nn.Module]) -> None:
    layer, plain = both(ours)
    images = torch.rand(8, 16, 12, 12)
    with precision("highest"):
        assert torch.equal(layer(images), plain(images))


@pytest.mark.parametrize("ours", LAYERS)
def test_reduced_convolutions_keep_type_and_nearly_the_value(
    ours: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: True)
    layer, plain = both(ours)
    images = torch.rand(8, 16, 12, 12)
    with precision("medium"):
        found, slope = layer(images), gradient(layer, images)
    assert found.dtype == slope.dtype == torch.float32
    assert 1e-4 < relative(found, plain(images)) < 0.01
    assert 1e-4 < relative(slope, gradient(plain, images)) < 0.02


def test_a_cpu_without_bfloat16_products_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: False)
    layer, plain = both(Conv2d)
    images = torch.rand(8, 16, 12, 12)
    with precision("medium"):
        assert torch.equal(layer(images), plain(images))


def test_float64_is_never_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: True)
    layer, plain = both(Conv2d)
    images = torch.rand(8, 16, 12, 12, dtype=torch.float64)
    with precision("medium"):
        assert torch.equal(layer.double()(images), plain.double()(images))
