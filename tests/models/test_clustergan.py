"""ClusterGAN's two sides, the order of its updates, and the labels of its encoder."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.optim import SGD

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.measure.scores import embed
from robust_cluster.models.adversarial.clustergan import ClusterGAN
from robust_cluster.models.base import Embedding
from robust_cluster.stages import methods
from tests.models.conftest import widths

VECTORS = DataInfo("toy", ((6,),), 60, 3, None, 1.0, "")
IMAGES = DataInfo("toy", ((1, 8, 8),), 60, 3, (0.0, 1.0), 1.0, "")


def small(info: DataInfo = VECTORS, **settings: Any) -> ClusterGAN:
    torch.manual_seed(0)
    settings = {"maps": [3, 4], "dense": 8, "hidden": [8], "critic_steps": 2, "n_init": 2, **settings}
    model = methods.new_model("clustergan", settings, info, 4)
    assert isinstance(model, ClusterGAN)
    return model


def drawn(n: int) -> tuple[Tensor, Tensor]:
    noise = 0.1 * torch.randn(n, 4)
    clusters = torch.randint(3, (n,))
    return torch.cat([noise, torch.eye(3)[clusters]], dim=1), clusters


def test_the_terms_are_those_of_the_authors_code(vectors: Batch) -> None:
    model = small(noise_weight=2.0, category_weight=3.0)
    torch.manual_seed(5)
    terms = model.losses(vectors, "cluster")
    torch.manual_seed(5)
    z, clusters = drawn(30)
    fakes = model.generator(z)
    code = model.encoder(fakes)
    expected = {
        "adversarial": model.critic(fakes).mean(),
        "noise": 2 * (code[:, :4] - z[:, :4]).square().sum() / (30 * 4),
        "category": -3 * code[:, 4:].log_softmax(dim=1)[torch.arange(30), clusters].mean(),
    }
    torch.testing.assert_close(terms, expected)


def descended(nets: list[nn.Module], loss: Tensor) -> None:
    """w -= 0.01 * gradient."""
    parameters = [parameter for net in nets for parameter in net.parameters()]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(0 if gradient is None else 0.01 * gradient)


def test_a_step_is_the_generators_and_encoders_and_then_the_critics_each_on_its_own_samples(vectors: Batch) -> None:
    """Every update worked out apart, on what the one before left."""
    model = small()
    twin, x = copy.deepcopy(model), vectors.views[0]
    optimizers = {
        "model": SGD([*model.generator.parameters(), *model.encoder.parameters()], lr=0.01),
        "critic": SGD(model.critic.parameters(), lr=0.01),
    }
    torch.manual_seed(5)
    found = model.step(vectors, "cluster", optimizers)
    torch.manual_seed(5)
    terms = twin.losses(vectors, "cluster")
    assert found == pytest.approx({name: term.item() for name, term in terms.items()})
    descended([twin.generator, twin.encoder], torch.stack(list(terms.values())).sum())
    for part in (x[:30], x[30:]):
        fakes = twin.generator(drawn(30)[0]).detach()
        alpha = torch.rand(30, 1)
        penalties = []
        for a, real, fake in zip(alpha, part, fakes, strict=True):
            between = (a * real + (1 - a) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(twin.critic(between[None]).sum(), between, create_graph=True)
            penalties.append((slope.norm() - 1).square())
        loss = twin.critic(part).mean() - twin.critic(fakes).mean() + 10 * torch.stack(penalties).mean()
        descended([twin.critic], loss)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_the_critic_gives_high_values_to_fakes(vectors: Batch) -> None:
    """The sign of the authors' code: it descends E D(x) - E D(G(z)), the generator E D(G(z))."""
    model = small()
    optimizer = torch.optim.Adam(model.critic.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.critic_loss(vectors.views[0]).backward()
        optimizer.step()
    fakes = model.generator(drawn(60)[0])
    assert model.critic(fakes).mean() > model.critic(vectors.views[0]).mean()


def test_inputs_are_small_noise_and_uniform_clusters() -> None:
    z, clusters = small().draw(30_000)
    assert z[:, :4].std().item() == pytest.approx(0.1, rel=0.02)
    assert z[:, 4:].equal(F.one_hot(clusters, 3).float())
    torch.testing.assert_close(z[:, 4:].mean(dim=0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)


@pytest.mark.parametrize(("weight", "first"), [(10.0, 0), (0.0, 4)])
def test_labels_are_k_means_on_the_encoders_code_or_its_categories_alone(
    vectors: Batch, weight: float, first: int
) -> None:
    model = small(noise_weight=weight)
    z = embed(model, vectors.views).z
    torch.testing.assert_close(z[:, 4:].sum(dim=1), torch.ones(60))
    model.finish("cluster", lambda: Embedding(z, ()), seed=3)
    expected = KMeans(3, n_init=2, random_state=3).fit_predict(z[:, first:].numpy())
    assert model.labels(z).tolist() == expected.tolist()
    labels = model.labels(z)
    model.after_epoch("cluster", 1, lambda: Embedding(z, ()), seed=3)
    means = torch.stack([z[labels == k, first:].mean(dim=0) for k in range(3)])
    torch.testing.assert_close(model.centers, means, rtol=1e-4, atol=1e-5)
    assert 1 / 3 < model.health(Embedding(z, ()))["mean_largest_soft_label"] <= 1


def test_images_come_from_codes_in_the_datas_own_units() -> None:
    flat = DataInfo("flat", ((64,),), 60, 3, None, 2.0, "", scaled_bounds=(-1.0, 3.0))
    for info, settings in ((IMAGES, {}), (flat, {"image_shape": [1, 8, 8]})):
        model = small(info, **settings).eval()
        low, high = info.box or (0, 0)
        views = (torch.rand(5, *info.shapes[0]) * (high - low) + low,)
        z = model.encode(views).z
        (decoded,) = model.decode(z)
        assert decoded.shape == views[0].shape
        made = model.generator(z)
        torch.testing.assert_close(decoded.flatten(1), (low + (high - low) * made).flatten(1))
        assert 0 <= made.min() <= made.max() <= 1
        assert 0 <= model.samples(views).min() <= model.samples(views).max() <= 1


def test_the_published_networks_of_28_pixels() -> None:
    torch.manual_seed(0)
    model = methods.new_model(
        "clustergan", {"noise_dim": 30}, DataInfo("toy", ((1, 28, 28),), 100, 10, (0.0, 1.0), 1.0, ""), 10
    )
    assert isinstance(model, ClusterGAN)
    assert widths(model.generator) == [(40, 1024), (1024, 6272)]
    assert widths(model.critic) == [(6272, 1024), (1024, 1)]
    assert widths(model.encoder) == [(6272, 1024), (1024, 40)]
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 2000:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for optimizer in model.optimizers("cluster").values():
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
        assert optimizer.param_groups[0]["lr"] == 1e-4
    config = methods.resolve("models", "clustergan", "paper", {})
    assert config.cluster.epochs * (config.cluster.steps_per_epoch or 0) == 500_000
    assert config.cluster.batch_size == 64 * config.critic_steps
