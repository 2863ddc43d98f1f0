"""The ensemble is the worst of its members for every sample; noise, transfer and one perturbation for all."""

from typing import Any

import pytest
import torch
from scipy import stats

from robust_cluster.attacks import ensemble, noise, pgd, square, transfer, universal
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.bounded import known
from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.attacks.ensemble import MEMBERS, Ensemble, kinds
from robust_cluster.data.base import Batch
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel

SMALL: dict[str, Any] = {"norm": "linf", "eps": 0.03, "steps": 4, "queries": 8, "draws": 1}


@pytest.fixture
def inputs(victim: ClusterModel) -> Surface:
    return Surface(victim.requires_grad_(False), "input")


def flips(surface: Surface, batch: Batch, moved: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return surface.labels(moved) != surface.labels(surface.point(batch))


def margins(surface: Surface, batch: Batch, moved: tuple[torch.Tensor, ...]) -> torch.Tensor:
    y = surface.soft_labels(moved)
    own = torch.nn.functional.one_hot(surface.labels(surface.point(batch)), y.shape[1]).bool()
    return y.masked_fill(own, 0.0).amax(dim=1).log() - y[own].log()


@pytest.mark.parametrize("space", ["input", pytest.param("latent", marks=pytest.mark.slow)])
def test_a_sample_flips_if_any_member_flips_it_and_else_has_the_highest_margin(
    victim: ClusterModel, batch: Batch, space: Any
) -> None:
    surface = Surface(victim.requires_grad_(False), space)
    config = ensemble.Config(space=space, **{**SMALL, "eps": {"input": 0.03, "latent": 0.1}[space]})
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(Ensemble(config, surface))
    attack, members = found[0], found[1].members
    moved = attack.perturb(surface, batch)
    each = [member.perturb(surface, batch) for member in members.values()]
    assert tuple(members) == MEMBERS
    any_member = torch.stack([flips(surface, batch, points) for points in each]).any(dim=0)
    assert 0 < any_member.sum() < len(batch)
    assert (flips(surface, batch, moved) == any_member).float().mean() >= 0.99  # a draw may differ by rounding
    highest = torch.stack([margins(surface, batch, points) for points in each]).amax(dim=0)
    stayed = ~any_member & ~flips(surface, batch, moved)
    torch.testing.assert_close(margins(surface, batch, moved)[stayed], highest[stayed], atol=1e-4, rtol=1e-4)
    alone = sum(member.queries for member in members.values()) + 8 * len(batch)
    assert attack.queries < alone, "samples that have flipped are left alone"
    assert isinstance(members["square:hard"], square.Square)


def test_members_have_the_settings_of_the_ensemble_and_their_own_option(inputs: Surface) -> None:
    attack = Ensemble(ensemble.Config(members=("pgd:kl", "square:hard", "noise:sign"), **SMALL), inputs)
    first, second, third = attack.members.values()
    assert isinstance(first, pgd.PGD)
    assert (first.config.steps, first.config.objective, first.config.eps) == (4, "kl", 0.03)
    assert isinstance(second, square.Square)
    assert (second.config.queries, second.config.feedback) == (8, "hard")
    assert isinstance(third, noise.Noise)
    assert (third.config.draws, third.config.kind) == (1, "sign")
    assert len({member.seed for member in (first, second, third)}) == 3
    assert attack.knowledge == "white"
    assert Ensemble(ensemble.Config(members=("noise:all", "square:hard"), **SMALL), inputs).knowledge == "label"
    assert attack.budget == first.budget


@pytest.mark.parametrize("name", [name for name, kind in kinds().items() if not kind.borrows])
def test_any_standard_attack_that_learns_nothing_can_be_a_member(name: str, inputs: Surface, batch: Batch) -> None:
    attack = Ensemble(ensemble.Config(members=(name,), **SMALL), inputs)
    (moved,) = attack.perturb(inputs, batch)
    assert (attack.feedback, attack.borrows) == (attack.members[name].feedback, False)
    assert flips(inputs, batch, (moved,)).any()


def test_a_source_adds_the_transfer_to_the_members(inputs: Surface, batch: Batch) -> None:
    members = ("noise:sign",)
    config = ensemble.Config(members=members, source="abc", **SMALL)
    attack = Ensemble(config, inputs)
    assert tuple(attack.members) == ("noise:sign", "transfer")
    with pytest.raises(ConfigError, match=r"transfer needs the attack run whose points it takes \(--set attack.source"):
        attack.perturb(inputs, batch)
    lender = pgd.PGD(pgd.Config(norm="linf", eps=0.2, steps=4), inputs)
    attack.borrow(lender, inputs)
    alone = Ensemble(ensemble.Config(members=members, **SMALL), inputs)
    assert (
        flips(inputs, batch, attack.perturb(inputs, batch)).sum()
        > flips(inputs, batch, alone.perturb(inputs, batch)).sum()
    )


class TestTransfer:
    def test_the_points_are_the_lenders_cut_to_the_own_ball_and_ask_nothing(
        self, inputs: Surface, batch: Batch
    ) -> None:
        lender = pgd.PGD(pgd.Config(norm="linf", eps=0.1, steps=3), inputs)
        attack = transfer.Transfer(transfer.Config(norm="linf", eps=0.04), inputs)
        attack.borrow(lender, inputs)
        (moved,) = attack.perturb(inputs, batch)
        (lent,) = lender.perturb(inputs, batch)
        clean, radius = batch.views[0], attack.budget.eps
        torch.testing.assert_close(moved, clean + (lent - clean).clamp(-radius, radius))
        assert (attack.queries, attack.knowledge) == (0, "transfer")

    def test_what_cannot_be_transferred_is_refused(self, inputs: Surface, batch: Batch, victim: ClusterModel) -> None:
        attack = transfer.Transfer(transfer.Config(norm="linf", eps=0.1), inputs)
        with pytest.raises(ConfigError, match=r"transfer needs the attack run .* \(--set attack.source=KEY\)"):
            attack.perturb(inputs, batch)
        latent = Surface(victim, "latent")
        lender = pgd.PGD(pgd.Config(space="latent", norm="l2", eps=1.0), latent)
        with pytest.raises(ConfigError, match="needs the source of an attack on the views, that run moves embeddings"):
            attack.borrow(lender, latent)


class TestNoise:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    @pytest.mark.parametrize("kind", ["uniform", "gaussian", "sign"])
    def test_each_kind_has_its_size(self, inputs: Surface, batch: Batch, kind: str, norm: Norm) -> None:
        clean = known(inputs, batch)
        (moved,) = noise.draw(kind, clean, Budget(norm, 0.5), 3, (0,))
        delta = (moved - batch.views[0]).flatten(1)
        size = delta.abs() if norm == "linf" else delta.norm(dim=1)
        assert size.max() <= 0.5 + 1e-5
        if kind == "sign" or (norm, kind) == ("l2", "gaussian"):
            torch.testing.assert_close(size, torch.full_like(size, 0.5), atol=1e-5, rtol=0)
        elif norm == "linf" and kind == "uniform":
            assert stats.kstest(delta.flatten().numpy(), "uniform", args=(-0.5, 1.0)).pvalue > 0.01
        elif norm == "linf":
            assert float((size > 0.4999).float().mean()) == pytest.approx(0.317, abs=0.02)  # beyond one sigma

    def test_more_draws_flip_no_fewer_and_begin_with_the_same(self, inputs: Surface, batch: Batch) -> None:
        found = []
        for draws in (1, 6):
            torch.manual_seed(0)
            attack = noise.Noise(noise.Config(norm="linf", eps=0.05, draws=draws), inputs)
            found.append(flips(inputs, batch, attack.perturb(inputs, batch)))
            assert attack.queries <= len(batch) * (1 + 3 * draws)
        assert (found[1] >= found[0]).all()
        assert found[1].sum() > found[0].sum() > 0


class TestUniversal:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    @pytest.mark.parametrize("space", ["input", "latent"])
    def test_one_perturbation_of_the_ball_moves_all_and_its_training_flips_more(
        self, victim: ClusterModel, batch: Batch, space: Any, norm: Norm
    ) -> None:
        surface = Surface(victim.requires_grad_(False), space)
        eps = {("input", "linf"): 0.05, ("input", "l2"): 0.3, ("latent", "linf"): 0.1, ("latent", "l2"): 0.25}[
            space, norm
        ]
        torch.manual_seed(0)
        attack = universal.Universal(universal.Config(space=space, norm=norm, eps=eps), surface)
        victim_before = {name: value.clone() for name, value in victim.state_dict().items()}
        first = flips(surface, batch, attack.perturb(surface, batch))
        terms = [attack.step(surface, batch) for _ in range(30)]
        assert terms[-1]["objective"] > terms[0]["objective"]
        moved = attack.perturb(surface, batch)
        (clean,), (delta,) = surface.point(batch), tuple(attack.delta)
        torch.testing.assert_close(
            moved[0], attack.budget.clip((clean,), (clean + delta,))[0].detach(), atol=1e-6, rtol=0
        )
        size = delta.abs().max() if norm == "linf" else delta.norm()
        assert float(size) <= attack.budget.eps * (1 + 1e-6)
        assert flips(surface, batch, moved).sum() > first.sum()
        assert all(value.equal(victim_before[name]) for name, value in victim.state_dict().items())
        assert all(parameter.grad is None for parameter in victim.parameters())

    def test_the_cap_bounds_what_one_sample_counts_for(self, inputs: Surface, batch: Batch) -> None:
        steps = [
            universal.Universal(universal.Config(norm="linf", eps=0.3, cap=cap), inputs).step(inputs, batch)[
                "objective"
            ]
            for cap in (None, -1.0)
        ]
        assert steps[1] <= -1.0
