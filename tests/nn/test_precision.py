"""Networks that follow the precision: the same function, reduced only where it is allowed."""

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.nn import precision as module
from robust_cluster.nn.multiview import CnnSmallDecoder, CnnSmallEncoder
from robust_cluster.nn.precision import precision, reduced

SHAPE = (1, 16, 16)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).norm() / wanted.norm()).detach())


@pytest.fixture
def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(16, 32, 3)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(8, 16, 12, 12, generator=torch.Generator().manual_seed(1))


def run(layer: nn.Module, images: Tensor) -> Tensor:
    with reduced(images):
        maps = layer(images)
        assert isinstance(maps, Tensor)
        return maps


@pytest.mark.parametrize(("level", "has_bfloat16"), [("highest", True), ("medium", False)])
def test_exact_networks_and_cpus_without_bfloat16_products_keep_float32_to_the_bit(
    layer: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch, level: str, has_bfloat16: bool
) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: has_bfloat16)
    with precision(level):
        assert torch.equal(run(layer, images), layer(images))


def test_float64_is_never_reduced(layer: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: True)
    with precision("medium"):
        assert torch.equal(run(layer.double(), images.double()), layer(images.double()))


@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_a_reduced_network_gives_nearly_the_same_in_float32_and_so_do_its_gradients(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: True)
    torch.manual_seed(0)
    net: nn.Module = CnnSmallEncoder(1) if network == "encoder" else CnnSmallDecoder(SHAPE)
    given = torch.rand((20, *SHAPE) if network == "encoder" else (20, 64))
    found: dict[str, tuple[Tensor, ...]] = {}
    for level in ("highest", "medium"):
        with precision(level):
            out = net(given)
            slopes = torch.autograd.grad(
                (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), [*net.parameters()]
            )
            found[level] = (out, torch.cat([slope.flatten() for slope in slopes]))
    (exact, exact_slope), (rough, rough_slope) = found["highest"], found["medium"]
    assert rough.dtype == rough_slope.dtype == torch.float32
    assert 1e-4 < relative(rough, exact) < 0.02
    assert torch.cosine_similarity(exact_slope, rough_slope, dim=0) > 0.95  # rounding moves a few maxima and zeros


def test_decoded_pixels_near_one_keep_float32s_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "medium_is_bfloat16", lambda: True)
    decoder = CnnSmallDecoder(SHAPE)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.maps[-2].bias.fill_(8.0)
        with precision("medium"):
            pixels = decoder(torch.zeros(2, 64))
    torch.testing.assert_close(pixels, torch.full((2, *SHAPE), 8.0).sigmoid())
    assert pixels.max() < 1
