"""What several test folders share: one thread that sleeps while it waits, scikit-learn's digits, two views of them."""

import copy
import os
import signal
from collections.abc import Iterator
from functools import cache

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell: no child would hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import sklearn.datasets
import torch

from robust_cluster.data.base import Batch, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.runs.spec import DataRef


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Bitwise comparisons need one order of summation, and small tensors are slower on two threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _digits_are_parsed_once() -> Iterator[None]:
    """They are a text file, which takes 0.1 s, and every command of a test loads them."""
    parsed = cache(sklearn.datasets.load_digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda **choices: copy.deepcopy(parsed(**choices)))
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """1,797 vectors of 64 values, scaled to a mean squared norm of 88, in 10 classes."""
    return load(DataRef("digits"), Folders())


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    """300 of them, 30 a class."""
    return load(DataRef("digits", limit=300), Folders())


@pytest.fixture(scope="session")
def batch(digits: Dataset) -> Batch:
    """The first 100 digits."""
    return Batch((digits.views[0][:100],), torch.arange(100))


@pytest.fixture(scope="session")
def pair() -> Dataset:
    """200 digits of 16 x 16 pixels in [0, 1], in two views with noise of their own; 10 classes."""
    from robust_cluster.stages.checking import two_views  # late: most tests need nothing of the stages

    return two_views()
