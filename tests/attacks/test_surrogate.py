"""The surrogate reads labels alone, and finds flips on victims that hide them from all other members."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks import ensemble, surrogate
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import BoundedAttack
from robust_cluster.data.base import Batch, Dataset, Views
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.layers import flat

FEW: dict[str, Any] = {"norm": "linf", "eps": 0.05}
N = 300


class Open(ClusterModel):
    """A small network that was taught the clusters of k-means; its embedding is the data."""

    def __init__(self, digits: Dataset) -> None:
        super().__init__(ModelConfig(), digits.info, 64)
        self.net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        self.decoy = nn.Linear(64, 10)

    def encode(self, views: Views) -> Embedding:
        return Embedding(flat(views), (flat(views),))

    def log_assign(self, z: Tensor) -> Tensor:
        return self.net(z).log_softmax(dim=1)

    def assign(self, z: Tensor) -> Tensor:
        return self.net(z).softmax(dim=1)


class Decoy(Open):
    """Its log_assign says the same of every point."""

    def log_assign(self, z: Tensor) -> Tensor:
        return 0 * self.net(z) - 2.3


class Stairs(Open):
    """Its log_assign moves in steps, whose gradient is zero."""

    def log_assign(self, z: Tensor) -> Tensor:
        return (self.net(z) / 2).round().mul(2).log_softmax(dim=1)


class Other(Open):
    """Its soft labels are of another network than its hard ones."""

    def log_assign(self, z: Tensor) -> Tensor:
        return self.decoy(z).log_softmax(dim=1)

    def assign(self, z: Tensor) -> Tensor:
        return self.decoy(z).softmax(dim=1)

    def labels(self, z: Tensor) -> Tensor:
        return self.net(z).argmax(dim=1)


@pytest.fixture(scope="module")
def taught(digits: Dataset) -> Open:
    torch.manual_seed(0)
    model, points = Open(digits), digits.views[0]
    _, clusters, _ = kmeans(points, 10, n_init=3, seed=0)
    optimizer = torch.optim.Adam(model.net.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.net(points), clusters).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def victim(kind: type[Open], taught: Open, digits: Dataset) -> Surface:
    model = kind(digits)
    model.load_state_dict(taught.state_dict())
    return Surface(model.eval().requires_grad_(False), "input")


def flips(
    kind: type[BoundedAttack], config: Any, surface: Surface, digits: Dataset, n: int = N, first: int = 0
) -> float:
    torch.manual_seed(0)
    batch = Batch((digits.views[0][first : first + n],), torch.arange(first, first + n))
    moved = kind(config, surface).perturb(surface, batch)
    return float((surface.labels(moved) != surface.labels(batch.views)).double().mean())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Decoy, Stairs, Other])
def test_behind_a_mask_the_ensemble_stays_within_two_points_of_the_truth(
    kind: type[Open], taught: Open, digits: Dataset
) -> None:
    quick = {**FEW, "steps": 20, "queries": 200, "draws": 20}
    led = ensemble.Config(**quick, members=("apgd:margin", "apgd:targeted"))
    truth = flips(ensemble.Ensemble, led, victim(Open, taught, digits), digits)
    surface = victim(kind, taught, digits)
    without = ensemble.Config(**quick, members=ensemble.MEMBERS[:-1])
    assert flips(ensemble.Ensemble, without, surface, digits) < truth - 0.05
    assert flips(ensemble.Ensemble, ensemble.Config(**quick), surface, digits) >= truth - 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("first", "eps"), [(900, 0.03), (1200, 0.08), (1500, 0.12)])
def test_on_rows_and_radii_it_was_not_chosen_on_it_closes_a_quarter_of_the_gap_to_the_truth(
    first: int, eps: float, taught: Open, digits: Dataset
) -> None:
    quick: dict[str, Any] = {"norm": "linf", "eps": eps, "steps": 20, "queries": 200, "draws": 20}
    full, less = ensemble.Config(**quick), ensemble.Config(**quick, members=ensemble.MEMBERS[:-1])
    truth, found, without = (
        flips(ensemble.Ensemble, config, victim(kind, taught, digits), digits, 200, first)
        for kind, config in ((Open, full), (Decoy, full), (Decoy, less))
    )
    assert truth > without
    assert found - without >= (truth - without) / 4


@pytest.mark.parametrize("name", ["means", pytest.param("network", marks=pytest.mark.slow)])
def test_it_reads_no_score_and_no_gradient(name: Any, taught: Open, digits: Dataset) -> None:
    config = surrogate.Config(**FEW, surrogate=name, rounds=3)
    found = [flips(surrogate.Surrogate, config, victim(kind, taught, digits), digits, 100) for kind in (Open, Other)]
    assert found[0] == found[1] >= 0.05
    wide = surrogate.Config(norm="linf", eps=0.1, surrogate=name, rounds=3)
    assert found[0] < flips(surrogate.Surrogate, wide, victim(Open, taught, digits), digits, 100)


def test_one_sample_alone_and_absent_clusters_are_attacked_too(taught: Open, digits: Dataset) -> None:
    for name in ("means", "network"):
        config = surrogate.Config(norm="l2", eps=5.0, surrogate=name)
        assert flips(surrogate.Surrogate, config, victim(Open, taught, digits), digits, 1) in (0.0, 1.0)
