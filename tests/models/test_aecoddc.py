"""AECoDDC adds decoders on the views' representations, and pretrains them with the encoders."""

import copy
from typing import Any

import pytest
import torch

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.models.multiview.aecoddc import AECoDDC, Config
from robust_cluster.nn.contrastive import contrastive
from robust_cluster.nn.ddc import ddc_terms
from robust_cluster.stages import methods


@pytest.fixture
def aecoddc(pair: Dataset) -> AECoDDC:
    torch.manual_seed(0)
    return AECoDDC(Config(recon_weight=2.0), pair.info, 8)


def test_the_loss_is_ddc_contrast_without_kappa_and_mean_squared_errors(aecoddc: AECoDDC, rows: Batch) -> None:
    outputs = aecoddc(rows.views)
    with torch.no_grad():
        aecoddc.fusion.w.copy_(torch.tensor([0.0, 9.0]))  # a kappa would now be next to 0
    terms = aecoddc.losses(rows, "cluster", outputs)
    errors = [
        (decoded - view).square().sum() / (40 * 256) for decoded, view in zip(outputs.decoded, rows.views, strict=True)
    ]
    expected = ddc_terms(outputs.embedding.z, outputs.soft_labels) | {
        "contrastive": 0.1 * contrastive(*outputs.embedding.per_view),
        "reconstruction": 2.0 * (errors[0] + errors[1]),
    }
    assert list(terms) == list(expected)
    torch.testing.assert_close(terms, expected)


def test_each_view_is_decoded_from_its_own_representation(aecoddc: AECoDDC, rows: Batch) -> None:
    aecoddc.eval()
    first, second = aecoddc.represent(rows.views)
    before = aecoddc.reconstruct((first, second))
    after = aecoddc.reconstruct((first, torch.zeros_like(second)))
    assert [tuple(view.shape) for view in before] == [(40, 1, 16, 16)] * 2
    assert after[0].equal(before[0])
    assert not after[1].equal(before[1])


def test_pretraining_descends_the_terms_of_the_views_and_leaves_fusion_and_head(aecoddc: AECoDDC, rows: Batch) -> None:
    before = copy.deepcopy(aecoddc.state_dict())
    clustering = aecoddc.losses(rows, "cluster")
    aecoddc.load_state_dict(before)  # the batch norms' statistics too
    terms = aecoddc.losses(rows, "pretrain")
    assert list(terms) == ["contrastive", "reconstruction"]
    torch.testing.assert_close(terms, {name: clustering[name] for name in terms})
    aecoddc.load_state_dict(before)
    aecoddc.step(rows, "pretrain", aecoddc.optimizers("pretrain"))
    changed = {name.partition(".")[0] for name, value in aecoddc.state_dict().items() if not value.equal(before[name])}
    assert changed == {"encoders", "decoders"}


def test_pretraining_hands_on_encoders_and_decoders(aecoddc: AECoDDC, pair: Dataset, rows: Batch) -> None:
    aecoddc.step(rows, "pretrain", aecoddc.optimizers("pretrain"))
    torch.manual_seed(9)
    fresh = AECoDDC(Config(), pair.info, 8)
    head = copy.deepcopy(fresh.head.state_dict())
    fresh.pretrained().load_state_dict(aecoddc.pretrained().state_dict())
    for part in ("encoders", "decoders"):
        states = [getattr(model, part).state_dict() for model in (aecoddc, fresh)]
        assert all(value.equal(states[1][name]) for name, value in states[0].items())
    assert all(value.equal(head[name]) for name, value in fresh.head.state_dict().items())
    assert (AECoDDC.has_pretraining(Config()), AECoDDC.pretrained_by) == (True, "aecoddc")


def test_the_gradient_is_cut_while_clustering_and_not_while_pretraining(
    aecoddc: AECoDDC, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[Any] = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, norm: norms.append(norm))
    aecoddc.step(rows, "pretrain", aecoddc.optimizers("pretrain"))
    assert norms == []
    aecoddc.step(rows, "cluster", aecoddc.optimizers("cluster"))
    assert norms == [10.0]


def test_both_phases_take_20_epochs_of_100_samples() -> None:
    config: Any = methods.resolve("models", "aecoddc", "paper", {"mode": "paper"})
    for schedule in (config.pretrain, config.cluster):
        assert (schedule.epochs, schedule.batch_size, schedule.lr) == (20, 100, 1e-3)
    assert config.max_norm is None
    smoke: Any = methods.resolve("models", "aecoddc", "smoke", {})
    assert (smoke.pretrain.epochs, smoke.cluster.epochs) == (1, 1)


def test_h_is_not_decoded(aecoddc: AECoDDC) -> None:
    with pytest.raises(ConfigError, match="AECoDDC has no decoder"):
        aecoddc.decode(torch.zeros(1, 100))
