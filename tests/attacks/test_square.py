"""Square keeps to ball, box and query budget, moves squares as the paper does, and reads no more than its feedback."""

import math
from typing import Any

import pytest
import torch

from robust_cluster.attacks import square
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import known as known_points
from robust_cluster.attacks.budget import Norm
from robust_cluster.attacks.square import HALVINGS, Config, Square, canvas, pyramid, sides, windows
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel


def case(
    *shapes: tuple[int, ...], n: int = 40, bounds: tuple[float, float] | None = (0.0, 1.0)
) -> tuple[Surface, Batch]:
    random = torch.Generator().manual_seed(0)
    info = DataInfo("toy", shapes, n, 4, bounds, 1.0, "")
    model = KMeansModel(KMeansConfig(), info, 4)
    model.centers.copy_(torch.rand(model.centers.shape, generator=random))
    model.variance.fill_(0.05)
    views = tuple(torch.rand(n, *shape, generator=random) for shape in shapes)
    return Surface(model.eval().requires_grad_(False), "input"), Batch(views, torch.arange(n))


def attacked(surface: Surface, batch: Batch, **values: Any) -> tuple[Square, tuple[torch.Tensor, ...], torch.Tensor]:
    torch.manual_seed(0)
    attack = Square(Config(**values), surface)
    moved = attack.perturb(surface, batch)
    return attack, moved, surface.labels(moved) != surface.labels(batch.views)


@pytest.mark.parametrize("feedback", ["soft", "hard"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.25)])
@pytest.mark.parametrize("shapes", [((12,),), ((3, 5, 4), (6,))], ids=["vector", "image and vector"])
def test_points_stay_in_ball_and_box_and_no_sample_is_asked_more_often_than_its_budget(
    norm: Norm, eps: float, feedback: Any, shapes: tuple[tuple[int, ...], ...]
) -> None:
    surface, batch = case(*shapes)
    flips = []
    for queries in (2, 60):
        attack, moved, flipped = attacked(surface, batch, norm=norm, eps=eps, feedback=feedback, queries=queries)
        assert attack.queries <= 40 * queries
        flips.append(int(flipped.sum()))
        for clean, point in zip(batch.views, moved, strict=True):
            delta = (point - clean).flatten(1)
            assert (delta.abs().amax() if norm == "linf" else delta.norm(dim=1).max()) <= eps + 1e-6
            assert point.min() >= 0
            assert point.max() <= 1
    assert flips[1] > flips[0] or flips[0] > 20


@pytest.mark.parametrize("feedback", ["soft", "hard"])
def test_more_queries_never_flip_fewer_and_a_sample_moves_alike_in_any_batch(feedback: Any) -> None:
    surface, batch = case((12,))
    values = {"norm": "linf", "eps": 0.05, "feedback": feedback}
    _, whole, most = attacked(surface, batch, queries=80, **values)
    some = torch.tensor([11, 3, 30])
    _, part, _ = attacked(surface, Batch((batch.views[0][some],), some), queries=80, **values)
    torch.testing.assert_close(part[0], whole[0][some], atol=1e-6, rtol=0)
    one, same, _ = attacked(surface, batch, queries=1, **values)
    assert (one.queries, same[0].equal(batch.views[0])) == (40, True)
    assert 0 < most.sum() < 40


def test_hard_feedback_reads_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    surface, batch = case((12,))
    values = {"norm": "l2", "eps": 0.2, "feedback": "hard", "queries": 40}
    _, expected, _ = attacked(surface, batch, **values)
    monkeypatch.setattr(KMeansModel, "log_assign", lambda self, z: torch.randn(len(z), 4))
    assert attacked(surface, batch, **values)[1][0].equal(expected[0])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.2)])
def test_the_hard_search_gives_up_far_samples_only(monkeypatch: pytest.MonkeyPatch, norm: Norm, eps: float) -> None:
    surface, batch = case((12,))
    values = {"norm": norm, "eps": eps, "feedback": "hard", "queries": 400}
    patient, _, flipped = attacked(surface, batch, **values)
    monkeypatch.setattr(square, "PATIENCE", 100)
    hasty, _, also_flipped = attacked(surface, batch, **values)
    assert 0 < flipped.sum() < len(flipped)
    assert also_flipped.equal(flipped)
    assert hasty.queries < 0.7 * patient.queries
    monkeypatch.setitem(square.FAR, norm, math.inf)  # where every sample is near
    assert attacked(surface, batch, **values)[0].queries == patient.queries


