"""EAMC's attention, its terms, and the two players' steps."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError, ShapeError
from robust_cluster.models.multiview.eamc import EAMC, Config, column_overlap, weighted_sum
from robust_cluster.nn.ddc import ddc_terms, gaussian_kernel
from robust_cluster.stages import methods


def info(*shapes: tuple[int, ...], n_clusters: int = 3) -> DataInfo:
    return DataInfo("toy", shapes, 100, n_clusters, (0.0, 1.0), 1.0, "")


@pytest.fixture
def eamc() -> EAMC:
    """Three views of 16 x 16 pixels: 64 features each."""
    torch.manual_seed(0)
    return EAMC(Config(), info(*((1, 16, 16),) * 3), 8)


@pytest.fixture
def rows() -> Batch:
    torch.manual_seed(1)
    return Batch(tuple(torch.rand(12, 1, 16, 16) for _ in range(3)), torch.arange(12))


@pytest.mark.parametrize(("n_views", "n_clusters", "expected"), [(2, 10, 898_339), (3, 3, 1_472_980)])
def test_the_networks_have_the_published_number_of_parameters(n_views: int, n_clusters: int, expected: int) -> None:
    model = methods.new_model("eamc", {}, info(*((1, 28, 28),) * n_views, n_clusters=n_clusters), 64)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_the_view_weights_are_the_mean_over_the_batch_of_softened_sigmoids(eamc: EAMC, rows: Batch) -> None:
    per_view = tuple(2 * torch.rand(12, 64) for _ in range(3))
    total = [0.0, 0.0, 0.0]
    for i in range(12):
        x = torch.cat([z[i] for z in per_view])
        for layer in (m for m in eamc.attention if isinstance(m, torch.nn.Linear)):
            x = layer.weight @ x + layer.bias  # nothing between the layers
        grown = [math.exp(1 / (1 + math.exp(-a)) / 10) for a in x.tolist()]
        total = [t + e / sum(grown) / 12 for t, e in zip(total, grown, strict=True)]
    weights = eamc.view_weights(per_view)
    assert weights.tolist() == pytest.approx(total, abs=1e-6)
    assert max(weights.tolist()) - min(weights.tolist()) > 1e-4


def test_no_view_can_be_far_from_its_equal_share(eamc: EAMC) -> None:
    with torch.no_grad():
        eamc.attention[-1].bias.copy_(torch.tensor([100.0, -100.0, -100.0]))  # type: ignore[union-attr,operator]
    weights = eamc.view_weights(tuple(torch.rand(4, 64) for _ in range(3)))
    assert weights.tolist() == pytest.approx([math.exp(0.1) / (2 + math.exp(0.1)), *[1 / (2 + math.exp(0.1))] * 2])


def test_the_embedding_is_h_of_the_views_fused_with_the_batchs_weights(eamc: EAMC, rows: Batch) -> None:
    eamc.eval()
    embedding = eamc.encode(rows.views)
    weights = eamc.view_weights(embedding.per_view).tolist()
    fused = sum(w * z for w, z in zip(weights, embedding.per_view, strict=True))
    torch.testing.assert_close(embedding.z, eamc.head.hidden(fused))  # type: ignore[arg-type]
    assert embedding.z.shape == (12, 100)


def test_column_overlap_of_one_hot_rows_is_0_and_of_uniform_rows_grows_with_the_batch() -> None:
    assert column_overlap(torch.eye(3).repeat(4, 1)) == 0
    for n in (6, 12):
        assert column_overlap(torch.full((n, 3), 1 / 3)).item() == pytest.approx(n / 9)
    torch.manual_seed(0)
    a = torch.rand(7, 4).softmax(dim=1)
    pairs = [float(a[:, i] @ a[:, j]) for i in range(4) for j in range(i + 1, 4)]
    assert column_overlap(a).item() == pytest.approx(2 / 12 * sum(pairs), rel=1e-5)


def test_every_term_is_its_formula(eamc: EAMC, rows: Batch) -> None:
    outputs = eamc(rows.views)
    terms = eamc.losses(rows, "cluster", outputs)
    per_view, h = outputs.embedding.per_view, outputs.embedding.z
    ddc = ddc_terms(h, outputs.soft_labels)
    weights = eamc.view_weights(per_view).tolist()
    fused = gaussian_kernel(sum(w * z for w, z in zip(weights, per_view, strict=True)))  # type: ignore[arg-type]
    mixed = sum(w * gaussian_kernel(z) for w, z in zip(weights, per_view, strict=True))
    gaps = (fused - mixed).detach()
    squares = sum(float(gaps[i, j]) ** 2 for i in range(12) for j in range(12))
    fooled = [-critic(z).log().mean() for critic, z in zip(eamc.discriminators, per_view[1:], strict=True)]
    assert list(terms) == ["ddc_1", "ddc_2", "ddc_3", "attention", "adversarial"]
    torch.testing.assert_close(terms["ddc_1"], ddc["ddc_1"])
    torch.testing.assert_close(terms["ddc_2"], column_overlap(outputs.soft_labels))
    torch.testing.assert_close(terms["ddc_3"], ddc["ddc_3"])
    assert terms["attention"].item() == pytest.approx(squares, rel=1e-3)
    torch.testing.assert_close(terms["adversarial"], 10 * (fooled[0] + fooled[1]))


def test_the_discriminators_call_the_first_view_real_and_the_others_fake(eamc: EAMC) -> None:
    z = tuple(torch.randn(5, 64) for _ in range(3))
    d2, d3 = eamc.discriminators
    expected = -((1 - d2(z[1])).log() + d2(z[0]).log() + (1 - d3(z[2])).log() + d3(z[0]).log()).mean()
    torch.testing.assert_close(eamc.discriminator_loss(z), expected)
    for critic in eamc.discriminators:
        last: Any = critic[-2]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    assert eamc.discriminator_loss(z).item() == pytest.approx(4 * math.log(2))


def test_a_step_moves_each_part_at_its_own_rate(eamc: EAMC, rows: Batch) -> None:
    """Adam's first step is the learning rate wherever there is a gradient."""
    before = copy.deepcopy(eamc.state_dict())
    eamc.step(rows, "cluster", eamc.optimizers("cluster"))

    def moved(prefix: str) -> float:
        parts = [name for name, _ in eamc.named_parameters() if name.startswith(prefix)]
        return max(float((eamc.state_dict()[name] - before[name]).abs().max()) for name in parts)

    found = [moved(part) for part in ("encoders", "head", "attention", "discriminators")]
    assert found == pytest.approx([1e-5, 1e-5, 1e-4, 1e-3], rel=0.05)


