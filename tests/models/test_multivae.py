"""Multi-VAE's codes, capacities and losses, and k-means on them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, kl_divergence

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.multiview.multivae import Config, MultiVAE, code_divergence, relaxed_draw
from robust_cluster.stages import methods


def info(*shapes: tuple[int, ...], n_clusters: int = 3) -> DataInfo:
    return DataInfo("toy", shapes, 100, n_clusters, (0.0, 1.0), 1.0, "")


@pytest.fixture
def model() -> MultiVAE:
    """Two views of 16 x 17 pixels, 3 clusters, 4 continuous dimensions."""
    torch.manual_seed(0)
    return MultiVAE(Config(hidden=8, continuous=4), info((1, 16, 17), (1, 16, 17)), 8)


@pytest.fixture
def rows() -> Batch:
    torch.manual_seed(1)
    return Batch((torch.rand(12, 1, 16, 17), torch.rand(12, 1, 16, 17)), torch.arange(12))


def silence(model: MultiVAE) -> None:
    """Codes that do not depend on the data: mu = 0, s = 1, alpha uniform."""
    for layer in [*model.means, *model.log_vars, model.code]:
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


@pytest.mark.parametrize(("n_views", "n_clusters", "expected"), [(2, 10, 1_523_636), (3, 3, 2_274_690)])
def test_the_networks_have_the_published_number_of_parameters(n_views: int, n_clusters: int, expected: int) -> None:
    model = methods.new_model("multivae", {}, info(*((1, 28, 28),) * n_views, n_clusters=n_clusters), 64)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_the_embedding_is_alpha_beside_the_means_and_draws_nothing(model: MultiVAE, rows: Batch) -> None:
    model.eval()
    first, second = model.encode(rows.views), model.encode(rows.views)
    assert first.z.equal(second.z)
    assert first.z.shape == (12, 3 + 2 * 4)
    torch.testing.assert_close(first.z[:, :3].sum(dim=1), torch.ones(12))
    features = [encoder(view) for encoder, view in zip(model.encoders, rows.views, strict=True)]
    assert all(z.equal(expected) for z, expected in zip(first.per_view, features, strict=True))
    g = [body(feature) for body, feature in zip(model.bodies, features, strict=True)]
    expected = torch.cat(
        [model.code(torch.cat(g, dim=1)).softmax(dim=1), model.means[0](g[0]), model.means[1](g[1])], 1
    )
    torch.testing.assert_close(first.z, expected)


@pytest.mark.parametrize("kl_scale", ["original", "framework"])
def test_every_term_is_its_formula(rows: Batch, kl_scale: str) -> None:
    torch.manual_seed(0)
    model = MultiVAE(Config(hidden=8, continuous=4, kl_scale=kl_scale), info((1, 16, 17), (1, 16, 17)), 8)  # type: ignore[arg-type]
    model.code_steps.fill_(5000)
    torch.manual_seed(3)
    terms = model.losses(rows, "cluster")
    torch.manual_seed(3)
    g = [body(encoder(x)) for body, encoder, x in zip(model.bodies, model.encoders, rows.views, strict=True)]
    posteriors = [
        Normal(mean(h), torch.exp(log_var(h) / 2))
        for mean, log_var, h in zip(model.means, model.log_vars, g, strict=True)
    ]
    y = [p.mean + p.stddev * torch.randn(12, 4) for p in posteriors]
    alpha = model.code(torch.cat(g, dim=1)).softmax(dim=1)
    c = ((alpha.log() - (-torch.rand(12, 3).log()).log()) / 0.67).softmax(dim=1)
    pixels = 16 * 17
    errors = torch.zeros(())
    gaps = torch.zeros(())
    for decoder, x, code, p in zip(model.decoders, rows.views, y, posteriors, strict=True):
        seen = decoder(torch.cat([code, c], dim=1))
        errors = errors - (x * seen.log() + (1 - x) * (1 - seen).log()).mean()
        kl = kl_divergence(p, Normal(0.0, 1.0)).sum(dim=1).mean()
        gaps = gaps + (5 * 5000 / 25000 - kl).abs() / pixels
    discrete = kl_divergence(Categorical(alpha), Categorical(torch.full_like(alpha, 1 / 3))).mean()
    code_gap = 2 * (math.log(3) * 5000 / 25000 - discrete).abs() / (2 * pixels)
    torch.testing.assert_close(terms["reconstruction"], errors * (pixels if kl_scale == "framework" else 1))
    torch.testing.assert_close(terms["continuous"], 30 * gaps)
    torch.testing.assert_close(terms["discrete"], 30 * code_gap)


def test_the_capacity_terms_vanish_where_the_codes_hold_their_capacity(model: MultiVAE, rows: Batch) -> None:
    silence(model)
    terms = model.losses(rows, "cluster")
    assert terms["continuous"].item() == pytest.approx(0, abs=1e-9)
    assert terms["discrete"].item() == pytest.approx(0, abs=1e-7)
    model.code_steps.fill_(10_000)  # C_y = 2 = 4 dimensions * mu^2 / 2 for mu = 1
    for layer in model.means:
        nn.init.ones_(layer.bias)  # type: ignore[arg-type]
    terms = model.losses(rows, "cluster")
    assert terms["continuous"].item() == pytest.approx(0, abs=1e-7)
    assert terms["discrete"].item() == pytest.approx(30 * 2 * 0.4 * math.log(3) / (2 * 272), rel=1e-5)


def test_the_capacities_grow_for_25_000_steps(model: MultiVAE) -> None:
    found = []
    for steps in (0, 10_920, 25_000, 90_000):
        model.code_steps.fill_(steps)
        found.append([float(capacity) for capacity in model.capacities()])
    shares = [0, 0.4368, 1, 1]
    assert found == [pytest.approx([5 * share, math.log(3) * share]) for share in shares]


def test_each_step_counts_and_the_count_is_saved(model: MultiVAE, rows: Batch) -> None:
    optimizers = model.optimizers("cluster")
    for _ in range(3):
        model.step(rows, "cluster", optimizers)
    assert model.state_dict()["code_steps"].item() == 3
    model.losses(rows, "cluster")
    assert model.code_steps.item() == 3
    assert model.health(model.encode(rows.views))["capacity_share"] == pytest.approx(3 / 25_000)


def test_the_relaxed_draws_largest_entry_follows_alpha() -> None:
    """Gumbel's trick: the argmax is a draw from the categorical distribution, at any temperature."""
    torch.manual_seed(0)
    log_alpha = torch.tensor([[0.7, 0.2, 0.1]]).log().expand(40_000, 3)
    drawn = relaxed_draw(log_alpha, 0.67)
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(40_000))
    frequencies = torch.bincount(drawn.argmax(dim=1), minlength=3) / 40_000
    torch.testing.assert_close(frequencies, torch.tensor([0.7, 0.2, 0.1]), atol=0.01, rtol=0)
    assert relaxed_draw(log_alpha, 0.01).max(dim=1).values.mean() > drawn.max(dim=1).values.mean() > 0.7


