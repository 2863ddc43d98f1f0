"""Small networks on digits, pairs of images, vectors around three means."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods

Build = Callable[..., ClusterModel]


def widths(net: nn.Module) -> list[tuple[int, int]]:
    """Inputs and outputs of its linear layers."""
    return [(layer.in_features, layer.out_features) for layer in net.modules() if isinstance(layer, nn.Linear)]


@pytest.fixture
def rows(pair: Dataset) -> Batch:
    """40 pairs of images."""
    return Batch(tuple(view[:40] for view in pair.views), torch.arange(40))


@pytest.fixture
def vectors() -> Batch:
    """60 vectors around three means."""
    torch.manual_seed(1)
    return Batch((torch.randn(60, 6) + torch.eye(3, 6).mul(6).repeat(20, 1),), torch.arange(60))


@pytest.fixture
def build(digits: Dataset) -> Build:
    """build(name, **settings): an untrained model in the smoke profile's size, seed 0, d = 8."""

    def built(name: str, **settings: Any) -> ClusterModel:
        torch.manual_seed(0)
        config = methods.plain(methods.resolve("models", name, "smoke", settings))
        return methods.new_model(name, config, digits.info, 8)

    return built
