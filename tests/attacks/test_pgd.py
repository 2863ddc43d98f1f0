"""PGD keeps to its ball, climbs its objective from any start, keeps the best point, and does not touch the model."""

import copy
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import Ascent, Best, Known, bounded_budget, draw_in_ball
from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.attacks.latent_pgd import margin
from robust_cluster.attacks.pgd import PGD, Config, changes, pixel_budget, representation_shift
from robust_cluster.data.base import Batch, DataInfo, Dataset, Views
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.nn.objectives import log_margin
from robust_cluster.stages import methods
from robust_cluster.stages.context import frozen_surface


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
    norm = {"norm": "linf"} if "eps" in values and "norm" not in values else {}
    return PGD(Config(**norm, **values), surface).perturb(surface, batch)


def shift_of(surface: Surface, batch: Batch, points: Views) -> Tensor:
    with torch.no_grad():
        return representation_shift(surface.model, surface.encode(batch.views), surface.encode(points))


def margin_of(surface: Surface, batch: Batch, points: Views) -> Tensor:
    with torch.no_grad():
        labels = surface.labels(batch.views)
        return log_margin(surface.model.log_assign(surface.encode(points).z), labels)


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("objective", ["displacement", "margin"])
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


@pytest.mark.parametrize("objective", ["displacement", "margin"])
def test_no_sample_ends_below_the_clean_point_or_the_start_and_nearly_all_rise(
    simvc: ClusterModel, rows: Batch, objective: str
) -> None:
    surface = surface_of(simvc)
    scored = shift_of if objective == "displacement" else lambda *given: -margin_of(*given)
    begun, ended = (moved(surface, rows, objective=objective, eps=0.02, steps=steps) for steps in (0, 5))
    clean, start, end = (scored(surface, rows, points) for points in (rows.views, begun, ended))
    stayed = surface.labels(ended) == surface.labels(rows.views)
    assert (start >= clean)[stayed].all()
    assert (end >= start)[stayed].all()
    assert (end > start)[stayed].float().mean() >= 0.95
    assert (~stayed).sum() >= (surface.labels(begun) != surface.labels(rows.views)).sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_best_point_is_that_of_a_plain_loop(simvc: ClusterModel, rows: Batch, norm: str) -> None:
    """Signs, or gradients over their norm in each view, of 2 eps / 3 a step; the best point, or the first flip."""
    surface, eps = surface_of(simvc), {"linf": 0.02, "l2": 0.3}[norm]
    points = moved(surface, rows, norm=norm, eps=eps, steps=3, random_start=False)
    for row in range(0, len(rows), 3):
        clean = [view[row : row + 1] for view in rows.views]
        label = int(surface.labels(tuple(clean)))
        visited, at = [], [view.clone() for view in clean]
        for _ in range(4):
            for view in at:
                view.requires_grad_(True).grad = None
            y = simvc.assign(simvc.encode(tuple(at)).z).log()[0]
            gain = torch.cat([y[:label], y[label + 1 :]]).max() - y[label]
            visited.append((float(gain.detach()), [view.detach().clone() for view in at]))
            if gain > 0:
                break
            gain.backward()
            stepped = []
            for view, origin in zip(at, clean, strict=True):
                assert view.grad is not None
                way = view.grad.sign() if norm == "linf" else view.grad / view.grad.norm()
                delta = view.detach() + 2 * eps / 3 * way - origin
                delta = delta.clamp(-eps, eps) if norm == "linf" else delta * min(1.0, eps / float(delta.norm()))
                stepped.append((origin + delta).clamp(0, 1))
            at = stepped
        _, expected = visited[-1] if visited[-1][0] > 0 else max(visited, key=lambda pair: pair[0])
        for point, wanted in zip(points, expected, strict=True):
            torch.testing.assert_close(point[row : row + 1], wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_is_uniform_in_the_ball_and_the_rows_own(simvc: ClusterModel, norm: Norm) -> None:
    grey = Batch((torch.full((300, 1, 2, 2), 0.5),) * 2, torch.arange(300))
    clean = Known(grey.views, Embedding(torch.zeros(300, 1), ()), grey.index, torch.zeros(300, 3), grey.index)
    points = draw_in_ball(clean, Budget(norm, 0.2, (0.0, 1.0)), 7, (0,))
    for point in points:
        delta = (point - 0.5).flatten(1)
        reach = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
        assert stats.kstest((reach / 0.2).numpy() ** 4, "uniform").pvalue > 0.01  # of a ball in 4 dimensions
        assert delta.mean().item() == pytest.approx(0, abs=0.015)
    assert not points[0].equal(points[1])
    some = torch.tensor([250, 3])
    assert all(
        a.equal(b[some])
        for a, b in zip(draw_in_ball(clean.take(some), Budget(norm, 0.2, (0.0, 1.0)), 7, (0,)), points, strict=True)
    )


def test_a_radius_of_zero_moves_no_bit(simvc: ClusterModel, rows: Batch) -> None:
    outside = Batch(tuple(view + 0.5 for view in rows.views), rows.index)
    for clean, point in zip(outside.views, moved(surface_of(simvc), outside, eps=0.0, steps=3), strict=True):
        assert point.equal(clean)


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("objective", ["displacement", "margin"])
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
@pytest.mark.parametrize("objective", ["displacement", "margin"])
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
    points = moved(surface, rows, random_start=False, steps=1, eps=0.02)
    for clean, point in zip(rows.views, points, strict=True):
        assert ((point - clean).flatten(1).abs().amax(dim=1) > 0).float().mean() >= 0.9
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
    assert not moved(Surface(simvc, "input", elsewhere), batch, steps=3, objective="displacement")[0].equal(
        moved(remembered, batch, steps=3, objective="displacement")[0]
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


def test_the_defaults_are_20_steps_of_a_tenth_of_the_published_radius() -> None:
    config = Config()
    assert (config.steps, config.relative_step, config.objective, config.random_start) == (20, 2.0, "margin", True)
    assert config.relative_step / config.steps == 0.1
    assert bounded_budget(config, info((1, 2, 2), name="noisyfashion")) == Budget("linf", 0.15, (0.0, 1.0))


def test_only_chosen_views_move_and_each_has_its_radius(simvc: ClusterModel, rows: Batch) -> None:
    surface = surface_of(simvc)
    first, second = moved(surface, rows, eps=0.1, views=(1,), objective="displacement", steps=5)
    assert first.equal(rows.views[0])
    assert 0.09 < (second - rows.views[1]).abs().max() <= 0.1 + 1e-6
    for norm in ("linf", "l2"):
        pair = moved(surface, rows, norm=norm, view_eps=(0.05, 0.2), objective="displacement", steps=5)
        for clean, point, radius in zip(rows.views, pair, (0.05, 0.2), strict=True):
            delta = (point - clean).flatten(1)
            size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
            assert size.max() == pytest.approx(radius, rel=1e-3)


def test_more_moved_views_flip_no_fewer_samples() -> None:
    """k-means of two views whose centres differ in both: each view alone reaches half the way."""
    surface, batch = two_views()
    labels = surface.labels(batch.views)
    flips = [
        int((surface.labels(moved(surface, batch, eps=0.1, views=chosen)) != labels).sum())
        for chosen in ((0,), (1,), (0, 1), ())
    ]
    assert 0 < flips[0] < flips[2]
    assert 0 < flips[1] < flips[2]
    assert flips[2] == flips[3] < len(labels)


def two_views() -> tuple[Surface, Batch]:
    """Two clusters in two views of 3 values, and 60 points up to 0.4 from the plane between them in each value."""
    random = torch.Generator().manual_seed(0)
    details = DataInfo("toy", ((3,), (3,)), 60, 2, None, 1.0, "")
    model = KMeansModel(KMeansConfig(), details, 6)
    model.centers.copy_(torch.stack([torch.zeros(6), torch.ones(6)]))
    distance = 0.8 * torch.rand(60, 1, generator=random) - 0.4
    side = 0.2 * torch.randn(60, 6, generator=random)
    values = 0.5 + distance + side - side.mean(dim=1, keepdim=True)
    return surface_of(model), Batch((values[:, :3], values[:, 3:]), torch.arange(60))


def test_restarts_go_on_with_the_samples_that_have_not_flipped() -> None:
    surface, batch = two_views()
    labels, torn, asked = surface.labels(batch.views), [], []
    for restarts in (1, 3):
        torch.manual_seed(1)
        attack = PGD(Config(norm="linf", eps=0.1, steps=2, restarts=restarts), surface)
        torn.append(surface.labels(attack.perturb(surface, batch)) != labels)
        asked.append(attack.queries)
    assert (torn[1] >= torn[0]).all()
    left = int((~torn[0]).sum())
    assert 0 < left < 60
    assert asked[1] - asked[0] <= 2 * 3 * left
    assert 60 * 2 < asked[0] < 60 * 4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_sample_moves_alike_in_any_batch(norm: str) -> None:
    surface, batch = two_views()
    whole = moved(surface, batch, norm=norm, eps=0.1, steps=5)
    for rows in (torch.tensor([7]), torch.tensor([59, 3, 20, 7, 0, 31, 12])):
        part = Batch(tuple(view[rows] for view in batch.views), rows)
        for some, view in zip(moved(surface, part, norm=norm, eps=0.1, steps=5), whole, strict=True):
            torch.testing.assert_close(some, view[rows], atol=1e-6, rtol=0)


def test_a_gradient_over_random_passes_is_their_mean_and_a_flip_is_one_of_most_passes() -> None:
    """A victim that adds noise to its embedding: one pass climbs the noise's own direction, many the true one."""
    torch.manual_seed(0)
    model = KMeansModel(KMeansConfig(), info((2,), bounds=None), 2)
    model.centers.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 9.0]]))
    plain = model.encode

    def noisy(views: Views) -> Embedding:
        turned = views[0] * (1 + 2 * torch.randn(len(views[0]), 1))  # the gradient's sign is random in one pass
        return plain((turned,))

    model.encode = noisy  # type: ignore[method-assign]
    surface = surface_of(model)
    batch = Batch((torch.tensor([[-1.0, 0.0]]).repeat(200, 1),), torch.arange(200))
    known_points = Known(
        batch.views, plain(batch.views), torch.zeros(200, dtype=torch.int64), torch.zeros(200, 3), batch.index
    )
    wrong = []
    for eot in (1, 100):
        ascent = Ascent(surface, known_points, "margin", moves=(True,), eot=eot)
        answer = ascent.ask(batch.views)
        wrong.append(float((answer.gradients[0][:, 0] < 0).float().mean()))
        assert ascent.queries == 200 * eot
    assert wrong[0] > 0.2
    assert wrong[1] == 0
    left = [
        Ascent(surface, known_points, "margin", moves=(True,), eot=eot, best=Best(known_points, torch.zeros(200)))
        for eot in (1, 100)
    ]
    for ascent in left:
        ascent.ask(batch.views)
    assert len(left[0].known) < 180
    assert len(left[1].known) > 190, "in most of 100 passes the label is the clean one"
