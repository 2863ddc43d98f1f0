"""AR-DMVC trains on views moved up the contrastive loss, AR-DMVC-AM also ties the labels of both passes together."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks import apgd
from robust_cluster.attacks.base import Surface
from robust_cluster.data.base import Batch, DataInfo, Dataset, Views
from robust_cluster.defenses import ar_dmvc, ar_dmvc_am
from robust_cluster.defenses.ar_dmvc import ArDmvc
from robust_cluster.defenses.ar_dmvc_am import ArDmvcAm, divergence
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig, Outputs
from robust_cluster.models.multiview import aecoddc, comvc, multivae
from robust_cluster.nn.contrastive import contrastive
from robust_cluster.nn.layers import batch_norm_mode
from robust_cluster.nn.optim import adam, descend
from robust_cluster.stages import methods
from robust_cluster.stages.context import fingerprint

Trained = Callable[[int], tuple[ClusterModel, Views]]


class Untouchable:
    """An attack that must not be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the attack's {name!r} was asked for")


class Doubling(ClusterModel):
    """per_view are the views' values times 1, 2, ...: no network, so that a gradient can be followed by hand."""

    def __init__(self, known: DataInfo) -> None:
        super().__init__(ModelConfig(), known, 4)
        self.scale = nn.Parameter(torch.ones(()))

    def encode(self, views: Views) -> Embedding:
        per_view = tuple(self.scale * (v + 1) * view.flatten(1) for v, view in enumerate(views))
        return Embedding(per_view[0], per_view)

    def assign(self, z: Tensor) -> Tensor:
        return z.softmax(dim=1)


def info(shapes: tuple[tuple[int, ...], ...] = ((1, 16, 16),) * 2, **values: Any) -> DataInfo:
    known: dict[str, Any] = {
        "name": "toy",
        "n_samples": 200,
        "n_clusters": 10,
        "bounds": (0.0, 1.0),
        "scale": 1.0,
        "sha256": "",
    }
    return DataInfo(shapes=shapes, **known | values)


def surface_of(name: str = "toy", **values: Any) -> Surface:
    torch.manual_seed(0)
    return Surface(comvc.CoMVC(comvc.Config(hidden=20), info(name=name, **values), 8), "input")


def defense(surface: Surface, **values: Any) -> ArDmvc:
    return ArDmvc(ar_dmvc.Config(**{"steps": 2, "eps": 0.2} | values), surface)


def mitigated(surface: Surface, **values: Any) -> ArDmvcAm:
    return ArDmvcAm(ar_dmvc_am.Config(**{"steps": 2, "eps": 0.2} | values), surface)


def take_step(defending: ArDmvc, surface: Surface, batch: Batch) -> dict[str, float]:
    torch.manual_seed(4)
    return defending.step(surface, Untouchable(), batch)  # type: ignore[arg-type]


def counters(model: nn.Module) -> set[int]:
    """How many passes batch norm's running statistics have seen, over all layers."""
    return {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}


@pytest.fixture
def surface() -> Surface:
    return surface_of()


@pytest.fixture
def rows(pair: Dataset) -> Batch:
    return Batch(tuple(view[:20] for view in pair.views), torch.arange(20))


@pytest.fixture(scope="module")
def trained(pair: Dataset) -> Trained:
    """trained(V): a CoMVC after 8 updates, and its V views."""

    def train(n_views: int) -> tuple[ClusterModel, Views]:
        torch.manual_seed(0)
        third = (pair.views[0] + 0.1 * torch.randn_like(pair.views[0])).clamp(0, 1)
        views = (*pair.views, third)[:n_views]
        model = comvc.CoMVC(comvc.Config(contrast_weight=1.0, hidden=20), info(((1, 16, 16),) * n_views), 8)
        optimizers = model.optimizers("cluster")
        for _ in range(8):
            index = torch.randperm(200)[:20]
            model.step(Batch(tuple(view[index] for view in views), index), "cluster", optimizers)
        return model, views

    return train


