"""JULE's first clusters, its rounds of merging, its learning rate, and what labels rows and new points."""

from typing import Any

import numpy as np
import pytest
import torch

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import Embedding
from robust_cluster.models.discriminative.jule import JULE
from robust_cluster.nn import merging
from robust_cluster.nn.graph import nearest_neighbors
from robust_cluster.nn.triplets import triplet_loss
from robust_cluster.stages import methods

INFO = DataInfo("toy", ((1, 8, 8),), 120, 3, (0.0, 1.0), 1.0, "")


def small(info: DataInfo = INFO, **settings: Any) -> JULE:
    torch.manual_seed(0)
    settings = {"maps": [4, 16], "kernel": 3, "features": 5, "neighbors": 8, **settings}
    model = methods.new_model("jule", settings, info, 4)
    assert isinstance(model, JULE)
    return model


@pytest.fixture(scope="module")
def images() -> Batch:
    return Batch((torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(2)),), torch.arange(120))


@pytest.fixture
def begun(images: Batch) -> JULE:
    model = small().eval()
    model.start("cluster", lambda: embed(model, images.views), seed=5)
    return model


def labels_of(model: JULE) -> torch.Tensor:
    labels: torch.Tensor = model.fit.parts["clusters"].labels
    return labels


def test_it_starts_with_the_nearest_neighbors_by_pixels_of_images_of_length_1(begun: JULE, images: Batch) -> None:
    x = images.views[0].flatten(1)
    nearest = nearest_neighbors(x / x.norm(dim=1, keepdim=True), 1)[1].flatten()
    assert labels_of(begun).tolist() == merging.first_clusters(nearest.numpy()).tolist()
    assert int(begun.clusters) == int(labels_of(begun).max()) + 1 > 10
    assert begun.encode(images.views).z.shape == (120, 5)


def test_features_have_length_1(images: Batch) -> None:
    torch.testing.assert_close(small().encode(images.views).z.norm(dim=1), torch.ones(120))


def test_the_loss_is_that_of_the_clusters_a_row_is_in(begun: JULE, images: Batch) -> None:
    torch.manual_seed(1)
    loss = begun.losses(images, "cluster")["triplets"]
    torch.manual_seed(1)
    z = begun.encode(images.views).z
    expected = triplet_loss(z, labels_of(begun), negatives=20, weight=1.0, margin=0.2)
    assert loss.item() == expected.item() > 0


def test_a_round_merges_its_share_every_so_many_epochs_until_those_asked_for_are_left(
    begun: JULE, images: Batch
) -> None:
    begun.config = small(unrolling=0.5, period=3).config
    before = int(begun.clusters)
    first = labels_of(begun).clone()
    begun.after_epoch("cluster", 2, lambda: embed(begun, images.views), seed=0)
    assert labels_of(begun).equal(first)
    begun.after_epoch("cluster", 3, lambda: embed(begun, images.views), seed=0)
    assert int(begun.clusters) == before - -(-before // 2)
    merged = labels_of(begun)
    assert all(len(merged[first == c].unique()) == 1 for c in range(before))  # none was split
    assert begun.stop_reason() is None
    assert set(begun.labels(embed(begun, images.views).z).tolist()) == {0, 1, 2}  # to watch
    for epoch in (6, 9, 12):
        begun.after_epoch("cluster", epoch, lambda: embed(begun, images.views), seed=0)
    assert (int(begun.clusters), begun.stop_reason()) == (3, "merged")


def test_the_learning_rate_falls_with_the_steps(begun: JULE, images: Batch) -> None:
    optimizers = begun.optimizers("cluster")
    group = optimizers["model"].param_groups[0]
    begun.steps.fill_(5000)
    begun.step(images, "cluster", optimizers)
    assert group["lr"] == pytest.approx(0.01 * 1.5**-0.75)
    assert int(begun.steps) == 5001
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-5)


