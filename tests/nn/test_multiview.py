"""The shared networks: their sizes for any image, the order of their layers, fusion by weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.errors import ShapeError
from robust_cluster.nn.multiview import (
    ClusterHead,
    CnnSmallDecoder,
    CnnSmallEncoder,
    WeightedMean,
    cnn_small_features,
    cnn_small_sizes,
)


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules() if not list(layer.children())]


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("shape", "expected"), [((1, 28, 28), 1024), ((3, 128, 64), 24_128), ((1, 16, 16), 64)])
def test_the_encoder_makes_the_published_number_of_features(shape: tuple[int, int, int], expected: int) -> None:
    assert cnn_small_features(shape) == expected
    assert CnnSmallEncoder(shape[0]).eval()(torch.rand(1, *shape)).shape == (1, expected)


@pytest.mark.parametrize("shape", [(1, 15, 28), (1, 28, 15), (784,), (28, 28)])
def test_smaller_images_and_vectors_are_refused_in_a_sentence(shape: tuple[int, ...]) -> None:
    for make in (cnn_small_features, CnnSmallDecoder):
        with pytest.raises(ShapeError, match=r"of at least 16 x 16 pixels, got \("):
            make(shape)


def test_the_encoders_layers_stand_in_the_published_order() -> None:
    block = ["Conv2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    encoder = CnnSmallEncoder(3)
    assert kinds(encoder) == [*block, *block, "Flatten"]
    convolutions = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
    assert [layer.in_channels for layer in convolutions] == [3, 64, 64, 64]
    assert {(layer.kernel_size, layer.padding, layer.stride) for layer in convolutions} == {((3, 3), (0, 0), (1, 1))}
    assert size(CnnSmallEncoder(1)) == 111_680
    assert encoder(torch.randn(2, 3, 16, 16)).min() >= 0


def test_the_decoders_layers_stand_in_the_published_order_and_double_twice_at_28_pixels() -> None:
    decoder = CnnSmallDecoder((1, 28, 28))
    first = ["Upsample", "ConvTranspose2d", "ReLU", "ConvTranspose2d", "BatchNorm2d", "ReLU"]
    assert kinds(decoder) == [*first, "Upsample", "ConvTranspose2d", "ReLU", "ConvTranspose2d", "Sigmoid"]
    sides: list[int] = []
    for layer in decoder.maps:
        layer.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    decoder(torch.rand(2, 1024))
    assert [side for side, before in zip(sides, [4, *sides], strict=False) if side != before] == [8, 10, 12, 24, 26, 28]
    assert size(decoder) == 111_489
    doubled = nn.Upsample(scale_factor=2)(torch.rand(1, 1, 4, 4))
    assert decoder.maps[0](doubled[..., ::2, ::2]).equal(doubled)


@pytest.mark.parametrize("side", range(16, 31))
def test_decoded_images_have_the_encoders_shape_whatever_the_halvings_rounded(side: int) -> None:
    shape = (2, side, side + 3)
    features = CnnSmallEncoder(2).eval()(torch.rand(1, *shape))
    images = CnnSmallDecoder(shape).eval()(features)
    assert images.shape == (1, *shape)
    assert images.min() >= 0
    assert images.max() <= 1
    assert cnn_small_sizes(side)[2] >= 1


def test_fusion_starts_as_the_plain_mean_and_follows_the_softmax_of_its_weights() -> None:
    views = tuple(torch.randn(5, 4) for _ in range(3))
    fusion = WeightedMean(3)
    assert fusion.w.tolist() == pytest.approx([1 / 3] * 3)
    torch.testing.assert_close(fusion(views), (views[0] + views[1] + views[2]) / 3)
    nn.init.constant_(fusion.w, 0.0)
    with torch.no_grad():
        fusion.w[2] = math.log(2)
    torch.testing.assert_close(fusion.weights(), torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(fusion(views), 0.25 * views[0] + 0.25 * views[1] + 0.5 * views[2])


def test_the_gradient_of_the_fusion_is_right_for_weights_and_views() -> None:
    fusion = WeightedMean(2).double()
    views = [torch.randn(3, 2).double().requires_grad_() for _ in range(2)]

    def fused(w: Tensor, *each: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(fusion, {"w": w}, (each,))
        return result

    assert torch.autograd.gradcheck(fused, (fusion.w, *views))


@pytest.mark.parametrize("shapes", [[(3, 2)], [(3, 2), (3, 4)]])
def test_what_cannot_be_fused_is_refused(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(ShapeError, match="takes 2 representations of one shape"):
        WeightedMean(2)([torch.zeros(shape) for shape in shapes])


def test_the_heads_batch_norm_comes_last_and_its_soft_labels_sum_to_1() -> None:
    head = ClusterHead(1024, 10)
    assert kinds(head) == ["Linear", "ReLU", "BatchNorm1d", "Linear"]
    assert size(head) == 103_710
    f = torch.randn(50, 1024)
    h = head.hidden(f)
    assert h.shape == (50, 100)
    torch.testing.assert_close(h.mean(dim=0), torch.zeros(100), atol=1e-5, rtol=0)  # normalized after the ReLU
    soft_labels = head.assign(h)
    torch.testing.assert_close(soft_labels.sum(dim=1), torch.ones(50))
    torch.testing.assert_close(soft_labels, (h @ head.last.weight.T + head.last.bias).softmax(dim=1))
    head.eval()
    assert head(f).equal(head.assign(head.hidden(f)))
