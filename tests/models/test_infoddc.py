"""InfoDDC works on softmaxed features and sums the information of pairs of views, with itself in mode paper."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.models.multiview.infoddc import Config, InfoDDC
from robust_cluster.nn.ddc import ddc_terms
from robust_cluster.nn.information import invariant_information
from robust_cluster.stages import methods


def test_representations_are_softmaxed_features_and_the_head_sees_their_mean(pair: Dataset, rows: Batch) -> None:
    torch.manual_seed(0)
    model = InfoDDC(Config(), pair.info, 8).eval()
    embedding = model.encode(rows.views)
    for z, encoder, view in zip(embedding.per_view, model.encoders, rows.views, strict=True):
        torch.testing.assert_close(z, encoder(view).softmax(dim=1))
    mean = (embedding.per_view[0] + embedding.per_view[1]) / 2
    torch.testing.assert_close(embedding.z, model.head.hidden(mean))


def test_the_loss_is_ddc_and_a_tenth_of_the_information(pair: Dataset, rows: Batch) -> None:
    model = InfoDDC(Config(), pair.info, 8)
    outputs = model(rows.views)
    expected = ddc_terms(outputs.embedding.z, outputs.soft_labels)
    left, right = outputs.embedding.per_view
    expected["information"] = 0.1 * invariant_information(left, right, 9.0)
    torch.testing.assert_close(model.losses(rows, "cluster", outputs), expected)


@pytest.mark.parametrize(
    ("mode", "n_views", "pairs"),
    [
        ("clean", 2, [(0, 1)]),
        ("paper", 2, [(0, 0), (0, 1)]),
        ("clean", 3, [(0, 1), (0, 2), (1, 2)]),
        ("paper", 3, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]),
    ],
)
def test_mode_paper_also_pairs_all_views_but_the_last_with_themselves(
    mode: str, n_views: int, pairs: list[tuple[int, int]]
) -> None:
    config: Any = methods.resolve("models", "infoddc", "paper", {"mode": mode})
    model = InfoDDC(config, DataInfo("toy", ((1, 16, 16),) * n_views, 100, 3, None, 1.0, ""), 8)
    views: tuple[Tensor, ...] = tuple((3 * torch.randn(9, 6)).softmax(dim=1) for _ in range(n_views))
    expected = sum(invariant_information(views[u], views[v]).item() for u, v in pairs)
    assert model.information(views).item() == pytest.approx(expected, rel=1e-5)
    assert config.max_norm == (10.0 if mode == "clean" else None)


def test_pretraining_is_a_switch_descends_the_information_and_hands_on_the_encoders(pair: Dataset, rows: Batch) -> None:
    assert not InfoDDC.has_pretraining(Config())
    assert InfoDDC.has_pretraining(Config(pretrain_first=True))
    torch.manual_seed(0)
    model = InfoDDC(Config(), pair.info, 8)
    before = copy.deepcopy(model.state_dict())
    left, right = model.represent(rows.views)
    expected = invariant_information(left, right).item()
    model.load_state_dict(before)
    terms = model.step(rows, "pretrain", model.optimizers("pretrain"))
    assert terms == {"information": pytest.approx(expected)}
    changed = {name.partition(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"encoders"}
    assert model.pretrained() is model.encoders
