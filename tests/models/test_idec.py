"""IDEC is DEC plus a reconstruction that its decoder, encoder and gamma share."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.dec import DEC
from robust_cluster.models.autoencoder.idec import IDEC
from robust_cluster.nn.dec import clustering_kl
from robust_cluster.nn.gradients import cosine, term_gradients
from robust_cluster.stages.context import fingerprint
from tests.models.conftest import Build


@pytest.fixture
def start(build: Build, digits: Dataset) -> Callable[..., IDEC]:
    """start(**settings): a model after a few steps of pretraining and its start."""

    def started(name: str = "idec", **settings: Any) -> IDEC:
        model = build(name, n_init=1, **settings)
        model.start("cluster", lambda: embed(model, digits.views), 0)
        return cast(IDEC, model)

    return started


@pytest.mark.parametrize(("gamma_on", "weights"), [("clustering", (0.3, 1.0)), ("reconstruction", (1.0, 0.3))])
def test_gamma_weighs_the_term_that_it_is_on(
    start: Callable[..., IDEC], batch: Batch, gamma_on: str, weights: tuple[float, float]
) -> None:
    model = start(gamma=0.3, gamma_on=gamma_on)
    terms = model.losses(batch, "cluster")
    x = model.autoencoder.rows(batch.views[0])
    z = model.autoencoder.encoder(x)
    kl = clustering_kl(model.targets_of(batch, z), model.assign(z))
    mse = F.mse_loss(model.autoencoder.decoder(z), x)
    torch.testing.assert_close(terms, {"reconstruction": weights[1] * mse, "clustering": weights[0] * kl})


def test_gamma_zero_leaves_the_centers(start: Callable[..., IDEC], batch: Batch) -> None:
    for optimizer in ("adam", "sgd"):
        model = start(gamma=0.0, optimizer=optimizer)
        before, encoder = model.centers.detach().clone(), fingerprint(model.autoencoder.encoder)
        optimizers = model.optimizers("cluster")
        for _ in range(3):
            model.step(batch, "cluster", optimizers)
        assert model.centers.equal(before)
        assert fingerprint(model.autoencoder.encoder) != encoder


def test_encoder_decoder_and_centers_learn(start: Callable[..., IDEC], batch: Batch) -> None:
    model = start()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (optimizer,) = model.optimizers("cluster").values()
    assert isinstance(optimizer, torch.optim.Adam)
    model.step(batch, "cluster", {"model": optimizer})
    moved = {
        name.split(".")[0] if "auto" not in name else name.split(".")[1]
        for name, value in before.items()
        if not value.equal(model.state_dict()[name])
    }
    assert moved == {"encoder", "decoder", "centers"}


def test_with_a_large_gamma_its_randomness_is_decs(start: Callable[..., IDEC], batch: Batch) -> None:
    """Delta_FR: the cosine of the whole objective's gradient and that of the loss with true labels."""
    true = torch.eye(10)[torch.arange(100) % 10]
    dec, found = cast(DEC, start("dec")), {}
    for gamma in (0.1, 1e6):
        model = start(gamma=gamma)
        assert model.autoencoder.state_dict().keys() == dec.autoencoder.state_dict().keys()
        model.load_state_dict(dec.state_dict())
        gradients = term_gradients(model.gradient_losses(batch, true), model.gradient_parameters())
        weights = model.loss_weights()
        whole = weights[0] * gradients["pseudo"] + weights[1] * gradients["self"]
        found[gamma] = float(cosine(gradients["sup"], whole))
    gradients = term_gradients(dec.gradient_losses(batch, true), dec.gradient_parameters())
    wanted = float(cosine(gradients["sup"], gradients["pseudo"]))
    assert found[1e6] == pytest.approx(wanted, abs=1e-4)
    assert abs(found[0.1] - wanted) > 0.01
    assert -1 <= wanted <= 1
