"""DEC's shared pretraining, its start on k-means, its targets of the whole data set, and what it trains and leaves."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder import adec, dec, idec
from robust_cluster.models.autoencoder.dec import DEC, Config
from robust_cluster.models.base import Phase
from robust_cluster.nn import interpolation
from robust_cluster.nn.dec import clustering_kl, student_t, target_distribution
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, plan
from robust_cluster.stages.context import fingerprint
from tests.models.conftest import Build

IMAGES = DataInfo("toy", ((1, 8, 8),), 50, 3, (0.0, 1.0), 1.0, "", mean_square=0.25)
TINY: dict[str, Any] = {"hidden": (16,), "n_init": 1}


def new(info: DataInfo = IMAGES, **settings: Any) -> DEC:
    torch.manual_seed(0)
    return DEC(Config(**{**TINY, **settings}), info, 4)


def images(n: int = 50) -> Batch:
    return Batch((torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)),), torch.arange(n))


def began(model: DEC, batch: Batch, seed: int = 0) -> DEC:
    """The model after the start of its clustering on the whole batch."""
    model.start("cluster", lambda: embed(model, batch.views), seed)
    return model


@pytest.fixture
def started(build: Build, digits: Dataset) -> DEC:
    return began(cast(DEC, build("dec", n_init=2, tol=1e-3)), Batch(digits.views, torch.arange(len(digits.views[0]))))


def test_data_reach_the_network_with_a_mean_square_of_one(build: Build, digits: Dataset) -> None:
    rows = cast(DEC, build("dec")).autoencoder.rows(digits.views[0])
    assert abs(rows.square().mean().item() - 1) < 1e-3
    raw = cast(DEC, build("dec", norm="none")).autoencoder.rows(digits.views[0])
    assert raw.equal(digits.views[0])
    assert new().autoencoder.scale == 2.0
    assert new(replace(IMAGES, mean_square=0.0)).autoencoder.scale == 1.0


def test_decoded_samples_are_in_the_datas_own_units() -> None:
    model, batch = new(), images()
    z = model.encode(batch.views).z
    torch.testing.assert_close(model.decode(z)[0].flatten(1) * 2, model.autoencoder.decoder(z))


def test_vanilla_pretraining_is_the_mean_squared_error_over_samples_and_dimensions() -> None:
    model, batch = new(), images()
    terms = model.losses(batch, "pretrain")
    x = batch.views[0].flatten(1) * 2
    errors = x - model.autoencoder.decoder(model.autoencoder.encoder(x))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"reconstruction": errors.square().sum().item() / (50 * 64)}
    )


def test_denoising_reconstructs_clean_rows_from_rows_with_a_share_dropped() -> None:
    model, batch = new(pretraining="denoising", corruption=0.5), images()
    seen: list[Tensor] = []
    model.autoencoder.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = model.losses(batch, "pretrain")["reconstruction"]
    x = model.autoencoder.rows(batch.views[0])
    assert abs((seen[0] == 0).float().mean().item() - 0.5) < 0.05
    wanted = F.mse_loss(model.autoencoder.decoder(model.autoencoder.encoder(seen[0])), x)
    torch.testing.assert_close(found, wanted)


def test_acai_has_the_terms_of_equations_8_and_9() -> None:
    model, batch = new(pretraining="acai", augment=False), images()
    torch.manual_seed(4)
    terms = model.losses(batch, "pretrain")
    torch.manual_seed(4)
    alpha = interpolation.draw_alpha(50, is_folded=True, device=torch.device("cpu"))
    gamma = torch.rand(())
    x = model.autoencoder.rows(batch.views[0])
    z = model.autoencoder.encoder(x)
    x_hat = model.autoencoder.decoder(z)
    mixed = model.critic(model.autoencoder.decoder(alpha * z + (1 - alpha) * z.flip(0))).mean(dim=1)
    blended = model.critic(gamma * x + (1 - gamma) * x_hat).mean(dim=1)
    torch.testing.assert_close(terms["reconstruction"], (x - x_hat).square().mean())
    torch.testing.assert_close(terms["adversarial"], 0.5 * mixed.square().mean())
    torch.testing.assert_close(terms["critic"], (mixed - alpha[:, 0]).square().mean() + blended.square().mean())


def test_each_player_of_acai_has_the_gradient_of_its_own_loss_alone() -> None:
    model, batch = new(pretraining="acai"), images()
    own = {"critic": ["critic"], "autoencoder": ["reconstruction", "adversarial"]}
    for name, terms_of in own.items():
        for other, network in (("critic", model.critic), ("autoencoder", model.autoencoder)):
            model.zero_grad(set_to_none=True)
            torch.manual_seed(4)
            terms = model.losses(batch, "pretrain")
            torch.stack([terms[term] for term in terms_of]).sum().backward()
            touched = any(parameter.grad is not None for parameter in network.parameters())
            assert touched == (name == other), f"{terms_of} -> {other}"


def test_both_players_of_acai_step_and_the_logged_terms_are_those_before() -> None:
    model, batch = new(pretraining="acai"), images()
    before = {name: fingerprint(part) for name, part in model.named_children()}
    optimizers = model.optimizers("pretrain")
    assert set(optimizers) == {"model", "critic"}
    model.step(batch, "pretrain", optimizers)
    assert {name: fingerprint(part) != before[name] for name, part in model.named_children()} == {
        "autoencoder": True,
        "critic": True,
    }


def test_only_acai_has_a_critic_and_hands_it_to_nobody() -> None:
    assert not hasattr(new(), "critic")
    model = new(pretraining="acai", hidden=(9, 7))
    widths = [layer.out_features for layer in model.critic if isinstance(layer, nn.Linear)]
    assert widths == [9, 7, 4]
    assert not any("critic" in name for name in model.pretrained().state_dict())


def blends(n: int) -> Batch:
    """n samples of 4 templates with a little noise, of which a mix is plain to see."""
    random = torch.Generator().manual_seed(2)
    templates = torch.randn(4, 16, generator=random)
    x = templates[torch.arange(n) % 4] + 0.05 * torch.randn(n, 16, generator=random)
    return Batch((x,), torch.arange(n))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ["folded", pytest.param("unit", marks=pytest.mark.slow)])
def test_a_critic_learns_folded_shares_and_of_unfolded_ones_nothing(alpha: str) -> None:
    """Folded: correlation above 0.5, error below the variance 1/48. Unfolded: no correlation, error above 1/12."""
    info = DataInfo("toy", ((16,),), 128, 4, None, 1.0, "")
    schedule = replace(Config().pretrain, lr=4e-3)
    model = new(info, hidden=(64,), pretraining="acai", critic_weight=0.0, alpha=alpha, pretrain=schedule)
    batch, optimizers = blends(128), model.optimizers("pretrain")
    for _ in range(500):
        order = torch.randperm(128)
        model.step(Batch((batch.views[0][order],), order), "pretrain", optimizers)
    with torch.no_grad():
        z = model.encode((blends(2000).views[0][torch.randperm(2000)],)).z
        shares = interpolation.draw_alpha(2000, is_folded=alpha == "folded", device=z.device)
        told = interpolation.scores(model.critic(model.autoencoder.decoder(interpolation.interpolate(z, shares))))
    correlation = torch.corrcoef(torch.stack([told, shares[:, 0]]))[0, 1].item()
    error = (told - shares[:, 0]).square().mean().item()
    if alpha == "folded":
        assert correlation > 0.5
        assert error < 1 / 48
    else:
        assert abs(correlation) < 0.1
        assert error > 1 / 12 - 0.005


@pytest.mark.parametrize(
    ("settings", "is_image", "wanted"),
    [
        ({}, True, (False, False)),
        ({"pretraining": "acai"}, True, (True, True)),
        ({"pretraining": "acai"}, False, (False, False)),
        ({"pretraining": "acai", "augment": False}, True, (False, False)),
        ({"pretraining": "vanilla", "augment": True}, True, (True, True)),
        ({"pretraining": "acai", "augment_clustering": False}, True, (True, False)),
        ({"augment_clustering": True}, True, (False, True)),
    ],
)
def test_which_phases_rotate_and_shift(settings: dict[str, Any], is_image: bool, wanted: tuple[bool, bool]) -> None:
    info = IMAGES if is_image else replace(IMAGES, shapes=((64,),))
    assert tuple(new(info, **settings).augments.values()) == wanted


@pytest.mark.parametrize("field", ["augment", "augment_clustering"])
def test_vectors_cannot_be_rotated(field: str) -> None:
    info = replace(IMAGES, shapes=((64,),))
    with pytest.raises(ConfigError, match=f"{field} rotates and shifts images, toy has vectors of 64") as caught:
        new(info, **{field: True})
    assert str(caught.value.hint).startswith(f"--set model.{field}=none, or model.image_shape=[1,28,28]")


@pytest.mark.parametrize("model", ["dec", "idec", "adec"])
def test_that_is_found_before_anything_is_pretrained(digits: Dataset, model: str) -> None:
    request = Request("cluster", digits.ref, model, profile="smoke", overrides={"model.augment_clustering": True})
    with pytest.raises(ConfigError, match="augment_clustering rotates and shifts images"):
        plan(request, digits.info)


def test_vectors_that_are_flattened_images_move_as_the_images_do() -> None:
    flat, batch = replace(IMAGES, shapes=((64,),)), images()
    rows = []
    for info, view in ((IMAGES, batch.views[0]), (flat, batch.views[0].flatten(1))):
        model = new(info, pretraining="acai", image_shape=(1, 8, 8))
        torch.manual_seed(7)
        rows.append(model.inputs(Batch((view,), batch.index), "pretrain"))
    assert rows[0].equal(rows[1])
    assert not rows[0].equal(model.autoencoder.rows(batch.views[0]))


@pytest.mark.parametrize(
    ("shape", "given"),
    [((64,), (8, 8)), ((64,), (1, 7, 8)), ((64,), (-1, 8, -8)), ((1, 8, 8), (1, 4, 16)), ((1, 8, 8), (8, 8))],
)
def test_an_image_shape_that_the_samples_do_not_have_is_refused(shape: tuple[int, ...], given: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"image_shape must be \(channels, height, width\) of toy's samples .*, got"):
        new(replace(IMAGES, shapes=(shape,)), image_shape=given)


@pytest.mark.parametrize("phase", ["pretrain", "cluster"])
def test_training_sees_moved_copies_and_encode_the_samples_themselves(
    phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = began(new(augment=True), images()), images()
    clean = model.autoencoder.rows(batch.views[0])
    assert not model.inputs(batch, phase).equal(clean)
    monkeypatch.setattr(dec, "random_affine", lambda view: 1 - view)  # in [0, 1], before the scale
    torch.testing.assert_close(model.inputs(batch, phase), 2 - clean)
    assert model.encode(batch.views).z.equal(model.autoencoder.encoder(clean))


def test_the_start_is_k_means_with_the_seed_that_came_with_the_weights(build: Build, digits: Dataset) -> None:
    model = cast(DEC, build("dec", n_init=2))
    model.autoencoder.start_seed.fill_(17)
    batch = Batch(digits.views, torch.arange(len(digits.views[0])))
    z = embed(model, digits.views).z
    expected = KMeans(10, n_init=2, random_state=17).fit(z.numpy())
    for seed in (0, 1):
        began(model, batch, seed)
        torch.testing.assert_close(model.centers.detach(), torch.as_tensor(expected.cluster_centers_))
    assert model.labels(z).tolist() == expected.labels_.tolist()


def test_the_methods_that_are_compared_start_from_one_pretraining_run(digits: Dataset) -> None:
    def pretraining(model: str, profile: str, **overrides: Any) -> tuple[str, str]:
        values = {f"model.{name}": value for name, value in overrides.items()}
        request = Request("cluster", digits.ref, model, profile=profile, overrides=values)
        first = plan(request, digits.info)[0]
        return first.model, first.key

    for profile in ("smoke", "short", "cpu", "paper"):
        plain = {pretraining(model, profile) for model in ("dec", "idec")}
        star = {pretraining(model, profile, mode="star") for model in ("dec", "idec")}
        assert len(plain) == 1
        assert star == {pretraining("adec", profile)}
        assert plain != star
        assert {model for model, _ in plain | star} == {"dec"}


def test_mode_star_trains_with_adecs_schedule_and_optimizer() -> None:
    wanted = methods.resolve("models", "adec", "paper", {})
    for model in ("dec", "idec"):
        star = methods.resolve("models", model, "paper", {"mode": "star"})
        for field in (*DEC.pretrain_fields, "optimizer", "momentum", "tol", "augment_clustering", "n_init"):
            assert getattr(star, field) == getattr(wanted, field), field
        assert replace(star.cluster, epochs=wanted.cluster.epochs) == wanted.cluster
    assert methods.resolve("models", "idec", "paper", {"mode": "star"}).gamma == 0.01


def test_targets_are_of_the_whole_data_set_and_found_by_row(started: DEC, digits: Dataset) -> None:
    q = started.assign(embed(started, digits.views).z).detach()
    rows = torch.tensor([5, 1700, 3])
    batch = Batch((digits.views[0][rows],), rows)
    wanted = target_distribution(q)[rows]
    found = started.targets_of(batch, started.encode(batch.views).z)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, target_distribution(q[rows]), rtol=1e-3)
    terms = started.losses(batch, "cluster")
    torch.testing.assert_close(terms, {"clustering": clustering_kl(wanted, q[rows])})


def test_targets_stay_between_two_ends_of_an_epoch(started: DEC, digits: Dataset, batch: Batch) -> None:
    before = started.self_training.targets.clone()
    optimizers = started.optimizers("cluster")
    for _ in range(3):
        started.step(batch, "cluster", optimizers)
    assert started.self_training.targets.equal(before)
    started.after_epoch("cluster", 1, lambda: embed(started, digits.views), seed=0)
    q = started.assign(embed(started, digits.views).z).detach()
    torch.testing.assert_close(started.self_training.targets, target_distribution(q))
    torch.testing.assert_close(started.frequencies, q.sum(dim=0))


def test_a_defense_has_targets_from_the_last_frequencies_of_the_whole(started: DEC, build: Build, batch: Batch) -> None:
    """Its model comes from a checkpoint, which holds no targets."""
    victim = cast(DEC, build("dec"))
    victim.load_state_dict(started.state_dict())
    q = victim.assign(victim.encode(batch.views).z).detach()
    weights = q.square() / started.frequencies
    wanted = clustering_kl(weights / weights.sum(dim=1, keepdim=True), q)
    outputs = victim(batch.views)
    torch.testing.assert_close(victim.losses(batch, "cluster", outputs)["clustering"], wanted)


def test_training_ends_when_fewer_than_tol_of_the_labels_changed(started: DEC, digits: Dataset) -> None:
    assert started.stop_reason() is None  # k-means' own labels are no reason
    z = embed(started, digits.views).z
    for moved, reason in ((2, None), (1, "labels settled"), (0, "labels settled")):
        started.refresh(z)
        other = z.clone()
        other[:moved] = started.centers[(started.labels(z[:moved]) + 1) % 10]
        started.refresh(other)
        assert started.changed.item() == pytest.approx(moved / 1797)
        assert started.stop_reason() == reason
    assert DEC(Config(**TINY, tol=0), digits.info, 8).stop_reason() is None


def test_a_resumed_run_knows_how_many_labels_changed_and_every_target(started: DEC, build: Build) -> None:
    started.changed.fill_(0.25)
    again = cast(DEC, build("dec"))
    again.load_state_dict(started.state_dict())
    for name, part in started.fit.parts.items():
        again.fit.parts[name].load_state_dict(part.state_dict())
    assert again.changed == 0.25
    assert again.self_training.targets.equal(started.self_training.targets)
    assert again.self_training.labels.equal(started.self_training.labels)
    assert not any("targets" in name for name in started.state_dict())


def test_encoder_and_centers_learn_and_the_decoder_stays(started: DEC, batch: Batch) -> None:
    parts = {"encoder": started.autoencoder.encoder, "decoder": started.autoencoder.decoder}
    before = {name: fingerprint(part) for name, part in parts.items()}
    centers = started.centers.detach().clone()
    started.step(batch, "cluster", started.optimizers("cluster"))
    assert fingerprint(parts["encoder"]) != before["encoder"]
    assert fingerprint(parts["decoder"]) == before["decoder"]
    assert not started.centers.equal(centers)


def test_the_step_is_sgd_with_momentum_on_the_kl(started: DEC, batch: Batch) -> None:
    model = started
    targets = model.targets_of(batch, model.encode(batch.views).z)
    velocity, centers = torch.zeros_like(model.centers), model.centers.detach().clone()
    optimizers = model.optimizers("cluster")
    for _ in range(3):
        (gradient,) = torch.autograd.grad(
            clustering_kl(targets, student_t(model.encode(batch.views).z, model.centers)), model.centers
        )
        velocity = 0.9 * velocity + gradient
        centers -= 0.01 * velocity
        model.step(batch, "cluster", optimizers)
        torch.testing.assert_close(model.centers.detach(), centers)


def test_adam_can_be_asked_for() -> None:
    (optimizer,) = new(optimizer="adam").optimizers("cluster").values()
    assert isinstance(optimizer, torch.optim.Adam)


def test_defaults_are_the_published_ones() -> None:
    config = Config()
    assert (config.hidden, config.n_init, config.tol) == ((500, 500, 2000), 20, 0.001)
    assert (config.optimizer, config.cluster.lr, config.momentum) == ("sgd", 0.01, 0.9)
    assert (config.cluster.steps_per_epoch, config.cluster.batch_size, config.cluster.epochs) == (140, 256, 143)
    acai = adec.Config()
    assert (acai.pretraining, acai.critic_weight, acai.pretrain.lr, acai.pretrain.batch_size) == (
        "acai",
        0.5,
        1e-4,
        256,
    )
    assert acai.pretrain.epochs * (acai.pretrain.steps_per_epoch or 0) == 130_000
    assert idec.Config().gamma == 0.1


def test_four_blobs_are_found() -> None:
    """The quick check of every deep method: separated blobs come out right."""
    random = torch.Generator().manual_seed(0)
    classes = torch.arange(400) % 4
    x = 6 * torch.eye(4, 10)[classes] + 0.5 * torch.randn(400, 10, generator=random)
    info = DataInfo("blobs", ((10,),), 400, 4, None, 1.0, "", mean_square=x.square().mean().item())
    batch = Batch((x,), torch.arange(400))
    model = new(info, n_init=5)
    optimizers = model.optimizers("pretrain")
    for _ in range(100):
        model.step(batch, "pretrain", optimizers)
    began(model, batch)
    optimizers = model.optimizers("cluster")
    for _ in range(3):
        for _ in range(10):
            model.step(batch, "cluster", optimizers)
        model.after_epoch("cluster", 1, lambda: embed(model, batch.views), seed=0)
    found = model.labels(model.encode(batch.views).z)
    assert all(len(set(found[classes == k].tolist())) == 1 for k in range(4))
    assert len(set(found.tolist())) == 4
    assert model.stop_reason() == "labels settled"
