"""SEM's weights between views, its losses and rounds, and k-means on the projections."""

import math
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import Embedding
from robust_cluster.models.multiview import sem
from robust_cluster.models.multiview.sem import SEM, Config, squared_mmd
from robust_cluster.models.schedule import Schedule
from robust_cluster.stages import methods

SMALL: dict[str, Any] = {"hidden": (16,), "features": 12, "projected": 5}
SIX_EPOCHS = Schedule(epochs=6, batch_size=20, lr=3e-4)


def info(*shapes: tuple[int, ...], n_samples: int = 100, n_clusters: int = 3) -> DataInfo:
    return DataInfo("toy", shapes, n_samples, n_clusters, None, 1.0, "")


def small(**settings: Any) -> SEM:
    """Views of 6 and 1 x 2 x 4 values and of 7, small networks."""
    torch.manual_seed(0)
    return SEM(Config(**SMALL | settings), info((6,), (1, 2, 4), (7,)), 8)


@pytest.fixture
def rows() -> Batch:
    torch.manual_seed(1)
    return Batch((torch.rand(12, 6), torch.rand(12, 1, 2, 4), torch.rand(12, 7)), torch.arange(12))


@pytest.mark.parametrize(("n_views", "n_clusters", "expected"), [(2, 10, 10_809_920), (3, 3, 16_214_880)])
def test_the_networks_have_the_published_number_of_parameters(n_views: int, n_clusters: int, expected: int) -> None:
    with torch.device("meta"):
        model = SEM(Config(), info(*((1, 28, 28),) * n_views, n_clusters=n_clusters), 64)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    widths = [tuple(layer.weight.shape) for layer in cast(Any, model.encoders[0]) if hasattr(layer, "weight")]
    assert widths == [(500, 784), (500, 500), (2000, 500), (512, 2000)]


def test_the_embedding_is_the_projections_side_by_side_each_of_norm_1(rows: Batch) -> None:
    model = small()
    embedding = model.encode(rows.views)
    h = [encoder(view.flatten(1)) for encoder, view in zip(model.encoders, rows.views, strict=True)]
    assert all(found.equal(expected) for found, expected in zip(embedding.per_view, h, strict=True))
    z = [layer(x) for layer, x in zip(model.projections, h, strict=True)]
    torch.testing.assert_close(embedding.z, torch.cat([x / x.norm(dim=1, keepdim=True) for x in z], dim=1))
    assert embedding.z.shape == (12, 15)
    assert [x.shape for x in model(rows.views).decoded] == [x.shape for x in rows.views]


def plain_nce(left: Tensor, right: Tensor) -> float:
    """-1/(2B) sum_i log(e^{s(i, partner)} / sum_{j != i} e^{s(i, j)}), one row after another."""
    stacked = torch.cat([left, right]).tolist()
    n = len(left)
    total = 0.0
    for i, row in enumerate(stacked):
        grown = [math.exp(sum(a * b for a, b in zip(row, other, strict=True))) for other in stacked]
        total -= math.log(grown[(i + n) % (2 * n)] / (sum(grown) - grown[i]))
    return total / (2 * n)


def test_the_contrastive_term_weighs_all_ordered_pairs_of_views_with_themselves_too(rows: Batch) -> None:
    model = small()
    weights = torch.tensor([[1.7, 0.2, 0.9], [0.2, 1.5, 0.4], [0.9, 0.4, 1.3]])
    model.pair_weights.copy_(weights)
    outputs = model(rows.views)
    z = outputs.embedding.z.split(5, dim=1)
    expected = sum(float(weights[m, n]) * plain_nce(z[m], z[n]) for m in range(3) for n in range(3))
    terms = model.losses(rows, "cluster", outputs)
    assert list(terms) == ["contrastive", "reconstruction"]
    assert terms["contrastive"].item() == pytest.approx(expected, rel=1e-5)
    errors = [(x - seen).square().mean().item() for x, seen in zip(rows.views, outputs.decoded, strict=True)]
    assert terms["reconstruction"].item() == pytest.approx(sum(errors), rel=1e-5)
    torch.testing.assert_close(model.losses(rows, "cluster"), terms)


