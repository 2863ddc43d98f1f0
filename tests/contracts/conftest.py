"""Any method in a small size on 200 digits."""

from collections.abc import Callable

import pytest
import torch

from robust_cluster import discover
from robust_cluster.data.base import Dataset, Places
from robust_cluster.data.prepare import load
from robust_cluster.models.base import ClusterModel
from robust_cluster.runs.spec import DataRef
from robust_cluster.stages import methods
from robust_cluster.stages.evaluate import embed


@pytest.fixture(scope="session")
def few() -> Dataset:
    """200 digits."""
    return load(DataRef("digits", limit=200), Places())


@pytest.fixture
def build(few: Dataset) -> Callable[[str], ClusterModel]:
    """build(name): an untrained model in the smoke profile's size, seed 0, d = 6."""

    def built(name: str) -> ClusterModel:
        torch.manual_seed(0)
        config = methods.plain(methods.resolve("models", name, "smoke", {}))
        return methods.new_model(name, config, few.info, 6)

    return built


@pytest.fixture
def started(few: Dataset, build: Callable[[str], ClusterModel]) -> Callable[[str], ClusterModel]:
    """started(name): the same after start("cluster"), with few restarts and head steps where it has them."""

    def begun(name: str) -> ClusterModel:
        fields = discover.load("models", name).Config.__dataclass_fields__
        quick = {key: value for key, value in {"n_init": 1, "head_steps": 20}.items() if key in fields}
        torch.manual_seed(0)
        config = methods.plain(methods.resolve("models", name, "smoke", quick))
        model = methods.new_model(name, config, few.info, 6)
        model.start("cluster", lambda: embed(model, few.views), seed=0)
        return model

    return begun
