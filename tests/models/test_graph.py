"""Graph adds the batch's smoothness of orthonormal labels, as the text has it or as the code has it."""

import pytest
import torch

from robust_cluster.data.base import Batch
from robust_cluster.models.autoencoder.graph import Config
from robust_cluster.nn.graph import neighbor_weights, orthonormal
from robust_cluster.stages import methods
from tests.models.conftest import Build


@pytest.mark.parametrize(
    ("mode", "bandwidth", "count_self", "ridge"), [("clean", None, False, 1e-7), ("paper", 1.97, True, 1e-7)]
)
def test_the_graph_term_is_a_double_sum_over_the_batch_divided_by_its_size(
    build: Build, batch: Batch, mode: str, bandwidth: float | None, count_self: bool, ridge: float
) -> None:
    model = build("graph", mode=mode, graph_weight=0.5, graph_delay=0)
    with torch.no_grad():
        mean = model.encode(batch.views).z
        weights = neighbor_weights(mean, 3, bandwidth=bandwidth, count_self=count_self)
        y = orthonormal(model.assign(mean), ridge)
        expected = 0.5 * (weights * torch.cdist(y, y).square()).sum() / 100
    terms = model.losses(batch, "cluster")
    assert expected > 0.01
    torch.testing.assert_close(terms["graph"].detach(), expected, rtol=1e-3, atol=1e-5)
    assert list(terms) == ["reconstruction", "prior", "entropy", "graph"]


def test_the_graph_term_waits_for_its_epochs_and_stays_on_in_a_restored_model(build: Build, batch: Batch) -> None:
    model, restored = build("graph", graph_delay=2), build("graph", graph_delay=2)
    embedding = model.encode(batch.views)
    seen = []
    for epoch in (1, 2, 3):
        seen.append("graph" in model.losses(batch, "cluster"))
        model.after_epoch("cluster", epoch, lambda: embedding, 0)
    assert seen == [False, False, True]
    restored.load_state_dict(model.state_dict())
    assert "graph" in restored.losses(batch, "cluster")


def test_mode_paper_counts_the_point_itself_at_sigma_1_97() -> None:
    paper = methods.resolve("models", "graph", "paper", {"mode": "paper"})
    assert paper.graph_delay == 0
    assert (paper.neighbors, paper.count_self, paper.bandwidth, paper.ridge) == (3, True, 1.97, 1e-7)
    clean = Config()
    assert (clean.neighbors, clean.count_self, clean.bandwidth, clean.ridge) == (3, False, None, 1e-7)


def test_labels_come_from_the_plain_softmax(build: Build, batch: Batch) -> None:
    model, plain = build("graph"), build("convae")
    z = model.encode(batch.views).z
    assert model.assign(z).equal(plain.assign(z))


def test_pretraining_knows_no_graph(build: Build, batch: Batch) -> None:
    assert "graph" not in build("graph").losses(batch, "pretrain")
