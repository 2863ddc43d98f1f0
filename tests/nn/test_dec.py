"""DEC's soft assignment, target distribution and loss, worked by hand; their gradients by the published formulas."""

import torch
from torch import Tensor

from robust_cluster.nn.dec import SelfTraining, clustering_kl, sharpen, student_t, target_distribution


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """z (7, 3), centers (4, 3) and targets (7, 4) in float64."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(7, 3, generator=random, dtype=torch.float64, requires_grad=True)
    centers = torch.randn(4, 3, generator=random, dtype=torch.float64, requires_grad=True)
    return z, centers, target_distribution(student_t(z, centers)).detach()


def test_soft_labels_worked_by_hand() -> None:
    z, centers = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 2.0]])
    torch.testing.assert_close(student_t(z, centers), torch.tensor([[0.75, 0.25]]))  # 1/2 against 1/6


def test_targets_worked_by_hand() -> None:
    soft = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    weights = torch.tensor([[0.25 / 1.4, 0.25 / 0.6], [0.81 / 1.4, 0.01 / 0.6]])
    torch.testing.assert_close(target_distribution(soft), weights / weights.sum(dim=1, keepdim=True))


def test_targets_are_sharper_and_their_rows_sum_to_one() -> None:
    z, centers, targets = drawn()
    soft = student_t(z, centers)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(7, dtype=torch.float64))
    assert targets.amax(dim=1).mean() > soft.amax(dim=1).mean()


def test_an_empty_cluster_gives_no_nan() -> None:
    assert target_distribution(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).equal(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_the_loss_is_zero_at_its_targets_and_finite_at_one_hot_ones() -> None:
    _, _, targets = drawn()
    assert abs(float(clustering_kl(targets, targets))) < 1e-15
    one_hot = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(clustering_kl(one_hot, torch.tensor([[0.5, 0.5]])), torch.tensor(2.0).log())


def test_the_gradients_of_the_loss_at_z_and_at_the_centers_are_the_published_ones() -> None:
    """2 sum_j (1 + ||z_i - mu_j||^2)^-1 (p_ij - q_ij) (z_i - mu_j): ADEC, Theorem 2, first term.

    At mu_j its negative, summed over samples: Theorem 3, whose print has sum_j.
    """
    z, centers, p = drawn()
    q = student_t(z, centers)
    at_z, at_centers = torch.autograd.grad(7 * clustering_kl(p, q), (z, centers))
    differences = z.detach().unsqueeze(1) - centers.detach()
    kernel = 1 / (1 + differences.square().sum(dim=2))
    pulls = 2 * (kernel * (p - q.detach())).unsqueeze(2) * differences
    torch.testing.assert_close(at_z, pulls.sum(dim=1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(at_centers, -pulls.sum(dim=0), rtol=1e-10, atol=1e-12)


def test_given_frequencies_sharpen_as_those_of_the_whole_do() -> None:
    _, _, p = drawn()
    torch.testing.assert_close(sharpen(p[:3], p.sum(dim=0)), target_distribution(p)[:3])


def test_a_refresh_tells_how_many_labels_changed_and_keeps_targets_of_all_rows() -> None:
    training = SelfTraining(4, 2)
    soft = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    assert training.refresh(soft).item() == 0.5  # labels start at 0
    assert training.refresh(soft).item() == 0.0
    rows = torch.tensor([2, 0])
    assert training.of(rows, torch.full((2, 2), 0.5), torch.ones(2)).equal(target_distribution(soft)[rows])


def test_rows_without_a_target_sharpen_their_own_soft_labels() -> None:
    own, frequencies = torch.tensor([[0.6, 0.4]]), torch.tensor([2.0, 1.0])
    found = SelfTraining(3, 2).of(torch.tensor([1]), own, frequencies)
    torch.testing.assert_close(found, torch.tensor([[0.18, 0.16]]) / 0.34)
