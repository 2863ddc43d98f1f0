"""`robust_cluster.sklearn.DeepClustering` among scikit-learn's estimators."""

import doctest
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from robust_cluster import sklearn
from robust_cluster.sklearn import DeepClustering

FEW = {"pretrain.epochs": 2, "cluster.epochs": 2}
ONE_CLUSTER = "the check asks for one cluster, and a clustering has two at least"
REFUSED = dict.fromkeys(
    (
        "check_dont_overwrite_parameters",
        "check_methods_subset_invariance",
        "check_fit2d_1feature",
        "check_fit2d_predict1d",
    ),
    ONE_CLUSTER,
)


def test_the_example_of_the_module_runs() -> None:
    assert doctest.testmod(sklearn).failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(("model", "settings"), [("kmeans", None), ("dec", FEW), ("idec", FEW)])
def test_scikit_learns_own_checks_pass(model: str, settings: Any) -> None:
    estimator = DeepClustering(model, 3, latent_dim=3, random_state=0, profile="smoke", settings=settings)
    found = check_estimator(estimator, expected_failed_checks=REFUSED, on_fail=None, on_skip=None)
    failed = {one["check_name"]: repr(one["exception"]) for one in found if one["status"] in ("failed", "xfail")}
    assert set(failed) == set(REFUSED), failed
    assert all("n_clusters must be in [2, n_samples]" in text for text in failed.values())
    assert sum(one["status"] == "passed" for one in found) > 40


def test_it_is_a_step_of_a_pipeline_and_reproducible() -> None:
    X = load_iris().data
    first, second = (
        make_pipeline(StandardScaler(), DeepClustering("kmeans", 3, random_state=seed)).fit(X) for seed in (0, 0)
    )
    np.testing.assert_array_equal(first.predict(X), second[-1].labels_)
    assert first.transform(X).shape == (150, 4)
    assert first[-1].record_["spec"]["model"] == "kmeans"


@pytest.mark.slow
def test_a_pickle_has_its_run_inside(tmp_path: Path) -> None:
    X = load_iris().data
    model = DeepClustering("kmeans", 3, random_state=0).fit(X)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    labels = model.predict(X).tolist()
    del model
    code = (
        "import pickle, sys\n"
        "from sklearn.datasets import load_iris\n"
        f"model = pickle.load(open({str(tmp_path / 'model.pickle')!r}, 'rb'))\n"
        "print(model.predict(load_iris().data).tolist())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == str(labels), result.stderr