def test_the_divergence_of_the_code_is_0_for_uniform_and_log_k_for_sure_codes() -> None:
    sure = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).log_softmax(dim=1)
    assert code_divergence(torch.zeros(2, 4).log_softmax(dim=1)).item() == pytest.approx(0, abs=1e-6)
    assert code_divergence(sure).item() == pytest.approx(math.log(4))


def test_labels_are_k_means_on_one_hot_code_and_means(pair: Dataset) -> None:
    torch.manual_seed(0)
    model = MultiVAE(Config(hidden=16, n_init=2), pair.info, 8).eval()
    z = embed(model, pair.views).z
    before = model.labels(z)
    assert before.equal(z[:, :10].argmax(dim=1))
    assert not model.knows_labels()
    model.finish("cluster", lambda: embed(model, pair.views), seed=4)
    assert model.knows_labels()
    rounded = np.concatenate([np.eye(10)[z[:, :10].argmax(dim=1).numpy()], z[:, 10:].numpy()], axis=1)
    expected = KMeans(10, n_init=2, random_state=4).fit_predict(rounded.astype(np.float32))
    assert model.labels(z).tolist() == expected.tolist()
    assert model.labels(z).equal(model.assign(z).argmax(dim=1))
    assert model.refit_labels(z, seed=4).tolist() == expected.tolist()
    torch.testing.assert_close(model.log_assign(z).exp(), model.assign(z))


