"""What every model promises to every stage and attack."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from robust_cluster.audit import contracts
from robust_cluster.data.base import Batch, Dataset
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


def test_a_batch_has_views_and_row_numbers_and_no_labels() -> None:
    assert [field.name for field in fields(Batch)] == ["views", "index"]


@pytest.mark.parametrize("name", NAMES)
def test_embedding_soft_labels_and_labels_have_their_shapes(name: str, started: Make, data: Data) -> None:
    model, views = started(name), data(name).views
    assert (len(views[0]), model.info.n_clusters) == (200, 10)
    contracts.embeds(model, views)
    contracts.assigns(model, views)
    contracts.answers_twice(model, views)
    contracts.labels(model, views)


@pytest.mark.parametrize("name", NAMES)
def test_decoded_views_have_the_shapes_of_the_data_or_their_absence_is_said(
    name: str, started: Make, rows: Rows
) -> None:
    contracts.decodes(started(name), rows(name).views)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_one_sample_is_embedded_and_labeled_as_it_is_among_others(name: str, started: Make, data: Data) -> None:
    contracts.answers_one_alone(started(name), data(name).views)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_a_saved_state_gives_the_same_predictions_in_a_new_model(
    name: str, started: Make, build: Make, data: Data
) -> None:
    contracts.is_saved(started(name), build(name), data(name).views)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_initialization_bit_for_bit(name: str, build: Make, started: Make) -> None:
    contracts.begins_alike(lambda: build(name), "before start()")
    contracts.begins_alike(lambda: started(name), "after start()")


@pytest.mark.parametrize(("name", "phase"), STEPS)
def test_one_seed_gives_the_same_steps_bit_for_bit(name: str, phase: Phase, build: Make, rows: Rows) -> None:
    contracts.steps_alike(lambda: build(name), rows(name), phase)


@pytest.mark.parametrize(
    ("name", "phase"),
    [pytest.param(*case, marks=() if case[0] in FIRST.values() else pytest.mark.slow) for case in STEPS],
)
def test_a_step_depends_on_the_samples_and_not_on_their_row_numbers(
    name: str, phase: Phase, build: Make, rows: Rows
) -> None:
    """By which labels could be looked up."""
    contracts.ignores_row_numbers(lambda: build(name), rows(name), phase)


@pytest.mark.parametrize(
    ("name", "phase"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] in NIGHTLY else ()) for case in STEPS],
)
def test_a_step_with_bfloat16_layers_has_nearly_the_losses_of_float32_and_leaves_float32_weights(
    name: str, phase: Phase, build: Make, rows: Rows
) -> None:
    exact, rough = build(name), build(name)
    wanted = contracts.steps(exact, rows(name), phase, 1)[0]
    with training("bf16"):
        found = contracts.steps(rough, rows(name), phase, 1)[0]
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
    contracts.loss_falls(build(name), data(name).views, rows(name), phase)


@pytest.mark.parametrize(("name", "phase"), STEPS)
def test_the_reported_terms_are_the_losses_of_the_batch(name: str, phase: Phase, build: Make, rows: Rows) -> None:
    contracts.reports_its_losses(build(name), rows(name), phase)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_a_gradient_reaches_embedding_and_every_view(name: str, started: Make, rows: Rows) -> None:
    contracts.has_gradients(started(name), rows(name))


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
        contracts.takes_pretrained(model, build(model.pretrained_by))


@pytest.mark.parametrize("name", NAMES)
def test_health_is_finite_numbers(name: str, started: Make, data: Data) -> None:
    contracts.is_healthy(started(name), data(name).views)
