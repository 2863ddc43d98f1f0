"""Where the answer is known: the distance to the border between k-means' centres, and adversarial examples planted.

On k-means a sample of cluster a leaves it at the L2 radius min_{j != a} (||x - c_j||^2 - ||x - c_a||^2) /
(2 ||c_j - c_a||_2), with the L1 norm below for L-infinity. Planted: a head edited so that one known point of the ball
is in another cluster, and the clean one and all that noise meets are not (after Zimmermann et al., NeurIPS 2022).
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks import apgd, ensemble, noise, pgd, square
from robust_cluster.attacks.base import Norm, Surface
from robust_cluster.data.base import Batch, DataInfo, Dataset, Views
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig
from robust_cluster.models.shallow.kmeans import Config, KMeansModel
from robust_cluster.nn.draws import signs, uniform

TOLERANCE = 0.01  # of a sample's distance within which a flip is left open


def victim(centers: Tensor, variance: float = 0.02) -> KMeansModel:
    n_clusters, size = centers.shape
    model = KMeansModel(Config(), DataInfo("toy", ((size,),), 1000, n_clusters, None, 1.0, ""), size)
    model.centers.copy_(centers)
    model.variance.fill_(variance)
    return model.eval().requires_grad_(False)


def distances(x: Tensor, centers: Tensor, norm: Norm) -> Tensor:
    """The least radius (n,) at which each sample changes its cluster."""
    x, centers = x.double(), centers.double()
    squares = torch.cdist(x, centers).square()
    own = squares.argmin(dim=1)
    gaps = squares - squares.gather(1, own[:, None])
    apart = (centers[None] - centers[own][:, None]).norm(p=1 if norm == "linf" else 2, dim=2)
    ratios = gaps / (2 * apart)
    return ratios.scatter(1, own[:, None], torch.inf).min(dim=1).values


def assert_exact(surface: Surface, batch: Batch, config: ensemble.Config, reach: Tensor) -> None:
    torch.manual_seed(0)
    moved = ensemble.Ensemble(config, surface).perturb(surface, batch)
    is_flipped = surface.labels(moved) != surface.labels(surface.point(batch))
    eps = config.eps or 0.0
    assert is_flipped[reach < eps * (1 - TOLERANCE)].all()
    assert not is_flipped[reach > eps * (1 + TOLERANCE)].any()


@pytest.mark.parametrize("n_clusters", [2, 5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("space", ["input", "latent"])
def test_the_ensembles_flips_are_those_of_the_closed_form_at_every_radius(
    norm: Norm, space: Any, n_clusters: int
) -> None:
    random = torch.Generator().manual_seed(n_clusters)
    centers = torch.randn(n_clusters, 8, generator=random)
    points = 0.7 * torch.randn(150, 8, generator=random)
    reach = distances(points, centers, norm)
    surface, batch = Surface(victim(centers), space), Batch((points,), torch.arange(150))
    for share in (0.1, 0.5, 0.9):
        config = ensemble.Config(
            space=space, norm=norm, eps=float(reach.quantile(share)), steps=25, queries=12, draws=2
        )
        assert_exact(surface, batch, config, reach)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_default_ensemble_is_exact_on_k_means_of_the_digits(digits: Dataset, norm: Norm) -> None:
    model = KMeansModel(Config(n_init=3), digits.info, 64)
    model.start("cluster", lambda: Embedding(digits.views[0], digits.views), seed=0)
    model.info = DataInfo("toy", ((64,),), 1797, 10, None, 1.0, "")  # without a box: the closed form knows none
    surface = Surface(model.eval(), "input")
    batch = Batch((digits.views[0][:1000],), torch.arange(1000))
    reach = distances(batch.views[0], model.centers, norm)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert_exact(surface, batch, ensemble.Config(norm=norm, eps=float(reach.quantile(share)), queries=100), reach)


class Planted(ClusterModel):
    """A random network and a head of two clusters whose border lies between one planted point and all the rest."""

    def __init__(self, size: int, features: int) -> None:
        super().__init__(ModelConfig(), DataInfo("toy", ((size,),), 30, 2, None, 1.0, ""), features)
        self.network = nn.Sequential(nn.Linear(size, features), nn.Tanh(), nn.Linear(features, features), nn.Tanh())
        self.register_buffer("normal", torch.zeros(features))
        self.register_buffer("border", torch.zeros(()))
        self.normal: Tensor
        self.border: Tensor

    def encode(self, views: Views) -> Embedding:
        z = self.network(views[0])
        return Embedding(z, (z,))

    def log_assign(self, z: Tensor) -> Tensor:
        logit = z @ self.normal - self.border
        return torch.stack([-logit, logit], dim=1).log_softmax(dim=1)

    def assign(self, z: Tensor) -> Tensor:
        return self.log_assign(z).exp()

    def plant(self, clean: Tensor, norm: Norm, eps: float, seed: int) -> Tensor:
        """Edit the head so that a random point at the ball's edge, (1, d), is in cluster 1; random ones are in 0."""
        row = torch.tensor([seed])
        drawn = signs(seed, row, clean.shape[1:], 1)
        edge = clean + eps * (drawn if norm == "linf" else drawn / drawn.norm())
        many = torch.arange(300)
        inside = clean + eps * (2 * uniform(seed, many, clean.shape[1:], 2) - 1) / (
            1 if norm == "linf" else clean.numel() ** 0.5
        )
        with torch.no_grad():
            far, near = (self.encode((x,)).z for x in (edge, torch.cat([clean, inside])))
            self.normal.copy_((far - near[:1])[0])
            top, rest = float(far[0] @ self.normal), float((near @ self.normal).max())
            self.border.fill_(0.3 * rest + 0.7 * top)
            assert top > rest
        return edge


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradient_attacks_find_planted_examples_and_noise_does_not(norm: Norm) -> None:
    torch.manual_seed(0)
    model = Planted(32, 64).eval().requires_grad_(False)
    surface, eps = Surface(model, "input"), {"linf": 0.05, "l2": 0.3}[norm]
    base: dict[str, Any] = {"norm": norm, "eps": eps}
    attacks = {
        "pgd": pgd.PGD(pgd.Config(**base, steps=100), surface),
        "apgd": apgd.Apgd(apgd.Config(**base, steps=25), surface),
        "no steps": pgd.PGD(pgd.Config(**base, steps=0), surface),
        "noise": noise.Noise(noise.Config(**base, draws=10), surface),
    }
    found = dict.fromkeys(attacks, 0)
    for seed in range(20):
        clean = torch.randn(1, 32)
        edge = model.plant(clean, norm, eps, seed)
        assert (int(surface.labels((clean,))), int(surface.labels((edge,)))) == (0, 1)
        for name, attack in attacks.items():
            found[name] += int(surface.labels(attack.perturb(surface, Batch((clean,), torch.tensor([seed])))))
    assert found["pgd"] >= 19
    assert found["apgd"] >= 19
    assert found["no steps"] == 0
    assert found["noise"] <= 1


def test_random_search_finds_planted_examples_that_noise_does_not() -> None:
    torch.manual_seed(0)
    model = Planted(16, 32).eval().requires_grad_(False)
    surface = Surface(model, "input")
    found = {"soft": 0, "hard": 0}
    for seed in range(5):
        clean = torch.randn(1, 16)
        model.plant(clean, "linf", 0.05, seed)
        for feedback in found:
            config = square.Config(norm="linf", eps=0.05, feedback=feedback, queries=400)  # type: ignore[arg-type]
            moved = square.Square(config, surface).perturb(surface, Batch((clean,), torch.tensor([seed])))
            found[feedback] += int(surface.labels(moved))
    assert found["soft"] == 5
    assert found["hard"] >= 3
