"""ADEC's three networks and its centers each move by their own loss, in their order and turn."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.adec import ADEC, Config
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.adversarial import discriminator_loss, generator_loss
from robust_cluster.nn.dec import clustering_kl
from robust_cluster.report.flags import MARKS
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.cluster import FLAGS, describe_model
from robust_cluster.stages.context import Context
from tests.models.conftest import Build, widths

OWN = {
    "clustering": {"encoder", "centers"},
    "adversarial": {"encoder"},
    "reconstruction": {"decoder"},
    "discriminator": {"discriminator"},
}


@pytest.fixture
def model(build: Build, digits: Dataset) -> ADEC:
    """Started, in turns of 2 steps, the discriminator's lone phase behind it."""
    adec = cast(ADEC, build("adec", n_init=1, phase_steps=2, discriminator_epochs=0))
    adec.start("cluster", lambda: embed(adec, digits.views), 0)
    return adec


def parts(model: ADEC) -> dict[str, list[Tensor]]:
    """The parameters of each player."""
    return {
        "encoder": list(model.autoencoder.encoder.parameters()),
        "decoder": list(model.autoencoder.decoder.parameters()),
        "discriminator": list(model.discriminator.parameters()),
        "centers": [model.centers],
    }


def copies(model: ADEC) -> dict[str, list[Tensor]]:
    return {name: [value.detach().clone() for value in values] for name, values in parts(model).items()}


def moved(model: ADEC, before: Mapping[str, list[Tensor]]) -> set[str]:
    """Which players differ from a copy of before."""
    now = parts(model)
    return {name for name in now if any(not a.equal(b) for a, b in zip(now[name], before[name], strict=True))}


def take(model: ADEC, batch: Batch, optimizers: Mapping[str, Optimizer], count: int = 1) -> dict[str, float]:
    terms: dict[str, float] = {}
    for _ in range(count):
        terms = model.step(batch, "cluster", optimizers)
    return terms


def test_the_discriminator_has_the_encoders_widths_and_one_logit() -> None:
    info = DataInfo("toy", ((1, 28, 28),), 100, 10, (0.0, 1.0), 1.0, "")
    discriminator = ADEC(Config(), info, 10).discriminator
    assert widths(discriminator) == [(784, 500), (500, 500), (500, 2000), (2000, 1)]
    layers = [layer for layer in discriminator if isinstance(layer, nn.Linear)]
    assert all(layer.weight.abs().max() <= layer.in_features**-0.5 for layer in layers)
    assert widths(ADEC(Config(discriminator_hidden=(16,)), info, 10).discriminator) == [(784, 16), (16, 1)]


def test_the_terms_are_those_of_equations_10_to_12(model: ADEC, batch: Batch) -> None:
    terms = model.losses(batch, "cluster")
    x = model.autoencoder.rows(batch.views[0])
    z = model.autoencoder.encoder(x)
    x_hat = model.autoencoder.decoder(z)
    real, fake = model.discriminator(x).sigmoid(), model.discriminator(x_hat).sigmoid()
    wanted = {
        "clustering": clustering_kl(model.targets_of(batch, z), model.assign(z)),
        "adversarial": (1 - fake).log().mean(),
        "reconstruction": (x - x_hat).square().mean(),
        "discriminator": -(real.log() + (1 - fake).log()).mean(),
    }
    torch.testing.assert_close(terms, wanted)
    for layer in model.discriminator.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
    assert model.losses(batch, "cluster")["discriminator"].item() == pytest.approx(2 * math.log(2))


def test_in_a_sum_of_all_terms_each_reaches_its_own_players_alone(model: ADEC, batch: Batch) -> None:
    """A defense descends the sum with one optimizer."""
    for name, players in OWN.items():
        model.zero_grad(set_to_none=True)
        model.losses(batch, "cluster")[name].backward()
        touched = {player for player, values in parts(model).items() if any(v.grad is not None for v in values)}
        assert touched == players, name


def test_an_encoder_that_does_not_saturate_descends_minus_log_d(model: ADEC, build: Build, batch: Batch) -> None:
    other = cast(ADEC, build("adec", adv_loss="nonsaturating"))
    other.load_state_dict(model.state_dict())
    logits = other.discriminator(
        other.autoencoder.decoder(other.autoencoder.encoder(other.autoencoder.rows(batch.views[0])))
    )
    torch.testing.assert_close(other.losses(batch, "cluster")["adversarial"], -logits.sigmoid().log().mean())


