"""`robust_cluster.cluster` and what follows: the verbs from Python give what the command line gives."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import robust_cluster
from robust_cluster import verbs
from robust_cluster.errors import ConfigError, ShapeError, UnknownNameError
from robust_cluster.metrics.accuracy import accuracy

X, Y = load_digits(return_X_y=True)
X, Y = X[:200], Y[:200]


def test_the_example_of_the_module_runs() -> None:
    assert doctest.testmod(verbs).failed == 0


@pytest.mark.slow
def test_a_chain_of_runs_and_what_its_models_say(tmp_path: Path) -> None:
    made = {"settings": {"pretrain.epochs": 2, "cluster.epochs": 2}, "profile": "smoke", "threads": 1}
    run = robust_cluster.cluster("convae", X, Y, latent_dim=8, normalize="alrdc", runs_dir=tmp_path, **made)
    assert accuracy(Y, run.labels) == run.record["metrics"]["ACC"]
    np.testing.assert_array_equal(run.predict(X), run.labels)
    np.testing.assert_allclose(run.predict_soft(X).sum(axis=1), 1, rtol=1e-5)
    assert run.embed(X[:3]).shape == (3, 8)
    attack = run.attack(settings={"schedule.epochs": 1})
    assert (attack.record["spec"]["stage"], attack.record["spec"]["parent"]["model"]) == ("attack", "convae")
    defended = attack.defend(settings={"schedule.epochs": 1})
    assert defended.record["spec"]["defense"] == "mutual_info"
    again = defended.attack(seed=1, settings={"schedule.epochs": 1})
    assert (again.record["spec"]["stage"], again.record["spec"]["attack_seed"]) == ("reattack", 1)
    assert again.path.parent.name == "reattack"
    same = robust_cluster.cluster("convae", X, Y, latent_dim=8, normalize="alrdc", runs_dir=tmp_path, **made)
    assert same.record == run.record, "what is there is read"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'kmeans'"):
        robust_cluster.cluster("kmean", X, n_clusters=3)
    with pytest.raises(ConfigError):
        robust_cluster.cluster("kmeans", X)
    run = robust_cluster.cluster("kmeans", X, n_clusters=3)
    with pytest.raises(ShapeError, match="samples of 5 columns, the model was trained on 64"):
        run.predict(np.ones((2, 5)))
