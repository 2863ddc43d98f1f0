"""CoMVC adds the contrastive term with an adaptive, constant weight to SiMVC."""

import pytest
import torch

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.models.multiview.comvc import CoMVC, Config
from robust_cluster.nn.contrastive import contrastive


@pytest.fixture
def comvc(pair: Dataset) -> CoMVC:
    torch.manual_seed(0)
    model = CoMVC(Config(), pair.info, 8)
    with torch.no_grad():
        model.fusion.w.copy_(torch.tensor([0.0, 1.0]))
    return model


def test_the_contrastive_term_is_weighted_by_the_smaller_fusion_weight(comvc: CoMVC, rows: Batch) -> None:
    outputs = comvc(rows.views)
    terms = comvc.losses(rows, "cluster", outputs)
    assert list(terms) == ["ddc_1", "ddc_2", "ddc_3", "contrastive"]
    left, right = outputs.embedding.per_view
    expected = 0.1 * 1 / (1 + torch.e) * contrastive(left, right, 0.1)
    torch.testing.assert_close(terms["contrastive"], expected)


def test_no_gradient_of_the_contrastive_term_reaches_the_fusion_weights(comvc: CoMVC, rows: Batch) -> None:
    assert not comvc.kappa().requires_grad
    comvc.losses(rows, "cluster")["contrastive"].backward()
    assert comvc.fusion.w.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in comvc.encoders.parameters() if p.ndim > 1)


def test_three_views_are_compared_pair_by_pair(pair: Dataset) -> None:
    info = type(pair.info)("toy", ((1, 16, 16),) * 3, 100, 3, None, 1.0, "")
    model = CoMVC(Config(contrast_weight=1.0, temperature=0.5), info, 8)
    views = (*(view[:10] for view in pair.views), pair.views[0][10:20])
    outputs = model(views)
    a, b, c = outputs.embedding.per_view
    pairs = contrastive(a, b, 0.5) + contrastive(a, c, 0.5) + contrastive(b, c, 0.5)
    terms = model.losses(Batch(views, torch.arange(10)), "cluster", outputs)
    torch.testing.assert_close(terms["contrastive"], pairs / 3 / 3)  # kappa = 1/3, mean of three pairs
