"""LPVDN is VaDE where its weights are 0; its two terms, its labels, and that nothing drawn depends on what is off."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.variational.lpvdn import LPVDN, Config
from robust_cluster.models.variational.vade import VaDE
from robust_cluster.nn.tsne import joint_probabilities, locality_kl
from robust_cluster.nn.variational import pair_information
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context
from tests.models.conftest import Build, widths


@pytest.fixture
def lpvdn(build: Build) -> LPVDN:
    return cast(LPVDN, build("lpvdn"))


def steps(model: ClusterModel, batch: Batch, count: int = 4) -> list[dict[str, float]]:
    torch.manual_seed(5)
    optimizers = model.optimizers("cluster")
    return [model.step(batch, "cluster", optimizers) for _ in range(count)]


def gradients(term: Tensor, part: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(term, list(part.parameters()), retain_graph=True, allow_unused=True))


def test_vade_is_lpvdn_with_both_weights_zero(build: Build, batch: Batch, digits: Dataset) -> None:
    plain, off = build("vade"), build("lpvdn", alpha0=0, alpha1=0)
    for model in (plain, off):
        model.start("cluster", lambda model=model: embed(model, digits.views), seed=3)  # type: ignore[misc]
    assert steps(plain, batch) == steps(off, batch)
    z = plain.encode(batch.views).z
    assert z.equal(off.encode(batch.views).z)
    assert plain.assign(z).equal(off.assign(z))


def test_what_is_built_for_a_term_draws_nothing_that_others_draw_after_it(build: Build) -> None:
    after = []
    for name in ("vade", "lpvdn"):
        build(name)
        after.append(torch.get_rng_state())
    assert after[0].equal(after[1])
    first, second = cast(LPVDN, build("lpvdn")), cast(LPVDN, build("lpvdn"))
    assert first.discriminator.first.weight.equal(second.discriminator.first.weight)
    assert not first.discriminator.first.bias[:8].equal(first.network.mean.bias)


@pytest.mark.parametrize(("off", "part"), [("alpha0", "discriminator"), ("alpha1", "f_lp")])
def test_without_its_weight_a_run_is_the_same_bit_for_bit_whether_or_not_its_network_exists(
    build: Build, batch: Batch, off: str, part: str
) -> None:
    settings: dict[str, Any] = {"alpha0": 1.0, "alpha1": 1e-2} | {off: 0.0}
    whole, bare = build("lpvdn", **settings), build("lpvdn", **settings)
    untouched = copy.deepcopy(getattr(whole, part).state_dict())
    delattr(bare, part)
    assert steps(whole, batch) == steps(bare, batch)
    trained = whole.state_dict()
    assert all(value.equal(trained[name]) for name, value in bare.state_dict().items())
    assert all(value.equal(trained[f"{part}.{name}"]) for name, value in untouched.items())


def test_the_terms_are_the_weighted_information_and_locality_of_one_draw(lpvdn: LPVDN, batch: Batch) -> None:
    model = cast(LPVDN, LPVDN(replace(lpvdn.config, alpha0=3.0, mi_scale=0.7, alpha1=0.2), lpvdn.info, 8))
    torch.manual_seed(1)
    terms = model.losses(batch, "cluster")
    torch.manual_seed(1)
    mean, log_var = model.network.encode(batch.views[0])
    z = mean + (log_var / 2).exp() * torch.randn(100, 8)
    assert list(terms) == ["reconstruction", "prior", "components", "information", "locality"]
    information = pair_information(model.discriminator, z, batch.views[0])
    torch.testing.assert_close(terms["information"], 3.0 * 0.7 * information)
    locality = locality_kl(joint_probabilities(mean, 2.0), model.f_lp(mean))
    torch.testing.assert_close(terms["locality"], 0.2 * locality)
    torch.manual_seed(1)
    vade = VaDE.losses(cast(VaDE, model), batch, "cluster")
    torch.testing.assert_close(terms["reconstruction"], vade["reconstruction"])


def test_the_perplexity_is_a_hundredth_of_the_batch_but_at_least_2(lpvdn: LPVDN) -> None:
    assert [lpvdn.config.perplexity(n) for n in (1000, 800, 400, 50)] == [10, 8, 4, 2]


def test_the_locality_term_reaches_the_encoder_through_f_lp_alone(lpvdn: LPVDN, batch: Batch) -> None:
    term = lpvdn.losses(batch, "cluster")["locality"]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(term, lpvdn.f_lp))
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(term, lpvdn.network.body))
    assert gradients(term, lpvdn.prior) == [None] * 3
    assert gradients(term, lpvdn.discriminator) == [None] * 4
    with torch.no_grad():
        for parameter in lpvdn.f_lp[0].parameters():
            parameter.zero_()  # s no longer sees mu~, P still does
    blind = lpvdn.losses(batch, "cluster")["locality"]
    assert blind > 0
    assert all(g is not None and g.count_nonzero() == 0 for g in gradients(blind, lpvdn.network.body))


def test_the_information_term_reaches_encoder_and_discriminator_and_no_other_part(lpvdn: LPVDN, batch: Batch) -> None:
    term = lpvdn.losses(batch, "cluster")["information"]
    for part in (lpvdn.discriminator, lpvdn.network.body, lpvdn.network.log_var):
        assert all(g is not None and g.abs().sum() > 0 for g in gradients(term, part))
    for part in (lpvdn.prior, lpvdn.f_lp, lpvdn.network.decoder):
        assert set(gradients(term, part)) == {None}


@pytest.mark.slow
def test_the_discriminator_learns_to_tell_fresh_pairs(build: Build, digits: Dataset) -> None:
    """The term ends below log 2, its value for a discriminator that tells nothing."""
    model = cast(LPVDN, build("lpvdn", hidden=(64,), discriminator=(128,), alpha0=20.0, alpha1=0.0))
    optimizers = model.optimizers("cluster")
    x = digits.views[0]
    torch.manual_seed(0)
    values = []
    for _ in range(180):
        rows = torch.randperm(1500)[:128]
        values.append(model.step(Batch((x[rows],), rows), "cluster", optimizers)["information"] / 20)
    assert sum(values[-20:]) / 20 < 0.6 * math.log(2) < math.log(2) / 1.01 < values[0]
    fresh = x[1500:]
    with torch.no_grad():
        own, other = model.discriminator(model.encode((fresh,)).draw(), fresh)
    assert float(torch.cat([own > 0, other < 0]).float().mean()) > 0.9


def test_labels_are_k_means_on_s_and_can_be_told_from_z_alone(lpvdn: LPVDN, digits: Dataset) -> None:
    lpvdn.start("cluster", lambda: embed(lpvdn, digits.views), seed=3)
    z = embed(lpvdn, digits.views).z
    gamma = lpvdn.prior.log_responsibilities(z).exp()
    assert lpvdn.assign(z).equal(gamma)  # until k-means is fitted
    assert not lpvdn.knows_labels()
    lpvdn.finish("cluster", lambda: embed(lpvdn, digits.views), seed=3)
    assert lpvdn.knows_labels()
    with torch.no_grad():
        s = lpvdn.f_lp(z)
    expected = KMeans(10, n_init=10, random_state=3).fit_predict(s.numpy()).tolist()
    assert s.shape == (1797, 10)
    assert lpvdn.labels(z).tolist() == lpvdn.assign(z).argmax(dim=1).tolist() == expected
    torch.testing.assert_close(lpvdn.log_assign(z).exp(), lpvdn.assign(z))
    assert lpvdn.refit_labels(z, seed=3).tolist() == expected
    assert lpvdn.decode(z)[0].shape == digits.views[0].shape


def test_without_the_locality_term_labels_are_the_components(build: Build, digits: Dataset) -> None:
    model = cast(LPVDN, build("lpvdn", alpha1=0.0))
    model.start("cluster", lambda: embed(model, digits.views), seed=3)
    assert model.knows_labels()
    model.finish("cluster", lambda: embed(model, digits.views), seed=3)
    z = embed(model, digits.views).z
    assert model.labels(z).equal(model.prior.log_responsibilities(z).argmax(dim=1))
    expected = KMeans(10, n_init=10, random_state=3).fit_predict(z.numpy()).tolist()
    assert model.labels(z).tolist() != expected
    assert model.refit_labels(z, seed=3).tolist() == build("vade").refit_labels(z, seed=3).tolist() == expected  # type: ignore[union-attr]


def test_pretraining_is_vades_and_shared_by_every_setting_of_lpvdns_own(digits: Dataset) -> None:
    def keys(model: str, **overrides: Any) -> list[str]:
        asked = {f"model.{name}": value for name, value in overrides.items()}
        return [spec.key for spec in plan(Request("cluster", digits.ref, model, overrides=asked), digits.info)]

    shared, own = keys("lpvdn")
    assert keys("vade")[0] == shared
    for settings in ({"alpha0": 0}, {"alpha1": 0}, {"locality_dim": 2}, {"mi_scale": 1.0}):
        again, other = keys("lpvdn", **settings)
        assert again == shared, settings
        assert other != own, settings


@pytest.mark.parametrize(
    ("mode", "alpha0", "alpha1", "epochs", "batch_size", "lr"),
    [
        ("images", 1.0, 1e-4, 300, 800, 2e-3),
        ("reuters10k", 1e-2, 1e-3, 50, 1000, 2e-4),
        ("reuters", 1.0, 1e-2, 300, 1000, 2e-4),
    ],
)
def test_the_modes_are_the_columns_of_table_4(
    mode: str, alpha0: float, alpha1: float, epochs: int, batch_size: int, lr: float
) -> None:
    config = methods.resolve("models", "lpvdn", "paper", {"mode": mode})
    schedule = config.cluster
    assert (config.alpha0, config.alpha1) == (alpha0, alpha1)
    assert (schedule.epochs, schedule.batch_size, schedule.lr) == (epochs, batch_size, lr)
    assert (schedule.lr_decay, schedule.lr_epochs) == (0.95, 10)
    assert (config.mi_scale, config.perplexity_share, config.locality_dim) == (0.5, 0.01, 10)


def test_the_networks_have_the_published_layers() -> None:
    model = LPVDN(Config(), DataInfo("toy", ((1, 28, 28),), 5000, 10, (0.0, 1.0), 1.0, ""), 10)
    for part, expected in (
        (model.discriminator, [(794, 256), (256, 1)]),
        (model.f_lp, [(10, 256), (256, 256), (256, 256), (256, 10)]),
    ):
        assert widths(part) == expected


def test_a_perplexity_above_the_batch_is_refused_before_anything_is_trained(digits: Dataset) -> None:
    wanted = {"model.perplexity_share": 0.999}
    request = Request("cluster", digits.ref, "lpvdn", profile="smoke", overrides=wanted)
    with pytest.raises(ConfigError, match=r"perplexity must be in \[1, batch - 1\] = \[1, 255\], got 255\.7"):
        plan(request, digits.info)
    assert plan(replace(request, overrides={**wanted, "model.alpha1": 0.0}), digits.info)


def test_one_cluster_has_a_loss_and_one_label() -> None:
    torch.manual_seed(0)
    config = Config(hidden=(8,), discriminator=(8,), locality=(8,))
    model = LPVDN(config, DataInfo("toy", ((6,),), 50, 1, None, 1.0, ""), 2)
    batch = Batch((torch.randn(50, 6),), torch.arange(50))
    model.start("cluster", lambda: embed(model, batch.views), seed=0)
    assert all(math.isfinite(value) for terms in steps(model, batch) for value in terms.values())
    model.finish("cluster", lambda: embed(model, batch.views), seed=0)
    assert model.labels(model.encode(batch.views).z).unique().tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vade", "vae_kmeans", "lpvdn"])
def test_four_blobs_are_found(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    x = 3 * np.eye(12)[labels] + 0.3 * random.normal(size=(400, 12))
    path = tmp_path / "blobs.npz"
    np.savez(path, x=x, y=labels)
    data = load(DataRef("blobs"), Folders(), path=path)
    context = Context(RunStore(tmp_path / "runs"), data, "smoke", device="cpu")
    overrides = {"model.hidden": [32]}
    planned = plan(Request("cluster", data.ref, name, 10, profile="smoke", overrides=overrides), data.info)
    found = execute(planned, context)[-1]["metrics"]
    assert found["ACC"] >= 0.99
    assert ("ACC_refit" in found) == (name != "vae_kmeans")
    assert min(found.get(f"{score}_refit", 1) for score in ("ACC", "NMI", "ARI")) > 0.95


def test_images_are_scored_by_cross_entropy_and_given_back_as_images() -> None:
    torch.manual_seed(0)
    config = Config(hidden=(16,), discriminator=(8,), locality=(8,))
    model = LPVDN(config, DataInfo("toy", ((1, 6, 5),), 200, 3, (0.0, 1.0), 1.0, ""), 4)
    batch = Batch((torch.rand(40, 1, 6, 5),), torch.arange(40))
    torch.manual_seed(1)
    terms = model.losses(batch, "cluster")
    torch.manual_seed(1)
    decoded = model.decode(model.encode(batch.views).draw())[0]
    expected = F.binary_cross_entropy(decoded, batch.views[0], reduction="sum") / 40
    torch.testing.assert_close(terms["reconstruction"], expected)
    assert all(math.isfinite(value) for values in steps(model, batch) for value in values.values())
