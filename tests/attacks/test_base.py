"""Budgets are never exceeded, noise has the size it is compared at, and a surface gives the model's own answers."""

import pytest
import torch

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.data.base import Batch, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.noise import equal_norm_noise
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel

BUDGETS = [
    Budget("linf", 0.1),
    Budget("l2", 0.3),
    Budget("linf", 8 / 255, (0.0, 1.0)),
    Budget("l2", 0.3, (0.0, 1.0)),
    Budget("linf", 0.0),
    Budget("l2", 0.0),
    Budget(None, bounds=(0.0, 1.0)),
]


def size(delta: torch.Tensor, norm: Norm | None) -> float:
    rows = delta.flatten(1).double()
    return float(rows.abs().max() if norm == "linf" else rows.norm(dim=1).max())


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_clipped_points_stay_inside_ball_and_box_in_every_view(budget: Budget) -> None:
    torch.manual_seed(0)
    clean = (torch.rand(50, 1, 4, 4), torch.rand(50, 7))
    moved = tuple(view + torch.randn_like(view) for view in clean)
    for before, after in zip(clean, budget.clip(clean, moved), strict=True):
        if budget.norm:
            assert size(after - before, budget.norm) <= budget.eps + 1e-6
        if budget.bounds:
            assert after.min() >= 0
            assert after.max() <= 1


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget("linf", 1.0), [1.0, -1.0]),
        (Budget("l2", 1.0), [0.6, -0.8]),
        (Budget("l2", 1.0, (-0.5, 0.5)), [0.5, -0.5]),
        (Budget("l2", 10.0), [3.0, -4.0]),
        (Budget(), [3.0, -4.0]),
    ],
)
def test_the_clipped_point_is_the_nearest_allowed_one(budget: Budget, expected: list[float]) -> None:
    (point,) = budget.clip((torch.zeros(1, 2),), (torch.tensor([[3.0, -4.0]]),))
    assert point[0].tolist() == pytest.approx(expected)


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Budget("l2", -0.1)
    assert str(caught.value) == "eps must be >= 0, got -0.1"


def test_noise_has_each_samples_norm_and_another_direction() -> None:
    delta = torch.randn(200, 2, 3) * torch.rand(200, 1, 1)
    delta[0] = 0
    noise = equal_norm_noise(delta, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.flatten(1).norm(dim=1), delta.flatten(1).norm(dim=1))
    cosines = torch.cosine_similarity(noise.flatten(1), delta.flatten(1))
    assert abs(cosines.mean().item()) < 0.1
    assert noise.equal(equal_norm_noise(delta, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("space", ["input", "latent"])
def test_a_surface_answers_as_its_model_in_either_space(victim: ClusterModel, batch: Batch, space: str) -> None:
    surface = Surface(victim, space)  # type: ignore[arg-type]
    z = victim.encode(batch.views).z
    (point,) = surface.point(batch)
    assert point.equal(batch.views[0] if space == "input" else z)
    assert surface.soft_labels((point,)).equal(victim.assign(z))
    assert surface.labels((point,)).equal(victim.labels(z))


@pytest.mark.parametrize("space", ["input", "latent"])
def test_a_gradient_reaches_the_point(victim: ClusterModel, batch: Batch, space: str) -> None:
    surface = Surface(victim.requires_grad_(False), space)  # type: ignore[arg-type]
    point = surface.point(batch)[0].detach().requires_grad_()
    surface.soft_labels((point,))[:, 0].sum().backward()
    assert point.grad is not None
    assert (point.grad.abs().sum(dim=1) > 0).all()


def test_memory_gives_the_rows_of_the_batch_without_encoding(
    victim: ClusterModel, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = embed(victim, digits.views)
    rows = torch.tensor([5, 900, 3])
    batch = Batch((digits.views[0][rows],), rows)
    direct = victim.encode(batch.views)
    monkeypatch.setattr(victim, "encode", None)
    remembered = Surface(victim, "latent", memory).embedding(batch)
    assert direct.log_var is not None
    assert remembered.log_var is not None
    torch.testing.assert_close(remembered.z, direct.z)
    torch.testing.assert_close(remembered.log_var, direct.log_var)
    torch.testing.assert_close(remembered.per_view, direct.per_view)