def test_the_players_of_each_turn_move_and_nobody_else(model: ADEC, batch: Batch) -> None:
    optimizers = model.optimizers("cluster")
    for players in [{"decoder"}] * 2 + [set(parts(model))] * 2 + [{"decoder"}]:
        before = copies(model)
        take(model, batch, optimizers)
        assert moved(model, before) == players


def test_encoder_decoder_discriminator_and_centers_move_in_this_order(model: ADEC, batch: Batch) -> None:
    """Each sub-step changes its own player's tensors alone."""
    optimizers = model.optimizers("cluster")
    take(model, batch, optimizers, 2)
    order: list[tuple[str, set[str]]] = []
    for name, optimizer in optimizers.items():
        before: dict[str, Any] = {}
        optimizer.register_step_pre_hook(lambda *_, before=before: before.update(copies(model)))
        optimizer.register_step_post_hook(
            lambda *_, name=name, before=before: order.append((name, moved(model, before)))
        )
    take(model, batch, optimizers)
    assert order == [(name, {name}) for name in ("encoder", "decoder", "discriminator", "centers")]


@pytest.mark.parametrize(("weight", "kl_weight"), [(1.0, 1.0), (1 / 256, 1.0), (1.0, 256.0)])
def test_a_joint_step_is_four_updates_each_on_what_the_one_before_left(
    model: ADEC, build: Build, batch: Batch, weight: float, kl_weight: float
) -> None:
    """Worked with an autograd of its own on a copy of the model."""
    model.config = dataclasses.replace(model.config, adversarial_weight=weight, clustering_weight=kl_weight)
    assert model.loss_weights() == (kl_weight, weight)
    lr = model.config.cluster.lr
    optimizers = model.optimizers("cluster")
    model.turns.taken.fill_(2)
    other = cast(ADEC, build("adec"))
    other.load_state_dict(model.state_dict())
    x = model.autoencoder.rows(batch.views[0])
    targets = model.targets_of(batch, model.autoencoder.encoder(x))
    encoder, decoder, discriminator = other.autoencoder.encoder, other.autoencoder.decoder, other.discriminator

    def descend(loss: Tensor, player: str) -> None:
        values = parts(other)[player]
        for value, gradient in zip(values, torch.autograd.grad(loss, values), strict=True):
            with torch.no_grad():
                value -= lr * gradient

    z = encoder(x)
    fooling = generator_loss(discriminator(decoder(z)), "saturating")
    descend(kl_weight * clustering_kl(targets, other.assign(z)) + weight * fooling, "encoder")
    descend(F.mse_loss(decoder(encoder(x)), x), "decoder")
    descend(discriminator_loss(discriminator(decoder(encoder(x))), discriminator(x)), "discriminator")
    descend(kl_weight * clustering_kl(targets, other.assign(encoder(x))), "centers")
    take(model, batch, optimizers)
    for name, values in parts(other).items():
        for value, found in zip(values, parts(model)[name], strict=True):
            torch.testing.assert_close(found, value, msg=name)


def test_every_player_has_sgd_of_its_own(model: ADEC) -> None:
    optimizers = model.optimizers("cluster")
    for name, values in parts(model).items():
        optimizer = optimizers[name]
        (group,) = optimizer.param_groups
        assert isinstance(optimizer, SGD)
        assert (group["lr"], group["momentum"]) == (1e-3, 0.9)
        assert [id(value) for value in group["params"]] == [id(value) for value in values]
    assert isinstance(optimizers["discriminator_alone"], torch.optim.Adam)


@pytest.fixture
def waiting(build: Build, digits: Dataset) -> ADEC:
    """Started, the discriminator's lone phase before it."""
    adec = cast(ADEC, build("adec", n_init=1, phase_steps=2, discriminator_epochs=1, tol=1e-3))
    adec.start("cluster", lambda: embed(adec, digits.views), 0)
    return adec


def end_epoch(model: ADEC, digits: Dataset) -> None:
    model.after_epoch("cluster", 1, lambda: embed(model, digits.views), 0)


