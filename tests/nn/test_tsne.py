"""t-SNE's pairwise distributions against scikit-learn, against double loops, and where rows have no answer."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from robust_cluster.errors import ConfigError
from robust_cluster.nn import tsne
from robust_cluster.nn.precision import precision
from robust_cluster.nn.tsne import joint_probabilities, locality_kl, log_precisions, pairwise_squares, row_entropies

Points = Callable[[], Tensor]


def cloud() -> Tensor:
    """150 points of one Gaussian."""
    return torch.randn(150, 10, generator=torch.Generator().manual_seed(0))


def clusters() -> Tensor:
    """150 points of 6 clusters of unequal widths, far apart."""
    random = torch.Generator().manual_seed(1)
    centers = 8 * torch.randn(6, 10, generator=random)
    widths = 0.05 + torch.rand(150, 1, generator=random)
    return centers[torch.arange(150) % 6] + widths * torch.randn(150, 10, generator=random)


def line() -> Tensor:
    """150 equidistant points in order, far from the origin; with two nearest, their perplexity is 2 at least."""
    return torch.linspace(1000, 1001, 150).unsqueeze(1).repeat(1, 3)


POINTS = pytest.mark.parametrize("points", [cloud, clusters, line])


def gaps_of(z: Tensor) -> Tensor:
    """Squared distances less each row's least, 0 at its own place, by another way."""
    gaps = torch.from_numpy(squareform(pdist(z.double().numpy(), "sqeuclidean")))
    gaps.fill_diagonal_(math.inf)
    return (gaps - gaps.amin(dim=1, keepdim=True)).fill_diagonal_(0).float()


def entropies(gaps: Tensor, t: Tensor) -> Tensor:
    """The entropy of each row in nats, in float64, row by row."""
    found = []
    for i, (row, beta) in enumerate(zip(gaps.double(), t.double().exp(), strict=True)):
        others = torch.cat([row[:i], row[i + 1 :]])
        p = torch.softmax(-beta * others, dim=0)
        found.append(-torch.xlogy(p, p).sum())
    return torch.stack(found)


def kl_by_autograd(p: Tensor, s: Tensor) -> Tensor:
    """The definition, without a formula for its gradient."""
    squares = (s.unsqueeze(1) - s).square().sum(dim=2)
    kernel = (1 / (1 + squares)) * (1 - torch.eye(len(s), dtype=s.dtype))
    off = ~torch.eye(len(s), dtype=torch.bool)
    return (p[off] * (p[off] / (kernel[off] / kernel.sum())).log()).sum()


def drawn(n: int = 9, d: int = 3) -> tuple[Tensor, Tensor]:
    """P (n, n) and s (n, d) in float64."""
    random = torch.Generator().manual_seed(2)
    z, s = (torch.randn(n, d, generator=random, dtype=torch.float64) for _ in range(2))
    return joint_probabilities(z, 4.0), s.requires_grad_()


@POINTS
@pytest.mark.parametrize("perplexity", [2.5, 8.0, 100.0])
def test_every_row_has_the_perplexity_asked_for(points: Points, perplexity: float) -> None:
    gaps = gaps_of(points())
    found = entropies(gaps, log_precisions(gaps, perplexity))
    # the tolerance of the search and the rounding of float32
    assert (found - math.log(perplexity)).abs().max() < 2e-5
    torch.testing.assert_close(found.exp(), torch.full_like(found, perplexity), rtol=1e-3, atol=0)


@POINTS
def test_p_is_symmetric_has_no_diagonal_and_sums_to_one(points: Points) -> None:
    p = joint_probabilities(points(), 8.0)
    assert p.equal(p.T)
    assert p.diagonal().count_nonzero() == 0
    assert p.min() >= 0
    assert float(p.double().sum()) == pytest.approx(1, abs=1e-6)


@POINTS
@pytest.mark.parametrize("perplexity", [2.0, 8.0, 40.0])
def test_p_is_scikit_learns(points: Points, perplexity: float) -> None:
    helper = getattr(pytest.importorskip("sklearn.manifold._t_sne"), "_joint_probabilities", None)
    if helper is None:
        pytest.skip("this scikit-learn has no such helper; it is private")
    z = points()
    expected = squareform(helper(squareform(pdist(z.double().numpy(), "sqeuclidean")), perplexity, 0))
    np.testing.assert_allclose(joint_probabilities(z, perplexity).numpy(), expected, rtol=1e-3, atol=1e-7)


