"""The three updates of the adversarial autoencoder, and both of its ways to label."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.optim import SGD

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.measure.scores import embed
from robust_cluster.models.adversarial.aae import AAE
from robust_cluster.models.base import Embedding
from robust_cluster.stages import methods
from tests.models.conftest import widths

VARIANTS = ("plain", "softmax")


def small(variant: str, **settings: Any) -> AAE:
    torch.manual_seed(0)
    settings = {"variant": variant, "hidden": [8], "critic": [5], "n_init": 2, **settings}
    model = methods.new_model("aae", settings, DataInfo("toy", ((6,),), 60, 3, None, 1.0, ""), 4)
    assert isinstance(model, AAE)
    return model


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy(logits.sigmoid(), torch.full_like(logits, target))


def descended(nets: list[nn.Module], loss: Tensor) -> None:
    """w -= 0.01 * gradient."""
    parameters = [parameter for net in nets for parameter in net.parameters()]
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=0.01)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_reconstruction_then_the_discriminators_then_the_encoder(vectors: Batch, variant: str) -> None:
    """Each update worked out apart, on what the one before left."""
    model = small(variant)
    twin, x = copy.deepcopy(model), vectors.views[0]
    optimizers = {
        "model": SGD([*model.encoder.parameters(), *model.decoder.parameters()], lr=0.01),
        "discriminators": SGD(model.discriminators.parameters(), lr=0.01),
        "adversarial": SGD(model.encoder.parameters(), lr=0.01),
    }
    torch.manual_seed(5)
    found = model.step(vectors, "cluster", optimizers)

    def codes() -> dict[str, Tensor]:
        z = twin.encode(vectors.views).z
        return {"z": z} if variant == "plain" else {"y": z[:, :3], "z": z[:, 3:]}

    def fooled() -> Tensor:
        parts = codes()
        return torch.stack([cross_entropy(net(parts[name]), 1) for name, net in twin.discriminators.items()]).sum()

    reconstruction = (twin.decoder(twin.encode(vectors.views).z) - x).square().sum() / 60
    assert found == pytest.approx({"reconstruction": reconstruction.item(), "adversarial": fooled().item()}, rel=1e-4)
    descended([twin.encoder, twin.decoder], reconstruction)
    torch.manual_seed(5)
    priors = {"z": torch.randn(60, 4)}
    if variant == "softmax":
        priors["y"] = torch.eye(3)[torch.randint(3, (60,))]
    parts = {name: part.detach() for name, part in codes().items()}
    told = [
        cross_entropy(net(priors[name]), 1) + cross_entropy(net(parts[name]), 0)
        for name, net in twin.discriminators.items()
    ]
    descended([twin.discriminators], torch.stack(told).sum())
    descended([twin.encoder], fooled())
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_the_code_of_the_softmax_variant_is_y_beside_z_and_labels_are_its_largest_entry(vectors: Batch) -> None:
    model = small("softmax")
    z = model.encode(vectors.views).z
    assert z.shape == (60, 3 + 4)
    assert model.latent_dim == 7
    torch.testing.assert_close(z[:, :3].sum(dim=1), torch.ones(60))
    assert model.labels(z).equal(z[:, :3].argmax(dim=1))
    torch.testing.assert_close(model.assign(z), z[:, :3])
    moved = z + torch.tensor([2.0, -2, -2, 0, 0, 0, 0])
    torch.testing.assert_close(model.assign(moved).sum(dim=1), torch.ones(60))
    assert model.log_assign(moved).isfinite().all()
    assert model.refit_labels(z, seed=0) is None


def test_labels_of_the_plain_variant_are_k_means_on_the_code(vectors: Batch) -> None:
    model = small("plain")
    z = embed(model, vectors.views).z
    model.finish("cluster", lambda: Embedding(z, ()), seed=3)
    expected = KMeans(3, n_init=2, random_state=3).fit_predict(z.numpy())
    assert model.labels(z).tolist() == expected.tolist()
    assert model.refit_labels(z, seed=3).tolist() == expected.tolist()  # type: ignore[union-attr]
    torch.testing.assert_close(model.log_assign(z).exp(), model.assign(z))
    labels = model.labels(z + 0.1)
    model.after_epoch("cluster", 1, lambda: Embedding(z + 0.1, ()), seed=3)
    means = torch.stack([(z + 0.1)[labels == k].mean(dim=0) for k in range(3)])
    torch.testing.assert_close(model.centers, means, rtol=1e-4, atol=1e-5)


def test_priors_are_standard_normal_and_uniform_one_hot_draws() -> None:
    torch.manual_seed(0)
    priors = small("softmax").priors(30_000)
    assert set(priors["y"].unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(priors["y"].mean(dim=0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)
    assert priors["y"].sum(dim=1).unique().tolist() == [1.0]
    assert priors["z"].std().item() == pytest.approx(1, abs=0.02)
    assert list(small("plain").priors(5)) == ["z"]


def test_discriminators_that_tell_nothing_apart_cost_2_ln_2_each(vectors: Batch) -> None:
    for variant, count in (("plain", 1), ("softmax", 2)):
        model = small(variant)
        for layer in model.discriminators.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.weight)
        z = model.encode(vectors.views).z
        assert model.discriminator_losses(z).item() == pytest.approx(2 * count * math.log(2))
        assert model.game_loss(z).item() == pytest.approx(count * math.log(2))
        with torch.no_grad():
            health = model.health(Embedding(z, ()))
        assert [value for name, value in health.items() if name.startswith("taken")] == [0.5] * count
        own = z[:, -4:].var(dim=0, correction=0).mean()
        assert health["latent_variance"] == pytest.approx(own.item())


def test_the_published_widths_and_the_views_own_shape() -> None:
    info = DataInfo("toy", ((1, 28, 28),), 100, 10, (0.0, 1.0), 1.0, "")
    model = methods.new_model("aae", {}, info, 10)
    assert isinstance(model, AAE)
    assert widths(model.encoder) == [(784, 1000), (1000, 1000), (1000, 10)]
    assert widths(model.discriminators["z"]) == [(10, 1000), (1000, 1000), (1000, 1)]
    images = torch.rand(2, 1, 28, 28)
    (decoded,) = model.decode(model.encode((images,)).z)
    assert decoded.shape == images.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
