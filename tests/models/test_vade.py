"""VaDE's loss sample by sample, its start from a mixture, and what its prior does in training."""

import math
from dataclasses import replace
from typing import Any, Literal, cast

import pytest
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import Embedding, Phase
from robust_cluster.models.schedule import StepwiseSchedule
from robust_cluster.models.variational.vade import Config, VaDE
from robust_cluster.runs.seeds import generator
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, plan
from robust_cluster.stages.loop import Batches
from tests.models.conftest import Build


@pytest.fixture
def vade(build: Build) -> VaDE:
    """With a prior of no symmetry."""
    model = cast(VaDE, build("vade"))
    for parameter in model.prior.parameters():
        nn.init.normal_(parameter)
    return model


def test_the_loss_is_the_published_sum_sample_by_sample(vade: VaDE, batch: Batch) -> None:
    """Eq. 4 of LPVDN with the 1/2 that its second line lacks; decoder and gamma see the same draw."""
    vade.requires_grad_(False)
    torch.manual_seed(1)
    terms = vade.losses(batch, "cluster")
    torch.manual_seed(1)
    eps = torch.randn(100, 8)
    prior = vade.prior
    pi, widths = prior.logits.softmax(dim=0), prior.log_vars.exp()
    expected = {"reconstruction": 0.0, "prior": 0.0, "components": 0.0}
    for i, x in enumerate(batch.views[0]):
        mean, log_var = (v[0] for v in vade.network.encode(x[None]))
        z = mean + (log_var / 2).exp() * eps[i]
        expected["reconstruction"] += float((x - vade.network.decode(z[None])[0]).square().sum()) / 100
        density = (-0.5 * ((z - prior.means).square() / widths + prior.log_vars)).sum(dim=1)
        gamma = (pi.log() + density).softmax(dim=0)
        kl_z = 0.5 * (prior.log_vars + log_var.exp() / widths + (mean - prior.means).square() / widths).sum(dim=1)
        expected["prior"] += float((gamma * kl_z).sum() - 0.5 * (1 + log_var).sum()) / 100
        expected["components"] += float(torch.xlogy(gamma, gamma / pi).sum()) / 100
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_a_loss_takes_one_draw(vade: VaDE, batch: Batch) -> None:
    torch.manual_seed(1)
    vade.losses(batch, "cluster")
    after = torch.get_rng_state()
    torch.manual_seed(1)
    torch.randn(100, 8)
    assert torch.get_rng_state().equal(after)


def test_a_shared_forward_pass_costs_the_same(vade: VaDE, batch: Batch) -> None:
    torch.manual_seed(1)
    expected = vade.losses(batch, "cluster")
    torch.manual_seed(1)
    torch.testing.assert_close(vade.losses(batch, "cluster", vade(batch.views)), expected)


def test_pretraining_is_a_plain_autoencoder_that_leaves_variances_and_prior_alone(vade: VaDE, batch: Batch) -> None:
    x = batch.views[0]
    terms = vade.losses(batch, "pretrain")
    expected = F.mse_loss(vade.decode(vade.encode((x,)).z)[0], x)
    assert list(terms) == ["reconstruction"]
    torch.testing.assert_close(terms["reconstruction"], expected)
    terms["reconstruction"].backward()
    learned = {name for name, parameter in vade.named_parameters() if parameter.grad is not None}
    assert learned == {
        name for name, _ in vade.named_parameters() if not name.startswith(("prior.", "network.log_var."))
    }


def test_the_start_puts_the_prior_on_a_mixture_of_all_means_and_labels_as_it_does(
    build: Build, digits: Dataset
) -> None:
    model = cast(VaDE, build("vade"))
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    z = embed(model, digits.views).z
    model.start("cluster", lambda: Embedding(z, (z,)), seed=3)
    mixture = GaussianMixture(10, covariance_type="diag", random_state=3).fit(z.double().numpy())
    agreement = (model.labels(z) == torch.tensor(mixture.predict(z.double().numpy()))).float().mean()
    assert agreement > 0.999
    assert float(model.prior.log_weights().exp().sum().detach()) == pytest.approx(1)
    assert all(value.equal(before[name]) for name, value in model.network.state_dict().items())


