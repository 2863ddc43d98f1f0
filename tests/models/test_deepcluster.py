"""DeepCluster's prepared features, its pseudo-labels and their weights, and the classifier that starts anew."""

from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import Embedding
from robust_cluster.models.discriminative.deepcluster import DeepCluster
from robust_cluster.stages import methods

INFO = DataInfo("toy", ((1, 8, 8),), 120, 3, (0.0, 1.0), 1.0, "")


def small(info: DataInfo = INFO, **settings: Any) -> DeepCluster:
    torch.manual_seed(0)
    settings = {"maps": [4, 6], "features": 8, "components": 5, "clusters_per_cluster": 4, "n_init": 2, **settings}
    model = methods.new_model("deepcluster", settings, info, 4)
    assert isinstance(model, DeepCluster)
    return model


@pytest.fixture
def images() -> Batch:
    return Batch((torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(2)),), torch.arange(120))


@pytest.fixture
def begun(images: Batch) -> DeepCluster:
    model = small(augment=False).eval()
    model.start("cluster", lambda: embed(model, images.views), seed=5)
    return model


def test_the_start_clusters_whitened_features_of_length_1(begun: DeepCluster, images: Batch) -> None:
    z = embed(begun, images.views).z
    points = begun.points(z)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(120))
    expected = KMeans(12, n_init=1, max_iter=20, random_state=5).fit(points.numpy())
    assert begun.pseudo_labels(images.index, z).tolist() == expected.labels_.tolist()
    assert begun.pseudo_sizes.tolist() == torch.bincount(torch.as_tensor(expected.labels_)).tolist()
    assert begun.head.out_features == 4 * 3


def test_every_cluster_has_the_same_say_in_the_loss(begun: DeepCluster, images: Batch) -> None:
    """As though clusters were drawn evenly: the mean over clusters of the mean over a cluster's samples."""
    loss = begun.losses(images, "cluster")["pseudo_labels"]
    z = begun.encode(images.views).z
    pseudo = begun.pseudo_labels(images.index, z)
    log_p = begun.head(z.clamp_min(0)).log_softmax(dim=1)
    means = [-log_p[pseudo == k, k].mean() for k in pseudo.unique().tolist()]
    torch.testing.assert_close(loss, torch.stack(means).mean())


def test_an_epoch_ends_with_new_pseudo_labels_and_a_new_classifier(begun: DeepCluster, images: Batch) -> None:
    optimizers = begun.optimizers("cluster")
    begun.train()
    begun.step(images, "cluster", optimizers)
    begun.eval()
    old = {name: value.clone() for name, value in begun.state_dict().items()}
    z = embed(begun, images.views).z
    begun.after_epoch("cluster", 1, lambda: Embedding(z, ()), seed=5)
    assert begun.head.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert not begun.head.weight.equal(old["head.weight"])
    assert not begun.head.bias.any()
    expected = KMeans(12, n_init=1, max_iter=20, random_state=6).fit_predict(begun.points(z).numpy())
    assert begun.pseudo_labels(images.index, z).tolist() == expected.tolist()
    assert all(value.equal(old[f"body.{name}"]) for name, value in begun.body.state_dict().items())


def test_the_momentum_of_the_classifier_is_not_that_of_the_one_before(begun: DeepCluster, images: Batch) -> None:
    """The first step of an epoch moves it by lr * gradient alone; the network keeps its momentum."""
    begun.config = small(augment=False, weight_decay=0.0).config
    optimizers = begun.optimizers("cluster")
    for _ in range(2):
        begun.step(images, "cluster", optimizers)
    begun.after_epoch("cluster", 1, lambda: embed(begun, images.views), seed=5)
    first = begun.body[0].bias.detach().clone(), begun.head.bias.detach().clone()
    gradients = torch.autograd.grad(
        begun.losses(images, "cluster")["pseudo_labels"], [begun.body[0].bias, begun.head.bias]
    )
    begun.step(images, "cluster", optimizers)
    moved = begun.body[0].bias.detach() - first[0], begun.head.bias.detach() - first[1]
    torch.testing.assert_close(moved[1], -0.01 * gradients[1], rtol=1e-4, atol=1e-8)
    assert not torch.allclose(moved[0], -0.01 * gradients[0], rtol=0.1, atol=0)


def test_labels_are_k_means_on_the_prepared_features_of_the_trained_network(begun: DeepCluster, images: Batch) -> None:
    assert not begun.knows_labels()
    z = embed(begun, images.views).z + 1
    begun.finish("cluster", lambda: Embedding(z, ()), seed=7)
    expected = KMeans(3, n_init=2, random_state=7).fit_predict(begun.points(z).numpy())
    assert begun.labels(z).tolist() == expected.tolist()
    assert begun.refit_labels(z, seed=7).tolist() == expected.tolist()  # type: ignore[union-attr]
    assert begun.knows_labels()


def test_a_loaded_model_takes_the_nearest_pseudo_clusters(begun: DeepCluster, images: Batch) -> None:
    fresh = small(augment=False).eval()
    fresh.load_state_dict(begun.state_dict())
    torch.testing.assert_close(fresh.losses(images, "cluster"), begun.losses(images, "cluster"))


def test_images_are_moved_while_training_and_not_where_the_pass_was_made_before(images: Batch) -> None:
    model = small().eval()
    assert model.config.augment
    plain = small(augment=False).eval()
    outputs = model(images.views)
    torch.testing.assert_close(model.losses(images, "cluster", outputs), plain.losses(images, "cluster"))
    moved, still = (net.losses(images, "cluster")["pseudo_labels"] for net in (model, plain))
    assert moved.item() != still.item()


def test_flattened_images_are_embedded_as_images_are(images: Batch) -> None:
    flat = small(DataInfo("toy", ((64,),), 120, 3, (0.0, 1.0), 1.0, ""), image_shape=[1, 8, 8]).eval()
    torch.testing.assert_close(flat.encode((images.views[0].flatten(1),)).z, small().eval().encode(images.views).z)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((64,), "DeepCluster clusters images, toy has vectors of 64"),
        ((1, 3, 9), "DeepCluster needs images of at least 4 x 4 pixels, toy has 3 x 9"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(shape: tuple[int, ...], sentence: str) -> None:
    info = DataInfo("toy", (shape,), 120, 3, (0.0, 1.0), 1.0, "")
    with pytest.raises(ConfigError, match=sentence):
        DeepCluster.check(methods.resolve("models", "deepcluster", "paper", {}), info)


def test_health_counts_the_pseudo_clusters_in_use(begun: DeepCluster) -> None:
    begun.pseudo_sizes.copy_(torch.tensor([90.0, 30, *[0.0] * 10]))
    assert begun.health(Embedding(torch.zeros(1, 8), ())) == {"pseudo_clusters": 2.0, "largest_pseudo_share": 0.75}
