"""PGD on the views keeps to its ball, climbs its objective from any start, and reads the model without touching it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.latent_pgd import margin
from robust_cluster.attacks.pgd import PGD, Config, changes, pixel_budget, representation_shift
from robust_cluster.data.base import Batch, DataInfo, Dataset, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.nn.objectives import log_margin
from robust_cluster.stages import methods
from robust_cluster.stages.context import frozen_surface
from robust_cluster.stages.evaluate import embed


def info(*shapes: tuple[int, ...], name: str = "toy", bounds: tuple[float, float] | None = (0.0, 1.0)) -> DataInfo:
    return DataInfo(name, shapes, 100, 3, bounds, 1.0, "")


def toy(name: str, *shapes: tuple[int, ...], n: int = 6) -> tuple[ClusterModel, Batch]:
    """An untrained model with statistics of its data, and these data."""
    torch.manual_seed(0)
    model = methods.new_model(name, methods.plain(methods.resolve("models", name, "smoke", {})), info(*shapes), 6)
    views = tuple(torch.rand(n, *shape) for shape in shapes)
    model.train().encode(views)
    return model.eval().requires_grad_(False), Batch(views, torch.arange(n))


@pytest.fixture
def rows(pair: Dataset) -> Batch:
    return Batch(tuple(view[:12] for view in pair.views), torch.arange(12))


@pytest.fixture(scope="session")
def _trained(pair: Dataset) -> ClusterModel:
    """SiMVC after a few steps, so that its batch norm has the statistics of the data."""
    torch.manual_seed(0)
    model = methods.new_model("simvc", {}, pair.info, 6)
    optimizers = model.optimizers("cluster")
    for start in (0, 40, 80):
        index = torch.arange(start, start + 40)
        model.step(Batch(tuple(view[index] for view in pair.views), index), "cluster", optimizers)
    model.zero_grad(set_to_none=True)
    return model.eval()


@pytest.fixture
def simvc(_trained: ClusterModel) -> ClusterModel:
    return copy.deepcopy(_trained)


def surface_of(model: ClusterModel, bn: BatchNormMode = "eval") -> Surface:
    return Surface(model.requires_grad_(False), "input", bn=bn)


def moved(surface: Surface, batch: Batch, **values: Any) -> Views:
    torch.manual_seed(1)
    return PGD(Config(**values), surface).perturb(surface, batch)


def shift_of(surface: Surface, batch: Batch, points: Views) -> Tensor:
    with torch.no_grad():
        return representation_shift(surface.model, surface.encode(batch.views), surface.encode(points))


def margin_of(surface: Surface, batch: Batch, points: Views) -> Tensor:
    with torch.no_grad():
        labels = surface.labels(batch.views)
        return log_margin(surface.model.log_assign(surface.encode(points).z), labels)


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("objective", ["shift", "assignment"])
def test_every_point_stays_in_the_ball_and_in_the_range_of_pixels(
    simvc: ClusterModel, rows: Batch, objective: str, bn: BatchNormMode
) -> None:
    surface = surface_of(simvc, bn)
    points = moved(surface, rows, objective=objective, bn=bn, eps=0.15, steps=5)
    for clean, point in zip(rows.views, points, strict=True):
        assert point.shape == clean.shape
        assert not point.requires_grad
        assert (point - clean).abs().max() <= 0.15 + 1e-6
        assert (point - clean).abs().max() > 0.14
        assert point.min() >= 0
        assert point.max() <= 1


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_the_shift_of_nearly_every_sample_grows_over_the_random_start(
    simvc: ClusterModel, rows: Batch, bn: BatchNormMode
) -> None:
    surface = surface_of(simvc, bn)
    begun, ended = (
        shift_of(surface, rows, moved(surface, rows, objective="shift", bn=bn, eps=0.2, steps=steps))
        for steps in (0, 5)
    )
    assert begun.min() > 0
    assert (ended > begun).float().mean() >= 0.95
    assert ended.mean() > 2 * begun.mean()


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_the_margin_of_the_clean_label_falls_below_that_of_the_random_start(
    simvc: ClusterModel, rows: Batch, bn: BatchNormMode
) -> None:
    surface = surface_of(simvc, bn)
    assert margin_of(surface, rows, rows.views).min() >= 0
    begun, ended = (margin_of(surface, rows, moved(surface, rows, bn=bn, eps=0.2, steps=steps)) for steps in (0, 5))
    assert (ended < begun).float().mean() >= 0.95
    assert ended.mean() < 0.7 * begun.mean()


def test_the_steps_are_the_signs_of_the_gradient_by_a_plain_loop(simvc: ClusterModel, rows: Batch) -> None:
    surface = surface_of(simvc)
    points = moved(surface, rows, eps=0.06, steps=3, random_start=False)
    labels = surface.labels(rows.views)
    expected = [view.clone() for view in rows.views]
    for _ in range(3):
        for view in expected:
            view.requires_grad_(True).grad = None
        y = simvc.assign(simvc.encode(tuple(expected)).z).log()
        own = torch.nn.functional.one_hot(labels, 10).bool()
        (y[own] - y.masked_fill(own, -torch.inf).amax(dim=1)).sum().backward()
        stepped = []
        for view, clean in zip(expected, rows.views, strict=True):
            assert view.grad is not None
            ahead = view.detach() - 0.04 * view.grad.sign()  # 2 eps / 3
            stepped.append(torch.minimum(torch.maximum(ahead, clean - 0.06), clean + 0.06).clamp(0, 1))
        expected = stepped
    for point, wanted in zip(points, expected, strict=True):
        torch.testing.assert_close(point, wanted, atol=1e-6, rtol=0)


def test_no_steps_give_a_uniform_draw_from_the_ball(simvc: ClusterModel) -> None:
    grey = Batch((torch.full((50, 1, 16, 16), 0.5),) * 2, torch.arange(50))
    points = moved(surface_of(simvc), grey, eps=0.2, steps=0)
    for point in points:
        delta = point - 0.5
        assert delta.abs().max() <= 0.2 + 1e-6
        assert delta.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)
        assert delta.mean().item() == pytest.approx(0, abs=0.003)
    assert not points[0].equal(points[1])


def test_a_radius_of_zero_and_no_steps_without_a_random_start_move_nothing(simvc: ClusterModel, rows: Batch) -> None:
    for values in ({"eps": 0.0, "steps": 3}, {"eps": 0.2, "steps": 0, "random_start": False}):
        for clean, point in zip(rows.views, moved(surface_of(simvc), rows, **values), strict=True):
            assert point.equal(clean)


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("objective", ["shift", "assignment"])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_victim_keeps_its_bits_and_collects_no_gradient(
    simvc: ClusterModel, rows: Batch, objective: str, bn: BatchNormMode, is_frozen: bool
) -> None:
    before = copy.deepcopy(simvc.state_dict())
    surface = Surface(simvc.requires_grad_(not is_frozen), "input", bn=bn)
    moved(surface, rows, objective=objective, bn=bn, steps=2)
    assert all(value.equal(before[name]) for name, value in simvc.state_dict().items())
    assert all(p.grad is None and p.requires_grad is not is_frozen for p in simvc.parameters())
    assert all(view.grad is None and not view.requires_grad for view in rows.views)


def test_statistics_of_the_batch_give_other_gradients_than_stored_ones(simvc: ClusterModel, rows: Batch) -> None:
    stored, batch = (moved(surface_of(simvc, bn), rows, bn=bn, steps=3) for bn in ("eval", "batch"))
    assert not stored[0].equal(batch[0])


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("convae", ((1, 16, 16),)),
        ("simvc", ((1, 16, 16),) * 2),
        ("simvc", ((3, 24, 17),) * 3),
        ("multivae", ((1, 16, 16), (3, 17, 20))),
    ],
)
@pytest.mark.parametrize("objective", ["shift", "assignment"])
@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_any_number_and_size_of_views_is_moved(
    name: str, shapes: tuple[tuple[int, ...], ...], objective: str, bn: BatchNormMode
) -> None:
    model, batch = toy(name, *shapes)
    points = moved(surface_of(model, bn), batch, objective=objective, bn=bn, steps=2, eps=0.1)
    assert len(points) == len(shapes)
    for clean, point in zip(batch.views, points, strict=True):
        assert ((point - clean).flatten(1).abs().amax(dim=1) > 0).all()


def test_labels_of_k_means_have_a_gradient_in_every_view_of_every_sample(pair: Dataset, rows: Batch) -> None:
    torch.manual_seed(0)
    model = methods.new_model("multivae", {"hidden": 32, "n_init": 1}, pair.info, 6).eval().requires_grad_(False)
    model.finish("cluster", lambda: embed(model, pair.views), seed=0)
    surface = frozen_surface(model, "input", embed(model, pair.views))
    points = moved(surface, rows, random_start=False, steps=1, eps=0.1)
    for clean, point in zip(rows.views, points, strict=True):
        assert ((point - clean).flatten(1).abs().amax(dim=1) > 0).all()
    before = margin_of(surface, rows, rows.views)
    assert (margin_of(surface, rows, moved(surface, rows, steps=5, eps=0.2)) < before).float().mean() >= 0.95


def test_all_points_flip_just_beyond_their_distance_to_the_plane_between_two_centres_and_none_before_it() -> None:
    """In L-infinity a point at c from the plane w x = b flips at eps > |w x - b| / ||w||_1."""
    model = KMeansModel(KMeansConfig(), info((1, 2, 2)), 4)
    model.centers.copy_(torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.6, 0.8, 0.2], [9.0, 9.0, 9.0, 9.0]]))
    model.variance.fill_(1e-3)  # soft labels underflow, their exact logarithms do not
    surface = surface_of(model)
    normal = model.centers[1] - model.centers[0]
    views = 0.3 + 0.4 * torch.rand(30, 1, 2, 2)
    values = views.flatten(1) @ normal - normal @ (model.centers[0] + model.centers[1]) / 2
    views = views - (values / normal.square().sum())[:, None, None, None] * normal.view(1, 1, 2, 2)  # onto the plane
    views = views - 0.05 * normal.sum() * normal.view(1, 1, 2, 2) / normal.square().sum()  # 0.05 before it
    batch = Batch((views,), torch.arange(30))
    assert (surface.labels(batch.views) == 0).all()
    assert (surface.labels(moved(surface, batch, eps=0.051, steps=20)) == 1).all()
    assert (surface.labels(moved(surface, batch, eps=0.049, steps=20)) == 0).all()


def test_the_clean_embedding_comes_from_memory_where_there_is_one(simvc: ClusterModel, pair: Dataset) -> None:
    index = torch.tensor([7, 190, 3])
    batch = Batch(tuple(view[index] for view in pair.views), index)
    remembered = frozen_surface(simvc, "input", embed(simvc, pair.views))
    expected = moved(surface_of(simvc), batch, steps=3)
    assert all(a.equal(b) for a, b in zip(moved(remembered, batch, steps=3), expected, strict=True))
    elsewhere = Embedding(torch.zeros(200, 100), (torch.zeros(200, 64),) * 2)
    assert not moved(Surface(simvc, "input", elsewhere), batch, steps=3, objective="shift")[0].equal(
        moved(remembered, batch, steps=3, objective="shift")[0]
    )


def test_the_shift_is_the_sum_of_squares_over_views_and_consensus_of_each_sample(
    simvc: ClusterModel, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = Embedding(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), (torch.zeros(2, 1), torch.ones(2, 2)))
    other = Embedding(torch.tensor([[1.0, 5.0], [0.0, 0.0]]), (torch.tensor([[2.0], [0.0]]), torch.ones(2, 2)))
    assert representation_shift(simvc, clean, other).tolist() == [4 + 9, 0]
    assert [change.tolist() for change in changes(simvc, clean, other)] == [
        [[-2.0], [0.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[0.0, -3.0], [0.0, 0.0]],
    ]
    monkeypatch.setattr(simvc, "consensus", lambda embedding: embedding.z[:, :1])
    assert representation_shift(simvc, clean, other).tolist() == [4, 0]
    embedding = simvc.encode(rows.views)
    assert not representation_shift(simvc, embedding, embedding).any()


def test_the_margin_of_logarithms_is_that_of_the_soft_labels(simvc: ClusterModel, rows: Batch) -> None:
    z = simvc.encode(rows.views).z
    labels = simvc.labels(z)
    assert margin(simvc, z, labels).equal(log_margin(simvc.log_assign(z), labels))


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("noisymnist", 0.3),
        ("noisy:mnist10k", 0.3),
        ("noisyfashion", 0.15),
        ("noisy:fashion-mnist", 0.15),
        ("patchedmnist", 0.3),
        ("regdb", 0.1),
        ("digits-28", 0.1),
    ],
)
def test_the_radius_is_the_published_one_of_the_data_set_unless_it_is_given(name: str, eps: float) -> None:
    budget = pixel_budget(None, info((1, 28, 28), name=name))
    assert (budget.norm, budget.eps, budget.bounds) == ("linf", eps, (0.0, 1.0))
    assert pixel_budget(0.07, info((1, 28, 28), name=name)).eps == 0.07


def test_data_without_bounds_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="they need image data, and values of toy have no bounds"):
        pixel_budget(None, info((64,), bounds=None))


def test_a_surface_in_the_other_batch_norm_mode_is_refused(simvc: ClusterModel, rows: Batch) -> None:
    with pytest.raises(ConfigError, match=r"for bn = 'eval', but its surface has 'batch' \(--set attack.bn=batch\)"):
        moved(surface_of(simvc, "batch"), rows)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"eps": -1.0}, "eps must be >= 0, got -1.0"),
        ({"steps": -1}, "steps must be >= 0, got -1"),
        ({"relative_step": 0.0}, "relative_step must be > 0, got 0.0"),
        ({"objective": "shift", "random_start": False}, "the shift has no gradient at the clean point"),
    ],
)
def test_values_that_cannot_be_are_refused(bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Config(**bad)


def test_the_default_is_20_steps_of_a_tenth_of_the_radius() -> None:
    config = Config()
    assert (config.steps, config.relative_step, config.objective, config.random_start) == (20, 2.0, "assignment", True)
    assert config.relative_step / config.steps == 0.1