def test_the_log_variance_head_may_start_as_the_mean_head_and_then_trains_by_itself(
    build: Build, digits: Dataset, batch: Batch
) -> None:
    model = cast(VaDE, build("vade", log_var_start="mean"))
    model.start("pretrain", lambda: embed(model, digits.views), seed=3)
    mean, log_var = model.network.encode(batch.views[0])
    assert not mean.equal(log_var)
    model.start("cluster", lambda: embed(model, digits.views), seed=3)
    mean, log_var = model.network.encode(batch.views[0])
    assert mean.equal(log_var)
    model.step(batch, "cluster", model.optimizers("cluster"))
    mean, log_var = model.network.encode(batch.views[0])
    assert not mean.equal(log_var)


@pytest.mark.parametrize(("start", "least", "most"), [("means", 0.0, 0.85), ("draws", 0.95, 1.0)])
def test_draws_keep_the_labels_of_their_means_where_the_prior_is_the_density_of_draws(
    start: Literal["means", "draws"], least: float, most: float
) -> None:
    """Three groups of widths 0.6, 0.75 and 0.9 in 64 dimensions, as a pretrained table of 13 columns has them."""
    torch.manual_seed(0)
    info = DataInfo("toy", ((13,),), 180, 3, None, 1.0, "")
    model = VaDE(Config(hidden=(32,), prior_start=start), info, 64)
    own = torch.arange(180) % 3
    z = 0.6 * torch.randn(3, 64)[own] + torch.tensor([0.6, 0.75, 0.9])[own, None] * torch.randn(180, 64)
    log_var = model.encode((torch.randn(180, 13),)).log_var
    assert log_var is not None
    embedding = Embedding(z, (z,), log_var.detach())
    model.start("cluster", lambda: embedding, seed=0)
    labels, drawn = model.labels(z), model.labels(embedding.draw())
    assert least <= float((drawn == labels).float().mean()) <= most
    mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(z.double().numpy())
    added = model.prior.log_vars.detach().exp() - torch.tensor(mixture.covariances_, dtype=torch.float32)
    expected = torch.zeros(64) if start == "means" else log_var.detach().exp().mean(dim=0)
    torch.testing.assert_close(added, expected.expand(3, 64), rtol=1e-3, atol=1e-5)
    if start == "means":
        widest = model.prior.log_vars.mean(dim=1).argmax()
        assert (drawn[drawn != labels] == widest).float().mean() > 0.8


def test_data_that_a_sigmoid_cannot_give_start_with_a_prior_of_draws_and_small_steps(digits: Dataset) -> None:
    """Pixels in [0, 1] keep the published start and step; whoever asks for a mode gets it."""

    def asked(bounds: tuple[float, float] | None, model: str = "vade", **settings: Any) -> tuple[str, str, float]:
        info = replace(digits.info, bounds=bounds)
        made = plan(Request("cluster", digits.ref, model, overrides=settings), info)[-1].settings["model"]
        return made["mode"], made.get("prior_start", "means"), made["cluster"]["lr"]

    assert asked((0.0, 1.0)) == ("images", "means", 2e-3)
    assert asked(None) == ("linear", "draws", 2e-4)
    assert asked(None, "lpvdn") == ("linear", "draws", 2e-4)
    assert asked(None, **{"model.mode": "images"}) == ("images", "means", 2e-3)
    assert asked(None, **{"model.prior_start": "means", "model.cluster.lr": 1e-3}) == ("linear", "means", 1e-3)


def test_pretraining_may_drop_a_share_of_the_inputs_and_is_scored_on_all_of_them(build: Build, batch: Batch) -> None:
    model = cast(VaDE, build("vade", corruption=0.3))
    x = batch.views[0]
    torch.manual_seed(1)
    found = model.losses(batch, "pretrain")["reconstruction"]
    torch.manual_seed(1)
    kept = F.dropout(x, 0.3)
    share = float((kept[x != 0] == 0).float().mean())
    assert share == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(found, (model.network.decode(model.network.encode(kept)[0]) - x).square().mean())
    clean = cast(VaDE, build("vade"))
    before = torch.get_rng_state()
    clean.losses(batch, "pretrain")
    assert torch.get_rng_state().equal(before), "without a share nothing is drawn"