def test_pretraining_is_reconstruction_only_and_leaves_the_projections(rows: Batch) -> None:
    model = small()
    assert list(model.losses(rows, "pretrain")) == ["reconstruction"]
    before = [p.clone() for p in model.projections.parameters()]
    start = model.encoders[0].state_dict()["0.weight"].clone()
    optimizers = model.optimizers("pretrain")
    for _ in range(2):
        model.step(rows, "pretrain", optimizers)
    assert all(p.equal(old) for p, old in zip(model.projections.parameters(), before, strict=True))
    assert not model.encoders[0].state_dict()["0.weight"].equal(start)


def test_denoising_reconstructs_the_clean_views_and_contrasts_them(rows: Batch) -> None:
    model = small(reconstruct="denoising")
    torch.manual_seed(4)
    terms = model.losses(rows, "cluster")
    torch.manual_seed(4)
    noisy = [view + torch.randn_like(view) for view in rows.views]
    parts = zip(model.encoders, model.decoders, noisy, rows.views, strict=True)
    errors = [F.mse_loss(decode(encode(x.flatten(1))), clean.flatten(1)) for encode, decode, x, clean in parts]
    torch.testing.assert_close(terms["reconstruction"], torch.stack(errors).sum())
    torch.testing.assert_close(terms["contrastive"], model.contrast(model.encode(rows.views).z))


def blobs(seed: int, *, n_clusters: int = 3, spread: float = 0.05) -> tuple[Tensor, Tensor]:
    """60 points in well separated blobs, with their blob."""
    torch.manual_seed(seed)
    labels = torch.randint(n_clusters, (60,))
    return 10 * torch.eye(n_clusters)[labels] + spread * torch.randn(60, n_clusters), labels


def test_agreement_weights_are_e_to_the_nmi_of_k_means_labels_minus_1() -> None:
    model = small()
    (left, a), (right, b) = blobs(0), blobs(1)
    model.weigh([left, right, left[:, [2, 0, 1]]], seed=0)
    between = math.exp(float(normalized_mutual_info_score(a.numpy(), b.numpy()))) - 1
    same = math.e - 1
    expected = torch.tensor([[same, between, same], [between, same, between], [same, between, same]])
    torch.testing.assert_close(model.pair_weights, expected)
    assert between < 0.2
    assert model.health(Embedding(left, ()))["pair_weight"] == pytest.approx((2 * same + 4 * between) / 6)


def plain_mmd(left: Tensor, right: Tensor) -> float:
    rows = torch.cat([left, right]).double()
    total = len(rows)
    squares = [[float((a - b).square().sum()) for b in rows] for a in rows]
    mean = sum(map(sum, squares)) / (total * (total - 1))
    kernel = [[sum(math.exp(-d / (mean * 4.0 ** (i - 2))) for i in range(4)) for d in row] for row in squares]
    n = len(left)
    sign = [1 / n] * n + [-1 / len(right)] * len(right)
    return sum(sign[i] * sign[j] * kernel[i][j] for i in range(total) for j in range(total))


def test_the_discrepancy_is_its_formula_and_grows_with_the_distance() -> None:
    torch.manual_seed(0)
    left = torch.randn(9, 4)
    found = [float(squared_mmd(left, left + shift)) for shift in (0.0, 0.5, 2.0)]
    assert found == pytest.approx([plain_mmd(left, left + shift) for shift in (0.0, 0.5, 2.0)], abs=1e-5)
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] < found[2]
    x = left.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: squared_mmd(a, 2 * a.flip(0) + 1), (x,))


def test_discrepancy_weights_are_symmetric_with_ones_on_the_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sem, "MMD_ROWS", 30)
    model = small(weights="mmd")
    torch.manual_seed(0)
    views = [torch.randn(40, 3) + shift for shift in (0, 1, 0)]
    model.weigh(views, seed=0)
    weights = model.pair_weights
    torch.testing.assert_close(weights, weights.T)
    torch.testing.assert_close(weights.diagonal(), torch.ones(3))
    assert weights[0, 1].item() == pytest.approx(math.exp(-plain_mmd(views[0][:30], views[1][:30])), abs=1e-5)
    views[2][30:] += 100  # rows past the first do not count
    before = weights.clone()
    model.weigh(views, seed=0)
    assert model.pair_weights.equal(before)


