"""The generators descend the published objective in both modes, keep to their budget, and nothing else learns."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.attacks.pgd import representation_shift
from robust_cluster.attacks.view_gan import Config, ViewGan
from robust_cluster.data.base import Batch, DataInfo, Dataset, Views
from robust_cluster.errors import ConfigError, ShapeError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.layers import BatchNormMode
from robust_cluster.nn.optim import descend
from robust_cluster.stages import methods
from robust_cluster.stages.context import frozen_surface

PAPER = methods.plain(methods.resolve("attacks", "view_gan", "paper", {"mode": "paper"}))


def info(*shapes: tuple[int, ...], bounds: tuple[float, float] | None = (0.0, 1.0)) -> DataInfo:
    return DataInfo("toy", shapes, 100, 3, bounds, 1.0, "")


@pytest.fixture
def simvc(pair: Dataset) -> ClusterModel:
    """SiMVC with random weights, frozen."""
    torch.manual_seed(0)
    return methods.new_model("simvc", {}, pair.info, 6).eval().requires_grad_(False)


@pytest.fixture
def surface(simvc: ClusterModel) -> Surface:
    return Surface(simvc, "input")


@pytest.fixture
def rows(pair: Dataset) -> Batch:
    return Batch(tuple(view[:16] for view in pair.views), torch.arange(16))


def attacker(surface: Surface, **values: Any) -> ViewGan:
    torch.manual_seed(7)
    attack = methods.new_attack("view_gan", values, surface)
    assert isinstance(attack, ViewGan)
    return attack


def paper(surface: Surface, **values: Any) -> ViewGan:
    return attacker(surface, **(PAPER | values))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(module: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """The names of the entries that have not changed by a bit."""
    return [name for name, value in module.state_dict().items() if value.equal(before[name])]


def terms_of(attack: ViewGan, surface: Surface, batch: Batch, delta: Views | None = None) -> dict[str, float]:
    delta = attack.delta(batch.views) if delta is None else delta
    terms = attack.losses(surface, batch, delta=delta, moved=attack.moved(batch.views, delta))
    return {name: term.item() for name, term in terms.items()}


def say(attack: ViewGan, *logits: float) -> None:
    """Make every discriminator answer these logits, one view after the other."""
    values = iter([*logits] * 10)

    def answer(views: Sequence[Tensor]) -> Tensor:
        return torch.tensor([[next(values) for _ in views] for _ in views[0]])

    attack.logits = answer  # type: ignore[method-assign]


def shift_parts(surface: Surface, batch: Batch, moved: Views, sample: int) -> tuple[list[float], float]:
    """||z^v - z~^v|| of every view and ||c - c~|| of one sample, by lists of numbers."""
    with torch.no_grad():
        clean, other = surface.encode(batch.views), surface.encode(moved)

    def distance(left: Tensor, right: Tensor) -> float:
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(left[sample].tolist(), right[sample].tolist(), strict=True)))

    views = [distance(a, b) for a, b in zip(clean.per_view, other.per_view, strict=True)]
    return views, distance(clean.z, other.z)


def test_mode_clean_descends_minimax_and_mean_squared_shifts(surface: Surface, rows: Batch) -> None:
    few = Batch(tuple(view[:2] for view in rows.views), torch.arange(2))
    attack = attacker(surface, gan_weight=0.5, com_weight=2.0, con_weight=3.0)
    say(attack, 0.3, -1.0, 2.0, 0.0)  # sample 1: views 1 and 2; sample 2
    moved = attack.perturb(surface, few)
    parts = [shift_parts(surface, few, moved, sample) for sample in range(2)]

    def log_not(logit: float) -> float:
        return math.log(1 - 1 / (1 + math.exp(-logit)))

    assert terms_of(attack, surface, few) == pytest.approx(
        {
            "gan": 0.5 * sum(map(log_not, (0.3, -1.0, 2.0, 0.0))) / 2,
            "complementarity": -2.0 * sum(d**2 for views, _ in parts for d in views) / 2,
            "consistency": -3.0 * sum(d**2 for _, d in parts) / 2,
        },
        rel=1e-4,
    )


def test_mode_paper_descends_least_squares_summed_norms_times_five_halves_and_the_size_of_delta(
    simvc: ClusterModel, rows: Batch
) -> None:
    surface = Surface(simvc, "input", bn="batch")
    few = Batch(tuple(view[:4] for view in rows.views), torch.arange(4))
    attack = paper(surface, eps=0.3)
    logits = (0.3, -1.0, 2.0, 0.0, 0.5, 1.5, -0.5, -2.0)
    say(attack, *logits)
    delta = attack.delta(few.views)
    moved = tuple((view + change).clamp(0, 1) for view, change in zip(few.views, delta, strict=True))
    parts = [shift_parts(surface, few, moved, sample) for sample in range(4)]
    sizes = [math.sqrt(sum(d**2 for d in change[i].flatten().tolist())) for change in delta for i in range(4)]
    assert terms_of(attack, surface, few) == pytest.approx(
        {
            "gan": sum((1 / (1 + math.exp(-logit)) - 1) ** 2 for logit in logits) / 8,
            "complementarity": -5 * 0.5 * sum(d for views, _ in parts for d in views),
            "consistency": -5 * 0.5 * sum(d for _, d in parts),
            "penalty": sum(sizes) / 4,
        },
        rel=1e-4,
    )
    cut = few.views[0] + delta[0] - moved[0]
    assert cut.abs().max() > 0.1  # the penalty is on delta before the cut to pixels


def test_balanced_terms_are_logarithms_so_that_neither_knows_the_others_size(surface: Surface, rows: Batch) -> None:
    few = Batch(tuple(view[:2] for view in rows.views), torch.arange(2))
    attack = attacker(surface, terms="balanced", com_weight=2.0, con_weight=3.0)
    moved = attack.perturb(surface, few)
    parts = [shift_parts(surface, few, moved, sample) for sample in range(2)]
    found = terms_of(attack, surface, few)
    assert found["complementarity"] == pytest.approx(
        -2 * math.log(sum(d**2 for v, _ in parts for d in v) / 2), rel=1e-4
    )
    assert found["consistency"] == pytest.approx(-3 * math.log(sum(d**2 for _, d in parts) / 2), rel=1e-4)
    with torch.no_grad():
        clean, other = surface.encode(few.views), surface.encode(moved)
    each = attack.objective(surface.model, clean, other, torch.zeros(2))
    by_hand = [2 * math.log(sum(d**2 for d in views)) + 3 * math.log(d**2) for views, d in parts]
    assert each.tolist() == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize(("terms", "own"), [("balanced", (2.0, 2.0)), ("com+con", (1.0, 10_000.0))])
def test_what_a_longer_shift_of_the_views_gains_is_the_same_at_any_size_where_terms_are_balanced(
    surface: Surface, rows: Batch, terms: str, own: tuple[float, float]
) -> None:
    """d/dt of the shifts e^t (z~ - z): 2 of log ||.||^2; of ||.||^2 it grows with the square of the size."""
    attack, model = attacker(surface, terms=terms), surface.model
    with torch.no_grad():
        clean = model.encode(rows.views)
        other = model.encode(attack.perturb(surface, rows))
    found = []
    for size in (1.0, 100.0):
        t = torch.zeros((), requires_grad=True)
        pairs = zip(clean.per_view, other.per_view, strict=True)
        longer = replace(other, per_view=tuple(z + t.exp() * size * (moved - z) for z, moved in pairs))
        attack.objective(model, clean, longer, torch.zeros(16)).mean().backward()
        assert t.grad is not None
        found.append(t.grad.item())
    assert found == pytest.approx(own if terms == "balanced" else [found[0], found[0] * own[1]], rel=1e-3)


@pytest.mark.parametrize("gan_loss", ["minimax", "lsgan"])
def test_the_discriminators_loss_is_its_formula(surface: Surface, rows: Batch, gan_loss: str) -> None:
    few = Batch(tuple(view[:2] for view in rows.views), torch.arange(2))
    attack = attacker(surface, gan_loss=gan_loss, gan_weight=7.0)
    real, fake = (0.3, -1.0, 2.0, 0.0), (0.5, 1.5, -0.5, -2.0)
    say(attack, *real, *fake)
    (loss,) = attack.discriminator_losses(few.views, few.views).values()

    def d(logit: float) -> float:
        return 1 / (1 + math.exp(-logit))

    if gan_loss == "minimax":
        expected = -sum(math.log(d(r)) + math.log(1 - d(f)) for r, f in zip(real, fake, strict=True)) / 2
    else:
        expected = sum((d(r) - 1) ** 2 + d(f) ** 2 for r, f in zip(real, fake, strict=True)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("terms", "names"),
    [
        ("com+con", ["gan", "complementarity", "consistency"]),
        ("com", ["gan", "complementarity"]),
        ("con", ["gan", "consistency"]),
    ],
)
def test_terms_that_are_switched_off_are_absent_and_a_step_reports_the_others(
    surface: Surface, rows: Batch, terms: str, names: list[str]
) -> None:
    values = attacker(surface, terms=terms).step(surface, rows)
    assert list(values) == [*names, "discriminator"]
    assert all(math.isfinite(value) for value in values.values())


def test_with_weights_of_one_the_shifts_are_the_mean_representation_shift(surface: Surface, rows: Batch) -> None:
    attack = attacker(surface)
    terms = terms_of(attack, surface, rows)
    with torch.no_grad():
        moved = surface.encode(attack.perturb(surface, rows))
        shift = representation_shift(surface.model, surface.encode(rows.views), moved).mean().item()
    assert terms["complementarity"] + terms["consistency"] == pytest.approx(-shift, rel=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"terms": "com", "shift": "norm"}, {"terms": "con"}, {"com_weight": 2.0, "con_weight": 0.5}]
)
def test_what_pgd_makes_large_beside_it_is_what_the_generators_do(
    surface: Surface, rows: Batch, settings: dict[str, Any]
) -> None:
    attack = attacker(surface, **settings)
    terms = terms_of(attack, surface, rows)
    clean, moved = (surface.encode(views) for views in (rows.views, attack.perturb(surface, rows)))
    each = attack.objective(surface.model, clean, moved, torch.zeros(len(rows), dtype=torch.int64))
    assert each.shape == (len(rows),)
    assert each.mean().item() == pytest.approx(terms["gan"] - sum(terms.values()), rel=1e-4)


@pytest.mark.parametrize("shift", ["squared", "norm"])
def test_a_doubled_batch_costs_the_same_as_a_mean_and_double_as_a_sum(
    surface: Surface, rows: Batch, shift: str
) -> None:
    twice = Batch(tuple(view.repeat(2, 1, 1, 1) for view in rows.views), rows.index.repeat(2))
    for reduction, factor in (("mean", 1), ("sum", 2)):
        attack = attacker(surface, shift=shift, reduction=reduction)
        once, double = (terms_of(attack, surface, batch)["complementarity"] for batch in (rows, twice))
        assert double == pytest.approx(factor * once, rel=1e-4)


@pytest.mark.parametrize("shift", ["squared", "norm"])
def test_no_perturbation_shifts_nothing_and_has_finite_gradients(surface: Surface, rows: Batch, shift: str) -> None:
    attack = attacker(surface, shift=shift, penalty="l2", gan_weight=0.0)
    delta = tuple(torch.zeros_like(view).requires_grad_() for view in rows.views)
    terms = attack.losses(surface, rows, delta=delta, moved=attack.moved(rows.views, delta))
    assert all(term.item() == 0 for term in terms.values())
    for gradient in torch.autograd.grad(torch.stack(list(terms.values())).sum(), delta):
        assert not gradient.any()


def test_the_hinge_is_zero_inside_its_radius_and_the_excess_of_the_square_outside(
    surface: Surface, rows: Batch
) -> None:
    attack = attacker(surface, penalty="hinge", hinge_radius=2.0, penalty_weight=3.0, eps=1.0)
    inside = tuple(torch.full_like(view, 0.12) for view in rows.views)  # norm 0.12 * 16
    assert terms_of(attack, surface, rows, inside)["penalty"] == 0
    outside = (torch.full_like(rows.views[0], 0.25), inside[1])
    outside[0][8:] = 0.0  # half of the samples
    assert terms_of(attack, surface, rows, outside)["penalty"] == pytest.approx(3 * (4.0**2 - 2.0**2) / 2)


@pytest.mark.parametrize("param", ["clamp", "scaled_tanh"])
def test_delta_is_bounded_as_its_name_says(surface: Surface, rows: Batch, param: str) -> None:
    attack = attacker(surface, param=param, eps=0.15, init_std=0.3)
    for generator, view, delta in zip(attack.generators, rows.views, attack.delta(rows.views), strict=True):
        tanh = torch.tanh(generator(view))
        torch.testing.assert_close(delta, tanh.clamp(-0.15, 0.15) if param == "clamp" else 0.15 * tanh)
        assert delta.abs().max() <= 0.15
        assert delta.std() > 0.01


def test_the_codes_start_leaves_no_gradient_on_nearly_all_pixels_and_the_default_leaves_it_on_all(
    surface: Surface, rows: Batch
) -> None:
    shares = []
    for attack in (paper(surface, eps=0.3), attacker(surface, eps=0.3)):
        delta = attack.delta(rows.views)[0]
        shares.append(float((delta.abs() < 0.299).float().mean()))
    assert shares[0] < 0.1
    assert shares[1] > 0.99


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize("mode", ["clean", "paper"])
def test_moved_views_stay_in_the_budget_and_the_victim_keeps_its_bits(
    simvc: ClusterModel, rows: Batch, mode: str, bn: BatchNormMode
) -> None:
    surface = Surface(simvc, "input", bn=bn)
    before = snapshot(simvc)
    attack = attacker(surface, **(PAPER if mode == "paper" else {}) | {"bn": bn, "eps": 0.2})
    for _ in range(2):
        attack.step(surface, rows)
    assert attack.budget == Budget("linf", 0.2, (0.0, 1.0))
    for clean, moved in zip(rows.views, attack.perturb(surface, rows), strict=True):
        assert (moved - clean).abs().max() <= 0.2 + 1e-6
        assert (moved - clean).abs().max() > 0.01
        assert moved.min() >= 0
        assert moved.max() <= 1
    assert len(same(simvc, before)) == len(before)
    assert all(p.grad is None for p in simvc.parameters())


def test_a_victim_that_could_learn_collects_no_gradient_and_no_discriminator_does_from_the_generators(
    simvc: ClusterModel, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    surface = Surface(simvc.requires_grad_(True), "input")
    attack = attacker(surface)
    monkeypatch.setattr(
        "robust_cluster.attacks.view_gan.descend",
        lambda terms, optimizer, **more: descend(terms, optimizer, **more) if more else {},  # no step of D
    )
    attack.step(surface, rows)
    assert all(p.grad is None for p in [*simvc.parameters(), *attack.discriminators.parameters()])


def test_every_generator_learns_from_a_gradient_in_each_of_its_weights(surface: Surface, rows: Batch) -> None:
    attack = attacker(surface)
    attack.step(surface, rows)
    for generator in attack.generators:
        weights = [p for p in generator.parameters() if p.ndim > 1]
        assert len(weights) == 6
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in weights)


def test_a_discriminators_step_leaves_the_generators_and_a_generators_step_the_discriminators(
    surface: Surface, rows: Batch
) -> None:
    attack = attacker(surface)
    seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def note() -> None:
        seen.append((snapshot(attack.generators), snapshot(attack.discriminators)))

    attack.optimizer_discriminators.register_step_post_hook(lambda *_: note())
    note()
    attack.step(surface, rows)
    note()
    start, between, end = seen
    assert all(value.equal(start[0][name]) for name, value in between[0].items())
    moved = [name for name, value in between[1].items() if not value.equal(start[1][name])]
    assert {f"{v}.maps.{layer}.weight" for v in (0, 1) for layer in (0, 2)} <= set(moved)
    assert any(not value.equal(between[0][name]) for name, value in end[0].items())
    assert all(value.equal(between[1][name]) for name, value in end[1].items())  # running statistics too


def test_the_discriminators_see_the_same_perturbation_detached_and_answer_anew_after_their_step(
    surface: Surface, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = attacker(surface)
    asked: list[Views] = []
    answers: list[Tensor] = []
    logits = attack.logits

    def noting(views: Views) -> Tensor:
        asked.append(views)
        answers.append(logits(views))
        return answers[-1]

    monkeypatch.setattr(attack, "logits", noting)
    attack.step(surface, rows)
    real, fake, again = asked
    assert all(a.equal(b) for a, b in zip(real, rows.views, strict=True))
    assert all(a.equal(b) for a, b in zip(fake, again, strict=True))
    assert not any(view.requires_grad for view in fake)
    assert all(view.requires_grad for view in again)
    assert not answers[1].equal(answers[2])


@pytest.mark.parametrize("bn", [pytest.param("eval", marks=pytest.mark.slow), "batch"])
def test_training_moves_representations_further(simvc: ClusterModel, rows: Batch, bn: BatchNormMode) -> None:
    surface = Surface(simvc, "input", bn=bn)
    attack = attacker(surface, bn=bn, eps=0.2, gan_weight=0.0)

    def shift() -> float:
        with torch.no_grad():
            moved = surface.encode(attack.perturb(surface, rows))
            return representation_shift(simvc, surface.encode(rows.views), moved).mean().item()

    start = shift()
    for _ in range(10):
        attack.step(surface, rows)
    assert shift() > 1.2 * start > 0


@pytest.mark.slow
def test_with_a_discriminator_alone_the_moved_views_come_to_look_clean(surface: Surface, rows: Batch) -> None:
    """The sign of the GAN term: the discriminators' answer to moved views rises when only the generators step."""
    for gan_loss in ("minimax", "lsgan"):
        attack = attacker(surface, gan_loss=gan_loss, com_weight=0.0, con_weight=0.0, eps=0.3)
        attack.optimizer_discriminators.param_groups[0]["lr"] = 0.0
        gan = [attack.step(surface, rows)["gan"] for _ in range(10)]
        assert gan[-1] < gan[0]
        before, after = (attacker(surface, gan_loss=gan_loss, eps=0.3), attack)
        answers = [attack.logits(a.perturb(surface, rows)).mean() for a in (before, after)]
        assert answers[1] > answers[0]