def test_the_second_player_answers_the_first_ones_update(eamc: EAMC, rows: Batch) -> None:
    """The discriminators descend their loss on z^v of the encoders that have just moved."""
    twin = copy.deepcopy(eamc)
    optimizers = twin.optimizers("cluster")
    torch.stack(list(twin.losses(rows, "cluster").values())).sum().backward()
    optimizers["model"].step()
    optimizers["attention"].step()
    optimizers["discriminators"].zero_grad()
    twin.discriminator_loss(twin.represent(rows.views)).backward()
    optimizers["discriminators"].step()
    eamc.step(rows, "cluster", eamc.optimizers("cluster"))
    assert all(value.equal(twin.state_dict()[name]) for name, value in eamc.state_dict().items())


def test_the_players_leave_no_gradient_in_each_others_part(eamc: EAMC, rows: Batch) -> None:
    seen: list[Tensor] = []
    encoder = next(eamc.encoders.parameters())
    encoder.register_hook(lambda grad: seen.append(grad))
    eamc.step(rows, "cluster", eamc.optimizers("cluster"))
    assert len(seen) == 1  # the second player's pass goes around it
    assert encoder.grad is not None
    assert encoder.grad.equal(seen[0])


@pytest.mark.slow
def test_the_discriminators_learn_to_tell_the_views_apart_when_nothing_else_moves(eamc: EAMC, rows: Batch) -> None:
    optimizers = eamc.optimizers("cluster")
    losses = []
    for _ in range(15):
        eamc.step(rows, "cluster", optimizers)
        with torch.no_grad():
            losses.append(float(eamc.discriminator_loss(eamc.represent(rows.views))))
    assert losses[-1] < 0.8 * losses[0]


def test_the_optimizers_are_the_published_ones() -> None:
    model = EAMC(Config(), info(*((1, 16, 16),) * 2), 8)
    groups = {name: optimizer.param_groups[0] for name, optimizer in model.optimizers("cluster").items()}
    assert {name: (group["lr"], group["betas"]) for name, group in groups.items()} == {
        "model": (1e-5, (0.95, 0.999)),
        "attention": (1e-4, (0.95, 0.999)),
        "discriminators": (1e-3, (0.5, 0.999)),
    }
    held = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_no_gradient_is_cut_in_either_mode() -> None:
    for mode in ("clean", "paper"):
        assert methods.resolve("models", "eamc", "paper", {"mode": mode}).max_norm is None


def test_health_tells_the_weights_and_how_the_game_stands(eamc: EAMC, rows: Batch) -> None:
    embedding = eamc.eval().encode(rows.views)
    health = eamc.health(embedding)
    assert list(health) == [*(f"view_weight_{v}" for v in (1, 2, 3)), "taken_for_view_1_2", "taken_for_view_1_3"]
    assert sum(list(health.values())[:3]) == pytest.approx(1)
    assert health["taken_for_view_1_3"] == pytest.approx(eamc.discriminators[1](embedding.per_view[2]).mean().item())


def test_a_weighted_sum_carries_gradients_to_weights_and_tensors() -> None:
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64, requires_grad=True)
    tensors = tuple(torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda w, a, b: weighted_sum(w, (a, b)), (weights, *tensors))


def test_data_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="a multi-view method needs at least 2 views, toy has 1"):
        EAMC(Config(), info((1, 28, 28)), 8)
    with pytest.raises(ShapeError, match="at least 16 x 16 pixels"):
        EAMC(Config(), info((1, 9, 9), (1, 9, 9)), 8)
