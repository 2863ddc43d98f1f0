"""What every standard attack refuses, the units of its radius, and what it keeps of the points that it visits."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from robust_cluster.attacks import apgd, ensemble, noise, pgd, square, surrogate, transfer, universal
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.attacks.bounded import (
    Ball,
    Best,
    BoundedAttack,
    BoundedConfig,
    Known,
    bounded_budget,
)
from robust_cluster.attacks.budget import Budget
from robust_cluster.attacks.latent_pgd import Config as LatentConfig
from robust_cluster.attacks.latent_pgd import LatentPGD
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel

ATTACKS: list[tuple[type[BoundedAttack], Any]] = [
    (pgd.PGD, pgd.Config),
    (apgd.Apgd, apgd.Config),
    (square.Square, square.Config),
    (noise.Noise, noise.Config),
    (surrogate.Surrogate, surrogate.Config),
    (universal.Universal, universal.Config),
    (transfer.Transfer, transfer.Config),
    (ensemble.Ensemble, ensemble.Config),
]
VECTORS = DataInfo("vectors", ((4,),), 50, 3, None, 1.0, "")


def kmeans(info: DataInfo = VECTORS) -> KMeansModel:
    random = torch.Generator().manual_seed(0)
    model = KMeansModel(KMeansConfig(), info, 4)
    model.centers.copy_(torch.rand(model.centers.shape, generator=random))
    model.variance.fill_(0.05)
    return model.eval().requires_grad_(False)


def batch_for(model: ClusterModel, n: int = 20) -> Batch:
    random = torch.Generator().manual_seed(1)
    return Batch(tuple(torch.rand(n, *shape, generator=random) for shape in model.info.shapes), torch.arange(n))


def made(attack: type[BoundedAttack], config: Any, surface: Surface) -> BoundedAttack:
    torch.manual_seed(0)
    return attack(config, surface)


@pytest.mark.parametrize("config", [c for _, c in ATTACKS] + [BoundedConfig])
@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"norm": "linf", "eps": -0.1}, "eps must be >= 0 and finite, got -0.1"),
        ({"norm": "linf", "eps": float("nan")}, "eps must be >= 0 and finite, got nan"),
        ({"norm": "l2", "eps": float("inf")}, "eps must be >= 0 and finite, got inf"),
        ({"norm": "l2", "view_eps": (0.1, -1.0)}, "view_eps must be >= 0 and finite, got 0.1, -1"),
        ({"curve": (0.1, -1.0)}, "curve must be >= 0 and finite, got 0.1, -1"),
        ({"eps": 0.1}, r"eps 0.1 means nothing without a norm \(--norm linf or --norm l2\)"),
        ({"view_eps": (0.1,)}, r"view_eps means nothing without a norm \(--norm linf or --norm l2\)"),
        ({"norm": "l2"}, r"the norm l2 needs a radius \(--eps 0.1\)"),
        (
            {"norm": "linf", "eps": 0.1, "curve": (0.1, 0.3)},
            r"eps must be the largest radius of the curve, 0.3, got 0.1 \(--eps 0.3\)",
        ),
        ({"norm": "l1", "eps": 0.1}, "norm must be one of linf, l2, got 'l1'"),
        ({"space": "pixels"}, "space must be one of input, latent, got 'pixels'"),
        ({"rows": 0}, "rows must be >= 1, got 0"),
        ({"views": (-1,)}, r"views must be >= 0, got \(-1,\)"),
        ({"norm": "l2", "views": (0,), "view_eps": (0.1,)}, "views and view_eps both say which views move"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_every_attack(config: Any, bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config(**bad)


@pytest.mark.parametrize(
    ("config", "shapes", "sentence"),
    [
        (BoundedConfig(norm="l2", view_eps=(0.1,)), 2, "view_eps must have one radius for each of 2 views, got 1"),
        (BoundedConfig(views=(0, 2)), 2, "views must be in 0 to 1, got 0, 2"),
        (BoundedConfig(space="latent", views=(0,)), 2, "an embedding is one point: views and view_eps choose among"),
        (BoundedConfig(space="latent", norm="l2", view_eps=(1.0, 0.0)), 2, "an embedding is one point"),
        (BoundedConfig(space="latent"), 1, "an embedding has no range of values, so its radius has no default"),
        (
            BoundedConfig(),
            1,
            r"values of vectors have no known range, so its radius has no default \(--norm l2 --eps 1\)",
        ),
    ],
)
def test_budgets_that_do_not_fit_the_data_are_refused(config: BoundedConfig, shapes: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bounded_budget(config, replace(VECTORS, shapes=((4,),) * shapes))


def test_a_radius_is_in_pixels_of_the_input_and_in_units_of_the_embedding() -> None:
    scaled = replace(VECTORS, scaled_bounds=(0.0, 5.0), scale=5.0)
    assert bounded_budget(BoundedConfig(norm="l2", eps=0.2), scaled) == Budget("l2", 1.0, (0.0, 5.0))
    assert bounded_budget(BoundedConfig(norm="l2", eps=0.2), VECTORS) == Budget("l2", 0.2, None)
    assert bounded_budget(BoundedConfig(space="latent", norm="l2", eps=0.2), scaled) == Budget("l2", 0.2, None)
    two = replace(scaled, shapes=((4,), (3,)))
    assert bounded_budget(BoundedConfig(norm="linf", eps=0.2, views=(1,)), two).radii(2) == (0.0, 1.0)
    assert bounded_budget(BoundedConfig(norm="linf", view_eps=(0.1, 0.2)), two).radii(2) == (0.5, 1.0)
    assert bounded_budget(BoundedConfig(), replace(scaled, name="noisymnist")).eps == pytest.approx(1.5)
    assert bounded_budget(BoundedConfig(curve=(0.05,)), scaled).eps == pytest.approx(0.5)
    with pytest.raises(ConfigError, match=r"eps must be the largest radius of the curve, 0\.2, got 0\.1"):
        bounded_budget(BoundedConfig(curve=(0.05, 0.2)), scaled)


@pytest.mark.parametrize(("attack", "config"), ATTACKS)
class TestEveryAttack:
    def test_one_cluster_is_refused(self, attack: type[BoundedAttack], config: Any) -> None:
        with pytest.raises(ConfigError, match="moves samples to another cluster, so it needs 2, got K = 1"):
            made(attack, config(norm="l2", eps=1.0), Surface(kmeans(replace(VECTORS, n_clusters=1)), "input"))

    def test_a_transductive_victim_is_refused_in_a_sentence(
        self, attack: type[BoundedAttack], config: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(KMeansModel, "transductive", True)
        with pytest.raises(ConfigError, match=r"labels only the data that it was fitted on, .* no attack on it"):
            made(attack, config(norm="l2", eps=1.0), Surface(kmeans(), "input"))

    def test_another_space_or_batch_norm_is_refused(self, attack: type[BoundedAttack], config: Any) -> None:
        settings = config(norm="l2", eps=1.0)
        with pytest.raises(ConfigError, match="moves points in input space, its surface is in latent space"):
            made(attack, settings, Surface(kmeans(), "latent"))
        surface = Surface(kmeans(), "input")
        built = made(attack, settings, surface)
        with pytest.raises(
            ConfigError, match=r"for bn = 'eval', but its surface has 'batch' \(--set attack.bn=batch\)"
        ):
            built.perturb(replace(surface, bn="batch"), batch_for(surface.model))

    def test_two_clusters_are_enough_and_a_radius_of_zero_moves_no_bit(
        self, attack: type[BoundedAttack], config: Any
    ) -> None:
        info = replace(VECTORS, n_clusters=2, bounds=(0.0, 1.0))
        surface = Surface(kmeans(info), "input")
        batch = Batch((batch_for(surface.model).views[0] * 1.5,), torch.arange(20))  # some outside the range
        few = {name: 3 for name in ("steps", "queries", "draws") if name in config.__dataclass_fields__}
        for eps in (0.0, 0.3):
            built = made(attack, config(norm="linf", eps=eps, **few), surface)
            if attack is transfer.Transfer:
                built.borrow(made(pgd.PGD, pgd.Config(norm="linf", eps=eps), surface), surface)
            (moved,) = built.perturb(surface, batch)
            assert moved.equal(batch.views[0]) is (eps == 0)
            assert not moved.requires_grad

    def test_it_takes_points_of_other_runs_only_where_it_uses_them(
        self, attack: type[BoundedAttack], config: Any
    ) -> None:
        surface = Surface(kmeans(), "input")
        built, lender = (made(attack, config(norm="l2", eps=1.0), surface) for _ in range(2))
        if attack is transfer.Transfer:
            built.borrow(lender, surface)
        else:
            with pytest.raises(ConfigError, match="takes nothing from another run"):
                built.borrow(lender, surface)


def test_knowledge_and_bounds_are_declared() -> None:
    surface = Surface(kmeans(), "input")
    base = {"norm": "l2", "eps": 1.0}
    found = {attack.__name__: made(attack, config(**base), surface) for attack, config in ATTACKS}
    assert {name: attack.knowledge for name, attack in found.items()} == {
        "PGD": "white",
        "Apgd": "white",
        "Square": "score",
        "Noise": "none",
        "Surrogate": "label",
        "Universal": "white",
        "Transfer": "transfer",
        "Ensemble": "white",
    }
    assert made(square.Square, square.Config(norm="l2", eps=1.0, feedback="hard"), surface).knowledge == "label"
    assert all(attack.bounded and attack.queries == 0 for attack in found.values())
    assert not LatentPGD.bounded
    assert LatentPGD(LatentConfig(), Surface(kmeans(), "latent")).knowledge == "white"
    assert [name for name, attack in found.items() if attack.blind] == ["Noise"]
    assert [name for name, attack in found.items() if attack.trained] == ["Universal"]
    latent = made(pgd.PGD, pgd.Config(space="latent", **base), Surface(kmeans(), "latent"))  # type: ignore[arg-type]
    assert (latent.space, pgd.PGD.space) == ("latent", "input")
    assert issubclass(BoundedAttack, Attack)


def known_of(n: int) -> Known:
    z = torch.zeros(n, 2)
    return Known((z,), Embedding(z, (z,)), torch.zeros(n, dtype=torch.int64), torch.zeros(n, 2), torch.arange(n))


def test_a_flip_is_kept_before_any_gain_and_the_first_one_for_good() -> None:
    best = Best(known_of(4), torch.tensor([0.0, 0.0, 0.0, 5.0]))
    rows, one = torch.arange(4), torch.ones(4, 2)
    best.offer(rows, (one,), torch.tensor([1.0, 1.0, -9.0, 4.0]), torch.tensor([False, True, True, False]))
    assert best.point[0][:, 0].tolist() == [1, 1, 1, 0]
    assert best.open().tolist() == [0, 3]
    best.offer(
        torch.tensor([3, 0, 1]), (2 * one[:3],), torch.tensor([6.0, 0.5, 99.0]), torch.tensor([False, False, True])
    )
    assert best.point[0][:, 0].tolist() == [1, 1, 1, 2]
    best.offer(rows, (3 * one,), torch.full((4,), torch.nan), torch.zeros(4, dtype=torch.bool))
    assert best.point[0][:, 0].tolist() == [1, 1, 1, 2], "no number is no gain"


@pytest.mark.parametrize(
    "budget",
    [
        Budget("linf", 0.2, (0.0, 1.0)),
        Budget("l2", 0.3, (0.0, 1.0)),
        Budget("linf", 0.2),
        Budget("linf", 0.2, None, (0.1, 0.0)),
    ],
    ids=str,
)
def test_bounds_computed_once_clip_as_the_budget_does(budget: Budget) -> None:
    torch.manual_seed(0)
    clean = (torch.rand(9, 3), torch.rand(9, 1, 2, 2))
    moved = tuple(view + torch.randn_like(view) for view in clean)
    ball, rows = Ball(budget, clean), torch.tensor([4, 1])
    for a, b in zip(ball.clip(moved), budget.clip(clean, moved), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    ball.cut(rows)
    for a, b in zip(ball.clip(tuple(v[rows] for v in moved)), budget.clip(clean, moved), strict=True):
        torch.testing.assert_close(a, b[rows], atol=1e-6, rtol=0)


def test_a_view_of_radius_zero_keeps_its_bits_outside_the_range_too() -> None:
    clean = (torch.full((2, 3), 1.5), torch.zeros(2, 3))
    first, second = Budget("l2", 0.5, (0.0, 1.0), (0.0, 0.5)).clip(clean, (torch.rand(2, 3), torch.ones(2, 3)))
    assert first.equal(clean[0])
    torch.testing.assert_close(second.norm(dim=1), torch.full((2,), 0.5))
    with pytest.raises(ConfigError, match="view_eps must be >= 0"):
        Budget("l2", 0.5, None, (-1.0,))