def test_labels_are_the_likeliest_components_of_the_mean(vade: VaDE, batch: Batch) -> None:
    z = vade.encode(batch.views).z
    gamma = vade.prior.log_responsibilities(z).exp()
    assert vade.assign(z).equal(gamma)
    assert vade.labels(z).equal(gamma.argmax(dim=1))
    assert vade.log_assign(1e3 * z).isfinite().all()


def test_after_an_epoch_every_part_of_the_prior_has_moved_and_no_component_is_empty(
    build: Build, digits: Dataset
) -> None:
    model, views = cast(VaDE, build("vade", hidden=(64,), pretrain={"lr": 5e-3})), (digits.views[0][:600],)
    before: dict[str, Tensor] = {}
    phases: tuple[tuple[Phase, int], ...] = (("pretrain", 30), ("cluster", 1))
    for phase, epochs in phases:
        model.start(phase, lambda: embed(model, views), seed=0)
        before = {name: value.clone() for name, value in model.prior.state_dict().items()}
        optimizers = model.optimizers(phase)
        batches = Batches(views, model.schedule(phase), generator(0))
        for _ in range(epochs):
            for rows in batches.epoch():
                model.step(rows, phase, optimizers)
    for name, value in model.prior.state_dict().items():
        assert (value != before[name]).all(), name
    health = model.health(embed(model, views))
    assert health["smallest_component"] >= 1 / 600
    assert health["pi_min"] > 0.01


def test_health_tells_a_prior_of_one_component_from_one_of_many(vade: VaDE, batch: Batch) -> None:
    embedding = vade.encode(batch.views)
    with torch.no_grad():
        vade.prior.logits.zero_()
        uniform = vade.health(embedding)
        vade.prior.logits[0] = 50.0
        one = vade.health(embedding)
    assert (uniform["pi_min"], uniform["pi_max"]) == pytest.approx((0.1, 0.1))
    assert uniform["effective_components"] == pytest.approx(10)
    assert (one["pi_max"], one["effective_components"]) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert one["smallest_component"] == 0


def test_the_defaults_are_the_published_schedule_for_images() -> None:
    config = methods.resolve("models", "vade", "paper", {})
    assert (config.hidden, config.pretrain.epochs, config.pretrain.lr) == ((500, 500, 2000), 50, 1e-3)
    schedule = config.cluster
    assert isinstance(schedule, StepwiseSchedule)
    assert (schedule.epochs, schedule.batch_size, schedule.lr) == (300, 800, 2e-3)
    rate = 2e-3
    for epoch in range(1, 301):
        rate *= schedule.lr_ratio(epoch)
        assert rate == pytest.approx(2e-3 * 0.95 ** (epoch // 10))


@pytest.mark.parametrize(("mode", "epochs"), [("reuters", 300), ("reuters10k", 50)])
def test_the_modes_for_text_have_larger_batches_and_smaller_steps(mode: str, epochs: int) -> None:
    config = methods.resolve("models", "vade", "paper", {"mode": mode})
    assert (config.cluster.epochs, config.cluster.batch_size, config.cluster.lr) == (epochs, 1000, 2e-4)
    assert (config.pretrain.batch_size, config.cluster.lr_ratio(10)) == (1000, 0.95)


def test_one_cluster_has_a_loss_and_one_label() -> None:
    torch.manual_seed(0)
    info = DataInfo("toy", ((6,),), 50, 1, None, 1.0, "")
    model = VaDE(Config(hidden=(8,)), info, 2)
    batch = Batch((torch.randn(50, 6),), torch.arange(50))
    model.start("cluster", lambda: embed(model, batch.views), seed=0)
    terms = model.losses(batch, "cluster")
    assert all(math.isfinite(term.item()) for term in terms.values())
    assert terms["components"].item() == 0
    assert model.labels(model.encode(batch.views).z).unique().tolist() == [0]
