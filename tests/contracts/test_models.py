"""What every model promises to every stage and attack."""

import copy
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import answers, embed
from robust_cluster.models.base import ClusterModel, Phase
from robust_cluster.nn.precision import training
from robust_cluster.stages import methods
from tests.contracts.choice import FIRST, INDUCTIVE, MODELS, TRAINED, is_convolutional

Make = Callable[[str], ClusterModel]
Data = Callable[[str], Dataset]
Rows = Callable[[str], Batch]
NAMES = list(MODELS)
STEPS: list[tuple[str, Phase]] = [(name, "cluster") for name in TRAINED]  # (model, phase) with steps to take
STEPS += [(n, "pretrain") for n in NAMES if MODELS[n].has_pretraining(methods.resolve("models", n, "paper", {}))]
NIGHTLY = {name for name in NAMES if is_convolutional(name) and name not in FIRST.values()} | {"ensc"}  # slow


def has_decoder(model: ClusterModel, z: Tensor) -> bool:
    try:
        return bool(model.decode(z))
    except ConfigError:
        return False


def steps(model: ClusterModel, batch: Batch, phase: Phase, count: int) -> list[dict[str, float]]:
    torch.manual_seed(5)
    model.train()
    optimizers = model.optimizers(phase)
    return [model.step(batch, phase, optimizers) for _ in range(count)]


def test_a_batch_has_views_and_row_numbers_and_no_labels() -> None:
    assert [field.name for field in fields(Batch)] == ["views", "index"]


@pytest.mark.parametrize("name", NAMES)
def test_embedding_soft_labels_and_labels_have_their_shapes(name: str, started: Make, data: Data) -> None:
    model, views = started(name).eval(), data(name).views
    embedding = embed(model, views)
    n, d = embedding.z.shape
    assert (n, embedding.z.dtype) == (200, torch.float32)
    assert [len(view) for view in embedding.per_view] == [200] * len(views)
    assert embedding.log_var is None or embedding.log_var.shape == (n, d)
    soft, labels = answers(model, embedding)
    assert soft.shape == (200, 10)
    assert soft.min() >= 0
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(200))
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= set(range(10))
    model.train()  # an untrained batch norm knows no statistics yet but those of the batch
    assert len(set(answers(model, model.encode(views))[1].tolist())) > 1


@pytest.mark.parametrize("name", NAMES)
def test_decoded_views_have_the_shapes_of_the_data_or_their_absence_is_said(
    name: str, started: Make, rows: Rows
) -> None:
    model, views = started(name).eval(), rows(name).views
    z = model.encode(views).z
    if has_decoder(model, z):
        assert [view.shape for view in model.decode(z)] == [view.shape for view in views]
    else:
        with pytest.raises(ConfigError, match="decode"):
            model.decode(z)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_one_sample_is_embedded_and_labeled_as_it_is_among_others(name: str, started: Make, data: Data) -> None:
    model, views = started(name).eval(), data(name).views
    together = embed(model, views)
    alone = model.encode(tuple(view[7:8] for view in views))
    torch.testing.assert_close(alone.z.detach(), together.z[7:8], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.assign(alone.z), model.assign(together.z)[7:8], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_a_saved_state_gives_the_same_predictions_in_a_new_model(
    name: str, started: Make, build: Make, data: Data
) -> None:
    model, fresh = started(name).eval(), build(name).eval()
    saved = copy.deepcopy(model.state_dict())
    fresh.load_state_dict(saved)
    first, second = embed(model, data(name).views), embed(fresh, data(name).views)
    assert first.z.equal(second.z)
    assert model.assign(first.z).equal(fresh.assign(second.z))


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_initialization_bit_for_bit(name: str, build: Make, started: Make) -> None:
    for make in (build, started):
        first, second = make(name).state_dict(), make(name).state_dict()
        assert first.keys() == second.keys()
        assert all(value.equal(second[key]) for key, value in first.items())


@pytest.mark.parametrize(("name", "phase"), STEPS)
def test_one_seed_gives_the_same_steps_bit_for_bit(name: str, phase: Phase, build: Make, rows: Rows) -> None:
    first, second = build(name), build(name)
    assert steps(first, rows(name), phase, 2) == steps(second, rows(name), phase, 2)
    assert all(value.equal(second.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("name", "phase"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] in NIGHTLY else ()) for case in STEPS],
)
def test_a_step_with_bfloat16_layers_has_nearly_the_losses_of_float32_and_leaves_float32_weights(
    name: str, phase: Phase, build: Make, rows: Rows
) -> None:
    exact, rough = build(name), build(name)
    wanted = steps(exact, rows(name), phase, 1)[0]
    with training("bf16"):
        found = steps(rough, rows(name), phase, 1)[0]
    assert found == pytest.approx(wanted, rel=0.02, abs=0.02)
    assert any(not value.equal(rough.state_dict()[key]) for key, value in exact.state_dict().items())
    assert {key: value.dtype for key, value in rough.state_dict().items()} == {
        key: value.dtype for key, value in exact.state_dict().items()
    }


