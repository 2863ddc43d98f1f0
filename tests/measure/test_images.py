"""The images that finished attacks mislead, against the records of those attacks and against the whole scoring."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robust_cluster.attacks.pgd import PGD
from robust_cluster.attacks.view_gan import ViewGan
from robust_cluster.data.base import Batch, Dataset, Folders, Views
from robust_cluster.data.prepare import load
from robust_cluster.errors import CheckpointError, ConfigError, DataError, ShapeError
from robust_cluster.measure import pgd, rows, scores
from robust_cluster.measure.images import Judge, Sheet
from robust_cluster.measure.rows import Outcome, Rows
from robust_cluster.metrics.accuracy import match
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import auditing, bench, chain
from robust_cluster.stages.chain import Request
from robust_cluster.stages.context import Context
from robust_cluster.stages.finished import sheet, trial

MODEL = {"model.cluster.epochs": 6, "model.cluster.lr": 0.003}
GAN = {"attack.schedule.epochs": 6, "attack.schedule.lr": 0.003, "attack.eps": 0.6, "attack.train_share": 0.5}
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "eval": ("view_gan", GAN),
    "batch": ("view_gan", {**GAN, "attack.bn": "batch"}),
    "pgd": ("pgd", {"attack.norm": "linf", "attack.eps": 0.2, "attack.steps": 2}),
}
ALL = 1000  # more columns than there are samples


@dataclass
class Finished:
    """Finished attacks on one model. `moves`: what PGD proposed when it was scored, in the order of its calls."""

    dataset: Dataset
    context: Context
    specs: dict[str, RunSpec]
    records: dict[str, dict[str, Any]]
    moves: list[Views]
    sheets: dict[str, Sheet] = field(default_factory=dict)

    def sheet(self, name: str) -> Sheet:
        """All that the attack misleads, made once."""
        if name not in self.sheets:
            self.sheets[name] = sheet(self.specs[name], self.context, ALL)
        return self.sheets[name]

    def scorer(self, name: str, bn: Any = None) -> Rows:
        """The rows that the run scored, as it did or with another batch norm."""
        again = trial(self.specs[name], self.context)
        surface = replace(again.surface, bn=bn or again.surface.bn)
        return bench.scored(replace(again, surface=surface), again.held)

    def outcome(self, name: str, scorer: Rows) -> Outcome:
        attacker = self.context.part(2).trained_attack(self.specs[name], scorer.surface)
        return scorer.outcome(scorer.moved(attacker))


def write_bars(path: Path) -> None:
    """180 noisy images of 16 x 16 pixels: a bar to the left, across or to the right, a little displaced."""
    random = np.random.default_rng(0)
    y = np.arange(180) % 3
    bars = np.zeros((3, 16, 16))
    bars[0, :, :5] = bars[1, 5:11] = bars[2, :, 11:] = 1
    moved = [np.roll(bars[k], shift, axis=(0, 1)) for k, shift in zip(y, random.integers(-2, 3, 180), strict=True)]
    np.savez(path, x=(0.6 * np.stack(moved) + 0.4 * random.random((180, 16, 16))).astype(np.float32), y=y)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("sheet")
    write_bars(folder / "bars.npz")
    dataset = load(DataRef("noisy:bars"), Folders(folder))
    context = Context(RunStore(folder / "runs"), dataset, "smoke", device="cpu")
    moves: list[Views] = []
    perturb = PGD.perturb

    def kept(attack: PGD, surface: Any, batch: Batch) -> Views:
        moves.append(perturb(attack, surface, batch))
        return moves[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "JOINT", 16)
        patch.setattr(rows, "BATCH", 16)  # several batches, the last of them smaller
        patch.setattr(pgd, "ROWS", 8)
        patch.setattr(pgd, "pgd", lambda *_: {"pgd_flip": 0.0})  # seconds, and of no use here
        patch.setattr(auditing, "findings", lambda *_: [])
        patch.setattr(scores, "chance_accuracy", lambda *_: 0.3)
        patch.setattr(PGD, "perturb", kept)
        specs, records = {}, {}
        for name, (attack, settings) in ATTACKS.items():
            request = Request("attack", dataset.ref, "simvc", attack=attack, profile="smoke", precision="highest")
            plan = chain.plan(replace(request, overrides={**MODEL, **settings}), dataset.info)
            specs[name], records[name] = plan[-1], chain.execute(plan, context)[-1]
        patch.setattr(PGD, "perturb", perturb)
        yield Finished(dataset, context, specs, records, moves)


def test_the_attacks_of_these_tests_mislead_some_samples_and_not_all(finished: Finished) -> None:
    for name in ("eval", "batch"):
        assert 0.05 < finished.records[name]["metrics"]["ACC*_clean_map"] < 0.95, name
    assert finished.records["pgd"]["metrics"]["ACC*_clean_map"] < 0.5


@pytest.mark.parametrize("name", ATTACKS)
def test_the_counts_are_those_of_the_record(finished: Finished, name: str) -> None:
    metrics, found = finished.records[name]["metrics"], finished.sheet(name)
    assert found.n_scored == metrics["samples"]
    assert found.flip == metrics["flip"]
    assert 1 - found.n_misled / found.n_scored == pytest.approx(metrics["ACC*_clean_map"], abs=1e-12)
    assert len(found.rows) == found.n_misled
    assert found.n_before <= round((1 - metrics["ACC"]) * found.n_scored)
    assert (found.eps, found.spec) == (metrics["eps"], finished.specs[name])


@pytest.mark.parametrize("name", ATTACKS)
def test_the_columns_are_the_first_that_the_whole_scoring_finds_wrong(finished: Finished, name: str) -> None:
    scorer = finished.scorer(name)
    outcome = finished.outcome(name, scorer)
    assert scorer.truth is not None
    classes = match(scorer.truth, scorer.clean.labels, n_clusters=3)[outcome.labels]
    wrong = sorted(
        (int(row), int(own), int(found))
        for row, own, found in zip(scorer.index, scorer.truth, classes, strict=True)
        if own != found
    )
    assert len(wrong) >= 3
    assert columns(finished.sheet(name)) == wrong


def columns(found: Sheet) -> list[tuple[int, int, int]]:
    """Row, true class and class under the attack of every column."""
    return list(zip(found.rows.tolist(), found.own.tolist(), found.found.tolist(), strict=True))


def test_fewer_columns_are_the_first_of_all(finished: Finished) -> None:
    whole = finished.sheet("batch")
    found = sheet(finished.specs["batch"], finished.context, 3)
    assert columns(found) == columns(whole)[:3]
    assert found.n_misled == whole.n_misled > 3
    for few, all_ in zip((*found.clean, *found.moved), (*whole.clean, *whole.moved), strict=True):
        assert np.array_equal(few, all_[:3])


@pytest.mark.parametrize("name", ATTACKS)
def test_the_images_are_rows_of_the_scored_data_and_stay_within_the_budget(finished: Finished, name: str) -> None:
    found = finished.sheet(name)
    held = bench.parts(finished.specs[name], finished.context.part(2))[1]
    assert held.labels is not None
    assert np.array_equal(found.own, held.labels[found.rows])
    for view, clean, delta, moved in zip(held.views, found.clean, found.delta, found.moved, strict=True):
        assert np.array_equal(clean, view[torch.from_numpy(found.rows)].numpy())
        assert clean.shape == (len(found.rows), 1, 16, 16)
        assert np.array_equal(delta, moved - clean)
        assert np.abs(delta).max() <= found.eps + 1e-6
        assert np.abs(delta).max() > found.eps / 4
        assert moved.min() >= 0
        assert moved.max() <= 1


def test_an_attack_that_oversteps_its_budget_is_cut_as_in_the_run(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ViewGan, "perturb", lambda attack, surface, batch: tuple(view + 0.9 for view in batch.views))
    found = sheet(finished.specs["eval"], finished.context, ALL)
    for clean, moved in zip(found.clean, found.moved, strict=True):
        np.testing.assert_allclose(moved, (clean + GAN["attack.eps"]).clip(0, 1), atol=1e-6)


def test_a_learned_perturbation_is_what_the_saved_generators_make(finished: Finished) -> None:
    found = finished.sheet("eval")
    surface = finished.scorer("eval").surface
    attacker: Any = finished.context.trained_attack(finished.specs["eval"], surface)
    for generator, clean, moved in zip(attacker.generators, found.clean, found.moved, strict=True):
        with torch.no_grad():
            delta = GAN["attack.eps"] * torch.tanh(generator(torch.from_numpy(clean))).numpy()
        np.testing.assert_allclose(moved, (clean + delta).clip(0, 1), atol=1e-5)


def test_pgd_draws_the_starts_that_it_drew_when_it_was_scored(finished: Finished) -> None:
    found, batches = finished.sheet("pgd"), len(finished.scorer("pgd").parts)
    for moved, proposed in zip(found.moved, map(torch.cat, zip(*finished.moves[:batches], strict=True)), strict=True):
        np.testing.assert_allclose(moved, proposed[torch.from_numpy(found.rows)].numpy(), atol=1e-6)


def test_labels_are_taken_in_the_batch_norm_of_the_run(finished: Finished) -> None:
    """With the other mode the attacker of the "batch" run flips another share of the samples."""
    other = finished.scorer("batch", bn="eval")
    moved = finished.outcome("batch", other)
    recorded = finished.records["batch"]["metrics"]["flip"]
    assert flip_rate(other.clean.labels, moved.labels) != recorded
    assert finished.sheet("batch").flip == recorded


def test_samples_that_are_wrong_without_the_attack_are_counted(finished: Finished) -> None:
    labels = np.asarray(finished.dataset.labels).copy()
    labels[::4] = (labels[::4] + 1) % 3
    context = replace(finished.context, dataset=replace(finished.dataset, labels=labels))
    found = sheet(finished.specs["batch"], context, ALL)
    scorer = finished.scorer("batch")
    assert scorer.truth is not None
    clean = dict(zip(scorer.index.tolist(), scorer.truth.tolist(), strict=True))
    assert finished.records["batch"]["metrics"]["ACC"] == 1, "so that the true class is the clean prediction"
    wrong = [clean[row] != own for row, own in zip(found.rows.tolist(), found.own.tolist(), strict=True)]
    assert found.n_before == sum(wrong) > 0
    assert len(wrong) > sum(wrong)


def test_without_labels_the_columns_are_the_samples_that_change_cluster(finished: Finished) -> None:
    scorer = finished.scorer("eval")
    outcome = finished.outcome("eval", scorer)
    context = replace(finished.context, dataset=replace(finished.dataset, labels=None))
    found = sheet(finished.specs["eval"], context, ALL)
    before = dict(zip(scorer.index.tolist(), scorer.clean.labels.tolist(), strict=True))
    after = dict(zip(scorer.index.tolist(), outcome.labels.tolist(), strict=True))
    assert found.rows.tolist() == [row for row in sorted(before) if before[row] != after[row]]
    assert found.own.tolist() == [before[row] for row in found.rows]
    assert found.found.tolist() == [after[row] for row in found.rows]
    assert (found.has_classes, found.n_before) == (False, 0)
    assert found.n_misled == round(found.flip * found.n_scored) > 0


def test_a_cluster_without_a_class_is_never_right() -> None:
    truth, clusters = np.array([0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 0])
    scorer: Any = SimpleNamespace(truth=truth, clean=SimpleNamespace(labels=clusters), n_clusters=3)
    judge = Judge(scorer)
    assert judge.mapping.tolist() == [1, 0, -1]
    assert judge.before.tolist() == [0, 0, 1, 1, 1]
    assert judge.own.tolist() == truth.tolist()
    unlabeled: Any = SimpleNamespace(truth=None, clean=SimpleNamespace(labels=clusters), n_clusters=3)
    assert Judge(unlabeled).before.tolist() == Judge(unlabeled).own.tolist() == clusters.tolist()


def test_when_no_sample_is_misled_the_sheet_is_empty(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "__init__", lambda self, scorer: vars(self).update(vars(right(scorer))))
    found = sheet(finished.specs["eval"], finished.context, ALL)
    assert [view.shape for view in found.moved] == [(0, 1, 16, 16)] * 2
    assert (found.n_misled, len(found.rows)) == (0, 0)


def right(scorer: Rows) -> Any:
    """A judge for whom every sample is of class 0, and every cluster too."""
    own = np.zeros(len(scorer.index), np.int64)
    return SimpleNamespace(has_classes=True, own=own, before=own, mapping=np.zeros(3, np.int64))


def test_other_data_are_refused(finished: Finished) -> None:
    info = replace(finished.dataset.info, sha256="ab" * 32)
    context = replace(finished.context, dataset=replace(finished.dataset, info=info))
    with pytest.raises(DataError, match="noisy:bars is not the data that the run had: their SHA-256 begins abababab"):
        sheet(finished.specs["eval"], context, 1)


@pytest.mark.parametrize("shape", [(250,), (2, 16, 16)])
def test_what_is_no_image_is_refused(finished: Finished, shape: tuple[int, ...]) -> None:
    info = replace(finished.dataset.info, shapes=((1, 16, 16), shape))
    context = replace(finished.context, dataset=replace(finished.dataset, info=info))
    with pytest.raises(
        ShapeError, match=r"only be drawn of .* with 1 or 3 channels, or of vectors of a square length, noisy:bars has"
    ):
        sheet(finished.specs["eval"], context, 1)


def test_an_attack_on_embeddings_is_refused(finished: Finished) -> None:
    with pytest.raises(ConfigError, match="only be drawn of attacks on the views, latent_net moves embeddings"):
        sheet(replace(finished.specs["eval"], attack="latent_net"), finished.context, 1)


def test_a_model_that_was_trained_anew_since_is_refused(finished: Finished) -> None:
    spec, store = finished.specs["pgd"], finished.context.store
    assert spec.parent is not None
    path = store.path(spec.parent) / "result.json"
    content = path.read_text()
    path.write_text(content.replace(str(finished.records["pgd"]["parent_checkpoint"]), "cd" * 32))
    try:
        with pytest.raises(CheckpointError, match="was made from another checkpoint of its parent"):
            sheet(spec, finished.context, 1)
    finally:
        path.write_text(content)


def test_flattened_images_become_images_again_in_the_unit_of_their_pixels(digits: Dataset, tmp_path: Path) -> None:
    context = Context(RunStore(tmp_path), digits, "smoke", device="cpu", threads=1)
    overrides = {"attack.norm": "linf", "attack.eps": 0.2, "attack.steps": 2, "attack.rows": 40}
    request = Request("attack", digits.ref, "kmeans", attack="pgd", profile="smoke", overrides=overrides)
    specs = chain.plan(request, digits.info)
    chain.execute(specs, context)
    found = sheet(specs[-1], context, 3)
    assert found.eps == pytest.approx(0.2)
    assert found.clean[0].shape[1:] == (1, 8, 8)
    assert np.abs(found.delta[0]).max() == pytest.approx(0.2, abs=1e-5)
    assert 0.9 < found.clean[0].max() <= 1 + 1e-6
