"""SiMVC is encoders, a weighted mean and the DDC head under the DDC loss, for two views and for three."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.errors import ConfigError, ShapeError
from robust_cluster.models.multiview.simvc import Config, SiMVC
from robust_cluster.nn.ddc import ddc_terms
from robust_cluster.stages import methods


def info(*shapes: tuple[int, ...], n_samples: int = 100, n_clusters: int = 3) -> DataInfo:
    return DataInfo("toy", shapes, n_samples, n_clusters, (0.0, 1.0), 1.0, "")


@pytest.fixture
def simvc(pair: Dataset) -> SiMVC:
    torch.manual_seed(0)
    return SiMVC(Config(), pair.info, 8)


@pytest.mark.parametrize(
    ("name", "two_views", "three_views"),
    [
        ("simvc", 327_072, 438_046),
        ("comvc", 327_072, 438_046),
        ("infoddc", 327_072, 438_046),
        ("aecoddc", 550_050, 772_513),
    ],
)
def test_the_networks_have_the_published_number_of_parameters(name: str, two_views: int, three_views: int) -> None:
    for shapes, n_clusters, expected in [(((1, 28, 28),) * 2, 10, two_views), (((1, 28, 28),) * 3, 3, three_views)]:
        model = methods.new_model(name, {}, info(*shapes, n_clusters=n_clusters), 64)
        assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_the_embedding_is_h_of_the_fused_views_and_the_soft_labels_are_the_heads(simvc: SiMVC, rows: Batch) -> None:
    simvc.eval()
    embedding = simvc.encode(rows.views)
    by_hand = [encoder(view) for encoder, view in zip(simvc.encoders, rows.views, strict=True)]
    assert all(z.equal(expected) for z, expected in zip(embedding.per_view, by_hand, strict=True))
    h = simvc.head.hidden(0.5 * by_hand[0] + 0.5 * by_hand[1])
    torch.testing.assert_close(embedding.z, h)
    assert h.shape == (40, 100)  # whatever latent_dim is
    torch.testing.assert_close(simvc.assign(embedding.z), simvc.head.last(h).softmax(dim=1))


def test_the_loss_is_that_of_ddc_and_nothing_else(simvc: SiMVC, rows: Batch) -> None:
    outputs = simvc(rows.views)
    expected = ddc_terms(outputs.embedding.z, outputs.soft_labels)
    assert simvc.losses(rows, "cluster", outputs) == expected
    again = simvc.losses(rows, "cluster")
    assert list(again) == ["ddc_1", "ddc_2", "ddc_3"]
    torch.testing.assert_close(again, expected)


@pytest.mark.parametrize("name", ["simvc", "comvc", "infoddc", "aecoddc"])
def test_three_views_train_and_each_of_them_receives_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = methods.new_model(name, {}, info(*((1, 16, 17),) * 3), 8)
    views = tuple(torch.rand(12, 1, 16, 17).requires_grad_() for _ in range(3))
    batch = Batch(views, torch.arange(12))
    torch.stack(list(model.losses(batch, "cluster").values())).sum().backward()
    for view in views:
        assert view.grad is not None
        assert view.grad.isfinite().all()
        assert view.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim > 1)


def test_the_gradient_is_cut_to_the_norm_of_the_mode_while_clustering(
    simvc: SiMVC, rows: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[Any] = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, norm: norms.append(norm))
    modes: list[Any] = [methods.resolve("models", "simvc", "paper", {"mode": mode}) for mode in ("clean", "paper")]
    assert [config.max_norm for config in modes] == [10.0, None]
    for config in modes:
        simvc.config = config
        simvc.step(rows, "cluster", simvc.optimizers("cluster"))
    assert norms == [10.0]


def test_the_published_schedule_is_20_epochs_of_100_samples_at_1e_3() -> None:
    schedule = Config().cluster
    assert (schedule.epochs, schedule.batch_size, schedule.lr, schedule.window) == (20, 100, 1e-3, 0)
    cpu = methods.resolve("models", "simvc", "cpu", {}).cluster
    assert (cpu.epochs, cpu.batch_size) == (15, 100)


def test_health_tells_how_much_each_view_counts(simvc: SiMVC, rows: Batch) -> None:
    assert simvc.health(simvc.encode(rows.views)) == {"view_weight_1": 0.5, "view_weight_2": 0.5}


@pytest.mark.parametrize("name", ["simvc", "comvc", "infoddc", "aecoddc"])
def test_data_that_are_not_two_images_of_one_size_are_refused_in_a_sentence(name: str) -> None:
    for shapes, sentence in [
        (((1, 28, 28),), "a multi-view method needs at least 2 views, toy has 1"),
        (((1, 28, 28), (1, 16, 16)), r"must be images of one size, toy has \(1, 28, 28\), \(1, 16, 16\)"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            methods.new_model(name, {}, info(*shapes), 8)
    with pytest.raises(ShapeError, match=r"of at least 16 x 16 pixels, got \(784,\)"):
        methods.new_model(name, {}, info((784,), (784,)), 8)


def test_views_of_other_channels_are_fused() -> None:
    model = methods.new_model("simvc", {}, info((3, 16, 16), (1, 16, 16)), 8).eval()
    assert model.encode((torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16))).z.shape == (2, 100)


def test_batches_of_fewer_samples_than_clusters_are_refused_before_training() -> None:
    embed = cast(Callable[[], Any], None)
    few = SiMVC(Config(), info((1, 16, 16), (1, 16, 16), n_samples=45, n_clusters=10), 8)
    with pytest.raises(
        ConfigError, match="at least n_clusters = 10 samples, got 9, the smaller of batch_size = 100 and"
    ):
        few.start("cluster", embed, 0)
    enough = SiMVC(Config(), info((1, 16, 16), (1, 16, 16), n_samples=50, n_clusters=10), 8)
    enough.start("cluster", embed, 0)
    few.start("pretrain", embed, 0)


def test_there_is_no_pretraining_and_no_decoder(simvc: SiMVC) -> None:
    assert not SiMVC.has_pretraining(Config())
    with pytest.raises(ConfigError, match="SiMVC has no decoder"):
        simvc.decode(torch.zeros(1, 100))


def test_relative_sigma_reaches_the_kernel(simvc: SiMVC, rows: Batch) -> None:
    outputs = simvc(rows.views)
    narrow = simvc.losses(rows, "cluster", outputs)
    simvc.config = Config(relative_sigma=1.5)
    wide: dict[str, Tensor] = simvc.losses(rows, "cluster", outputs)
    assert wide["ddc_1"] > narrow["ddc_1"]
    assert wide["ddc_2"] == narrow["ddc_2"]
