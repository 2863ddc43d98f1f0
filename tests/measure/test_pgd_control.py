"""The PGD that stands beside view_gan's numbers is, bit for bit, the loop by which they were made."""

import copy

import pytest
import torch
from torch import Tensor

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.attacks.view_gan import Config, ViewGan
from robust_cluster.data.base import Batch, Dataset, Views
from robust_cluster.measure import pgd, views
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.stages import methods


def as_published(surface: Surface, batch: Batch, eps: float, objective: str, steps: int) -> Views:
    """The control of version 1, as it stood in attacks/pgd.py."""
    bounds = surface.model.info.bounds
    budget = Budget("linf", eps, bounds)
    size = 2.0 * eps / max(steps, 1)
    with torch.no_grad():
        embedding = surface.embedding(batch)
        labels = surface.model.labels(embedding.z)
        drawn = tuple(view + eps * (2 * torch.rand_like(view) - 1) for view in batch.views)
        point = budget.clip(batch.views, drawn)
    for _ in range(steps):
        leaves = tuple(view.detach().requires_grad_() for view in point)
        gain = ascended(surface.model, embedding, surface.encode(leaves), labels, objective)
        gradients = torch.autograd.grad(gain.sum(), leaves)
        with torch.no_grad():
            moved = tuple(p + size * g.sign() for p, g in zip(point, gradients, strict=True))
            point = tuple(
                (clean + (m - clean).clamp(-eps, eps)).clamp(0, 1) for clean, m in zip(batch.views, moved, strict=True)
            )
    return point


def ascended(model: ClusterModel, clean: Embedding, moved: Embedding, own: Tensor, objective: str) -> Tensor:
    if objective == "assignment":
        log_y = model.log_assign(moved.z)
        other = log_y.scatter(1, own[:, None], -torch.inf).max(dim=1).values
        return -(log_y.gather(1, own[:, None])[:, 0] - other)
    changes = [(z - other).flatten(1) for z, other in zip(clean.per_view, moved.per_view, strict=True)]
    changes.append(model.consensus(clean) - model.consensus(moved))
    return torch.stack([change.square().sum(dim=1) for change in changes]).sum(dim=0)


@pytest.mark.parametrize(
    ("objective", "bn"),
    [
        ("shift", "batch"),
        ("assignment", "eval"),
        pytest.param("shift", "eval", marks=pytest.mark.slow),
        pytest.param("assignment", "batch", marks=pytest.mark.slow),
    ],
)
def test_the_control_is_the_published_loop_bit_for_bit(
    pair: Dataset, objective: str, bn: BatchNormMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgd, "STEPS", 6)
    torch.manual_seed(0)
    model = methods.new_model("simvc", {}, pair.info, 6)
    model.train().encode(tuple(view[:40] for view in pair.views))
    surface = Surface(model.eval().requires_grad_(False), "input", bn=bn)
    batch = Batch(tuple(view[:10] for view in pair.views), torch.arange(10))
    found = []
    budget = Budget("linf", 0.15, pair.info.bounds)
    before = copy.deepcopy(model.state_dict())
    own = ViewGan(Config(bn=bn), surface).objective  # what the stage ascends beside an attack of default settings
    gain = own if objective == "shift" else pgd.OBJECTIVES[objective]
    for move in (
        lambda: as_published(surface, batch, 0.15, objective, 6),
        lambda: pgd.ascended(surface, budget, gain, batch),
    ):
        torch.manual_seed(5)
        found.append((*move(), torch.rand(3)))  # and the generator is left where it was left
    assert all(a.equal(b) for a, b in zip(*found, strict=True))
    assert all((a - b).abs().max() > 0.1 for a, b in zip(batch.views, found[0], strict=False))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_its_version_and_objectives_are_those_of_the_records() -> None:
    assert views.versions() == {"pgd": 1, "input_measurement": 2}
    assert list(pgd.OBJECTIVES) == ["shift", "assignment"]
    assert (pgd.STEPS, pgd.RELATIVE_STEP) == (20, 2.0)
