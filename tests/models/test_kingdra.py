"""KINGDRA's loss is a sum over its models, and its labels their mean after a matching with the buckets."""

from typing import Any

import pytest
import torch

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import Embedding
from robust_cluster.models.discriminative.kingdra import KINGDRA, matched
from robust_cluster.stages import methods


def small(**settings: Any) -> KINGDRA:
    torch.manual_seed(0)
    settings = {"models": 3, "hidden": [7], "high": 2, "denoising_weights": [10, 1, 0.1], **settings}
    model = methods.new_model("kingdra", settings, DataInfo("toy", ((6,),), 60, 3, None, 1.0, ""), 4)
    assert isinstance(model, KINGDRA)
    return model


def sure(labels: torch.Tensor) -> torch.Tensor:
    """Logits (n, M K) of models that are sure of these labels (n, M)."""
    return 20 * torch.eye(3)[labels].flatten(1)


def test_the_loss_is_a_sum_over_the_models(vectors: Batch) -> None:
    model = small(information_weight=0.2)
    model.fit.parts["buckets"].labels[:30] = torch.arange(30) % 2
    model.sizes.copy_(torch.tensor([15.0, 15, 0]))
    torch.manual_seed(3)
    terms = model.losses(vectors, "cluster")
    torch.manual_seed(3)
    expected = dict.fromkeys(("denoising", "information", "noise", "buckets"), 0.0)
    for ladder in model.members:
        clean, noisy = ladder.climb(vectors.views[0]), ladder.climb(vectors.views[0], noisy=True)
        p, q = clean.logits.softmax(dim=1), noisy.logits.softmax(dim=1)
        expected["denoising"] += ladder.denoising(clean, noisy, (10, 1, 0.1)).item()
        for soft in (p, q):
            mean = soft.mean(dim=0)
            conditional, marginal = -(soft * soft.log()).sum() / 60, -(mean * mean.log()).sum()
            expected["information"] += 0.2 * (conditional - 4 * marginal).item()
        expected["noise"] += (p * (p / q).log()).sum().item() / 60
        means = [-p[torch.arange(k, 30, 2), k].log().mean() for k in range(2)]
        expected["buckets"] += torch.stack(means).mean().item()
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_labels_are_the_mean_of_the_models_in_the_order_of_the_buckets() -> None:
    model = small()
    model.matching.copy_(torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]]))
    z = torch.randn(5, 9)
    soft = [part.softmax(dim=1) for part in z.split(3, dim=1)]
    expected = (soft[0] + soft[1][:, [1, 2, 0]] + soft[2][:, [2, 0, 1]]) / 3
    torch.testing.assert_close(model.assign(z), expected)
    assert model.labels(z).equal(expected.argmax(dim=1))


def test_a_round_matches_models_that_number_their_clusters_differently() -> None:
    """Without any true label; before and after there are buckets for all of them."""
    model = small(round_epochs=2)
    first = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    permutations = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    labels = permutations[:, first].T  # (60, 3)
    embedding = Embedding(sure(labels), ())
    model.after_epoch("cluster", 1, lambda: embedding, seed=0)
    assert model.health(embedding) == {"buckets": 0.0, "bucketed": 0.0}
    model.after_epoch("cluster", 2, lambda: embedding, seed=0)
    assert model.health(embedding) == {"buckets": 3.0, "bucketed": 1.0}
    assert model.sizes.tolist() == [30, 20, 10]
    assert model.fit.parts["buckets"].labels.tolist() == first.tolist()
    assert model.matching.tolist() == permutations.tolist()
    assert model.labels(embedding.z).tolist() == first.tolist()
    model.finish("cluster", lambda: Embedding(torch.zeros(60, 9), ()), seed=0)
    assert model.health(embedding)["buckets"] == 0  # nobody is sure of anything


def test_where_there_are_no_buckets_the_models_are_matched_with_the_first() -> None:
    first = torch.tensor([0, 1, 2] * 20)
    labels = torch.stack([first, torch.tensor([2, 0, 1])[first]], dim=1)
    assert matched(labels, torch.full((60,), -1), 3).tolist() == [[0, 1, 2], [2, 0, 1]]


def test_z_is_every_models_logits_and_one_sample_is_labeled_as_among_others(vectors: Batch) -> None:
    model = small().eval()
    z = embed(model, vectors.views).z
    assert z.shape == (60, 9)
    assert model.latent_dim == 9
    torch.testing.assert_close(z[:, 3:6], model.members[1].climb(vectors.views[0]).logits.detach())


def test_the_published_ensemble() -> None:
    config = methods.resolve("models", "kingdra", "paper", {})
    assert (config.models, config.hidden, config.low, config.high, config.confidence) == (10, (1200, 1200), 1, 9, 0.9)
    assert (config.cluster.epochs, config.cluster.batch_size, config.cluster.lr) == (250, 64, 2e-3)
