"""Four Gaussian clusters far apart: a method that does not find them cannot cluster anything."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robust_cluster.data.base import DataInfo, Dataset
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context


@pytest.fixture(scope="module")
def blobs() -> Dataset:
    """400 vectors of 20 values around four means about 13 apart, standard deviation 0.7, mean squared norm 88."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    x = 3 * random.standard_normal((4, 20))[labels] + random.standard_normal((400, 20))
    x = (x * math.sqrt(88 / (x**2).sum(axis=1).mean())).astype(np.float32)
    info = DataInfo("blobs", ((20,),), 400, 4, None, 1.0, "ab" * 32, mean_square=88 / 20)
    return Dataset(DataRef("blobs"), info, (torch.from_numpy(x),), labels.astype(np.int64), "drawn")


@pytest.fixture(scope="module")
def templates() -> Dataset:
    """400 images of 16 x 16 pixels: four fixed ones, with noise of standard deviation 0.1."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    coarse = random.random((4, 1, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    x = (coarse[labels] + 0.1 * random.standard_normal((400, 1, 16, 16))).clip(0, 1).astype(np.float32)
    info = DataInfo("templates", ((1, 16, 16),), 400, 4, (0.0, 1.0), 1.0, "cd" * 32, mean_square=float((x**2).mean()))
    return Dataset(DataRef("templates"), info, (torch.from_numpy(x),), labels.astype(np.int64), "drawn")


def clustered(blobs: Dataset, folder: Path, model: str, **settings: Any) -> dict[str, Any]:
    """The record of a clustering in the smoke profile, on 16 dimensions."""
    overrides = {f"model.{name}": value for name, value in settings.items()}
    request = Request("cluster", blobs.ref, model, latent_dim=16, profile="smoke", overrides=overrides)
    context = Context(RunStore(folder), blobs, "smoke", device="cpu", threads=1)
    return execute(plan(request, blobs.info), context)[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "gmm",
        "dec",
        *("agglomerative", "spectral", "rbf_kmeans", "ensc", "ae_finch", "lsnmf"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("abc", "dcn", "imsat", "kingdra", "dc_gmm", "aae", "dcan", "idec", "adec")
        ),
    ],
)
def test_the_quick_profile_finds_four_separated_blobs(blobs: Dataset, tmp_path: Path, model: str) -> None:
    record = clustered(blobs, tmp_path, model)
    assert record["metrics"]["ACC"] >= 0.99
    assert record["flags"] == []


@pytest.mark.slow
@pytest.mark.parametrize("model", ["clustergan", "deepcluster", "depict", "jule", "sr_kmeans"])
def test_the_quick_profile_finds_four_templates(templates: Dataset, tmp_path: Path, model: str) -> None:
    record = clustered(templates, tmp_path, model)
    assert record["metrics"]["ACC"] >= 0.99
    assert record["flags"] == []


def test_dcans_mixture_finds_them_before_its_first_step_too(blobs: Dataset, tmp_path: Path) -> None:
    record = clustered(blobs, tmp_path, "dcan", **{"cluster.epochs": 0, "pretrain.epochs": 1})
    assert record["metrics"]["ACC"] == 1


@pytest.mark.parametrize("model", ["ssc_omp", "ensc"])
def test_methods_of_subspaces_find_four_of_them(tmp_path: Path, model: str) -> None:
    """100 samples in each of four of three dimensions. OMP finds no blobs: noise around a mean fills the space."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    bases = np.linalg.qr(random.standard_normal((4, 20, 3)))[0]
    x = np.einsum("ndk,nk->nd", bases[labels], random.standard_normal((400, 3))).astype(np.float32)
    info = DataInfo("planes", ((20,),), 400, 4, None, 1.0, "cd" * 32)
    planes = Dataset(DataRef("planes"), info, (torch.from_numpy(x),), labels.astype(np.int64), "drawn")
    record = clustered(planes, tmp_path, model, **({"sparsity": 3} if model == "ssc_omp" else {}))
    assert record["metrics"]["ACC"] >= 0.99
