"""The DDC loss against plain loops, worked values and its invariances."""

import math

import pytest
import torch
from torch import Tensor

from robust_cluster.errors import ShapeError
from robust_cluster.nn.ddc import cauchy_schwarz, corner_similarities, ddc_terms, gaussian_kernel, row_overlap


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    """h (8, 5) and A (8, 3) in float64."""
    random = torch.Generator().manual_seed(0)
    h = torch.randn(8, 5, generator=random, dtype=torch.float64)
    return h, torch.randn(8, 3, generator=random, dtype=torch.float64).softmax(dim=1)


def clusters(n_clusters: int, each: int) -> tuple[Tensor, Tensor]:
    """h on K equidistant points, A their one-hot labels, `each` samples a cluster."""
    labels = torch.arange(n_clusters).repeat(each)
    return 3.0 * torch.eye(n_clusters)[labels], torch.eye(n_clusters)[labels]


def looped_kernel(h: Tensor) -> list[list[float]]:
    rows = h.tolist()
    squares = [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    every = sorted(value for row in squares for value in row)
    sigma_square = max(0.15 * every[(len(every) - 1) // 2], 1e-9)
    return [[math.exp(-value / (2 * sigma_square)) for value in row] for row in squares]


def looped_divergence(columns: list[list[float]], kernel: list[list[float]]) -> float:
    n, n_clusters = len(columns), len(columns[0])

    def overlap(a: int, b: int) -> float:
        return sum(columns[i][a] * kernel[i][j] * columns[j][b] for i in range(n) for j in range(n))

    total = 0.0
    for a in range(n_clusters):
        for b in range(a + 1, n_clusters):
            total += max(overlap(a, b), 1e-9) / math.sqrt(max(overlap(a, a) * overlap(b, b), 1e-18))
    return 2 * total / (n_clusters * (n_clusters - 1))


def test_the_three_terms_are_those_of_plain_loops(sample: tuple[Tensor, Tensor]) -> None:
    h, soft_labels = sample
    kernel, rows = looped_kernel(h), soft_labels.tolist()
    corners = [
        [math.exp(-sum((p - (a == b)) ** 2 for b, p in enumerate(row))) for a in range(len(row))] for row in rows
    ]
    pairs = [sum(p * q for p, q in zip(rows[i], rows[j], strict=True)) for j in range(8) for i in range(j)]
    expected = {
        "ddc_1": looped_divergence(rows, kernel),
        "ddc_2": 2 * sum(pairs) / (8 * 7),
        "ddc_3": looped_divergence(corners, kernel),
    }
    terms = {name: term.item() for name, term in ddc_terms(h, soft_labels).items()}
    assert terms == pytest.approx(expected, rel=1e-9)


def test_the_kernel_uses_the_lower_median_with_the_diagonal_counted() -> None:
    h = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    # squares 0 x 4, 1, 1, 4, 4, 9, 9, 16, 16, 36, 36, 49, 49: the 8th of 16 is 4, the mean of the middle two is 6.5,
    # and the median off the diagonal is 9 or 16
    expected = torch.exp(-torch.tensor([0.0, 1.0, 9.0, 49.0]) / (2 * 0.15 * 4))
    torch.testing.assert_close(gaussian_kernel(h)[0], expected)
    torch.testing.assert_close(gaussian_kernel(h, 0.3)[0], expected.sqrt())


def test_no_gradient_flows_through_sigma(sample: tuple[Tensor, Tensor]) -> None:
    h = sample[0].requires_grad_()
    gaussian_kernel(h).sum().backward()
    with torch.no_grad():
        differences = h.unsqueeze(1) - h
        sigma_square = 0.15 * differences.square().sum(dim=2).median()
        expected = -2 * (gaussian_kernel(h).unsqueeze(2) * differences / sigma_square).sum(dim=1)
    torch.testing.assert_close(h.grad, expected)


def test_two_tight_clusters_have_a_median_of_0_and_still_a_finite_kernel() -> None:
    h, soft_labels = (tensor.requires_grad_() for tensor in clusters(2, 5))
    kernel = gaussian_kernel(h)
    assert kernel[0].tolist() == [1.0, 0.0] * 5
    terms = ddc_terms(h, soft_labels)
    assert terms["ddc_1"].item() == pytest.approx(1e-9 / 25)
    torch.stack(list(terms.values())).sum().backward()
    for tensor in (h, soft_labels):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("n_clusters", [3, 4])
def test_tight_equidistant_clusters_leave_the_kernels_own_overlap(n_clusters: int) -> None:
    terms = ddc_terms(*clusters(n_clusters, 4))
    assert terms["ddc_1"].item() == pytest.approx(math.exp(-1 / 0.3), rel=1e-5)
    assert terms["ddc_2"].item() == pytest.approx((4 - 1) / (4 * n_clusters - 1))


def test_uniform_soft_labels_give_1_and_one_cluster_for_all_overlaps_fully() -> None:
    h = torch.randn(12, 6)
    uniform = ddc_terms(h, torch.full((12, 3), 1 / 3))
    assert [uniform[name].item() for name in ("ddc_1", "ddc_3")] == pytest.approx([1, 1])
    assert uniform["ddc_2"].item() == pytest.approx(1 / 3)
    assert row_overlap(torch.eye(3)[torch.zeros(12, dtype=torch.int64)]).item() == pytest.approx(1)


def test_empty_clusters_are_floored() -> None:
    columns = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert cauchy_schwarz(columns, torch.eye(2)).item() == pytest.approx(1e-9 / 1e-9)
    assert cauchy_schwarz(torch.eye(2), torch.eye(2)).item() == pytest.approx(1e-9)


def test_one_hot_rows_are_1_at_their_corner_and_e_to_minus_2_at_the_others() -> None:
    expected = torch.full((3, 3), math.exp(-2)).fill_diagonal_(1)
    torch.testing.assert_close(corner_similarities(torch.eye(3)), expected)


def test_the_order_of_samples_and_of_clusters_does_not_matter(sample: tuple[Tensor, Tensor]) -> None:
    h, soft_labels = sample
    rows, columns = torch.randperm(8), torch.tensor([2, 0, 1])
    torch.testing.assert_close(ddc_terms(h[rows], soft_labels[rows][:, columns]), ddc_terms(h, soft_labels))


def test_the_gradient_is_right_in_both_arguments_under_a_given_kernel(sample: tuple[Tensor, Tensor]) -> None:
    """Through h with sigma fixed, as sigma is a constant of the loss."""
    h, soft_labels = (tensor.requires_grad_() for tensor in sample)

    def total(hidden: Tensor, rows: Tensor) -> Tensor:
        squares = (hidden.unsqueeze(1) - hidden).square().sum(dim=2)
        return torch.stack(list(ddc_terms(hidden, rows, torch.exp(-squares / 3)).values())).sum()

    assert torch.autograd.gradcheck(total, (h, soft_labels))
    assert ddc_terms(h, soft_labels, gaussian_kernel(h)) == ddc_terms(h, soft_labels)


def test_descending_the_loss_separates_the_clusters_of_the_soft_labels(sample: tuple[Tensor, Tensor]) -> None:
    h, soft_labels = sample
    logits = soft_labels.log().requires_grad_()
    for _ in range(60):
        torch.stack(list(ddc_terms(h, logits.softmax(dim=1)).values())).sum().backward()
        assert logits.grad is not None
        logits.data -= 2 * logits.grad
        logits.grad = None
    assert (logits.softmax(dim=1).max(dim=1).values > soft_labels.max(dim=1).values).all()


def test_samples_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(ShapeError, match="hidden has 3 samples and soft_labels 4"):
        ddc_terms(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match=r"got \(3, 3\) and \(4, 2\)"):
        ddc_terms(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(3, 3))
    with pytest.raises(ShapeError, match="K >= 2 columns"):
        cauchy_schwarz(torch.ones(4, 1), torch.eye(4))
    with pytest.raises(ShapeError, match="at least 2 samples, got 1"):
        row_overlap(torch.ones(1, 2))
