"""k-means as a model gives scikit-learn's own labels."""

from collections.abc import Callable

import torch
from sklearn.cluster import KMeans

from robust_cluster.data.base import DataInfo, Dataset
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.shallow.kmeans import Config, KMeansModel


def test_the_largest_soft_label_is_scikit_learns_label(build: Callable[..., ClusterModel], digits: Dataset) -> None:
    model = build("kmeans", n_init=2)
    model.start("cluster", lambda: model.encode(digits.views), seed=3)
    expected = KMeans(10, n_init=2, random_state=3).fit_predict(digits.views[0].numpy())
    z = model.encode(digits.views).z
    assert z.equal(digits.views[0])
    assert model.assign(z).argmax(dim=1).tolist() == expected.tolist()
    assert model.labels(z).tolist() == expected.tolist()


def test_views_stand_side_by_side_and_come_back_in_their_shapes() -> None:
    info = DataInfo("toy", ((1, 2, 2), (3,)), 6, 2, None, 1.0, "")
    model = KMeansModel(Config(), info, 0)
    views = (torch.randn(6, 1, 2, 2), torch.randn(6, 3))
    z = model.encode(views).z
    assert z.shape == (6, 7)
    assert all(part.equal(view) for part, view in zip(model.decode(z), views, strict=True))