def test_at_first_the_discriminator_alone_learns_for_whole_epochs(waiting: ADEC, batch: Batch, digits: Dataset) -> None:
    optimizers, before = waiting.optimizers("cluster"), copies(waiting)
    passes = 1797 // 128  # steps of one pass
    take(waiting, batch, optimizers, passes - 1)
    end_epoch(waiting, digits)
    assert not waiting.turns.is_begun
    take(waiting, batch, optimizers, 3)
    assert moved(waiting, before) == {"discriminator"}
    assert waiting.stop_reason() is None  # no label changed, but no encoder moved either
    end_epoch(waiting, digits)
    assert waiting.turns.is_begun
    take(waiting, batch, optimizers)
    assert moved(waiting, before) == {"discriminator", "decoder"}
    assert int(waiting.turns.taken) == 1
    waiting.changed.fill_(1)
    for taken, reason in ((99_999, None), (100_000, "100,000 steps")):
        waiting.turns.taken.fill_(taken)
        assert waiting.stop_reason() == reason


def test_a_discriminator_that_tells_them_apart_needs_no_more_time(waiting: ADEC, batch: Batch, digits: Dataset) -> None:
    waiting.config = methods.resolve("models", "adec", "smoke", {"discriminator_epochs": 50, "discriminator_gap": 0.5})
    optimizers = {
        **waiting.optimizers("cluster"),
        "discriminator_alone": torch.optim.Adam(waiting.discriminator.parameters(), 0.01),
    }
    take(waiting, batch, optimizers, 2)
    end_epoch(waiting, digits)
    assert not waiting.turns.is_begun
    take(waiting, batch, optimizers, 30)
    end_epoch(waiting, digits)
    assert float(waiting.judgement[0] - waiting.judgement[1]) > 0.5
    assert waiting.turns.is_begun


def test_the_epochs_judgement_is_logged(waiting: ADEC, batch: Batch, digits: Dataset) -> None:
    x = waiting.autoencoder.rows(batch.views[0])
    decoded = waiting.autoencoder.decoder(waiting.autoencoder.encoder(x))
    wanted = [waiting.discriminator(rows).sigmoid().mean().item() for rows in (x, decoded)]
    take(waiting, batch, waiting.optimizers("cluster"))
    end_epoch(waiting, digits)
    health = waiting.health(embed(waiting, digits.views))
    assert [health["D_real"], health["D_fake"]] == pytest.approx(wanted)


@pytest.mark.parametrize(("real", "fake", "is_sure"), [(0.5, 1e-4, True), (0.9999, 0.5, True), (0.99, 0.01, False)])
def test_a_discriminator_sure_of_most_samples_for_a_thousand_steps_is_told(
    model: ADEC, digits: Dataset, tmp_path: Path, real: float, fake: float, is_sure: bool
) -> None:
    embedding = embed(model, digits.views)
    sure, unsure = torch.full((6, 1), real), torch.full((6, 1), 0.5)
    faked = torch.cat([torch.full((4, 1), fake), torch.full((2, 1), 0.5)])
    for _ in range(999):
        model.judge(sure, faked)
    assert model.health(embedding)["adversarial_inactive"] == 0
    model.judge(sure, faked)
    assert model.health(embedding)["adversarial_inactive"] == float(is_sure)
    for _ in range(2):
        model.judge(unsure, unsure)
    assert model.health(embedding)["adversarial_inactive"] == float(is_sure), "told to the end"
    flags = describe_model(model, Context(RunStore(tmp_path), digits, device="cpu"))["flags"]
    assert ("adversarial term inactive" in flags) == is_sure
    assert set(FLAGS.values()) <= set(MARKS)


def test_a_resumed_run_goes_on_in_the_same_turn(model: ADEC, build: Build, batch: Batch) -> None:
    optimizers = model.optimizers("cluster")
    take(model, batch, optimizers, 3)
    again = cast(ADEC, build("adec", phase_steps=2))
    resumed = again.optimizers("cluster")
    again.load_state_dict(model.state_dict())
    for name, part in model.fit.parts.items():
        again.fit.parts[name].load_state_dict(part.state_dict())
    for name, optimizer in optimizers.items():
        resumed[name].load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        assert take(again, batch, resumed) == take(model, batch, optimizers)
    assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())


def test_m_is_half_of_t_unless_it_is_given() -> None:
    assert Config().phase_length == 70
    assert Config(cluster=Schedule(steps_per_epoch=30)).phase_length == 15
    assert Config(phase_steps=3).phase_length == 3
    config = Config()
    assert (config.cluster.lr, config.momentum, config.tol, config.cluster.batch_size) == (1e-3, 0.9, 1e-3, 256)
    assert methods.resolve("models", "adec", "paper", {"mode": "paper"}).alpha == "unit"
