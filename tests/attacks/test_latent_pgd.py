"""Latent PGD finds the flips that are there, and stays in its ball."""

import pytest
import torch
from torch import Tensor

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.latent_pgd import Config, LatentPGD
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.measure.noise import equal_norm_noise
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel


@pytest.fixture
def two_centers() -> Surface:
    """k-means with K = 2 in 6 dimensions: a point flips where it crosses the plane between the centers."""
    model = KMeansModel(KMeansConfig(), DataInfo("toy", ((6,),), 100, 2, None, 1.0, ""), 6)
    model.centers.copy_(torch.randn(2, 6, generator=torch.Generator().manual_seed(2)))
    model.variance.fill_(0.05)
    return Surface(model, "latent")


def at_distance(surface: Surface, distance: float) -> Batch:
    """100 points, on both sides, whose distance to the bisecting plane is `distance`."""
    centers = surface.model.get_buffer("centers")
    normal = (centers[0] - centers[1]) / (centers[0] - centers[1]).norm()
    points = torch.randn(100, 6, generator=torch.Generator().manual_seed(3))
    points = points - ((points - centers.mean(dim=0)) @ normal)[:, None] * normal
    sides = torch.tensor([1.0, -1.0]).repeat(50)[:, None]
    return Batch((points + distance * sides * normal,), torch.arange(100))


def flipped(surface: Surface, batch: Batch, moved: Tensor) -> float:
    return float((surface.labels((moved,)) != surface.labels(surface.point(batch))).float().mean())


def attack(surface: Surface, batch: Batch, **values: float) -> Tensor:
    torch.manual_seed(0)
    (moved,) = LatentPGD(Config(**values), surface).perturb(surface, batch)  # type: ignore[arg-type]
    return moved


@pytest.mark.parametrize(("eps", "share"), [(1.05, 1.0), (0.99, 0.0)])
def test_all_points_flip_just_beyond_their_distance_to_the_plane_and_none_before_it(
    two_centers: Surface, eps: float, share: float
) -> None:
    batch = at_distance(two_centers, 1.0)
    assert flipped(two_centers, batch, attack(two_centers, batch, eps=eps)) == share


@pytest.mark.parametrize("steps", [0, 1, 40])
def test_moved_points_stay_in_the_ball(surface: Surface, batch: Batch, steps: int) -> None:
    moved = attack(surface, batch, eps=0.7, steps=steps)
    assert moved.dtype == torch.float32
    assert (moved - surface.point(batch)[0]).norm(dim=1).max() <= 0.7 + 1e-5


@pytest.mark.parametrize("steps", [0, 40])
def test_a_radius_of_zero_moves_nothing(surface: Surface, batch: Batch, steps: int) -> None:
    torch.testing.assert_close(attack(surface, batch, eps=0.0, steps=steps), surface.point(batch)[0])


def test_it_flips_more_than_noise_of_its_radius(surface: Surface, batch: Batch) -> None:
    clean = surface.point(batch)[0].detach()
    noise = equal_norm_noise(torch.full_like(clean, 1 / 8**0.5), torch.Generator().manual_seed(0))
    by_gradient = flipped(surface, batch, attack(surface, batch, eps=1.0))
    assert by_gradient > flipped(surface, batch, clean + noise) + 0.2


def test_a_saturated_head_does_not_hide_the_flips(two_centers: Surface) -> None:
    """P9: in float32 these soft labels are exactly 1 and 0, and their gradient is 0."""
    batch = at_distance(two_centers, 1.0)
    two_centers.model.get_buffer("variance").fill_(0.01)
    soft = two_centers.soft_labels(two_centers.point(batch))
    assert set(soft.flatten().tolist()) == {0.0, 1.0}
    assert flipped(two_centers, batch, attack(two_centers, batch, eps=1.05)) == 1


def test_the_victim_keeps_its_bits_its_type_and_its_gradients(victim: ClusterModel, batch: Batch) -> None:
    before = {name: value.clone() for name, value in victim.state_dict().items()}
    attack(Surface(victim, "latent"), batch, eps=1.0, steps=3)
    assert all(value.equal(before[name]) for name, value in victim.state_dict().items())
    assert all(p.requires_grad and p.grad is None and p.dtype == torch.float32 for p in victim.parameters())