def test_three_points_worked_by_hand() -> None:
    """At perplexity 2 both others count alike, however far; below, the nearer one more: the entropy of (a, 1 - a)."""
    z = torch.tensor([[0.0], [1.0], [3.0]])
    torch.testing.assert_close(joint_probabilities(z, 2.0), (1 - torch.eye(3)) / 6, rtol=1e-2, atol=0)
    perplexity = math.exp(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    nearer = torch.tensor([[0.0, 0.9, 0.1], [0.9, 0.0, 0.1], [0.1, 0.9, 0.0]])
    expected = (nearer + nearer.T) / 6
    torch.testing.assert_close(joint_probabilities(z, perplexity), expected, rtol=1e-4, atol=1e-6)


def test_p_depends_neither_on_the_scale_nor_on_the_place_of_the_cloud() -> None:
    z = cloud()
    expected = joint_probabilities(z, 8.0)
    for moved in (1e-6 * z, 1e6 * z, (z.double() + 1e4)):
        torch.testing.assert_close(joint_probabilities(moved, 8.0).float(), expected, rtol=1e-3, atol=1e-9)


def test_more_copies_than_the_perplexity_share_a_row_alike() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).repeat(12, 1)
    p = joint_probabilities(z, 3.0)
    is_copy = (torch.arange(60).unsqueeze(1) - torch.arange(60)) % 5 == 0
    expected = (is_copy & ~torch.eye(60, dtype=torch.bool)) / (60.0 * 11)
    torch.testing.assert_close(p, expected, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(joint_probabilities(torch.ones(20, 4), 3.0), (1 - torch.eye(20)) / 380)


def test_two_points_are_each_others_only_neighbor() -> None:
    assert joint_probabilities(torch.tensor([[0.0], [5.0]]), 1.0).tolist() == [[0.0, 0.5], [0.5, 0.0]]


@pytest.mark.parametrize("perplexity", [0.99, 19.01, math.nan])
def test_a_perplexity_that_no_row_can_have_is_refused(perplexity: float) -> None:
    with pytest.raises(ConfigError, match=r"perplexity must be in \[1, batch - 1\] = \[1, 19\], got") as caught:
        joint_probabilities(torch.randn(20, 2), perplexity)
    assert "--set model.perplexity_share" in str(caught.value)


def test_no_gradient_reaches_the_points_of_p() -> None:
    assert not joint_probabilities(cloud().requires_grad_(), 8.0).requires_grad


def test_reduced_products_of_the_training_change_neither_p_nor_the_loss_and_its_gradient() -> None:
    z, found = cloud(), []
    for level in ("highest", "medium"):
        with precision(level):
            s = clusters().requires_grad_()
            p = joint_probabilities(z, 8.0)
            loss = locality_kl(p, s)
            loss.backward()
            assert s.grad is not None
            found.append((p, loss.detach(), s.grad))
    assert all(exact.equal(reduced) for exact, reduced in zip(*found, strict=True))


@pytest.mark.parametrize("points", [cloud, clusters])
def test_the_search_takes_few_evaluations(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain bisection takes some 25 of all rows."""
    seen: list[int] = []

    def counted(gaps: Tensor, t: Tensor, space: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(gaps))
        return row_entropies(gaps, t, space)

    monkeypatch.setattr(tsne, "row_entropies", counted)
    joint_probabilities(points(), 8.0)
    assert sum(seen) <= 6 * 150
    seen.clear()
    joint_probabilities(torch.ones(30, 2), 3.0)  # without an answer it ends all the same
    assert len(seen) == tsne.STEPS


def test_the_slope_of_the_entropy_is_its_derivative() -> None:
    gaps = gaps_of(cloud()).double()
    t = torch.linspace(-3, 1, 150, dtype=torch.float64)
    space = torch.empty((2, 150, 150), dtype=torch.float64)
    _, slope = row_entropies(gaps, t, space)
    high, low = (row_entropies(gaps, t + step, space)[0] for step in (1e-5, -1e-5))
    torch.testing.assert_close(slope, (low - high) / 2e-5, rtol=1e-6, atol=1e-9)


def test_the_loss_worked_by_hand() -> None:
    """Three points on a line: kernels 1/2, 1/2 and 1/5, each twice."""
    s = torch.tensor([[0.0], [1.0], [2.0]])
    p = torch.tensor([[0.0, 0.3, 0.1], [0.3, 0.0, 0.1], [0.1, 0.1, 0.0]])
    total = 2 * (1 / 2 + 1 / 2 + 1 / 5)
    expected = 2 * sum(
        p_ij * math.log(p_ij / (kernel / total)) for p_ij, kernel in ((0.3, 1 / 2), (0.1, 1 / 2), (0.1, 1 / 5))
    )
    assert float(locality_kl(p, s)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_never_negative_and_zero_where_q_is_p() -> None:
    p, s = drawn()
    kernel = 1 / (1 + pairwise_squares(s.detach()))
    kernel.fill_diagonal_(0)
    assert float(locality_kl(p, s.detach())) > 0
    assert abs(float(locality_kl(kernel / kernel.sum(), s.detach()))) < 1e-12


def test_the_gradient_of_the_loss_is_that_of_its_definition_and_the_published_one() -> None:
    """4 sum_j (p_ij - q_ij) (s_i - s_j) / (1 + ||s_i - s_j||^2): van der Maaten and Hinton 2008, Eq. 5."""
    p, s = drawn()
    loss, defined = locality_kl(p, s), kl_by_autograd(p, s)
    torch.testing.assert_close(loss, defined, rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad(3 * loss, s)
    (wanted,) = torch.autograd.grad(3 * defined, s)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        kernel = 1 / (1 + (s.unsqueeze(1) - s).square().sum(dim=2))
        q = kernel.clone().fill_diagonal_(0) / (kernel.sum() - len(s))
        published = [4 * sum((p[i, j] - q[i, j]) * (s[i] - s[j]) * kernel[i, j] for j in range(9)) for i in range(9)]
    torch.testing.assert_close(found / 3, torch.stack(published), rtol=1e-6, atol=1e-9)  # type: ignore[arg-type]


def test_points_very_far_apart_leave_loss_and_gradient_finite() -> None:
    p, s = drawn()
    far = (1e12 * s.detach()).requires_grad_()
    loss = locality_kl(p, far)
    loss.backward()
    assert far.grad is not None
    assert loss.isfinite()
    assert far.grad.isfinite().all()


def test_squared_distances_keep_small_differences_of_float32_points_far_from_the_origin() -> None:
    z = 300 + clusters() / 100
    expected = torch.from_numpy(squareform(pdist(z.double().numpy(), "sqeuclidean")))
    torch.testing.assert_close(pairwise_squares(z).double(), expected, rtol=1e-6, atol=1e-12)
