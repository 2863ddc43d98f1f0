"""APGD takes the steps of the paper's Algorithm 1, finds flips that there are, and lets flipped samples go."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from robust_cluster.attacks.apgd import Apgd, Config, checkpoints
from robust_cluster.attacks.base import Surface
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig
from robust_cluster.nn.objectives import displacement

Vector = npt.NDArray[np.float64]


class Curved(ClusterModel):
    """A classifier-shaped victim of two clusters with curved borders, in float64; no method of the package."""

    def __init__(self, shift: float = 1.0) -> None:
        super().__init__(ModelConfig(), DataInfo("toy", ((5,),), 40, 2, None, 1.0, ""), 5)
        random = torch.Generator().manual_seed(4)
        self.w = torch.randn(5, 8, generator=random, dtype=torch.float64)
        self.v = torch.randn(8, generator=random, dtype=torch.float64)
        self.shift = shift

    def encode(self, views: tuple[torch.Tensor, ...]) -> Embedding:
        return Embedding(views[0], views)

    def logit(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * z @ self.w) @ self.v - self.shift

    def assign(self, z: torch.Tensor) -> torch.Tensor:
        return self.log_assign(z).exp()

    def log_assign(self, z: torch.Tensor) -> torch.Tensor:
        logit = self.logit(z)
        return torch.stack([torch.zeros_like(logit), logit], dim=1).log_softmax(dim=1)


def objective(x: Vector, model: Curved) -> tuple[float, Vector]:
    """The margin of cluster 1 over cluster 0 and its gradient, by hand: sum_j v_j sin(2 w_j x) - shift."""
    w, v = model.w.numpy(), model.v.numpy()
    return float(np.sin(2 * x @ w) @ v - model.shift), 2 * w @ (np.cos(2 * x @ w) * v)


def algorithm_1(origin: Vector, eps: float, steps: int, norm: str, model: Curved) -> tuple[Vector, float, float]:
    """Croce and Hein (2020), Algorithm 1, on one sample: best point, best objective, last step size."""

    def project(x: Vector) -> Vector:
        delta = x - origin
        if norm == "linf":
            return origin + np.clip(delta, -eps, eps)
        return origin + delta * min(1.0, eps / max(float(np.linalg.norm(delta)), 1e-12))

    def way(g: Vector) -> Vector:
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    shares = [0.0, 0.22]
    while shares[-1] <= 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    marks = [math.ceil(share * steps - 1e-9) for share in shares if share <= 1 + 1e-9]
    eta, alpha, rho = 2 * eps, 0.75, 0.75
    x = [origin]
    f = [objective(origin, model)[0]]
    x.append(project(x[0] + eta * way(objective(x[0], model)[1])))
    f.append(objective(x[1], model)[0])
    best = max((0, 1), key=lambda i: f[i])
    x_max, f_max = x[best], f[best]
    etas, bests, rises = {0: eta}, {0: f[0]}, [f[1] > f[0]]
    for k in range(1, steps + 1):
        if k in marks:  # k steps are done
            j = marks.index(k)
            before = marks[j - 1]
            is_slow = sum(rises[before:k]) < rho * (k - before)
            is_still = etas[before] == eta and bests[before] == f_max
            etas_before = eta
            if is_slow or is_still:
                eta, x[k], f[k] = eta / 2, x_max, f_max
            etas[k], bests[k] = eta, f_max
            assert etas_before >= eta
        if k == steps:
            break
        z = project(x[k] + eta * way(objective(x[k], model)[1]))
        x.append(project(x[k] + alpha * (z - x[k]) + (1 - alpha) * (x[k] - x[k - 1])))
        f.append(objective(x[k + 1], model)[0])
        rises.append(f[k + 1] > f[k])
        if f[k + 1] > f_max:
            x_max, f_max = x[k + 1], f[k + 1]
    return x_max, f_max, eta


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 0.7), ("linf", 0.05)])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_the_best_points_are_those_of_the_papers_algorithm(norm: Any, eps: float, steps: int) -> None:
    model = Curved(shift=100.0)  # so that nothing flips
    points = torch.rand(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    surface, batch = Surface(model, "input"), Batch((points,), torch.arange(12))
    (found,) = Apgd(Config(norm=norm, eps=eps, steps=steps, random_start=False), surface).perturb(surface, batch)
    sizes = []
    for row in range(12):
        expected, f_max, eta = algorithm_1(points[row].numpy(), eps, steps, norm, model)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-9)
        assert f_max >= objective(points[row].numpy(), model)[0]
        sizes.append(eta)
    if steps == 40 and eps > 0.05:
        assert len(set(sizes)) > 1, "the samples' step sizes are their own"


def test_checkpoints_are_those_of_the_paper() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(checkpoints(10)) == [3, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_point_leaves_the_ball_and_none_is_worse_than_the_clean_one(norm: Any) -> None:
    model = Curved()
    points = torch.rand(40, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    surface, batch = Surface(model, "input"), Batch((points,), torch.arange(40))
    torch.manual_seed(0)
    attack = Apgd(Config(norm=norm, eps=0.2, steps=30), surface)
    (found,) = attack.perturb(surface, batch)
    delta = found - points
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert size.max() <= 0.2 + 1e-12
    clean = surface.labels((points,))
    flipped = surface.labels((found,)) != clean
    assert 5 < int(flipped.sum()) < 40
    sign = 1 - 2 * clean
    assert (sign * model.logit(found) >= sign * model.logit(points)).all()
    assert attack.queries < 40 * 32, "flipped samples leave"


def test_another_objective_can_be_given_at_construction() -> None:
    model = Curved(shift=100.0)
    points = torch.rand(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    surface, batch = Surface(model, "input"), Batch((points,), torch.arange(8))
    seen = []

    def gain(model: ClusterModel, clean: Embedding, moved: Embedding, labels: torch.Tensor) -> torch.Tensor:
        seen.append(len(labels))
        return displacement((clean.z,), (moved.z,))

    found = []
    for config, extra in (
        (Config(norm="linf", eps=0.2, objective="displacement", steps=10), {}),
        (Config(norm="linf", eps=0.2, steps=10), {"gain": gain}),
    ):
        torch.manual_seed(0)
        found.append(Apgd(config, surface, **extra).perturb(surface, batch)[0])
    torch.testing.assert_close(found[0], found[1])
    assert seen
    assert ((found[0] - points).abs() > 0.199).float().mean() > 0.9, "it goes to the corners"


def test_targets_are_aimed_at_one_after_the_other() -> None:
    """The likeliest other cluster is out of reach, the second is not."""
    model = Curved()
    model.info = DataInfo("toy", ((1,),), 1, 3, None, 1.0, "")
    model.log_assign = lambda z: torch.cat([0 * z, z - 1.0, -3 - 4 * z], dim=1).log_softmax(1)  # type: ignore[method-assign]
    surface, batch = Surface(model, "input"), Batch((torch.zeros(1, 1),), torch.arange(1))
    flips = []
    for targets in (1, 2):
        attack = Apgd(
            Config(norm="linf", eps=0.9, objective="targeted", targets=targets, random_start=False, steps=20), surface
        )
        flips.append(int(surface.labels(attack.perturb(surface, batch))))
    assert flips == [0, 2]
