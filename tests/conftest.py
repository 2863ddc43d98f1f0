"""What several test folders share: one thread that sleeps while it waits, and scikit-learn's digits."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

from robust_cluster.data.base import Batch, Dataset, Places
from robust_cluster.data.prepare import load
from robust_cluster.runs.spec import DataRef


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Bitwise comparisons need one order of summation, and small tensors are slower on two threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """1,797 vectors of 64 values, scaled to a mean squared norm of 88, in 10 classes."""
    return load(DataRef("digits"), Places())


@pytest.fixture(scope="session")
def batch(digits: Dataset) -> Batch:
    """The first 100 digits."""
    return Batch((digits.views[0][:100],), torch.arange(100))
