"""AE+FINCH: K clusters by first neighbors, against the first partition by hand and the merges of the closest pairs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components

from robust_cluster.data.base import Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.metrics.ari import ari
from robust_cluster.models.autoencoder.ae_finch import first_neighbors
from robust_cluster.models.base import ClusterModel, Embedding


def points() -> torch.Tensor:
    """Twelve unit vectors in four bundles of three, the second pair of which lies closer."""
    angles = np.radians([0, 1, 3, 40, 41, 43, 90, 91, 93, 120, 121, 123])
    return torch.tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1)).float()


def test_its_first_partition_joins_first_neighbors() -> None:
    z = points().numpy()
    cosines = z @ z.T
    np.fill_diagonal(cosines, -2)
    nearest = cosines.argmax(axis=1)
    links = np.zeros((12, 12))
    links[np.arange(12), nearest] = 1
    count, expected = connected_components(links, directed=False)
    assert count == 4
    assert ari(expected, first_neighbors(points(), 4).numpy()) == 1


def test_from_the_smallest_partition_that_is_large_enough_the_closest_pairs_are_merged() -> None:
    found = first_neighbors(points(), 3)
    assert found.dtype == torch.int64
    assert ari([0] * 3 + [1] * 3 + [2] * 6, found.numpy()) == 1


@pytest.mark.parametrize("n_clusters", [2, 7, 10, 25])
def test_the_clusters_are_exactly_k(digits: Dataset, n_clusters: int) -> None:
    view = digits.views[0]
    assert isinstance(view, torch.Tensor)
    assert first_neighbors(view, n_clusters).unique().tolist() == list(range(n_clusters))


def test_more_clusters_than_its_first_partition_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="FINCH's partitions have 4 clusters and not 5"):
        first_neighbors(points(), 5)
    assert capsys.readouterr().out == ""


def test_its_labels_are_those_of_its_embedding_which_has_no_soft_ones(
    build: Callable[..., ClusterModel], digits: Dataset
) -> None:
    model = build("ae_finch")
    z = torch.as_tensor(digits.views[0])[:, :8]
    model.start("cluster", lambda: Embedding(z, (z,)), seed=0)
    assert model.fit.labels is None
    model.finish("cluster", lambda: Embedding(z, (z,)), seed=0)
    assert model.fit.labels is not None
    assert model.fit.labels.equal(first_neighbors(z, 10))
    assert "centers" not in model.state_dict()
    with pytest.raises(ConfigError, match="AEFinch labels only the data that it was fitted on"):
        model.assign(z)