@pytest.mark.parametrize(
    ("name", "phase"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] in NIGHTLY else ()) for case in STEPS],
)
def test_the_loss_falls(name: str, phase: Phase, build: Make, data: Data, rows: Rows) -> None:
    model = build(name)
    if phase == "cluster" and len(model.losses(rows(name), phase)) == 1:
        # DEC learns from its own clusters alone, and an untrained network has none; DeepCluster takes even those
        steps(model, rows(name), "pretrain", 20 if model.has_pretraining(model.config) else 0)
        model.start("cluster", lambda: embed(model, data(name).views), seed=0)
    log = steps(model, rows(name), phase, 20)
    # what an opponent raises is no measure of learning; 5 %, because a contrastive term has a high floor
    totals = [sum(value for term, value in terms.items() if term != "adversarial") for terms in log]
    first, last = sum(totals[:3]), sum(totals[-3:])
    assert last < first - 0.05 * abs(first)


@pytest.mark.parametrize(("name", "phase"), STEPS)
def test_the_reported_terms_are_the_losses_of_the_batch(name: str, phase: Phase, build: Make, rows: Rows) -> None:
    model = build(name)
    torch.manual_seed(5)
    terms = {key: term.item() for key, term in model.losses(rows(name), phase).items()}
    assert steps(model, rows(name), phase, 1)[0] == pytest.approx(terms)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_a_gradient_reaches_embedding_and_every_view(name: str, started: Make, rows: Rows) -> None:
    model = started(name).eval().requires_grad_(False)
    views = tuple(view.clone().requires_grad_() for view in rows(name).views)
    z = model.encode(views).z.detach().requires_grad_()
    for points, soft in (((z,), model.assign(z)), (views, model.assign(model.encode(views).z))):
        own: Tensor = soft.max(dim=1).values.sum()
        own.backward()
        for point in points:
            assert point.grad is not None
            assert point.grad.isfinite().all()
            assert point.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_only_methods_with_something_to_train_have_epochs_and_say_whether_their_losses_train_it_all(
    name: str, build: Make, rows: Rows
) -> None:
    model = build(name)
    if not model.schedule("cluster").epochs:
        return
    optimizers = model.optimizers("cluster")
    assert optimizers
    has_opponent = len(optimizers) > 1
    # ADEC's discriminator has a term of its own
    assert model.descends_losses == (not has_opponent or "discriminator" in model.losses(rows(name), "cluster"))


@pytest.mark.parametrize("name", NAMES)
def test_the_pretrained_part_is_the_one_of_the_method_that_pretrains_it(name: str, build: Make) -> None:
    model = build(name)
    if model.pretrained_by is not None:
        owner = build(model.pretrained_by)
        model.pretrained().load_state_dict(owner.pretrained().state_dict())
        assert set(model.pretrain_fields) <= {field.name for field in fields(owner.config)}
        assert model.pretrain_fields == owner.pretrain_fields


@pytest.mark.parametrize("name", NAMES)
def test_health_is_finite_numbers(name: str, started: Make, data: Data) -> None:
    model = started(name).eval()
    with torch.no_grad():
        health = model.health(embed(model, data(name).views))
    assert all(isinstance(value, float) and abs(value) < 1e6 for value in health.values())
