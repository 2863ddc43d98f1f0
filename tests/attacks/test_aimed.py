"""Attacks that are aimed at one cluster: what they ascend, what they leave alone, which of them cannot."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from robust_cluster.attacks import apgd, ensemble, noise, pgd, square, surrogate, transfer, universal
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import Ascent, BoundedAttack, known
from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel
from robust_cluster.nn.objectives import aimed

TARGET = 2
BALL = {"norm": "linf", "eps": 0.3, "target": TARGET}
AIMING: list[tuple[type[BoundedAttack], Any]] = [
    (pgd.PGD, pgd.Config(**BALL, steps=10)),
    (pgd.PGD, pgd.Config(**BALL, steps=10, objective="targeted")),
    (apgd.Apgd, apgd.Config(**BALL, steps=20)),
    (apgd.Apgd, apgd.Config(**BALL, steps=20, objective="kl")),
    (square.Square, square.Config(**BALL, queries=100)),
    (square.Square, square.Config(**BALL, queries=100, feedback="hard")),
    (noise.Noise, noise.Config(**BALL, draws=20)),
    (surrogate.Surrogate, surrogate.Config(**BALL, rounds=4)),
    (ensemble.Ensemble, ensemble.Config(**BALL, steps=10, queries=20, draws=3, rounds=2)),
]
NAMES = [f"{kind.__name__}-{number}" for number, (kind, _) in enumerate(AIMING)]


@pytest.fixture(scope="module")
def surface() -> Surface:
    model = KMeansModel(KMeansConfig(), DataInfo("plane", ((3,),), 60, 4, None, 1.0, ""), 3)
    model.centers.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.6, 0.6, 0.6]]))
    model.variance.fill_(0.05)
    return Surface(model.eval().requires_grad_(False), "input")


@pytest.fixture(scope="module")
def batch() -> Batch:
    return Batch((torch.rand(60, 3, generator=torch.Generator().manual_seed(3)),), torch.arange(60))


def moved_by(
    kind: type[BoundedAttack], config: Any, surface: Surface, batch: Batch
) -> tuple[torch.Tensor, BoundedAttack]:
    torch.manual_seed(0)
    attack = kind(config, surface)
    return attack.perturb(surface, batch)[0], attack


@pytest.fixture(scope="module")
def can(surface: Surface, batch: Batch) -> torch.Tensor:
    """Whether some point of each ball is nearest to the target's center: a linear program, as margins are linear."""
    centers = surface.model.centers.double().numpy()  # type: ignore[operator, union-attr]
    ways = 2 * (np.delete(centers, TARGET, axis=0) - centers[TARGET])
    least = (np.delete(centers, TARGET, axis=0) ** 2).sum(axis=1) - (centers[TARGET] ** 2).sum()
    found = []
    for point in batch.views[0].double().numpy():
        ball = [(v - 0.3, v + 0.3) for v in point]
        found.append(linprog(np.zeros(3), A_ub=ways, b_ub=least, bounds=ball).status == 0)
    return torch.tensor(found)


def test_the_loss_is_the_targets_log_odds_against_the_nearest_other_by_hand() -> None:
    log_y = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]]).log()
    found = aimed(log_y, torch.tensor([2, 2]))
    torch.testing.assert_close(found, torch.tensor([0.3 / 0.5, 0.8 / 0.1]).log())
    assert (found > 0).tolist() == [False, True]


@pytest.mark.parametrize("objective", ["margin", "targeted", "kl"])
def test_each_objective_rises_toward_the_targets_center(surface: Surface, batch: Batch, objective: Any) -> None:
    clean = known(surface, batch, TARGET)
    ascent = Ascent(surface, clean, objective, moves=(True,), goals=clean.goals)
    answer = ascent.ask(batch.views)
    way = torch.tensor([0.0, 1, 0]) - batch.views[0]  # to the center of cluster 2
    ahead = ascent.ask((batch.views[0] + 0.5 * way,), gradient=False)
    others = clean.labels != TARGET
    assert (ahead.gain > answer.gain)[others].all()
    if objective == "kl":
        torch.testing.assert_close(answer.gain, surface.soft_labels(batch.views)[:, TARGET].log())


@pytest.mark.parametrize(("kind", "config"), AIMING, ids=NAMES)
def test_samples_come_into_the_target_or_stay_and_those_in_it_keep_their_bits(
    surface: Surface, batch: Batch, can: torch.Tensor, kind: type[BoundedAttack], config: Any
) -> None:
    moved, attack = moved_by(kind, config, surface, batch)
    before, after = surface.labels(batch.views), surface.labels((moved,))
    there = before == TARGET
    assert there.sum() >= 5
    assert torch.equal(moved[there], batch.views[0][there])
    reached = (after == TARGET) & ~there
    assert not (reached & ~can).any(), "no point of the ball is in the target"
    blunt = kind is noise.Noise or attack.knowledge == "label"
    assert reached.sum() >= (0.3 if blunt else 0.8) * (can & ~there).sum()
    assert (moved - batch.views[0]).abs().max() <= 0.3 + 1e-6


def test_apgd_finds_every_sample_that_a_linear_program_finds(surface: Surface, batch: Batch, can: torch.Tensor) -> None:
    moved, _ = moved_by(apgd.Apgd, apgd.Config(**BALL, restarts=3), surface, batch)
    assert 10 < can.sum() < 50
    assert torch.equal(surface.labels((moved,)) == TARGET, can)


def test_an_attack_that_is_not_aimed_has_no_target_among_its_settings() -> None:
    from robust_cluster.stages.methods import method_of

    assert "target" not in method_of("attacks", "apgd", "paper", {}).settings
    assert method_of("attacks", "apgd", "paper", {"target": 0}).settings["target"] == 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda s: universal.Universal(universal.Config(**BALL), s), "universal cannot be aimed at a cluster"),
        (lambda s: transfer.Transfer(transfer.Config(**BALL), s), "transfer cannot be aimed at a cluster"),
        (
            lambda s: ensemble.Ensemble(ensemble.Config(**BALL, members=("apgd", "transfer")), s),
            "transfer cannot be aimed",
        ),
        (
            lambda s: pgd.PGD(pgd.Config(**{**BALL, "target": 4}), s),
            r"target must be in \[0, K - 1\] = \[0, 3\], got 4",
        ),
        (lambda s: pgd.PGD(pgd.Config(**{**BALL, "target": -1}), s), r"target must be in .*, got -1"),
        (lambda s: apgd.Config(**BALL, objective="displacement"), "displacement leads away from a point"),
        (lambda s: ensemble.Config(**BALL, members=("apgd:displacement",)), "displacement leads away from a point"),
        (lambda s: apgd.Config(**BALL, bn="batch"), "attack.bn = batch cannot be aimed"),
    ],
)
def test_what_cannot_be_aimed_says_so(surface: Surface, make: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(surface)


def test_an_ensemble_with_a_target_has_the_members_that_can_be_aimed() -> None:
    plain, with_target = ensemble.Config(), ensemble.Config(**BALL)
    assert set(plain.used) - set(with_target.used) == {"apgd:displacement"}
    assert with_target.members == plain.members, "as they were set: nothing departs from the method's own"
