"""IMSAT's information and perturbed terms, its radii, and the pass that leaves batch norm alone."""

import math
from typing import Any

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.discriminative.imsat import IMSAT
from robust_cluster.stages import methods
from tests.models.conftest import widths


def small(info: DataInfo | None = None, **settings: Any) -> IMSAT:
    torch.manual_seed(0)
    settings = {"hidden": [8, 7], "neighbors": 3, **settings}
    info = info or DataInfo("toy", ((6,),), 60, 3, None, 1.0, "")
    model = methods.new_model("imsat", settings, info, 4)
    assert isinstance(model, IMSAT)
    nn.init.normal_(model.head.weight)  # its own first weights are next to 0
    return model


def begun(vectors: Batch, **settings: Any) -> IMSAT:
    model = small(**settings)
    model.start("cluster", lambda: embed(model, vectors.views), seed=0)
    return model


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


@pytest.mark.parametrize("perturbation", ["rpt", "vat"])
def test_the_loss_is_the_published_sum_sample_by_sample(vectors: Batch, perturbation: str) -> None:
    model = begun(vectors, perturbation=perturbation).eval().requires_grad_(False)
    reached: list[Tensor] = []
    beside = model.beside
    model.beside = lambda x: (reached.append(x), beside(x))[1]  # type: ignore[method-assign]
    terms = model.losses(vectors, "cluster")
    x, moved = vectors.views[0], reached[-1].detach()
    p, q = (model.assign(model.encode((rows,)).z) for rows in (x, moved))
    conditional = -sum(float((row * row.log()).sum()) for row in p) / 60
    marginal = -float((p.mean(dim=0) * p.mean(dim=0).log()).sum())
    expected = {
        "perturbed": sum(float(kl(*rows)) for rows in zip(p, q, strict=True)) / 60,
        "conditional_entropy": 0.1 * conditional,
        "marginal_entropy": -0.1 * 4 * marginal,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-3)
    lengths = (moved - x).norm(dim=1)
    torch.testing.assert_close(lengths, model.radii(vectors.index)[:, 0], rtol=1e-4, atol=1e-5)


def test_with_uniform_labels_the_information_is_one_minus_mu_times_lambda_ln_k(vectors: Batch) -> None:
    model = begun(vectors)
    nn.init.zeros_(model.head.weight)
    terms = model.losses(vectors, "cluster")
    information = terms["conditional_entropy"] + terms["marginal_entropy"]
    assert information.item() == pytest.approx((1 - 4) * 0.1 * math.log(3))
    assert terms["perturbed"].item() == 0


def test_a_radius_is_a_quarter_of_the_distance_to_the_neighbor_and_without_one_the_mean() -> None:
    """In the units of the network's input, [-1, 1] for pixels."""
    images = torch.rand(60, 1, 4, 4)
    model = small(DataInfo("toy", ((1, 4, 4),), 60, 3, (0.0, 1.0), 1.0, ""))
    before = embed(model.eval(), (images,)).z
    model.start("cluster", lambda: embed(model, (images,)), seed=0)
    rows = 2 * images.flatten(1) - 1
    distances, _ = NearestNeighbors(n_neighbors=4).fit(rows).kneighbors(rows)  # the row itself is the first
    expected = torch.as_tensor(0.25 * distances[:, 3], dtype=torch.float32)
    torch.testing.assert_close(model.radii(torch.arange(60))[:, 0], expected)
    assert embed(model, (images,)).z.equal(before)
    fresh = small(DataInfo("toy", ((1, 4, 4),), 60, 3, (0.0, 1.0), 1.0, ""))
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.radii(torch.arange(2))[:, 0], expected.mean().repeat(2))


