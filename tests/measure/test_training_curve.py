"""Randomness and drift: a diagnostic with labels that leaves every number of a clustering as it is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from robust_cluster.data.base import Batch, Dataset, Labels
from robust_cluster.measure import training_curve
from robust_cluster.measure.scores import embed
from robust_cluster.measure.training_curve import FIGURES, Curve, columns, matched_targets
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.metrics.nmi import nmi
from robust_cluster.models.autoencoder.adec import ADEC
from robust_cluster.models.autoencoder.dec import DEC
from robust_cluster.models.autoencoder.idec import IDEC
from robust_cluster.nn.dec import clustering_kl
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.seeds import seed_for
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import LOG, MODEL, RunStore
from robust_cluster.stages import loop, methods
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.cluster import begin
from robust_cluster.stages.context import Context

FAMILY = ("dec", "idec", "adec")
OFTEN = [*(pytest.param(name, marks=pytest.mark.slow) for name in FAMILY[:2]), "adec"]
EPOCHS = 5
SMALL: dict[str, Any] = {
    "model.hidden": [16],
    "model.n_init": 1,
    "model.tol": 0,
    "model.pretrain.epochs": 2,
    "model.cluster.epochs": EPOCHS,
    "model.cluster.steps_per_epoch": 4,
}


def specs_of(model: str, dataset: Dataset) -> list[RunSpec]:
    request = Request("cluster", dataset.ref, model, latent_dim=6, profile="smoke", overrides=SMALL)
    return plan(request, dataset.info)


def context_of(folder: Path, dataset: Dataset, **fields: Any) -> Context:
    return Context(RunStore(folder), dataset, "smoke", device="cpu", threads=1, **fields)


def lines_of(context: Context, spec: RunSpec) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (context.store.path(spec) / LOG).read_text().splitlines()]


def trained(context: Context, spec: RunSpec) -> tuple[str, list[Any]]:
    """SHA-256 of the checkpoint, and losses and health of every epoch without the curve's figures."""
    lines = lines_of(context, spec)
    kept = [{name: value for name, value in line["health"].items() if name not in FIGURES} for line in lines]
    digest = hashlib.sha256((context.store.path(spec) / MODEL).read_bytes()).hexdigest()
    return digest, [(line["losses"], health) for line, health in zip(lines, kept, strict=True)]


@pytest.mark.parametrize("model", OFTEN)
def test_the_curve_changes_nothing_and_its_figures_are_in_log_and_record(
    few_digits: Dataset, tmp_path: Path, model: str
) -> None:
    plain, curved = (context_of(tmp_path / name, few_digits, curve=name == "curved") for name in ("plain", "curved"))
    specs = specs_of(model, few_digits)
    without, record = (execute(specs, context)[-1] for context in (plain, curved))
    assert trained(plain, specs[-1]) == trained(curved, specs[-1])
    assert trained(plain, specs[0]) == trained(curved, specs[0])
    assert "drift" not in without
    assert {**record, "drift": 0}["metrics"] == without["metrics"]
    found = record["drift"]
    assert execute(specs, replace(plain, curve=True))[-1]["drift"] == found, "made anew for the curve"
    assert execute(specs, plain)[-1]["drift"] == found, "and kept"
    lone = 2 * (model == "adec")  # epochs of its discriminator, before the clustering
    assert found["steps"] == [0, 4, 8, 12, 16, 20][: 1 + EPOCHS - lone]
    logged = [line["health"] for line in lines_of(curved, specs[-1])]
    for name in FIGURES:
        assert found[name][1:] == [health[name] for health in logged[lone:]]
        assert not lone or found[name][0] == logged[lone - 1][name]
    start = curved.new_model(specs[-1])
    begin(start, specs[-1], curved)
    labels = start.labels(embed(start, few_digits.views).z).numpy()
    assert found["ACC"][0] == accuracy(cast(Labels, few_digits.labels), labels)
    assert found["delta_FR"][0] != found["delta_FR"][-1]
    assert found["ACC"][-1] == record["metrics"]["ACC"]
    assert found["NMI"][-1] == record["metrics"]["NMI"]
    assert all(-1 <= value <= 1 for value in found["delta_FR"])
    assert found["mean"]["delta_FR"] == pytest.approx(np.mean(found["delta_FR"][1:]))
    if model == "dec":
        assert found["delta_FD"] == [None] * (1 + EPOCHS)  # it has no self-supervised loss
        assert found["mean"]["delta_FD"] is None
    else:
        assert all(-1 <= value <= 1 for value in found["delta_FD"])
        assert all(value > 0 for value in found["gradient_ratio"])