def test_no_gradient_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    surface, batch = case((12,))
    monkeypatch.setattr(torch.autograd, "grad", None)
    for feedback in ("soft", "hard"):
        attacked(surface, batch, norm="l2", eps=0.2, feedback=feedback, queries=10)


def test_a_square_in_linf_sets_every_channel_of_one_window_to_a_corner() -> None:
    surface, batch = case((3, 8, 8), bounds=None)
    torch.manual_seed(0)
    attack = Square(Config(norm="linf", eps=0.1, queries=100), surface)
    known = known_points(surface, batch)
    start = attack.first(known)
    assert (start[0].abs() == 0.1).all()
    assert start[0].equal(start[0][:, :, :1].expand(-1, -1, 8, -1)), "vertical stripes"
    (moved,) = attack.proposed(known, start, 5, 0.03)  # 300 of 10,000: an eighth of 0.8 of 64 pixels
    changed = (moved != start[0]).any(dim=1)
    assert changed.flatten(1).any(dim=1).all(), "a square that changed nothing has its signs turned over"
    assert (moved.abs() == 0.1).all()
    for image in changed:
        rows, cols = image.nonzero().unbind(1)
        assert rows.max() - rows.min() <= 2
        assert cols.max() - cols.min() <= 2


def test_a_square_in_l2_keeps_the_whole_radius_and_moves_mass_between_two_windows() -> None:
    surface, batch = case((2, 9, 9), bounds=None)
    torch.manual_seed(0)
    attack = Square(Config(norm="l2", eps=0.5, queries=100), surface)
    known = known_points(surface, batch)
    delta = attack.first(known)
    torch.testing.assert_close(delta[0].flatten(1).norm(dim=1), torch.full((40,), 0.5))
    for step in range(5):
        proposed = attack.proposed(known, delta, step, 0.03)
        torch.testing.assert_close(proposed[0].flatten(1).norm(dim=1), torch.full((40,), 0.5))
        assert 9 < (proposed[0] != delta[0]).sum(dim=(1, 2, 3)).float().mean() <= 2 * 2 * 9
        delta = proposed
    half = (0.5 * delta[0],)
    grown = attack.proposed(known, half, 9, 0.03)[0].flatten(1).norm(dim=1)
    torch.testing.assert_close(grown, torch.full((40,), 0.5), msg="unused norm is taken up")


def test_windows_are_the_pixels_of_squares() -> None:
    found = windows(torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]]), (2, 3), (4, 5))
    assert found[:, 0].tolist() == [[0, 1, 2, 5, 6, 7], [12, 13, 14, 17, 18, 19], [5, 6, 7, 10, 11, 12]]


def test_sides_are_those_of_the_paper_and_blocks_in_vectors() -> None:
    assert sides(0.8, 28, 28) == (25, 25)
    assert sides(0.8 / 512, 28, 28) == (1, 1)
    assert sides(0.8, 1, 64) == (1, 51)
    assert sides(1e-4, 1, 64) == (1, 1)
    assert sides(1.0, 4, 9) == (4, 4)
    assert canvas(torch.zeros(2, 3, 4, 5)) == (3, 4, 5)
    assert canvas(torch.zeros(2, 7)) == (1, 1, 7)
    assert sum(halving < 10_000 * 0.0501 for halving in HALVINGS) == 4


def test_the_pyramid_has_the_papers_values_by_hand() -> None:
    """Of 5 x 5 pixels: a half of 2 rows, all edge (1/1), and one of 3, whose layer 1 has 1/4 + 1."""
    edge, top = 0.25, 1.25
    lower = [[edge] * 5, [edge, top, top, top, edge], [edge] * 5]
    expected = torch.tensor([[-1.0] * 5] * 2 + lower)
    torch.testing.assert_close(pyramid(5, 5), expected / expected.norm())
    assert pyramid(1, 1).tolist() == [[1.0]]
    torch.testing.assert_close(pyramid(1, 4), torch.tensor([[-0.5, -0.5, 0.5, 0.5]]))
