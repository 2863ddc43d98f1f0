"""Where the answer is known: the distance to the border between k-means' centers, and adversarial examples planted.

On k-means a sample of cluster a leaves it at the L2 radius min_{j != a} (||x - c_j||^2 - ||x - c_a||^2) /
(2 ||c_j - c_a||_2), with the L1 norm below for L-infinity. Planted: a head edited so that one known point of the ball
is in another cluster, and the clean one and all that noise meets are not (after Zimmermann et al., NeurIPS 2022).
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks import apgd, ensemble, noise, pgd, square
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import BoundedAttack
from robust_cluster.attacks.budget import Norm
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


@pytest.mark.parametrize(
    ("norm", "space", "n_clusters"),
    [
        ("linf", "input", 2),
        pytest.param("l2", "input", 5, marks=pytest.mark.slow),
        pytest.param("l2", "latent", 2, marks=pytest.mark.slow),
        pytest.param("linf", "latent", 5, marks=pytest.mark.slow),
    ],
)
def test_the_ensembles_flips_are_those_of_the_closed_form_at_every_radius(
    norm: Norm, space: Any, n_clusters: int
) -> None:
    random = torch.Generator().manual_seed(n_clusters)
    centers = torch.randn(n_clusters, 8, generator=random)
    points = 0.7 * torch.randn(150, 8, generator=random)
    reach = distances(points, centers, norm)
    surface, batch = Surface(victim(centers), space), Batch((points,), torch.arange(150))
    for share in (0.1, 0.5, 0.9):
        config = ensemble.Config(space=space, norm=norm, eps=float(reach.quantile(share)), steps=20, queries=6, draws=1)
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
    """A random network with a head of two clusters for each of n samples, whose number is the second view.

    The border of a head lies between one planted point of its sample's ball and all the rest.
    """

    def __init__(self, clean: Tensor, norm: Norm, eps: float) -> None:
        n, size = clean.shape
        super().__init__(ModelConfig(), DataInfo("toy", ((size,), (1,)), n, 2, None, 1.0, ""), 2 * size)
        self.network = nn.Sequential(nn.Linear(size, 2 * size), nn.Tanh(), nn.Linear(2 * size, 2 * size), nn.Tanh())
        rows = torch.arange(n)
        drawn = signs(1, rows, (size,))
        self.planted = clean + eps * (drawn if norm == "linf" else drawn / size**0.5)
        noise = 2 * uniform(2, rows, (100, size)) - 1
        inside = clean[:, None] + eps * (noise if norm == "linf" else noise / noise.norm(dim=2, keepdim=True))
        with torch.no_grad():
            at, far, near = (self.network(x) for x in (clean, self.planted, inside))
        self.normals = far - at
        top, rest = (far * self.normals).sum(dim=1), torch.einsum("nrd,nd->nr", near, self.normals).amax(dim=1)
        assert (top > rest).all()
        self.borders = 0.3 * rest + 0.7 * top

    def encode(self, views: Views) -> Embedding:
        z = torch.cat([self.network(views[0]), views[1]], dim=1)
        return Embedding(z, (z, z))

    def log_assign(self, z: Tensor) -> Tensor:
        row = z[:, -1].long()
        logit = (z[:, :-1] * self.normals[row]).sum(dim=1) - self.borders[row]
        return torch.stack([-logit, logit], dim=1).log_softmax(dim=1)

    def assign(self, z: Tensor) -> Tensor:
        return self.log_assign(z).exp()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), pytest.param("l2", 0.15, marks=pytest.mark.slow)])
def test_attacks_find_planted_examples_and_noise_and_no_steps_do_not(norm: Norm, eps: float) -> None:
    torch.manual_seed(0)
    n = 40
    clean = torch.randn(n, 32)
    model = Planted(clean, norm, eps).eval().requires_grad_(False)
    surface, base = Surface(model, "input"), {"norm": norm, "view_eps": (eps, 0.0)}
    rows = torch.arange(n)
    batch = Batch((clean, rows[:, None].float()), rows)
    assert (surface.labels(batch.views) == 0).all()
    assert (surface.labels((model.planted, batch.views[1])) == 1).all()
    attacks: dict[str, BoundedAttack] = {
        "pgd": pgd.PGD(pgd.Config(**base, steps=100), surface),
        "apgd": apgd.Apgd(apgd.Config(**base, steps=25), surface),
        "no steps": pgd.PGD(pgd.Config(**base, steps=0), surface),
        "noise": noise.Noise(noise.Config(**base, draws=10), surface),
        "soft": square.Square(square.Config(**base, queries=150), surface),
        "hard": square.Square(square.Config(**base, queries=150, feedback="hard"), surface),
    }
    found = {
        name: float(surface.labels(attack.perturb(surface, batch)).float().mean()) for name, attack in attacks.items()
    }
    assert min(found["pgd"], found["apgd"]) >= 0.95
    assert found["no steps"] == 0
    assert found["noise"] <= 0.05
    assert found["soft"] >= 0.6
    assert found["hard"] > found["noise"] + 0.1
