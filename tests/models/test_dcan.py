"""DCAN's networks, its three updates, what it draws, when it ends, and that it says when it collapses."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.optim import SGD, Adam

from robust_cluster.data.base import Batch, DataInfo, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.adversarial.base import SampleSchedule
from robust_cluster.models.adversarial.dcan import DCAN, Config
from robust_cluster.models.base import Embedding
from robust_cluster.nn.adversarial import discriminator_loss, frozen, generator_loss
from robust_cluster.nn.mixture import HardMixture
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context
from tests.models.conftest import widths


def info(*shape: int, bounds: tuple[float, float] | None = None, n_clusters: int = 3) -> DataInfo:
    return DataInfo("toy", (shape,), 100, n_clusters, bounds, 1.0, "")


def small(**settings: Any) -> DCAN:
    """An encoder 6-8-4 and a discriminator 4-5-1, three clusters."""
    torch.manual_seed(0)
    settings = {"hidden": [8], "critic": 5, "n_init": 1, **settings}
    model = methods.new_model("dcan", settings, info(6), 4)
    assert isinstance(model, DCAN)
    return model


def begun(vectors: Batch, **settings: Any) -> DCAN:
    model = small(**settings)
    model.start("cluster", lambda: embed(model, vectors.views), seed=0)
    return model


def plain(model: DCAN) -> dict[str, Any]:
    """Optimizers without momentum, lr 0.1 for encoder and discriminator."""
    return {
        "encoder": SGD(model.encoder.parameters(), lr=0.1),
        "discriminator": SGD(model.discriminator.parameters(), lr=0.1),
        "decoder": Adam(model.decoder.parameters(), lr=1e-3),
    }


def test_the_networks_of_mnist_have_the_published_widths_and_tanh_codes() -> None:
    model = methods.new_model("dcan", {}, info(1, 28, 28, bounds=(0.0, 1.0), n_clusters=10), 256)
    assert isinstance(model, DCAN)
    assert widths(model.encoder) == [(196, 384), (384, 256)]
    assert widths(model.discriminator) == [(256, 16), (16, 1)]
    assert widths(model.decoder) == [(256, 384), (384, 196)]
    images = torch.rand(3, 1, 28, 28)
    z = model.encode((images,)).z
    assert z.abs().max() < 1
    (decoded,) = model.decode(z)
    assert decoded.shape == images.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert decoded[:, :, ::2, ::2].equal(decoded[:, :, 1::2, 1::2])


def test_reuters_and_features_have_theirs_by_settings() -> None:
    reuters = methods.new_model("dcan", {"hidden": [100], "critic": 100}, info(2000), 500)
    features = methods.new_model("dcan", {"hidden": [1024, 512]}, info(2048), 128)
    assert widths(reuters.encoder) == [(2000, 100), (100, 500)]  # type: ignore[arg-type]
    assert widths(reuters.discriminator) == [(500, 100), (100, 1)]  # type: ignore[arg-type]
    assert widths(features.encoder) == [(2048, 1024), (1024, 512), (512, 128)]  # type: ignore[arg-type]


def test_pooling_takes_the_means_of_pixels_and_keeps_the_images_mean() -> None:
    model = methods.new_model("dcan", {}, info(1, 4, 6, bounds=(0.0, 1.0)), 4)
    assert isinstance(model, DCAN)
    torch.manual_seed(0)
    image = torch.randint(0, 256, (5, 1, 4, 6)).double() / 256  # dyadic: sums of these are exact
    found = model.pixels((image,))
    assert found.shape == (5, 6)
    assert found[0, 0] == image[0, 0, :2, :2].mean()
    assert (4 * found.sum(dim=1)).equal(image.flatten(1).sum(dim=1))


def test_images_that_come_as_vectors_are_pooled_when_their_side_is_given() -> None:
    torch.manual_seed(0)
    images = torch.rand(5, 1, 4, 6)
    model = methods.new_model("dcan", {"side": 4}, info(24, bounds=(0.0, 1.0)), 4)
    assert isinstance(model, DCAN)
    assert widths(model.encoder)[0][0] == 6
    assert model.pixels((images.flatten(1),)).equal(nn.AvgPool2d(2)(images).flatten(1))
    (decoded,) = model.decode(model.encode((images.flatten(1),)).z)
    assert decoded.shape == (5, 24)
    assert decoded[:, 0].equal(decoded[:, 7])  # rows of 6: the first pixel and its neighbor below to the right
    assert not decoded[:, 0].equal(decoded[:, 2])


def test_vectors_are_not_pooled_but_may_be_scaled() -> None:
    x = torch.randn(3, 6)
    model = small(scale=0.5)
    assert model.pixels((x,)).equal(x)
    assert model.encode((x,)).z.equal(model.encoder(0.5 * x))
    assert model.decode(model.encode((x,)).z)[0].shape == (3, 6)
    assert small(latent_act="linear").encode((100 * x,)).z.abs().max() > 1


@pytest.mark.parametrize("game", ["saturating", "nonsaturating"])
@pytest.mark.parametrize("draw", ["sample", "mean"])
def test_a_step_is_one_em_pass_then_an_ascent_of_d_then_a_descent_of_g(vectors: Batch, game: Any, draw: Any) -> None:
    """Each update worked out apart: Eqs. 15 and 17 with z* a constant, Eq. 18 on the updated D, 16 of the 60 rows."""
    model = begun(vectors, adv_loss=game, draw=draw)
    twin, optimizers = copy.deepcopy(model), plain(model)
    torch.manual_seed(7)
    model.step(vectors, "cluster", optimizers)

    codes = twin.encoder(vectors.views[0]).detach()
    twin.mixture.update(codes)
    labels = twin.mixture.labels(codes[:16])
    torch.manual_seed(7)
    noise = torch.randn(16, 4) * (draw == "sample")
    real = (twin.mixture.means[labels] + noise / twin.mixture.precisions[labels].sqrt()).clamp(-0.999, 0.999)
    d = [twin.discriminator(points).sigmoid() for points in (codes[:16], real)]
    ascend(twin.discriminator, (1 - d[0]).log().mean() + d[1].log().mean())
    fooled = twin.discriminator(twin.encoder(vectors.views[0][:16])).sigmoid()
    ascend(twin.encoder, -(1 - fooled).log().mean() if game == "saturating" else fooled.log().mean())
    for name in ("mixture", "discriminator", "encoder"):
        found, expected = getattr(model, name).state_dict(), getattr(twin, name).state_dict()
        assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected), name
    assert not same(model.decoder, twin.decoder)


def test_a_critic_of_pairs_sees_each_code_and_each_draw_beside_another_draw_of_its_component(vectors: Batch) -> None:
    model = begun(vectors, critic_sees="pair", draw="mean")  # a draw is its component's mean: nothing is random
    assert widths(model.discriminator) == [(8, 5), (5, 1)]
    twin, optimizers = copy.deepcopy(model), plain(model)
    model.step(vectors, "cluster", optimizers)

    codes = twin.encoder(vectors.views[0]).detach()
    twin.mixture.update(codes)
    means = twin.mixture.means[twin.mixture.labels(codes[:16])]
    d = [twin.discriminator(torch.cat([points, means], dim=1)).sigmoid() for points in (codes[:16], means)]
    ascend(twin.discriminator, (1 - d[0]).log().mean() + d[1].log().mean())
    z = twin.encoder(vectors.views[0][:16])
    ascend(twin.encoder, -(1 - twin.discriminator(torch.cat([z, means], dim=1)).sigmoid()).log().mean())
    for name in ("discriminator", "encoder"):
        assert same(getattr(model, name), getattr(twin, name), atol=1e-5), name


def test_both_points_of_a_pair_are_draws_of_one_component_and_differ(vectors: Batch) -> None:
    model = begun(vectors, critic_sees="pair")
    labels = torch.tensor([0, 2])
    point, other = model.shown(torch.zeros(2, 4), labels).chunk(2, dim=1)
    assert point.equal(torch.zeros(2, 4))
    many = torch.stack([model.shown(torch.zeros(2, 4), labels)[:, 4:] for _ in range(2000)])
    torch.testing.assert_close(many.mean(dim=0), model.mixture.means[labels], atol=0.05, rtol=0)
    assert not other.equal(many[0])


def test_the_closed_objective_descends_to_the_components_means_without_a_discriminator(vectors: Batch) -> None:
    model = begun(vectors, objective="closed")
    twin = copy.deepcopy(model)
    values = model.step(vectors, "cluster", plain(model))
    codes = twin.encoder(vectors.views[0])
    twin.mixture.update(codes.detach())
    means = twin.mixture.means[twin.mixture.labels(codes)]
    ascend(twin.encoder, -0.5 * (codes - means)[:16].square().sum(dim=1).mean())  # Lemma 1
    assert same(model.encoder, twin.encoder, atol=1e-6)
    assert same(model.discriminator, twin.discriminator)
    assert values.keys() == {"clustering", "reconstruction"}


def test_codes_through_a_sigmoid_and_their_draws_stay_between_0_and_1(vectors: Batch) -> None:
    model = begun(vectors, latent_act="sigmoid")
    low, high = model.encode((100 * vectors.views[0],)).z.aminmax()
    assert 0 <= low < 0.5 < high <= 1
    model.mixture.precisions.fill_(0.01)
    draws = model.draws(torch.zeros(50, dtype=torch.int64), torch.randn(50, 4))
    assert (draws.min().item(), draws.max().item()) == pytest.approx((0.001, 0.999), rel=1e-3)
    with torch.no_grad():
        health = model.health(Embedding(torch.tensor([[0.96, 0.04, 0.94, 0.5]]).repeat(4, 1), ()))
    assert health["saturated"] == 0.5


def test_an_oracles_components_are_the_classes_and_not_what_lies_nearest(vectors: Batch) -> None:
    """Classes that no mixture would find: every third row, while the clusters lie otherwise."""
    classes = torch.eye(3)[torch.arange(60) // 20]
    known = DataInfo("oracle:toy", ((6,), (3,)), 60, 3, None, 1.0, "")
    model = methods.new_model("dcan", {"oracle": True, "hidden": [8], "critic": 5}, known, 4)
    assert isinstance(model, DCAN)
    batch = Batch((vectors.views[0], classes), vectors.index)
    z = embed(model, batch.views).z
    means = torch.stack([z[k * 20 : k * 20 + 20].mean(dim=0) for k in range(3)])
    model.start("cluster", lambda: embed(model, batch.views), seed=0)
    torch.testing.assert_close(model.mixture.means, means)
    model.mixture.means.zero_()
    model.step(batch, "cluster", plain(model))
    torch.testing.assert_close(model.mixture.means, means)
    model.mixture.means.zero_()
    z = embed(model, batch.views).z
    model.finish("cluster", lambda: embed(model, batch.views), seed=0)
    torch.testing.assert_close(model.mixture.means[2], z[40:].mean(dim=0))
    assert not model.components(embed(model, batch.views)).equal(model.labels(z))


def ascend(net: nn.Module, value: Tensor) -> None:
    """w += 0.1 * gradient."""
    gradients = torch.autograd.grad(value, list(net.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.add_(gradient, alpha=0.1)


def test_neither_net_moves_when_the_other_does(vectors: Batch) -> None:
    for mover, other in (("encoder", "discriminator"), ("discriminator", "encoder")):
        model = begun(vectors)
        optimizers = plain(model)
        optimizers[other].param_groups[0]["lr"] = 0.0
        before = copy.deepcopy(model)
        model.step(vectors, "cluster", optimizers)
        assert same(getattr(model, other), getattr(before, other))
        assert not same(getattr(model, mover), getattr(before, mover))


def same(net: nn.Module, other: nn.Module, atol: float = 0.0) -> bool:
    theirs = other.state_dict()
    return all(torch.allclose(value, theirs[key], rtol=0, atol=atol) for key, value in net.state_dict().items())


def test_the_decoder_reads_the_codes_and_the_encoder_hears_nothing_of_it(vectors: Batch) -> None:
    model = begun(vectors)
    model.losses(vectors, "cluster")["reconstruction"].backward()
    assert all(parameter.grad is None for parameter in [*model.encoder.parameters(), *model.discriminator.parameters()])
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())
    model.zero_grad()
    model.losses(vectors, "cluster")["adversarial"].backward()
    assert all(parameter.grad is None for parameter in [*model.decoder.parameters(), *model.discriminator.parameters()])
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_draws_of_a_tanh_space_stay_inside_it_and_carry_no_gradient(vectors: Batch) -> None:
    model = begun(vectors)
    model.mixture.precisions.fill_(0.01)
    z = model.encode(vectors.views).z.detach()
    real = model.draws(model.mixture.labels(z), torch.randn_like(z))
    assert (real.min().item(), real.max().item()) == pytest.approx((-0.999, 0.999))
    assert not real.requires_grad
    linear = begun(vectors, latent_act="linear")
    linear.mixture.precisions.fill_(0.01)
    assert linear.draws(linear.mixture.labels(z), torch.randn_like(z)).abs().max() > 2


def test_drawing_the_mean_gives_each_code_its_components_mean(vectors: Batch) -> None:
    model = begun(vectors, draw="mean")
    z = model.encode(vectors.views).z.detach()
    assert model.draws(model.mixture.labels(z), torch.randn_like(z)).equal(model.mixture.means[model.mixture.labels(z)])


def test_learning_rates_fall_geometrically_from_the_first_step_to_the_last(vectors: Batch) -> None:
    model = begun(vectors, cluster={"epochs": 2, "steps_per_epoch": 3})
    optimizers, rates = model.optimizers("cluster"), []
    for _ in range(6):
        rates.append([optimizers[name].param_groups[0]["lr"] for name in ("encoder", "discriminator", "decoder")])
        model.step(vectors, "cluster", optimizers)
    expected = [1e-3 * 1e-2 ** (step / 5) for step in range(6)]
    assert [rate[0] for rate in rates] == pytest.approx(expected)
    assert [rate[1] for rate in rates] == pytest.approx(expected)
    assert {rate[2] for rate in rates} == {1e-3}
    assert all(optimizers[name].param_groups[0]["momentum"] == 0.9 for name in ("encoder", "discriminator"))


def test_the_rates_also_fall_over_whole_epochs(vectors: Batch) -> None:
    model = small(cluster={"epochs": 2, "steps_per_epoch": None, "batch_size": 50})  # 100 rows: 2 steps an epoch
    assert model.decay == pytest.approx(1e-2 ** (1 / 3))


@pytest.mark.slow
def test_codes_are_drawn_to_their_mean_by_d_with_means_and_not_with_draws() -> None:
    """Mean cosine of the gradient of ln(1 - D) at z with z - eta, D trained on fixed Gaussian clusters."""
    torch.manual_seed(0)
    eta = 0.5 * torch.tensor([[1.0, 1, 0, 0], [-1, 1, 0, 0], [0, -1, 1, 0]])
    labels = torch.arange(600) % 3
    z = eta[labels] + 0.1 * torch.randn(600, 4)
    cosines = {}
    for draw in ("sample", "mean"):
        model = small(draw=draw, critic=32)
        model.mixture.fit(z, labels)
        optimizer = Adam(model.discriminator.parameters(), lr=0.01)
        for _ in range(250):
            optimizer.zero_grad()
            real = model.draws(model.mixture.labels(z), torch.randn_like(z))
            discriminator_loss(model.discriminator(z), model.discriminator(real)).backward()
            optimizer.step()
        points = z.clone().requires_grad_()
        loss = generator_loss(frozen(model.discriminator, points), "saturating")
        (gradient,) = torch.autograd.grad(loss, points)
        cosines[draw] = torch.cosine_similarity(gradient, z - eta[labels]).mean().item()
    assert cosines["mean"] > 0.3
    assert abs(cosines["sample"]) < 0.15


def test_the_start_is_k_means_on_the_codes(vectors: Batch) -> None:
    model = small(n_init=3)
    z = embed(model, vectors.views).z
    torch.manual_seed(0)
    model.start("cluster", lambda: Embedding(z, (z,)), seed=3)
    torch.manual_seed(0)
    order = torch.randperm(60)
    expected = KMeans(3, n_init=3, random_state=3).fit(z[order].numpy())
    torch.testing.assert_close(model.mixture.means, torch.as_tensor(expected.cluster_centers_), rtol=1e-4, atol=1e-5)
    assert model.mixture.weights.tolist() == pytest.approx([1 / 3] * 3)
    assert model.labels(z)[order].tolist() == expected.labels_.tolist()
    assert model.start_variance.item() == pytest.approx(z.var(dim=0, correction=0).sum().item())
    assert model.refit_labels(z[order], seed=3).tolist() == expected.labels_.tolist()


def test_the_end_is_ten_em_passes_over_all_codes(vectors: Batch) -> None:
    model = begun(vectors, assign="eq22")
    z = torch.randn(40, 4)
    expected = HardMixture(3, 4, "eq22")
    expected.load_state_dict(model.mixture.state_dict())
    for _ in range(10):
        expected.update(z)
    model.finish("cluster", lambda: Embedding(z, (z,)), seed=0)
    assert model.mixture.means.equal(expected.means)
    assert model.labels(z).equal(expected.labels(z))


@pytest.mark.parametrize("rule", ["nearest", "eq22", "full"])
def test_labels_follow_the_chosen_rule_and_soft_labels_have_exact_logarithms(vectors: Batch, rule: Any) -> None:
    model = begun(vectors, assign=rule)
    z = torch.randn(50, 4)
    assert model.mixture.rule == rule
    assert model.labels(z).equal(model.mixture.labels(z))
    torch.testing.assert_close(model.log_assign(z).exp(), model.assign(z))


def test_mode_clean_ends_when_the_codes_have_contracted_and_mode_paper_never(vectors: Batch) -> None:
    for mode, expected in (("clean", "latent variance below 25% of its start"), ("paper", None)):
        model = begun(vectors, mode=mode)
        assert model.stop_reason() is None
        z = embed(model, vectors.views).z
        model.after_epoch("cluster", 1, lambda z=z: Embedding(0.51 * z, ()), seed=0)  # type: ignore[misc]
        assert model.stop_reason() is None
        model.after_epoch("cluster", 2, lambda z=z: Embedding(0.49 * z, ()), seed=0)  # type: ignore[misc]
        assert model.stop_reason() == expected


def test_modes_are_500_steps_from_a_random_encoder_and_up_to_20_000_from_an_autoencoder() -> None:
    paper, clean = (methods.resolve("models", "dcan", "paper", {"mode": mode}) for mode in ("paper", "clean"))
    assert (paper.cluster.epochs * paper.cluster.steps_per_epoch, DCAN.has_pretraining(paper)) == (500, False)
    assert (clean.cluster.epochs * clean.cluster.steps_per_epoch, DCAN.has_pretraining(clean)) == (20_000, True)
    assert (clean.cluster.batch_size, clean.minibatch, clean.draw, clean.assign) == (600, 16, "sample", "nearest")


def test_600_codes_are_taken_of_small_data_sets_too() -> None:
    schedule = Config().cluster
    assert [schedule.batch(n) for n in (50_000, 1797, 400)] == [600, 600, 400]
    assert isinstance(methods.resolve("models", "dcan", "smoke", {}).cluster, SampleSchedule)


def test_health_is_worked_out_from_codes_weights_and_sizes(vectors: Batch) -> None:
    model = begun(vectors)
    z = embed(model, vectors.views).z
    with torch.no_grad():
        fresh = model.health(Embedding(z, (z,)))
        next(model.encoder.parameters()).mul_(1.5)
        before, now = model.fit.parts["first_encoder"], model.encoder
        model.after_epoch("cluster", 1, lambda: Embedding(0.5 * z, ()), seed=0)
        moved = model.health(Embedding(0.5 * z, ()))
    assert fresh["latent_variance"] == pytest.approx(z.var(dim=0, correction=0).sum().item())
    assert (fresh["latent_variance_share"], moved["latent_variance_share"]) == pytest.approx((1, 0.25))
    assert (fresh["smallest_cluster"], fresh["encoder_displacement"]) == (20, 0)
    weights = [nn.utils.parameters_to_vector(net.parameters()) for net in (now, before)]
    expected = (weights[0] - weights[1]).norm() / weights[1].norm()
    assert moved["encoder_displacement"] == pytest.approx(expected.item())
    assert moved["discriminator_displacement"] == 0


def test_health_tells_how_many_entries_of_the_codes_are_at_the_ends_of_tanh(vectors: Batch) -> None:
    model = begun(vectors)
    z = torch.tensor([0.95, -0.95, 0.85, 0.0]).repeat(4, model.latent_dim // 4)
    with torch.no_grad():
        assert model.health(Embedding(z, ()))["saturated"] == 0.5
        linear = begun(vectors, latent_act="linear")
        assert "saturated" not in linear.health(embed(linear, vectors.views))


def test_the_game_stands_at_minus_2_ln_2_when_d_tells_nothing_apart(vectors: Batch) -> None:
    model = begun(vectors)
    nn.init.zeros_(model.discriminator[-1].weight)  # type: ignore[arg-type]
    state = torch.get_rng_state()
    with torch.no_grad():
        assert model.health(model.encode(vectors.views))["game_value"] == pytest.approx(-2 * math.log(2))
    assert torch.get_rng_state().equal(state)


def test_a_pool_that_does_not_divide_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"pool must divide both sides of the image, 8 x 9, got 2 \(--set model.pool=1"
    ):
        DCAN(Config(), info(1, 8, 9), 4)
    with pytest.raises(ConfigError, match="side must divide the vectors' length 24, got 5"):
        DCAN(Config(side=5), info(24), 4)
    with pytest.raises(ConfigError, match=r"side is for images .* vectors \(--flatten\), got 8 for \(1, 8, 8\)"):
        DCAN(Config(side=8), info(1, 8, 8), 4)


def test_a_run_that_ends_in_one_cluster_is_flagged_and_scores_0(tmp_path: Path) -> None:
    """Codes of a random encoder that are shrunk to one point, where the largest component takes all."""
    few = load(DataRef("digits", limit=300), Folders())
    settings = {"mode": "paper", "assign": "eq22", "scale": 1e-3, "hidden": [16], "cluster.epochs": 1}
    overrides = {f"model.{name}": value for name, value in {**settings, "cluster.steps_per_epoch": 10}.items()}
    specs = plan(Request("cluster", few.ref, "dcan", latent_dim=4, profile="smoke", overrides=overrides), few.info)
    (record,) = execute(specs, Context(RunStore(tmp_path), few, "smoke", device="cpu", threads=1))
    assert record["flags"] == ["collapsed"]
    assert record["metrics"]["NMI"] == 0 < record["metrics"]["NMI_refit"]
    assert record["health"]["clusters_used"] == 1
    assert record["health"]["smallest_cluster"] == 0
