"""Scored rows: in which batches they are, what a move does to them, and in which order it is told."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.view_gan import Config, ViewGan
from robust_cluster.data.base import Dataset
from robust_cluster.measure import rows as module
from robust_cluster.measure.rows import Outcome, Rows, worst
from robust_cluster.measure.scores import portions, spaced
from robust_cluster.measure.views import share
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.models.base import ClusterModel
from robust_cluster.nn.layers import BatchNormMode, flat
from robust_cluster.stages import methods


@pytest.fixture(scope="module")
def victim(pair: Dataset) -> ClusterModel:
    """SiMVC with statistics of some of the pair's samples; its labels are those of an untrained head."""
    torch.manual_seed(0)
    model = methods.new_model("simvc", {}, pair.info, 6)
    model.train().encode(tuple(view[:50] for view in pair.views))
    return model.eval().requires_grad_(False)


def rows_of(victim: ClusterModel, pair: Dataset, bn: BatchNormMode = "eval", most: int = 200) -> Rows:
    return Rows(Surface(victim, "input", bn=bn), pair, spaced(200, most))


def test_clean_labels_and_scores_are_the_models_own(victim: ClusterModel, pair: Dataset) -> None:
    rows = rows_of(victim, pair)
    with torch.no_grad():
        labels = victim.labels(victim.encode(pair.views).z).numpy()  # type: ignore[arg-type]
    assert np.array_equal(rows.clean.labels, labels)
    assert pair.labels is not None
    assert rows.clean_scores()["ACC"] == accuracy(pair.labels, labels)
    assert np.array_equal(rows_of(victim, pair, most=50).clean.labels, labels[spaced(200, 50)])


def test_batch_statistics_are_those_of_the_scored_batch_and_leave_no_trace(
    victim: ClusterModel, pair: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOINT", 40)
    before = {name: value.clone() for name, value in victim.state_dict().items()}
    rows = rows_of(victim, pair, "batch")
    twin = copy.deepcopy(victim).train()
    assert [len(part) for part in rows.parts] == [40] * 5
    for number, places in enumerate(rows.places):
        with torch.no_grad():
            z = twin.encode(rows.point(number)).z
        torch.testing.assert_close(rows.clean.z[places], z)
    assert (rows.clean.z - rows_of(victim, pair).clean.z).abs().max() > 0.01
    assert all(torch.equal(value, before[name]) for name, value in victim.state_dict().items())
    assert not any(module.training for module in victim.modules())


def test_joint_batches_are_mixed_by_the_data_set_alone_and_outcomes_are_in_the_rows_order(
    victim: ClusterModel, pair: Dataset
) -> None:
    rows, again = rows_of(victim, pair, "batch", most=150), rows_of(victim, pair, "batch", most=150)
    order = torch.cat(rows.parts)
    assert torch.equal(order, torch.cat(again.parts))
    assert order.tolist() != sorted(order.tolist()) == rows.index.tolist()
    other = Rows(rows.surface, replace(pair, ref=replace(pair.ref, name="other")), rows.index)
    assert not torch.equal(order, torch.cat(other.parts))
    halved = rows.outcome(lambda number: tuple(view / 2 for view in rows.point(number)))
    every = flat(tuple(view[rows.index] for view in pair.views))
    torch.testing.assert_close(halved.norm, every.norm(dim=1) / 2)


def test_the_share_of_consistency_is_that_of_the_consensus_in_the_whole_shift(
    victim: ClusterModel, pair: Dataset
) -> None:
    rows = rows_of(victim, pair)
    darker = rows.outcome(lambda number: tuple(view / 2 for view in rows.point(number)))
    with torch.no_grad():
        clean, moved = (victim.encode(tuple(factor * view for view in pair.views)) for factor in (1.0, 0.5))
    com = sum(float((a - b).square().sum()) for a, b in zip(clean.per_view, moved.per_view, strict=True))
    con = float((victim.consensus(clean) - victim.consensus(moved)).square().sum())
    assert share(darker) == pytest.approx(con / (com + con), rel=1e-4)
    assert 0 < share(darker) < 1  # type: ignore[operator]
    assert share(rows.clean) is None


def test_moves_are_clipped_to_the_budget_and_measured(victim: ClusterModel, pair: Dataset) -> None:
    rows = rows_of(victim, pair)
    attack = ViewGan(Config(eps=0.1), rows.surface)
    attack.perturb = lambda surface, batch: tuple(torch.ones_like(view) for view in batch.views)  # type: ignore[method-assign]
    outcome = rows.outcome(rows.moved(attack))
    clean = flat(pair.views)  # type: ignore[arg-type]
    torch.testing.assert_close(outcome.norm, ((clean + 0.1).clamp(0, 1) - clean).norm(dim=1))
    assert (outcome.shift > 0).all()
    assert (rows.clean.shift == 0).all()
    assert (rows.clean.gain <= 0).all()
    assert ((outcome.gain > 0).numpy() == (outcome.labels != rows.clean.labels)).all()
    assert rows.attacked_scores(outcome)["flip"] == np.mean(outcome.labels != rows.clean.labels)


def made(rows: Rows, flips: list[int]) -> Outcome:
    """An outcome that changes the cluster of these rows, whose norm is the first of them."""
    labels = rows.clean.labels.copy()
    labels[flips] = (labels[flips] + 1) % rows.n_clusters
    return replace(rows.clean, labels=labels, norm=torch.full((len(rows),), float(flips[0])))


def test_a_worst_case_takes_of_each_row_the_first_outcome_that_changes_its_cluster(
    victim: ClusterModel, pair: Dataset
) -> None:
    rows = rows_of(victim, pair, most=5)
    found, chosen = worst([made(rows, [1]), made(rows, [1, 2]), made(rows, [3])], rows)
    assert chosen.tolist() == [0, 0, 1, 2, 0]
    assert np.flatnonzero(found.labels != rows.clean.labels).tolist() == [1, 2, 3]
    assert found.norm.tolist() == [1, 1, 1, 3, 1]


def test_a_worst_case_of_a_joint_batch_is_one_whole_outcome(victim: ClusterModel, pair: Dataset) -> None:
    rows = rows_of(victim, pair, "batch", most=5)
    found, chosen = worst([made(rows, [1]), made(rows, [4, 2]), made(rows, [3])], rows)
    assert chosen.tolist() == [1] * 5
    assert np.flatnonzero(found.labels != rows.clean.labels).tolist() == [2, 4]
    assert found.norm.tolist() == [4] * 5


def test_rows_are_evenly_spaced_and_none_is_alone() -> None:
    assert spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert spaced(3, 1000).tolist() == [0, 1, 2]
    assert [len(part) for part in portions(torch.arange(7), 3)] == [3, 4]
    assert [len(part) for part in portions(torch.arange(8), 3)] == [3, 3, 2]
