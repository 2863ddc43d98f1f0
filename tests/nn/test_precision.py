"""Networks that follow the precision: the same function, reduced only where it is allowed."""

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.nn import precision as module
from robust_cluster.nn.multiview import CnnSmallDecoder, CnnSmallEncoder
from robust_cluster.nn.precision import precision, reduced, training

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


class Network(nn.Module):
    """One layer of each kind, a batch norm and a product that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 3), nn.Flatten())
        self.last = nn.Linear(4 * 8 * 8, 5)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.last(self.maps(images))
        return z, z @ z.T


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()


@pytest.fixture
def squares() -> Tensor:
    return torch.rand(20, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_layer_of_a_bf16_step_multiplies_rounded_values_and_gives_float32() -> None:
    layer, x = nn.Linear(300, 200), torch.rand(50, 300, generator=torch.Generator().manual_seed(1))
    with training("bf16"):
        found = layer(x)
    rounded = torch.nn.functional.linear(*(value.bfloat16() for value in (x, layer.weight, layer.bias)))
    assert torch.equal(found, rounded.float())
    assert not torch.equal(found, layer(x))


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions_of_a_bf16_step_are_bfloat16_too(kind: type[nn.Conv2d], squares: Tensor) -> None:
    layer = kind(2, 8, 3)
    with training("bf16"):
        found = layer(squares)
    assert found.dtype == torch.float32
    assert torch.equal(found, found.bfloat16().float())
    assert 1e-4 < relative(found, layer(squares)) < 0.01


def test_weights_gradients_statistics_and_losses_of_a_bf16_step_are_float32(network: Network, squares: Tensor) -> None:
    with training("bf16"):
        z, gram = network(squares)
        assert torch.equal(gram, z @ z.T)
        gram.square().mean().backward()
    assert z.dtype == gram.dtype == torch.float32
    assert torch.equal(gram, z @ z.T)  # a product that is no layer's stays exact
    for parameter in network.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
    assert network.maps[1].running_var.dtype == torch.float32  # type: ignore[union-attr]


def test_gradients_of_a_bf16_step_are_nearly_those_of_float32(network: Network, squares: Tensor) -> None:
    found = {}
    for level in ("highest", "bf16"):
        with training(level):
            loss = network(squares)[1].square().mean()
            found[level] = torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, [*network.parameters()])])
    assert 1e-4 < relative(found["bf16"], found["highest"]) < 0.1


@pytest.mark.parametrize("level", ["highest", "medium", "bf16"])
def test_a_precision_block_inside_a_bf16_step_is_exact(network: Network, squares: Tensor, level: str) -> None:
    exact = network.eval()(squares)[0]
    with training("bf16"):
        with precision(level):
            inside = network(squares)[0]
        after = network(squares)[0]
    assert relative(inside, exact) < 1e-5
    assert relative(after, exact) > 1e-4


@pytest.mark.parametrize("level", ["highest", "bf16"])
def test_outside_training_steps_every_level_but_medium_is_exact_to_the_bit(
    network: Network, squares: Tensor, level: str
) -> None:
    exact = network.eval()(squares)
    with precision(level):
        assert all(torch.equal(found, wanted) for found, wanted in zip(network(squares), exact, strict=True))
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("level", ["highest", "medium"])
def test_steps_of_other_levels_have_no_bfloat16_of_their_own(network: Network, squares: Tensor, level: str) -> None:
    exact = network.eval()(squares)
    with training(level):
        assert all(torch.equal(found, wanted) for found, wanted in zip(network(squares), exact, strict=True))


def test_a_step_in_float64_is_left_alone(network: Network, squares: Tensor) -> None:
    network, squares = network.double().eval(), squares.double()
    with training("bf16"):
        assert torch.equal(network(squares)[0], (exact := network(squares)[0]))
    assert torch.equal(exact, network(squares)[0])


def test_a_step_that_fails_leaves_products_exact(network: Network, squares: Tensor) -> None:
    exact = network.eval()(squares)[0]
    with pytest.raises(ZeroDivisionError), training("bf16"):
        _ = 1 // 0
    assert torch.equal(network(squares)[0], exact)
