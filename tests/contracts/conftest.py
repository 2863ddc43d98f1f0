"""Any method in a small size on 200 digits: vectors, images where it takes no others, or two noisy views of these."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from robust_cluster import discover
from robust_cluster.data.base import Batch, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.runs.spec import DataRef
from robust_cluster.stages import methods
from tests.contracts.choice import IMAGES, PAIR, info_for


@pytest.fixture(scope="session")
def few() -> Dataset:
    """200 digits as vectors."""
    return load(DataRef("digits", limit=200), Folders())


@pytest.fixture
def data(few: Dataset, pair: Dataset) -> Callable[[str], Dataset]:
    """data(name): 200 samples that the method of that name takes."""
    images = replace(pair, ref=DataRef("images"), info=IMAGES, views=pair.views[:1])
    return lambda name: {PAIR.name: pair, IMAGES.name: images}.get(info_for(name).name, few)


@pytest.fixture
def rows(data: Callable[[str], Dataset]) -> Callable[[str], Batch]:
    """rows(name): samples 20 to 69 of its data; images, whose networks are slow, to 49."""

    def taken(name: str) -> Batch:
        views = data(name).views
        index = torch.arange(20, 70 if views[0].ndim == 2 else 50)
        return Batch(tuple(view[index] for view in views), index)

    return taken


@pytest.fixture
def build(data: Callable[[str], Dataset]) -> Callable[[str], ClusterModel]:
    """build(name): an untrained model in the smoke profile's size, seed 0, d = 6."""

    def built(name: str) -> ClusterModel:
        torch.manual_seed(0)
        config = methods.plain(methods.resolve("models", name, "smoke", {}))
        return methods.new_model(name, config, data(name).info, 6)

    return built


@pytest.fixture
def started(data: Callable[[str], Dataset]) -> Callable[[str], ClusterModel]:
    """started(name): the same after the clustering's start() and finish(), with few restarts and head steps."""

    def begun(name: str) -> ClusterModel:
        fields = discover.load("models", name).Config.__dataclass_fields__
        quick = {key: value for key, value in {"n_init": 1, "head_steps": 20}.items() if key in fields}
        torch.manual_seed(0)
        config = methods.plain(methods.resolve("models", name, "smoke", quick))
        model = methods.new_model(name, config, data(name).info, 6)
        model.eval()
        model.start("cluster", lambda: embed(model, data(name).views), seed=0)
        model.finish("cluster", lambda: embed(model, data(name).views), seed=0)
        return model.train()

    return begun
