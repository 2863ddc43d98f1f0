"""DEPICT's loss, its first epochs towards k-means' labels without those it holds out, and its targets."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.depict import DEPICT
from robust_cluster.models.base import Embedding
from robust_cluster.nn.dec import target_distribution
from robust_cluster.stages import methods

INFO = DataInfo("toy", ((1, 8, 8),), 120, 3, (0.0, 1.0), 1.0, "")


def small(info: DataInfo = INFO, name: str = "depict", **settings: Any) -> Any:
    torch.manual_seed(0)
    return methods.new_model(name, {"maps": 4, "n_init": 1, "patience": 2, **settings}, info, 5)


@pytest.fixture
def images() -> Batch:
    return Batch((torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(2)),), torch.arange(120))


@pytest.fixture
def begun(images: Batch) -> DEPICT:
    model: DEPICT = small()
    model.start("cluster", lambda: embed(model, images.views), seed=5)
    return model


def test_the_start_is_k_means_with_centers_of_length_1_in_the_classifier(begun: DEPICT, images: Batch) -> None:
    expected = KMeans(3, n_init=1, random_state=5).fit(embed(begun, images.views).z.numpy())
    centers = torch.as_tensor(expected.cluster_centers_)
    torch.testing.assert_close(begun.head.weight.detach(), centers / centers.norm(dim=1, keepdim=True))
    assert not begun.head.bias.any()
    assert begun.alternation.labels.tolist() == expected.labels_.tolist()
    assert begun.is_fitting


def test_the_loss_is_the_published_sum(begun: DEPICT, images: Batch) -> None:
    """Classifier and decoder on the noisy code, the decoder's layers against the clean ones; sample by sample."""
    begun.refresh(embed(begun, images.views).z)
    begun.is_fitting.fill_(False)
    begun.requires_grad_(False)
    torch.manual_seed(3)
    terms = begun.losses(images, "cluster")
    x = 2 * images.views[0] - 1
    torch.manual_seed(3)
    noisy = begun.autoencoder.encode(x, noisy=True)[-1]
    decoded, clean = begun.autoencoder.decode(noisy), begun.autoencoder.encode(x)
    expected = sum(w * (d - c).square().mean() for w, d, c in zip((1.0, 0.1, 0.1), decoded, clean, strict=False))
    torch.testing.assert_close(terms["reconstruction"], expected)
    torch.manual_seed(3)
    assert begun.losses(images, "pretrain") == {"reconstruction": terms["reconstruction"]}
    q = target_distribution(begun.assign(embed(begun, images.views).z))
    cross = -sum(float((q[i] * begun.head(noisy[i]).log_softmax(dim=0).double()).sum()) for i in range(120)) / 120
    assert terms["clustering"].item() == pytest.approx(cross, rel=1e-4)


def test_the_first_epochs_learn_k_means_labels_without_the_held_ones(begun: DEPICT, images: Batch) -> None:
    held = begun.alternation.is_held
    assert 9 <= int(held.sum()) <= 15
    torch.manual_seed(3)
    found = begun.losses(images, "cluster")["clustering"]
    torch.manual_seed(3)
    noisy = begun.autoencoder.encode(2 * images.views[0] - 1, noisy=True)[-1]
    labels = begun.alternation.labels
    torch.testing.assert_close(found, F.cross_entropy(begun.head(noisy)[~held], labels[~held]))


def test_they_end_when_the_held_ones_agree_no_better_for_the_patience(begun: DEPICT) -> None:
    kept = begun.alternation
    axes = F.one_hot(torch.arange(3), 5).float()
    begun.put_clusters(axes, kept.labels)
    z = axes[kept.labels] / 2

    def epoch(wrong: int) -> bool:
        moved = z.clone()
        rows = kept.is_held.nonzero()[:wrong, 0]
        moved[rows] = axes[(kept.labels[rows] + 1) % 3] / 2
        moved[~kept.is_held] = 0  # what was learned from says nothing
        begun.after_epoch("cluster", 1, lambda: Embedding(moved, ()), seed=0)
        return bool(begun.is_fitting)

    before = kept.targets.clone()
    assert [epoch(wrong) for wrong in (5, 3, 4, 2, 2)] == [True, True, True, True, True]
    assert kept.targets.equal(before)
    assert not epoch(3)
    assert begun.health(Embedding(z, ()))["kmeans_agreement"] == pytest.approx(1 - 2 / int(kept.is_held.sum()))
    assert not kept.targets.equal(before)
    assert not epoch(0)


def test_targets_are_decs_and_the_end_is_a_small_change_of_all_soft_labels(begun: DEPICT, images: Batch) -> None:
    z = embed(begun, images.views).z
    begun.is_fitting.fill_(False)
    begun.after_epoch("cluster", 1, lambda: Embedding(z, ()), seed=0)
    torch.testing.assert_close(begun.alternation.targets, target_distribution(begun.assign(z)))
    assert begun.stop_reason() is None
    change = (begun.assign(0.9 * z) - begun.assign(z)).square().mean()
    begun.after_epoch("cluster", 2, lambda: Embedding(0.9 * z, ()), seed=0)
    torch.testing.assert_close(begun.change, change.detach())
    begun.after_epoch("cluster", 3, lambda: Embedding(0.9 * z, ()), seed=0)
    assert begun.stop_reason() == "soft labels settled"


def test_decoded_images_are_in_the_datas_own_units_and_shape() -> None:
    for info in (INFO, DataInfo("flat", ((64,),), 120, 3, None, 2.0, "", scaled_bounds=(0.0, 2.0))):
        model: DEPICT = small(info, image_shape=[1, 8, 8])
        views = (torch.rand(4, *info.shapes[0]) * (info.box or (0, 0))[1],)
        z = model.encode(views).z
        (decoded,) = model.decode(z)
        assert decoded.shape == views[0].shape
        expected = (model.autoencoder.decode(z)[0] + 1) / 2 * (info.box or (0, 0))[1]
        torch.testing.assert_close(decoded.flatten(1), expected.flatten(1))
        assert model.images(views).abs().max() <= 1


def test_no_image_is_refused_and_flattened_ones_are_taken() -> None:
    info = DataInfo("toy", ((64,),), 120, 3, (0.0, 1.0), 1.0, "")
    with pytest.raises(ConfigError, match="DEPICT clusters images, toy has vectors of 64") as caught:
        small(info)
    assert caught.value.hint == "--set model.image_shape=[1,28,28] for vectors of 784"
    x = torch.rand(3, 64)
    model, flat = small(), small(info, image_shape=[1, 8, 8])
    torch.testing.assert_close(flat.encode((x,)).z, model.encode((x.view(3, 1, 8, 8),)).z)