def test_the_views_agree_on_the_discrete_code(model: MultiVAE, rows: Batch) -> None:
    embedding = model.encode(rows.views)
    assert model.consensus(embedding).equal(embedding.z[:, :3])


def test_a_gradient_reaches_alpha_through_the_rounding(pair: Dataset) -> None:
    torch.manual_seed(0)
    model = MultiVAE(Config(hidden=16, n_init=1), pair.info, 8).eval()
    for fitted in (False, True):
        if fitted:
            model.finish("cluster", lambda: embed(model, pair.views), seed=4)
            model.centers.copy_(torch.randn_like(model.centers))  # k-means' have one code here, which has no slope
            model.variance.fill_(1.0)
        z = embed(model, pair.views).z[:20].requires_grad_()
        own: Tensor = model.assign(z)[:, 0].sum()
        own.backward()
        assert z.grad is not None
        assert z.grad[:, :10].abs().sum() > 0
        assert (z.grad[:, 10:].abs().sum() > 0) == fitted


def test_decoding_takes_the_one_hot_code_and_each_views_own_mean(model: MultiVAE, rows: Batch) -> None:
    model.eval()
    z = model.encode(rows.views).z
    first, second = model.decode(z)
    code = torch.eye(3)[z[:, :3].argmax(dim=1)]
    torch.testing.assert_close(first, model.decoders[0](torch.cat([z[:, 3:7], code], dim=1)))
    torch.testing.assert_close(second, model.decoders[1](torch.cat([z[:, 7:], code], dim=1)))
    assert second.shape == (12, 1, 16, 17)


def test_one_view_will_do_and_views_may_differ_in_size() -> None:
    for shapes in [((1, 16, 16),), ((1, 16, 20), (3, 24, 16))]:
        model = MultiVAE(Config(hidden=8), info(*shapes), 8)
        views = tuple(torch.rand(6, *shape) for shape in shapes)
        terms = model.step(Batch(views, torch.arange(6)), "cluster", model.optimizers("cluster"))
        assert all(math.isfinite(value) for value in terms.values())
        assert [view.shape for view in model.decode(model.encode(views).z)] == [view.shape for view in views]


def test_the_modes_are_the_published_code_and_the_original() -> None:
    clean, paper = (methods.resolve("models", "multivae", "paper", {"mode": mode}) for mode in ("clean", "paper"))
    assert (clean.kl_scale, clean.max_norm) == ("original", 10.0)
    assert (paper.kl_scale, paper.max_norm) == ("framework", None)
    assert (paper.cluster.epochs, paper.cluster.batch_size, paper.cluster.lr) == (20, 64, 5e-4)


def test_short_trainings_reach_the_share_of_the_capacities_that_the_published_one_reaches() -> None:
    """10,920 of 25,000 steps, 0.4368: 2.18 of 5 nats, 1.006 of log 10."""
    rows_of = {"paper": 35_000, "cpu": 2_500, "smoke": 200}
    for profile, n in rows_of.items():
        config = methods.resolve("models", "multivae", profile, {})
        schedule = config.cluster
        steps = schedule.epochs * (n // schedule.batch(n))
        assert steps == {"paper": 10_920, "cpu": 585, "smoke": 5}[profile]
        model = MultiVAE(replace(config, hidden=8), info((1, 16, 16), (1, 16, 16), n_clusters=10), 8)
        model.code_steps.fill_(steps)
        nats = [float(capacity) for capacity in model.capacities()]
        assert nats == pytest.approx([2.184, 0.4368 * math.log(10)], rel=0.05 if profile == "smoke" else 1e-3)
    assert methods.resolve("models", "multivae", "paper", {}).capacity_steps == 25_000
