"""A small victim with a fitted prior and head, and surfaces on it."""

import copy

import pytest
import torch

from robust_cluster.attacks.base import Surface
from robust_cluster.data.base import Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods


@pytest.fixture(scope="session")
def _started(digits: Dataset) -> ClusterModel:
    torch.manual_seed(0)
    config = methods.plain(methods.resolve("models", "convae", "smoke", {"n_init": 1, "head_steps": 100}))
    model = methods.new_model("convae", config, digits.info, 8)
    model.start("cluster", lambda: embed(model, digits.views), seed=0)
    return model.eval()


@pytest.fixture
def victim(_started: ClusterModel) -> ClusterModel:
    """ConvAE, d = 8, its head fitted to k-means on an untrained embedding of the digits; a fresh copy."""
    return copy.deepcopy(_started)


@pytest.fixture
def surface(victim: ClusterModel) -> Surface:
    return Surface(victim, "latent")
