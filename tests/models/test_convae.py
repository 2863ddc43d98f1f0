"""ConvAE's loss is Eq. 3 of ALRDC, and its start puts prior and head on k-means."""

from typing import cast

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.convae import Config, ConvAE
from robust_cluster.stages import methods
from tests.models.conftest import Build, widths


@pytest.fixture
def convae(build: Build) -> ConvAE:
    model = cast(ConvAE, build("convae"))
    nn.init.normal_(model.centers)
    return model


def test_the_loss_is_the_published_sum_sample_by_sample(convae: ConvAE, batch: Batch) -> None:
    convae.requires_grad_(False)
    torch.manual_seed(1)
    terms = convae.losses(batch, "cluster")
    torch.manual_seed(1)
    eps = torch.randn(100, 8)
    expected = {"reconstruction": 0.0, "prior": 0.0, "entropy": 0.0}
    for i, x in enumerate(batch.views[0]):
        mean, log_var = (v[0] for v in convae.autoencoder.encode(x[None]))
        y = convae.head(mean).softmax(dim=0)
        decoded = convae.autoencoder.decode((mean + (log_var / 2).exp() * eps[i])[None])[0]
        expected["reconstruction"] += 2.5 * float((x - decoded).square().sum()) / 100
        for k in range(10):
            divergence = 0.5 * (log_var.exp() + (mean - convae.centers[k]).square() - 1 - log_var).sum()
            expected["prior"] += float(y[k] * divergence) / 100
            expected["entropy"] += float(y[k] * (y[k] + 1e-7).log()) / 100
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_a_doubled_batch_costs_the_same(convae: ConvAE, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every term is a mean over the batch; the draw is doubled too."""
    eps = torch.randn(100, 8)
    monkeypatch.setattr(torch, "randn_like", lambda like: eps.repeat(len(like) // 100, 1))
    x = batch.views[0]
    twice = Batch((torch.cat([x, x]),), torch.cat([batch.index, batch.index]))
    once = convae.losses(batch, "cluster")
    torch.testing.assert_close(convae.losses(twice, "cluster"), once)


def test_head_and_prior_see_the_mean_and_the_decoder_sees_the_draw(convae: ConvAE, batch: Batch) -> None:
    torch.manual_seed(1)
    outputs = convae(batch.views)
    assert outputs.soft_labels.equal(convae.assign(convae.encode(batch.views).z))
    assert outputs.decoded[0].equal(convae.decode(outputs.z_drawn)[0])
    assert not outputs.z_drawn.equal(outputs.embedding.z)


def test_the_clean_start_puts_the_prior_on_k_means_centers_and_the_head_on_its_labels(
    build: Build, digits: Dataset
) -> None:
    convae = cast(ConvAE, build("convae", head=(256, 256, 128), n_init=2))
    untouched = {name: value.clone() for name, value in convae.autoencoder.state_dict().items()}
    embedding = embed(convae, (digits.views[0][:600],))
    z = embedding.z
    torch.manual_seed(0)
    convae.start("cluster", lambda: embedding, seed=3)
    expected = KMeans(10, n_init=2, random_state=3).fit(z.numpy())
    torch.testing.assert_close(convae.centers.detach(), torch.as_tensor(expected.cluster_centers_))
    agreement = (convae.labels(z) == torch.as_tensor(expected.labels_)).float().mean().item()
    assert agreement >= 0.99
    kept = {name: value for name, value in convae.autoencoder.state_dict().items() if not name.startswith("log_var")}
    assert all(value.equal(untouched[name]) for name, value in kept.items())


def test_the_log_variance_starts_at_the_constant_of_least_joint_loss(build: Build, digits: Dataset) -> None:
    """Neither a larger nor a smaller variance, the same for all, gives a lower reconstruction plus prior term."""
    model = build("convae", n_init=2, head_steps=0, mode="clean")
    model.start("cluster", lambda: embed(model, digits.views), seed=3)
    assert isinstance(model, ConvAE)
    head = model.autoencoder.log_var
    start = head.bias.detach().clone()
    assert not head.weight.any()
    assert start.unique().numel() == 1
    rows = Batch(digits.views, torch.arange(len(digits.views[0])))

    def joint_loss(shift: float) -> float:
        with torch.no_grad():
            head.bias.copy_(start + shift)
            torch.manual_seed(0)
            terms = model.losses(rows, "cluster")
        return float(terms["reconstruction"] + terms["prior"])

    assert joint_loss(0.0) < min(joint_loss(-0.7), joint_loss(0.7))


def test_mode_paper_starts_from_zero_means_an_untrained_head_and_no_pretraining(build: Build, digits: Dataset) -> None:
    model = cast(ConvAE, build("convae", mode="paper"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.start("cluster", lambda: embed(model, digits.views), seed=3)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert model.centers.count_nonzero() == 0
    assert (ConvAE.has_pretraining(model.config), ConvAE.has_pretraining(Config())) == (False, True)


def test_mode_paper_trains_50_epochs_of_100_samples_and_mode_clean_300_of_50_steps() -> None:
    paper = methods.resolve("models", "convae", "paper", {"mode": "paper"}).cluster
    clean = methods.resolve("models", "convae", "paper", {}).cluster
    assert (paper.epochs, paper.batch_size, paper.steps_per_epoch, paper.window) == (50, 100, None, 0)
    assert (clean.epochs, clean.batch_size, clean.steps_per_epoch, clean.window) == (300, 1000, 50, 10)


@pytest.mark.parametrize("shape", [(1, 28, 28), (64,)], ids=["image", "vector"])
def test_the_published_head_is_1024_1024_512(shape: tuple[int, ...]) -> None:
    model = ConvAE(Config(), DataInfo("toy", (shape,), 100, 10, None, 1.0, ""), 64)
    assert widths(model.head) == [(64, 1024), (1024, 1024), (1024, 512), (512, 10)]
    assert model.centers.shape == (10, 64)
    assert model.decode(model.encode((torch.rand(2, *shape),)).z)[0].shape == (2, *shape)


def test_the_prior_means_receive_a_gradient(convae: ConvAE, batch: Batch) -> None:
    """P16: m is in the optimizer's list and moves towards the samples of its cluster."""
    convae.losses(batch, "cluster")["prior"].backward()
    gradient: Tensor | None = convae.centers.grad
    assert gradient is not None
    y, mean = convae(batch.views).soft_labels, convae.encode(batch.views).z
    expected = (y.T @ torch.ones_like(mean) * convae.centers - y.T @ mean) / 100
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-3, atol=1e-5)
    (group,) = convae.optimizers("cluster")["model"].param_groups
    assert any(parameter is convae.centers for parameter in group["params"])


def test_a_saturated_head_has_exact_logarithms_and_still_a_gradient(convae: ConvAE, batch: Batch) -> None:
    last = cast(nn.Linear, convae.head[-1])
    z = convae.encode(batch.views).z.detach()
    torch.testing.assert_close(convae.log_assign(z).exp(), convae.assign(z))
    with torch.no_grad():
        last.weight.mul_(1e5)
    z.requires_grad_()
    soft, log_y = convae.assign(z), convae.log_assign(z)
    assert (soft.max(dim=1).values == 1).float().mean() > 0.9
    assert log_y.isfinite().all()
    least = log_y.min(dim=1).values.sum()
    (gradient,) = torch.autograd.grad(least, z)
    assert (gradient.abs().sum(dim=1) > 0).all()
    assert least < -1e3 * len(z), "where logarithms of float32 soft labels end at -87"