@pytest.mark.parametrize("labeled", [True, False])
def test_a_pretraining_logs_the_scores_of_k_means_on_its_embedding(
    few_digits: Dataset, tmp_path: Path, labeled: bool
) -> None:
    data = few_digits if labeled else replace(few_digits, labels=None)
    context = context_of(tmp_path, data, curve=True)
    spec, clustering = specs_of("dec", data)
    execute([spec, clustering], context)
    assert "drift" not in execute([spec], replace(context, curve=False))[0], "not on the way to another run"
    drift = execute([spec], context)[0]["drift"]
    logged = [line["health"] for line in lines_of(context, spec)]
    assert [set(health) for health in logged] == [{"ACC", "NMI"}] * len(logged)
    assert {name: drift[name] for name in ("ACC", "NMI")} == {
        name: [health[name] for health in logged] for name in ("ACC", "NMI")
    }
    assert drift["steps"][-1] == context.store.record(spec)["training"]["steps"]  # type: ignore[index]
    if not labeled:
        assert set(logged[-1].values()) == {None}
        return
    model = context.new_model(spec)
    model.pretrained().load_state_dict(context.store.load_model(spec))
    z = embed(model.eval(), data.views).z.numpy()
    found = KMeans(10, n_init=20, random_state=seed_for(spec.seed, "drift", spec.model, spec.data.label)).fit(z)
    assert logged[-1]["ACC"] == accuracy(cast(Labels, data.labels), found.labels_)
    assert logged[-1]["NMI"] == nmi(cast(Labels, data.labels), found.labels_)
    assert logged[0]["ACC"] != logged[-1]["ACC"]


class Killed(BaseException):
    """An end from outside."""


class Kills(Silent):
    """Ends the run after its third epoch of clustering, if it is the clustering."""

    def start(self, title: str, total: int, done: int) -> None:
        self.is_clustering = title.startswith("cluster")

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        if self.is_clustering and number == 3:
            raise Killed


@pytest.mark.slow
@pytest.mark.parametrize("model", OFTEN)
def test_a_killed_clustering_ends_like_the_uninterrupted_one(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)  # save after every epoch
    specs = specs_of(model, few_digits)
    whole = context_of(tmp_path / "whole", few_digits)
    execute(specs, whole)
    killed = context_of(tmp_path / "killed", few_digits, progress=Kills())
    with pytest.raises(Killed):
        execute(specs, killed)
    state = RunStore(tmp_path / "killed").path(specs[-1])
    assert not (state / MODEL).exists()
    resumed = context_of(tmp_path / "killed", few_digits)
    execute(specs, resumed)
    assert trained(resumed, specs[-1]) == trained(whole, specs[-1])


def new(name: str, dataset: Dataset, **settings: Any) -> DEC:
    """A model with a start behind it, small."""
    torch.manual_seed(0)
    values = methods.plain(methods.resolve("models", name, "smoke", {"hidden": [16], "n_init": 1, **settings}))
    model = cast(DEC, methods.new_model(name, values, dataset.info, 6))
    model.start("cluster", lambda: embed(model, dataset.views), 0)
    return model


def curve_of(model: DEC, dataset: Dataset, folder: Path) -> Curve:
    return Curve(model, dataset)


