"""JULE's weighted triplet loss by hand, and by a loop over all triplets."""

import itertools

import pytest
import torch

from robust_cluster.nn.triplets import triplet_loss


def test_a_loss_by_hand() -> None:
    """The pair is 1 apart, the others 2 and 3 from its first: (max(0, 2 - 4 + 2.5) + max(0, 2 - 9 + 2.5)) / 2."""
    z = torch.tensor([[0.0], [1.0], [2.0], [-3.0]])
    labels = torch.tensor([0, 0, 1, 2])
    loss = triplet_loss(z, labels, negatives=20, weight=2.0, margin=2.5)
    assert loss.item() == pytest.approx(0.25)


def test_with_all_negatives_it_is_the_mean_over_all_triplets_and_so_is_its_gradient() -> None:
    z = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(12) % 4
    terms = [
        (1.5 * (z[a] - z[p]).square().sum() - (z[a] - z[n]).square().sum() + 0.2).clamp_min(0)
        for a, p in itertools.combinations(range(12), 2)
        for n in range(12)
        if labels[a] == labels[p] != labels[n]
    ]
    assert len(terms) == 12 * 9
    expected = torch.stack(terms).mean()
    loss = triplet_loss(z, labels, negatives=9, weight=1.5, margin=0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(expected, z))


def test_negatives_are_drawn_anew_from_other_clusters_and_each_once() -> None:
    """Beside the one pair, at 0, 4 of ten samples at squared distances 1 to 10: those that have a gradient."""
    z = torch.cat([torch.zeros(2, 1), torch.arange(1, 11).sqrt()[:, None]]).requires_grad_()
    labels = torch.tensor([0, 0, *range(1, 11)])
    torch.manual_seed(1)
    seen: set[int] = set()
    for _ in range(40):
        loss = triplet_loss(z, labels, negatives=4, weight=1.0, margin=20.0)
        drawn = (torch.autograd.grad(loss, z)[0][2:, 0].nonzero().flatten() + 1).tolist()
        assert len(drawn) == 4
        assert loss.item() == pytest.approx(20 - sum(drawn) / 4, rel=1e-5)
        seen.update(drawn)
    assert seen == set(range(1, 11))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_without_a_triplet_it_is_0_and_has_a_gradient(labels: list[int]) -> None:
    z = torch.randn(4, 2, requires_grad=True)
    loss = triplet_loss(z, torch.tensor(labels), negatives=3, weight=1.0, margin=0.2)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()