def test_the_adversarial_direction_is_the_gradient_of_kl_at_the_probe(vectors: Batch) -> None:
    """By differences, in float64, sample by sample."""
    model = begun(vectors, probe=0.5).eval().double().requires_grad_(False)
    x = vectors.views[0][:5].double()
    log_p = model.beside(x)
    start = nn.functional.normalize(torch.randn_like(x), dim=1)
    with torch.no_grad():
        found = model.steepest(x, log_p, start)
    for i in range(5):
        slopes = []
        for j in range(6):
            ends = [start[i : i + 1] + sign * 1e-5 * torch.eye(6)[j] for sign in (1, -1)]
            values = [kl(log_p[i].exp(), model.beside(x[i : i + 1] + 0.5 * d)[0].exp()) for d in ends]
            slopes.append((values[0] - values[1]) / 2e-5)
        gradient = torch.stack(slopes)
        torch.testing.assert_close(found[i], gradient / gradient.norm(), rtol=1e-4, atol=1e-5)


def test_adversarial_moves_change_the_labels_more_than_random_ones(vectors: Batch) -> None:
    model = begun(vectors, probe=0.1)
    changes = {}
    for model.config in (small(perturbation=name, probe=0.1).config for name in ("rpt", "vat")):
        changes[model.config.perturbation] = model.losses(vectors, "cluster")["perturbed"].item()
    assert changes["vat"] > 2 * changes["rpt"]


@pytest.mark.parametrize("perturbation", ["rpt", "vat"])
def test_the_perturbed_pass_leaves_the_statistics_of_batch_norm_alone(vectors: Batch, perturbation: str) -> None:
    """They are those of one pass of the clean samples; in it p of the clean ones is a constant."""
    model = begun(vectors, perturbation=perturbation).train()
    clean = small().train()
    clean.encode(vectors.views)
    terms = model.losses(vectors, "cluster")
    norms = [[m for m in net.modules() if isinstance(m, nn.BatchNorm1d)] for net in (model, clean)]
    for found, expected in zip(*norms, strict=True):
        torch.testing.assert_close(found.running_mean, expected.running_mean)
        torch.testing.assert_close(found.running_var, expected.running_var)
        assert found.track_running_stats
    assert len(norms[0]) == 2
    assert model.perturbed(vectors.views[0], torch.zeros(60, 3).log_softmax(dim=1), torch.zeros(60, 1)) > 0
    assert terms["perturbed"].requires_grad


def test_the_constant_p_gets_no_gradient(vectors: Batch) -> None:
    model = begun(vectors).eval()
    torch.manual_seed(3)
    found = torch.autograd.grad(model.losses(vectors, "cluster")["perturbed"], model.head.weight)[0]
    torch.manual_seed(3)
    x = vectors.views[0]
    moved = x + model.radii(vectors.index) * nn.functional.normalize(torch.randn_like(x), dim=1)
    p, q = model.assign(model.encode((x,)).z).detach(), model.assign(model.encode((moved,)).z)
    expected = torch.autograd.grad(-(p * q.log()).sum() / 60, model.head.weight)[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_the_published_network_starts_with_all_labels_alike() -> None:
    torch.manual_seed(0)
    model = methods.new_model("imsat", {}, DataInfo("toy", ((784,),), 100, 10, (0.0, 1.0), 1.0, ""), 10)
    assert isinstance(model, IMSAT)
    assert widths(model) == [(784, 1200), (1200, 1200), (1200, 10)]
    assert model.latent_dim == 1200
    first, second = (layer for layer in model.body if isinstance(layer, nn.Linear))
    for layer, scale in ((first, 0.1), (second, 0.1), (model.head, 1e-4)):
        assert layer.weight.std().item() == pytest.approx(scale * layer.in_features**-0.5, rel=0.05)
    p = model.assign(model.encode((torch.rand(5, 784),)).z)
    torch.testing.assert_close(p, torch.full((5, 10), 0.1), rtol=1e-2, atol=0)


def test_more_neighbors_than_samples_are_refused(few_digits: Dataset) -> None:
    config = methods.resolve("models", "imsat", "smoke", {"neighbors": 300})
    with pytest.raises(ConfigError, match=r"neighbors must be in \[1, n_samples - 1\] = \[1, 299\], got 300"):
        IMSAT.check(config, few_digits.info)