@pytest.mark.parametrize("n_views", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_ascent_raises_the_contrastive_loss_over_its_start_and_stays_in_ball_and_box(
    n_views: int, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, views = trained(n_views)
    defending = defense(Surface(model, "input"), steps=2, step_size=0.1)
    own, values = defending.contrast, []

    def recorded(per_view: Views) -> Tensor:
        values.append(own(per_view))
        return values[-1]

    monkeypatch.setattr(defending, "contrast", recorded)
    raised = []
    for chosen in torch.randperm(200, generator=torch.Generator().manual_seed(1))[:100].split(5):
        clean = tuple(view[chosen] for view in views)
        values.clear()
        moved = defending.adversary(model, clean)
        with torch.no_grad(), batch_norm_mode(model, "batch"):
            last, before = (own(model.encode(point).per_view) for point in (moved, clean))
        assert len(values) == 2
        raised.append(bool(last > values[0]) and bool(last > before))
        for was, now in zip(clean, moved, strict=True):
            assert not now.requires_grad
            assert 0.15 < (now - was).abs().max() <= 0.2 + 1e-6
            assert now.min() >= 0
            assert now.max() <= 1
    assert sum(raised) >= 0.95 * len(raised)


@pytest.mark.parametrize("n_views", [2, 3])
def test_what_an_attacker_ascends_is_the_contrastive_loss_sample_by_sample(n_views: int) -> None:
    model = Doubling(info(((4,),) * n_views))
    surface = Surface(model.eval().requires_grad_(False), "input")
    rows = Batch(tuple(torch.rand(n_views, 6, 4)), torch.arange(6))
    whole, parts = defense(surface), []
    for row in range(6):
        rest = torch.arange(6) != row
        gain = whole.gain(surface, Untouchable(), [Batch(tuple(view[rest] for view in rows.views), rows.index[rest])])  # type: ignore[arg-type]
        assert gain is not None
        alone = model.encode(tuple(view[row : row + 1] for view in rows.views))
        parts.append(gain(model, alone, alone, torch.zeros(1)))
    assert torch.cat(parts).mean().item() == pytest.approx(whole.contrast(model.encode(rows.views).per_view).item())
    assert whole.gain(replace(surface, space="latent"), Untouchable(), [rows]) is None  # type: ignore[arg-type]


def test_the_attack_on_a_defenses_own_loss_moves_a_sample_alike_in_any_batch() -> None:
    model = Doubling(info(((4,),) * 2, n_clusters=4))
    surface = Surface(model.eval().requires_grad_(False), "input")
    rows = Batch(tuple(torch.rand(2, 12, 4)), torch.arange(12))
    defending = mitigated(surface)
    for eps in (0.05, 0.9):  # a small and a large share of the samples flips and leaves
        points = []
        for part in (slice(0, 12), slice(0, 1)):
            torch.manual_seed(0)
            gain = defending.gain(surface, Untouchable(), [rows])  # type: ignore[arg-type]
            attack = apgd.Apgd(apgd.Config(norm="linf", eps=eps, steps=5), surface, gain=gain)
            points.append(attack.perturb(surface, Batch(tuple(view[part] for view in rows.views), rows.index[part])))
        for many, one in zip(*points, strict=True):
            torch.testing.assert_close(many[:1], one)


@pytest.mark.parametrize(("pairs", "n_views"), [("first", 2), ("all", 2), ("all", 3)])
def test_every_step_goes_up_by_the_sign_of_the_gradient_then_back_into_ball_and_box(pairs: str, n_views: int) -> None:
    model = Doubling(info(((4,),) * n_views))
    seeds = [torch.Generator().manual_seed(v) for v in range(n_views)]
    clean = tuple(0.2 + 0.8 * torch.rand(6, 4, generator=seed, dtype=torch.float64) for seed in seeds)
    torch.manual_seed(3)
    expected = [0.3 * (2 * torch.rand_like(view) - 1) for view in clean]
    for _ in range(3):
        deltas = [delta.clone().requires_grad_() for delta in expected]
        first, second, *rest = (view + delta for view, delta in zip(clean, deltas, strict=True))
        loss = contrastive(first, second, 0.5)
        for third in rest:
            loss = loss + contrastive(first, third, 0.5) + contrastive(second, third, 0.5)
        loss.backward()
        for v, delta in enumerate(deltas):
            assert delta.grad is not None
            assert delta.grad.abs().min() > 1e-9  # else its sign would be chance
            stepped = (delta.detach() + 0.125 * delta.grad.sign()).clamp(-0.3, 0.3)
            expected[v] = (clean[v] + stepped).clamp(0, 1) - clean[v]
    defending = defense(Surface(model, "input"), steps=3, step_size=0.125, eps=0.3, temperature=0.5, pairs=pairs)
    torch.manual_seed(3)
    for was, now, delta in zip(clean, defending.adversary(model, clean), expected, strict=True):
        torch.testing.assert_close(now, was + delta)


def test_the_ascent_leaves_the_parameters_gradients_alone(surface: Surface, rows: Batch) -> None:
    defending, parameters = defense(surface), list(surface.model.parameters())
    for before in (None, torch.tensor(7.0)):
        for parameter in parameters:
            parameter.grad = None if before is None else before.expand_as(parameter).clone()
        defending.adversary(surface.model, rows.views)
        gradients = [parameter.grad for parameter in parameters]
        assert all(g is None if before is None else g is not None and bool(g.eq(before).all()) for g in gradients)
        assert all(parameter.requires_grad for parameter in parameters)


def test_the_ascent_moves_running_statistics_only_where_asked(surface: Surface, rows: Batch) -> None:
    surface.model.train()
    before = fingerprint(surface.model)
    defense(surface).adversary(surface.model, rows.views)
    assert fingerprint(surface.model) == before
    assert all(module.training for module in surface.model.modules())
    defense(surface, pgd_bn="train").adversary(surface.model, rows.views)
    assert fingerprint(surface.model) != before


@pytest.mark.parametrize(("pgd_bn", "passes"), [("batch_nostat", 2), ("train", 2 + 3)])
def test_a_step_counts_both_outer_passes_in_the_running_statistics_and_the_inner_ones_where_asked(
    pgd_bn: str, passes: int, surface: Surface, rows: Batch
) -> None:
    take_step(defense(surface, pgd_bn=pgd_bn, steps=3), surface, rows)
    assert counters(surface.model) == {passes}


@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0])
def test_the_loss_is_the_victims_own_plus_lam_times_that_of_the_moved_views(
    lam: float, surface: Surface, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    defending, twin = defense(surface, lam=lam), copy.deepcopy(surface.model)
    moved = Batch(defending.adversary(surface.model, rows.views), rows.index)
    monkeypatch.setattr(defending, "adversary", lambda model, views: moved.views)
    own, other = twin.losses(rows, "cluster"), twin.losses(moved, "cluster")
    expected = own | {f"moved_{name}": lam * term for name, term in other.items()}
    terms = take_step(defending, surface, rows)
    assert list(terms) == [
        *("ddc_1", "ddc_2", "ddc_3", "contrastive"),
        *("moved_ddc_1", "moved_ddc_2", "moved_ddc_3", "moved_contrastive"),
    ]
    assert terms == pytest.approx({name: term.item() for name, term in expected.items()})
    assert all(abs(other[name].item() - term.item()) > 1e-4 for name, term in own.items())
    descend(expected, adam(twin.parameters(), 1e-3), max_norm=10.0)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(surface.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_moved_views_are_made_anew_in_every_step_by_the_model_as_it_is(
    surface: Surface, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    defending = defense(surface)
    own, seen = defending.adversary, []

    def recorded(model: ClusterModel, views: Views) -> Views:
        seen.append((model, views))
        return own(model, views)

    monkeypatch.setattr(defending, "adversary", recorded)
    first, second = (take_step(defending, surface, rows) for _ in range(2))
    assert [model is surface.model and views is rows.views for model, views in seen] == [True, True]
    assert first != second


def test_the_gradient_is_cut_to_max_norm(surface: Surface, rows: Batch) -> None:
    """Adam hides a gradient's scale from its step, but not from its moments."""
    moments = []
    for max_norm in (1e-3, None):
        fresh = Surface(copy.deepcopy(surface.model), "input")
        defending = defense(fresh, max_norm=max_norm)
        take_step(defending, fresh, rows)
        state = defending.optimizer.state.values()
        moments.append(math.sqrt(sum(float(each["exp_avg"].square().sum()) for each in state)))
    assert moments[0] == pytest.approx(0.1 * 1e-3, rel=1e-3)  # 1 - beta_1 of the gradient
    assert moments[1] > 100 * moments[0]


@pytest.mark.parametrize("kind", ["aecoddc", "multivae"])
def test_models_with_decoders_or_k_means_labels_train_on_moved_views_by_their_own_losses(
    kind: str, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is decoded of the moved views is compared with the moved views."""
    torch.manual_seed(0)
    model: ClusterModel = (
        aecoddc.AECoDDC(aecoddc.Config(), info(), 8)
        if kind == "aecoddc"
        else multivae.MultiVAE(multivae.Config(hidden=16), info(), 8)
    )
    surface, twin = Surface(model, "input"), copy.deepcopy(model)
    defending = defense(surface, steps=1, lam=0.5)
    moved = Batch(defending.adversary(model, rows.views), rows.index)
    monkeypatch.setattr(defending, "adversary", lambda model, views: moved.views)
    terms = take_step(defending, surface, rows)
    torch.manual_seed(4)
    own = {name: term.item() for name, term in twin.losses(rows, "cluster").items()}
    other = {f"moved_{name}": 0.5 * term.item() for name, term in twin.losses(moved, "cluster").items()}
    assert terms == pytest.approx(own | other)
    assert not any(value.equal(dict(twin.named_parameters())[name]) for name, value in model.named_parameters())
    assert model.state_dict().get("code_steps", 1) == 1  # Multi-VAE's capacities grow with the defense's steps


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noisymnist", (1.0, 0.2, 0.02, 0.1)),
        ("noisy:mnist10k", (1.0, 0.2, 0.02, 0.1)),
        ("noisyfashion", (0.1, 0.2, 0.02, 1.0)),
        ("patchedmnist", (0.1, 0.2, 0.02, 0.1)),
        ("regdb", (1.0, 0.1, 0.01, 0.1)),
        ("toy", (1.0, 0.2, 0.02, 0.1)),
    ],
)
def test_a_data_set_has_the_published_settings_unless_others_are_given(name: str, expected: tuple[float, ...]) -> None:
    surface = surface_of(name)
    plain = ArDmvcAm(ar_dmvc_am.Config(), surface)
    assert (plain.lam, plain.budget.eps, plain.step_size, plain.gamma) == expected
    given = ArDmvcAm(ar_dmvc_am.Config(lam=0.0, eps=0.0, step_size=0.5, gamma=0.0), surface)
    assert (given.lam, given.budget.eps, given.step_size, given.gamma) == (0.0, 0.0, 0.5, 0.0)


@pytest.mark.parametrize("name", ["ar_dmvc", "ar_dmvc_am"])
def test_the_paper_mode_is_the_released_code_and_the_default_the_clean_one(name: str) -> None:
    found = {}
    for mode in ("clean", "paper"):
        config = methods.resolve("defenses", name, "paper", {"mode": mode})
        found[mode] = (config.mode, config.pairs, config.pgd_bn, config.max_norm)
        assert (config.steps, config.temperature, config.lam, config.eps, config.step_size) == (
            10,
            0.1,
            None,
            None,
            None,
        )
        schedule = config.schedule
        assert (schedule.epochs, schedule.batch_size, schedule.lr, schedule.window) == (30, 100, 1e-3, 0)
    assert found["paper"] == ("paper", "first", "train", None)
    assert found["clean"] == ("clean", "all", "batch_nostat", 10.0)
    assert methods.resolve("defenses", name, "paper", {}).mode == "clean"


@pytest.mark.parametrize("make", [defense, mitigated])
def test_the_model_trains_from_its_clusterings_beginning_and_no_attacker_does(
    make: Callable[[Surface], ArDmvc], surface: Surface
) -> None:
    defending = make(surface)
    assert (defending.restarts, defending.trains_attacker) == (True, False)
    assert defending.schedule == defending.config.schedule
    assert set(defending.state()) == {"optimizer"}


def test_the_divergence_has_its_hand_worked_value() -> None:
    """One row (3/4, 1/4) and (0, 1), each + 1/4: ln 4 + 1/2 ln 0.4; one row alike: 0."""
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
    q = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    assert divergence(p, q, eps=0.25).item() == pytest.approx((math.log(4) + 0.5 * math.log(0.4)) / 2)
    assert divergence(q, p, eps=0.25).item() == pytest.approx((0.25 * math.log(0.25) + 1.25 * math.log(2.5)) / 2)
    sure = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    worst = (1 + 1e-4 - 1e-4) * math.log((1 + 1e-4) / 1e-4)  # finite where q is 0
    assert divergence(sure, sure.flip(1)).item() == pytest.approx(worst)


def test_the_divergence_is_0_for_equal_labels_positive_otherwise_and_its_gradient_is_right() -> None:
    random = torch.Generator().manual_seed(0)
    p, q = (torch.rand(4, 3, generator=random, dtype=torch.float64).softmax(dim=1) for _ in range(2))
    assert divergence(p, p.clone()).item() == 0
    assert divergence(p, q).item() > 0
    assert torch.autograd.gradcheck(divergence, (p.requires_grad_(), q.requires_grad_()))


def outputs_of(soft_labels: Tensor) -> Outputs:
    return Outputs(Embedding(soft_labels, ()), soft_labels, soft_labels, ())


@pytest.mark.parametrize("direction", ["clean_adv", "adv_clean"])
@pytest.mark.parametrize("detach", ["none", "clean"])
def test_the_mitigator_takes_its_direction_and_its_detached_branch_from_the_settings(
    direction: str, detach: str, surface: Surface
) -> None:
    clean = torch.tensor([[0.9, 0.1], [0.6, 0.4]], requires_grad=True)
    moved = torch.tensor([[0.5, 0.5], [0.2, 0.8]], requires_grad=True)
    defending = mitigated(surface, gamma=3.0, kl_direction=direction, kl_detach=detach, kl_eps=0.01)
    terms = defending.extra_terms(outputs_of(clean), outputs_of(moved))
    p, q = (clean, moved) if direction == "clean_adv" else (moved, clean)
    assert list(terms) == ["mitigator"]
    assert terms["mitigator"].item() == pytest.approx(3 * divergence(p, q, eps=0.01).item())
    assert not divergence(p, q).isclose(divergence(q, p), rtol=0.01)
    terms["mitigator"].backward()
    assert moved.grad is not None
    assert moved.grad.abs().min() > 0
    if detach == "clean":
        assert clean.grad is None
    else:
        assert clean.grad is not None
        assert clean.grad.abs().min() > 0


def test_the_mitigator_compares_the_clean_pass_with_the_moved_one(
    surface: Surface, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    defending, twin = mitigated(surface, gamma=0.5), copy.deepcopy(surface.model)
    moved = defending.adversary(surface.model, rows.views)
    monkeypatch.setattr(defending, "adversary", lambda model, views: moved)
    terms = take_step(defending, surface, rows)
    expected = divergence(twin(rows.views).soft_labels, twin(moved).soft_labels)
    assert terms["mitigator"] == pytest.approx(0.5 * expected.item(), rel=1e-3)
    assert terms["mitigator"] > 1e-4


@pytest.mark.slow
def test_without_weight_the_mitigator_changes_no_bit_and_with_weight_it_does(surface: Surface, rows: Batch) -> None:
    after = {}
    for gamma in (None, 0.0, 5.0):
        fresh = Surface(copy.deepcopy(surface.model), "input")
        defending = defense(fresh) if gamma is None else mitigated(fresh, gamma=gamma)
        logs = [take_step(defending, fresh, rows) for _ in range(2)]
        mitigator = [terms.pop("mitigator", 0.0) for terms in logs]
        after[gamma] = (logs, fingerprint(fresh.model))
        assert (max(mitigator) > 0) is (gamma == 5.0)
    assert after[0.0] == after[None]
    assert after[5.0][1] != after[None][1]


@pytest.mark.parametrize("make", [defense, mitigated])
@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ({"bounds": None}, {}, "AR-DMVC moves values within their bounds, and those of toy have none (rc ls data)"),
        (
            {"shapes": ((1, 16, 16),) * 3},
            {"pairs": "first"},
            "pairs = first moves the first 2 views alone, toy has 3 (--set defense.pairs=all)",
        ),
        (
            {"n_samples": 49},
            {},
            "AR-DMVC needs batches of at least n_clusters = 10 samples, got 9 (--set defense.schedule.batch_size=10, "
            "or more data: a batch is at most a fifth of them)",
        ),
    ],
)
def test_data_that_it_cannot_train_on_are_refused_in_a_sentence(
    make: Callable[..., ArDmvc], values: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(surface_of(**values), **settings)
    assert str(caught.value) == message


def test_models_that_it_cannot_train_are_refused_in_a_sentence() -> None:
    single = Surface(multivae.MultiVAE(multivae.Config(hidden=8), info(((1, 16, 16),)), 8), "input")
    with pytest.raises(ConfigError) as caught:
        defense(single)
    assert str(caught.value) == "AR-DMVC sets views against each other and needs at least 2, toy has 1 (rc ls data)"
    uneven = ((1, 16, 16), (1, 20, 20))
    model = multivae.MultiVAE(multivae.Config(hidden=8), info(uneven), 8)
    with pytest.raises(ConfigError) as caught:
        defense(Surface(model, "input")).adversary(model, tuple(torch.rand(4, *shape) for shape in uneven))
    assert str(caught.value) == (
        "AR-DMVC compares the views' representations, which must be of one width, got [64, 256] (views of one shape)"
    )