def three_rays(n: int = 120) -> torch.Tensor:
    """Rows of length 1 around three axes of five."""
    noise = 0.05 * torch.randn(n, 5, generator=torch.Generator().manual_seed(4))
    return torch.nn.functional.normalize(torch.eye(5)[torch.arange(n) % 3] + noise, dim=1)


def test_it_ends_with_a_merging_of_the_features_from_the_beginning_whose_means_label_points(begun: JULE) -> None:
    assert not begun.knows_labels()
    z = three_rays()
    begun.finish("cluster", lambda: Embedding(z, ()), seed=0)
    rows = begun.fit.labels
    assert rows is not None
    assert rows[:3].unique().numel() == 3
    assert rows.tolist() == rows[:3].repeat(40).tolist()
    for c in range(3):
        torch.testing.assert_close(begun.centers[c], z[rows == c].mean(dim=0))
    assert begun.labels(z).equal(rows)
    assert begun.labels(torch.eye(5)[:3]).tolist() == rows[:3].tolist()
    assert begun.refit_labels(z, seed=9).equal(rows)
    assert begun.knows_labels()
    within = torch.cat([(z[rows == c] - z[rows == c].mean(dim=0)).square().flatten() for c in range(3)])
    torch.testing.assert_close(begun.variance, within.mean())


def test_many_clusters_without_an_affinity_join_the_nearest_before_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while there are more than 20 K, as in the authors' code."""
    calls: list[int] = []
    attach = merging.attach

    def counted(x: merging.Floats, weights: merging.Graph, labels: merging.Ints) -> merging.Ints:
        calls.append(int(labels.max()) + 1)
        return attach(x, weights, labels)

    monkeypatch.setattr(merging, "attach", counted)
    z = torch.nn.functional.normalize(torch.randn(400, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    model = small(DataInfo("toy", ((1, 8, 8),), 400, 3, (0.0, 1.0), 1.0, ""), unrolling=0.5)
    labels = model.merged(z)
    assert len(labels.unique()) == 3
    assert len(calls) == 2
    assert min(calls) > 60
    calls.clear()
    model.rounds(z, torch.arange(400) % 60, None)
    assert not calls
    assert np.array_equal(labels.numpy(), model.merged(z).numpy())


def test_fewer_first_clusters_than_are_asked_for_are_refused() -> None:
    model = small(DataInfo("toy", ((1, 8, 8),), 6, 4, (0.0, 1.0), 1.0, ""))
    x = torch.tensor([0.0, 1.0, 10.0, 11.0, 20.0, 21.0])[:, None]
    with pytest.raises(ConfigError, match="begins with 3 clusters of nearest neighbors, which cannot be merged to 4"):
        model.first_clusters(x)


def test_flattened_images_are_embedded_as_images_are(images: Batch) -> None:
    flat = small(DataInfo("toy", ((64,),), 120, 3, (0.0, 1.0), 1.0, ""), image_shape=[1, 8, 8]).eval()
    torch.testing.assert_close(flat.encode((images.views[0].flatten(1),)).z, small().eval().encode(images.views).z)


@pytest.mark.parametrize(
    ("shape", "maps", "linear"), [((1, 28, 28), (50, 50), 3200), ((1, 16, 16), (50,), 1800), ((1, 13, 16), (7, 9), 18)]
)
def test_the_networks_are_those_of_the_authors(shape: tuple[int, ...], maps: tuple[int, ...], linear: int) -> None:
    info = DataInfo("toy", (shape,), 10, 3, (0.0, 1.0), 1.0, "")
    model = methods.new_model("jule", {"maps": list(maps)}, info, 4)
    assert isinstance(model, JULE)
    assert (model.body[-1].in_features, model.body[-1].out_features) == (linear, 160)
    assert model.body[-1].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.encode((torch.rand(3, *shape),)).z.shape == (3, 160)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((64,), "JULE clusters images, toy has vectors of 64"),
        ((1, 12, 13), "JULE needs images of at least 13 x 13 pixels, toy has 12 x 13"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        JULE.check(methods.resolve("models", "jule", "paper", {}), DataInfo("toy", (shape,), 9, 3, None, 1.0, ""))
