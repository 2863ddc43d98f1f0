"""Small networks on digits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robust_cluster.data.base import Dataset
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods

Build = Callable[..., ClusterModel]


@pytest.fixture
def build(digits: Dataset) -> Build:
    """build(name, **settings): an untrained model in the smoke profile's size, seed 0, d = 8."""

    def built(name: str, **settings: Any) -> ClusterModel:
        torch.manual_seed(0)
        config = methods.plain(methods.resolve("models", name, "smoke", settings))
        return methods.new_model(name, config, digits.info, 8)

    return built
