"""PGD and APGD flip as many samples as a maintained library's on a victim with the shape of a classifier.

Needs `pip install --no-deps torchattacks`, whose pins would replace other packages; without it there is nothing to run.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks import apgd, pgd
from robust_cluster.attacks.base import Surface
from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig
from robust_cluster.nn.layers import flat

N, STEPS, CLOSE = 300, 20, 0.02  # share of the samples by which two strong attacks may differ


class Classifier(ClusterModel):
    """The soft labels of a net of two layers, whose logits are the embedding."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(), DataInfo("toy", ((1, 6, 6),), N, 5, (0.0, 1.0), 1.0, ""), 5)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.Tanh(), nn.Linear(64, 5))
        for layer in (self.net[1], self.net[3]):
            nn.init.normal_(layer.weight, std=0.3)

    def encode(self, views: Views) -> Embedding:
        z = self.net(views[0])
        return Embedding(z, (z,))

    def assign(self, z: Tensor) -> Tensor:
        return z.softmax(dim=1)

    def log_assign(self, z: Tensor) -> Tensor:
        return z.log_softmax(dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_as_many_flip_as_by_the_attacks_of_torchattacks(norm: Any, share: float) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    torch.manual_seed(0)
    model = Classifier().eval().requires_grad_(False)
    images, surface = torch.rand(N, 1, 6, 6), Surface(model, "input")
    eps = share * (0.06 if norm == "linf" else 0.3)
    own = surface.labels((images,))
    budget = {"norm": norm, "eps": eps, "steps": STEPS}

    def flips(points: Tensor) -> float:
        sizes = torch.linalg.vector_norm(flat((points - images,)), ord=torch.inf if norm == "linf" else 2, dim=1)
        assert sizes.max() < eps + 1e-5
        return float((surface.labels((points,)) != own).double().mean())

    ours = {
        "pgd": pgd.PGD(pgd.Config(**budget), surface),
        "apgd": apgd.Apgd(apgd.Config(**budget), surface),
    }
    kind = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    theirs = {
        "pgd": kind(model.net, eps=eps, alpha=2 * eps / STEPS, steps=STEPS),
        "apgd": torchattacks.APGD(model.net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=STEPS, loss="ce"),
    }
    for name, attack in ours.items():
        found = flips(attack.perturb(surface, Batch((images,), torch.arange(N)))[0])
        expected = flips(theirs[name](images, own))
        assert 0.1 < expected < 0.95
        assert found > expected - CLOSE, (name, found, expected)
