"""Any method in a small size on 200 digits: vectors, images where it takes no others, or two noisy views of these."""

from collections.abc import Callable

import pytest

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages.checking import Subject, first_view, vectors
from tests.contracts.choice import IMAGES, PAIR, info_for


@pytest.fixture(scope="session")
def few() -> Dataset:
    """200 digits as vectors."""
    return vectors()


@pytest.fixture
def data(few: Dataset, pair: Dataset) -> Callable[[str], Dataset]:
    """data(name): 200 samples that the method of that name takes."""
    return lambda name: {PAIR.name: pair, IMAGES.name: first_view(pair)}.get(info_for(name).name, few)


@pytest.fixture
def rows(data: Callable[[str], Dataset]) -> Callable[[str], Batch]:
    """rows(name): samples 20 to 69 of its data; images, whose networks are slow, to 49."""
    return lambda name: Subject(name, data(name)).batch


@pytest.fixture
def build(data: Callable[[str], Dataset]) -> Callable[[str], ClusterModel]:
    """build(name): an untrained model in the smoke profile's size, seed 0, d = 6."""
    return lambda name: Subject(name, data(name)).new()


@pytest.fixture
def started(data: Callable[[str], Dataset]) -> Callable[[str], ClusterModel]:
    """started(name): the same after the clustering's start() and finish(), with few restarts and head steps."""
    return lambda name: Subject(name, data(name)).begun()