def flat_gradient(loss: Tensor, model: DEC) -> Tensor:
    gradients = torch.autograd.grad(loss, list(model.autoencoder.encoder.parameters()), retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("name", FAMILY)
def test_the_cosines_are_those_of_gradients_of_the_whole_data_set(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Computed in one piece here, in chunks there."""
    monkeypatch.setattr(training_curve, "CHUNK", 70)
    model = new(name, few_digits, **({"adversarial_weight": 0.5} if name == "adec" else {}))
    found = curve_of(model, few_digits, tmp_path)()
    z = model.encode(few_digits.views).z
    predicted = model.labels(z).numpy()
    assert few_digits.labels is not None
    true = matched_targets(few_digits.labels, predicted, 10)
    q = model.assign(z)
    sup = flat_gradient(-(true * q.log()).sum(dim=1).mean(), model)
    pseudo = flat_gradient(clustering_kl(model.self_training.targets, q), model)
    x = model.autoencoder.rows(few_digits.views[0])
    decoded = model.autoencoder.decoder(z)
    own, weights = torch.zeros_like(pseudo), (1.0, 0.0)
    if isinstance(model, IDEC):
        own, weights = flat_gradient((decoded - x).square().mean(), model), (0.1, 1.0)
    if isinstance(model, ADEC):
        own, weights = flat_gradient((1 - model.discriminator(decoded).sigmoid()).log().mean(), model), (1.0, 0.5)
    wanted = torch.cosine_similarity(sup, weights[0] * pseudo + weights[1] * own, dim=0).item()
    assert found["delta_FR"] == pytest.approx(wanted, abs=1e-4)
    if name == "dec":
        assert (found["delta_FD"], found["gradient_ratio"]) == (None, None)
    else:
        assert found["delta_FD"] == pytest.approx(torch.cosine_similarity(pseudo, own, dim=0).item(), abs=1e-4)
        assert found["gradient_ratio"] == pytest.approx((own.norm() / pseudo.norm()).item(), rel=1e-3)
    assert found["ACC"] == accuracy(few_digits.labels, predicted)


def test_true_labels_as_targets_leave_no_randomness(few_digits: Dataset, tmp_path: Path) -> None:
    model = new("dec", few_digits)
    predicted = model.labels(embed(model, few_digits.views).z).numpy()
    model.self_training.targets.copy_(matched_targets(few_digits.labels, predicted, 10))
    assert curve_of(model, few_digits, tmp_path)()["delta_FR"] == pytest.approx(1.0, abs=1e-6)


def test_asking_leaves_mode_gradients_and_random_numbers(few_digits: Dataset, tmp_path: Path) -> None:
    model = new("adec", few_digits).train()
    curve = curve_of(model, few_digits, tmp_path)
    random = torch.get_rng_state()
    assert curve() == curve()
    assert torch.get_rng_state().equal(random)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_labels_the_drift_alone_is_known(few_digits: Dataset, tmp_path: Path) -> None:
    unlabeled = replace(few_digits, labels=None)
    found = curve_of(new("idec", unlabeled), unlabeled, tmp_path)()
    assert (found["ACC"], found["NMI"], found["delta_FR"]) == (None, None, None)
    assert found["delta_FD"] is not None


def test_large_data_sets_are_measured_on_a_fixed_subset(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_curve, "ROWS", 40)
    model = new("idec", few_digits)
    first, second = (curve_of(model, few_digits, tmp_path) for _ in range(2))
    assert first.rows.equal(second.rows)
    assert (len(first.rows), len(first.rows.unique())) == (40, 40)
    seen: list[Batch] = []
    losses = model.gradient_losses
    monkeypatch.setattr(model, "gradient_losses", lambda batch, true: (seen.append(batch), losses(batch, true))[1])
    first()
    assert torch.cat([batch.index for batch in seen]).equal(first.rows)
    assert torch.cat([batch.views[0] for batch in seen]).equal(few_digits.views[0][first.rows])


def test_a_model_without_such_losses_has_acc_and_nmi(few_digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = methods.plain(methods.resolve("models", "kmeans", "smoke", {}))
    model = methods.new_model("kmeans", values, few_digits.info, 6)
    model.start("cluster", lambda: embed(model, few_digits.views), 0)
    found = Curve(model, few_digits)()
    assert found["ACC"] is not None
    assert found["ACC"] > 0.5
    assert found["delta_FR"] is found["delta_FD"] is None


def test_classes_are_matched_to_clusters_and_those_without_one_weigh_nothing() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 2])
    predicted = np.array([1, 1, 0, 0, 0, 1, 0])  # class 2 finds both clusters taken
    wanted = [[0, 1]] * 2 + [[1, 0]] * 2 + [[0, 0]] * 3
    assert matched_targets(labels, predicted, 2).tolist() == wanted
    assert matched_targets(None, predicted, 2).tolist() == [[0, 0]] * 7


def test_epochs_that_were_logged_without_the_curve_are_left_out() -> None:
    figures = dict.fromkeys(FIGURES, 0.5)
    lines = [{"steps": 3, "health": {}}, {"steps": 3, "health": {**figures, "delta_FD": None}}]
    start = dict.fromkeys(FIGURES, 0.75)
    found = columns(start, [*lines, {"steps": 3, "health": {**figures, "delta_FD": -0.25}}])
    assert found["steps"] == [0, 6, 9]
    assert found["delta_FD"] == [0.75, None, -0.25]
    assert (found["mean"]["delta_FD"], found["mean"]["delta_FR"]) == (-0.25, 0.5)
    assert columns(start, lines[:1])["mean"] == dict.fromkeys(FIGURES)


def test_a_curve_begins_after_the_steps_that_are_no_part_of_the_clustering() -> None:
    values = [(0.5, 3), (0.25, 6), (-0.5, 6), (-0.25, 6)]
    lines = [{"steps": 3, "health": {**dict.fromkeys(FIGURES, v), "steps_alone": float(n)}} for v, n in values]
    for seen in (lines, [{"steps": 3, "health": {}}, *lines[1:]]):
        found = columns(dict.fromkeys(FIGURES, 0.75), seen)
        assert found["steps"] == [0, 3, 6]
        assert found["delta_FD"] == [0.25, -0.5, -0.25]
        assert found["mean"]["delta_FD"] == -0.375