def test_a_start_takes_the_weights_from_h_and_centers_from_z() -> None:
    model = small()
    (h_1, _), (h_2, _) = blobs(0), blobs(1)
    z = F.normalize(torch.randn(60, 15))
    embedding = Embedding(z, (h_1, h_2, h_1))
    model.start("pretrain", lambda: embedding, seed=0)
    assert model.pair_weights.equal(torch.ones(3, 3))
    model.start("cluster", lambda: embedding, seed=0)
    expected = small()
    expected.weigh([h_1, h_2, h_1], seed=0)
    assert model.pair_weights.equal(expected.pair_weights)
    assert len(set(model.labels(z).tolist())) == 3


def test_the_weights_are_taken_from_z_between_the_rounds_only() -> None:
    model = small(cluster=SIX_EPOCHS, rounds=3)
    (left, _), (right, _) = blobs(0, n_clusters=3), blobs(1, n_clusters=3)
    z = torch.cat([F.pad(x, (0, 2)) for x in (left, right, left)], dim=1)
    taken = []
    for epoch in range(1, 7):
        model.pair_weights.fill_(9.0)
        model.after_epoch("cluster", epoch, lambda: Embedding(z, ()), 0)
        taken.append(not bool((model.pair_weights == 9).all()))
    assert taken == [False, True, False, True, False, False]
    model.after_epoch("cluster", 2, lambda: Embedding(z, ()), 0)
    expected = small()
    expected.weigh([left, right, left], seed=0)
    torch.testing.assert_close(model.pair_weights, expected.pair_weights)
    model.after_epoch("pretrain", 4, lambda: Embedding(-z, ()), 0)
    torch.testing.assert_close(model.pair_weights, expected.pair_weights)


@pytest.mark.parametrize(("reset_adam", "counts"), [(True, [1, 2, 1, 2]), (False, [1, 2, 3, 4])])
def test_adams_moments_are_forgotten_where_an_epoch_begins(rows: Batch, reset_adam: bool, counts: list[int]) -> None:
    model = small(reset_adam=reset_adam, cluster=SIX_EPOCHS)
    optimizers = model.optimizers("cluster")
    model.start("cluster", lambda: model.encode(rows.views), seed=0)
    found = []
    for step in range(4):
        model.step(rows, "cluster", optimizers)
        weight = next(model.encoders.parameters())
        found.append(int(optimizers["model"].state[weight]["step"]))
        if step % 2:
            model.after_epoch("cluster", 1, lambda: model.encode(rows.views), 0)
    assert found == counts


def test_labels_are_k_means_on_the_projections(pair: Dataset) -> None:
    torch.manual_seed(0)
    model = SEM(Config(**SMALL, n_init=3), pair.info, 8).eval()
    model.finish("cluster", lambda: embed(model, pair.views), seed=4)
    z = embed(model, pair.views).z
    assert model.labels(z).tolist() == KMeans(10, n_init=3, random_state=4).fit_predict(z.numpy()).tolist()


def test_the_modes_and_the_schedule_are_the_published_ones() -> None:
    clean, paper = (methods.resolve("models", "sem", "paper", {"mode": mode}) for mode in ("clean", "paper"))
    assert (clean.reset_adam, clean.max_norm, paper.reset_adam, paper.max_norm) == (False, 10.0, True, None)
    for schedule, epochs in ((paper.pretrain, 100), (paper.cluster, 300)):
        assert (schedule.epochs, schedule.batch_size, schedule.lr) == (epochs, 256, 3e-4)
    assert (paper.rounds, paper.weights, paper.n_init) == (3, "cmi", 100)


def test_data_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="a multi-view method needs at least 2 views, toy has 1"):
        SEM(Config(), info((6,)), 8)
    with pytest.raises(ConfigError, match="batches of at least 2 samples, got 1"):
        SEM(Config(**SMALL), info((6,), (6,), n_samples=9), 8).start("cluster", lambda: Embedding(torch.ones(1), ()), 0)
    with pytest.raises(ConfigError, match="SEM has no decoder"):
        small().decode(torch.zeros(2, 15))