def test_the_clean_embedding_comes_from_memory_where_there_is_one(simvc: ClusterModel, pair: Dataset) -> None:
    index = torch.tensor([7, 190, 3])
    batch = Batch(tuple(view[index] for view in pair.views), index)
    direct, remembered = Surface(simvc, "input"), frozen_surface(simvc, "input", embed(simvc, pair.views))
    terms = [terms_of(attacker(surface), surface, batch) for surface in (direct, remembered)]
    assert terms[0] == pytest.approx(terms[1], rel=1e-4)
    calls: list[int] = []
    encode = simvc.encode
    simvc.encode = lambda views: (calls.append(1), encode(views))[1]  # type: ignore[method-assign, func-returns-value]
    for surface in (direct, remembered):
        terms_of(attacker(surface), surface, batch)
    assert len(calls) == 3


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 32, 24), (3, 28, 28)])
def test_one_view_of_any_image_is_attacked_too(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = methods.new_model("convae", {}, info(shape), 6).eval().requires_grad_(False)
    surface = Surface(model, "input")
    batch = Batch((torch.rand(8, *shape),), torch.arange(8))
    attack = attacker(surface)
    assert all(math.isfinite(value) for value in attack.step(surface, batch).values())
    (moved,) = attack.perturb(surface, batch)
    assert moved.shape == (8, *shape)
    assert not moved.equal(batch.views[0])


def test_three_views_of_their_own_sizes_have_networks_of_their_own() -> None:
    torch.manual_seed(0)
    shapes = ((1, 16, 16), (3, 17, 20), (1, 28, 28))
    model = methods.new_model("multivae", {"hidden": 16}, info(*shapes), 6).eval().requires_grad_(False)
    surface = Surface(model, "input", bn="batch")
    batch = Batch(tuple(torch.rand(6, *shape) for shape in shapes), torch.arange(6))
    attack = attacker(surface, bn="batch")
    attack.step(surface, batch)
    assert [view.shape for view in attack.perturb(surface, batch)] == [view.shape for view in batch.views]
    owned = {id(p) for group in attack.optimizer_generators.param_groups for p in group["params"]}
    assert owned == {id(p) for p in attack.generators.parameters()}
    assert len({id(p) for p in [*attack.generators.parameters(), *attack.discriminators.parameters()]}) == sum(
        1 for part in (attack.generators, attack.discriminators) for _ in part.parameters()
    )


@pytest.mark.parametrize("is_reset", [True, False])
def test_the_step_size_falls_to_a_tenth_at_two_thirds_and_a_resumed_run_goes_on_with_it(
    surface: Surface, rows: Batch, is_reset: bool
) -> None:
    schedule = {"epochs": 3, "batch_size": 16, "lr": 0.01}
    first = attacker(surface, schedule=schedule, reset_adam=is_reset)
    optimizers = (first.optimizer_generators, first.optimizer_discriminators)
    for epoch, lr in ((1, 0.01), (2, 0.001), (3, 0.001)):
        first.step(surface, rows)
        first.after_epoch(epoch)
        assert [group["lr"] for o in optimizers for group in o.param_groups] == [pytest.approx(lr)] * 2
        forgotten = is_reset and epoch == 2
        assert all(bool(optimizer.state) is not forgotten for optimizer in optimizers)
        if epoch == 2:
            saved = copy.deepcopy({name: part.state_dict() for name, part in first.state().items()})
    torch.manual_seed(99)
    second = methods.new_attack("view_gan", {"schedule": schedule, "reset_adam": is_reset}, surface)
    for name, part in second.state().items():
        part.load_state_dict(saved[name])
    second.step(surface, rows)
    assert isinstance(second, ViewGan)
    assert second.optimizer_generators.param_groups[0]["lr"] == pytest.approx(0.001)
    for name in ("generators", "discriminators"):
        part, expected = second.state()[name], first.state()[name]
        assert isinstance(part, nn.Module)
        assert isinstance(expected, nn.Module)
        assert len(same(part, snapshot(expected))) == len(expected.state_dict())


def test_the_drop_is_after_20_of_30_epochs_in_mode_paper_after_19_and_never_at_a_share_of_one(surface: Surface) -> None:
    for share, epochs, expected in ((2 / 3, 30, [20]), (19 / 30, 30, [19]), (2 / 3, 10, [7]), (1.0, 10, [10])):
        attack = attacker(surface, lr_drop=share, schedule={"epochs": epochs})
        group = attack.optimizer_generators.param_groups[0]
        found = []
        for epoch in range(1, epochs + 1):
            before = group["lr"]
            attack.after_epoch(epoch)
            found += [epoch] if group["lr"] != before else []
        assert found == expected


def test_one_seed_gives_one_attack_bit_for_bit_and_another_seed_another(surface: Surface, rows: Batch) -> None:
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        attack = ViewGan(Config(), surface)
        losses = [attack.step(surface, rows) for _ in range(3)]
        runs.append((losses, attack.perturb(surface, rows)))
    assert runs[0][0] == runs[1][0]
    assert all(a.equal(b) for a, b in zip(runs[0][1], runs[1][1], strict=True))
    assert not runs[0][1][0].equal(runs[2][1][0])


def test_mode_paper_is_the_released_codes_and_the_default_the_talks() -> None:
    config = methods.resolve("attacks", "view_gan", "paper", {"mode": "paper"})
    assert (config.bn, config.param, config.init_std, config.gan_loss) == ("batch", "clamp", 1.0, "lsgan")
    assert (config.shift, config.reduction, config.com_weight, config.con_weight) == ("norm", "sum", 2.5, 2.5)
    assert (config.penalty, config.penalty_weight, config.gan_weight) == ("l2", 1.0, 1.0)
    assert (config.train_share, config.reset_adam, config.lr_drop) == (1.0, True, 19 / 30)
    clean = Config()
    assert (clean.bn, clean.param, clean.init_std, clean.gan_loss) == ("eval", "scaled_tanh", None, "minimax")
    assert (clean.shift, clean.reduction, clean.com_weight, clean.con_weight) == ("squared", "mean", 1.0, 1.0)
    assert (clean.penalty, clean.gan_weight, clean.train_share, clean.reset_adam) == ("none", 1.0, 0.8, False)
    for one in (config, clean):
        assert (one.terms, one.eps) == ("com+con", None)
        assert (one.schedule.epochs, one.schedule.batch_size, one.schedule.lr) == (30, 100, 1e-3)
    smoke = methods.resolve("attacks", "view_gan", "smoke", {}).schedule
    assert (smoke.epochs, smoke.batch_size) == (1, 50)
    assert methods.resolve("attacks", "view_gan", "cpu", {}).schedule.epochs == 10


def test_the_codes_initialization_is_taken_where_it_is_asked_for(surface: Surface) -> None:
    published, default = (
        (a.generators[0].get_parameter("maps.6.weight"), a.discriminators[1].get_parameter("maps.2.weight"))
        for a in (paper(surface), attacker(surface))
    )
    for weight in published:
        assert weight.std().item() == pytest.approx(1.0, abs=0.1)
    for weight in default:
        assert weight.std().item() < 0.1


def test_data_that_are_no_images_are_refused_in_a_sentence() -> None:
    for shape, bounds, sentence in [
        ((64,), None, "they need image data, and values of toy have no bounds"),
        ((784,), (0.0, 1.0), r"of at least 16 x 16 pixels, got \(784,\)"),
        ((1, 8, 8), (0.0, 1.0), r"of at least 16 x 16 pixels, got \(1, 8, 8\)"),
    ]:
        model = methods.new_model("convae", {}, info(shape, bounds=bounds), 6)
        with pytest.raises((ConfigError, ShapeError), match=sentence):
            attacker(Surface(model, "input"))


def test_a_batch_of_one_and_a_surface_in_the_other_batch_norm_mode_are_refused(
    surface: Surface, simvc: ClusterModel, rows: Batch
) -> None:
    one = Batch(tuple(view[:1] for view in rows.views), rows.index[:1])
    with pytest.raises(ConfigError, match="the discriminators need batches of at least 2 samples, got 1"):
        attacker(surface).step(surface, one)
    with pytest.raises(ConfigError, match="for bn = 'eval', but its surface has 'batch'"):
        attacker(surface).step(Surface(simvc, "input", bn="batch"), rows)
