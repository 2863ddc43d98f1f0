"""Pictures of finished clusterings, made anew from their checkpoints."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError, DataError, ShapeError
from robust_cluster.measure import embeddings, portraits
from robust_cluster.measure.portraits import Decodings, Portrait
from robust_cluster.metrics.accuracy import match
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import auditing
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context
from robust_cluster.stages.finished import decodings, portrait


@pytest.fixture(scope="module")
def few() -> Dataset:
    """200 digits as vectors."""
    return load(DataRef("digits", limit=200), Folders())


def shown(data: Dataset, folder: Path, model: str = "kmeans") -> Portrait:
    """A finished clustering, from its checkpoint."""
    context = Context(RunStore(folder), data, "smoke", device="cpu", threads=1)
    settings = {"model.n_init": 1} | ({"model.pretrain.epochs": 1, "model.hidden": [8]} if model != "kmeans" else {})
    specs = plan(Request("cluster", data.ref, model, 6, profile="smoke", overrides=settings), data.info)
    execute(specs, context)
    return portrait(specs[-1], context)


@pytest.fixture(scope="module")
def digits_portrait(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Portrait:
    return shown(few, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def coded(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Portrait:
    return shown(few, tmp_path_factory.mktemp("coded"), "ae_kmeans")


def test_a_portrait_is_of_the_trained_model_and_only_of_the_runs_own_data(few: Dataset, tmp_path: Path) -> None:
    one = shown(few, tmp_path)
    centers = one.model.centers
    assert isinstance(centers, Tensor)
    assert centers.abs().sum() > 0
    assert np.array_equal(one.labels, torch.cdist(few.views[0], centers).argmin(dim=1).numpy())
    assert one.soft_labels.argmax(dim=1).numpy().tolist() == one.labels.tolist()
    other = replace(few, info=replace(few.info, sha256="00"))
    (spec,) = plan(Request("cluster", few.ref, "kmeans", 6, profile="smoke", overrides={"model.n_init": 1}), few.info)
    with pytest.raises(DataError, match="is not the data that the run had"):
        portrait(spec, Context(RunStore(tmp_path), other, device="cpu", threads=1))


def test_an_embedding_is_shown_in_its_first_two_principal_components(digits_portrait: Portrait) -> None:
    cloud = portraits.cloud(digits_portrait, "z", 0)
    reference = PCA(2).fit(digits_portrait.z.numpy())
    expected = reference.transform(digits_portrait.z.numpy())
    signs = np.sign(reference.components_[np.arange(2), np.abs(reference.components_).argmax(axis=1)])
    np.testing.assert_allclose(cloud.points, expected * signs, atol=1e-3)
    assert cloud.axes == tuple(
        f"component {i} ({share:.0%})" for i, share in enumerate(reference.explained_variance_ratio_, start=1)
    )
    labels = digits_portrait.labels
    for k, center in enumerate(cloud.centers):
        np.testing.assert_allclose(center, (expected * signs)[labels == k].mean(axis=0), atol=1e-3)
    assert np.array_equal(cloud.classes, digits_portrait.classes)


def test_centroids_are_the_models_own_and_means_where_its_labels_are_not_of_the_nearest(
    digits_portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, z = digits_portrait.model, digits_portrait.z.double().numpy()
    moved = cast(Tensor, model.centers) * 1.05
    monkeypatch.setitem(model._buffers, "centers", moved)
    np.testing.assert_allclose(portraits.centroids(digits_portrait, z), moved.double().numpy())
    monkeypatch.setattr(type(model), "labels", lambda self, z: torch.arange(len(z)) % 2)
    np.testing.assert_allclose(portraits.centroids(digits_portrait, z), [z[::2].mean(axis=0), z[1::2].mean(axis=0)])


def test_two_dimensions_are_shown_as_they_are_and_only_the_last_rows_where_asked(digits_portrait: Portrait) -> None:
    flat = replace(digits_portrait, z=digits_portrait.z[:, 20:22])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(flat.model), "labels", lambda self, z: torch.zeros(len(z), dtype=torch.int64))
        cloud = portraits.cloud(flat, "z", 50)
        assert np.array_equal(cloud.points, flat.z.numpy()[150:])
        assert cloud.rows.tolist() == list(range(150, 200))
        assert cloud.axes == ("dimension 1", "dimension 2")
        assert len(portraits.cloud(flat, "z", 5000).points) == 200


def test_at_most_so_many_points_are_shown(digits_portrait: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portraits, "MOST", 10)
    assert portraits.cloud(digits_portrait, "z", 0).rows.tolist() == np.linspace(0, 199, 10).astype(int).tolist()


def test_a_models_own_map_of_the_embedding_may_be_shown(digits_portrait: Portrait) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(digits_portrait.model), "f_lp", lambda self, z: 2 * z[:, :2], raising=False)
        cloud = portraits.cloud(digits_portrait, "f_lp", 0)
        np.testing.assert_allclose(cloud.points, 2 * digits_portrait.z[:, :2].numpy())
    with pytest.raises(ConfigError, match="KMeansModel has nothing named 'f_lp' to map its embedding"):
        portraits.cloud(digits_portrait, "f_lp", 0)


def test_without_labels_points_are_colored_by_cluster(few: Dataset, tmp_path: Path) -> None:
    cloud = portraits.cloud(one := shown(replace(few, labels=None), tmp_path), "z", 0)
    assert not cloud.has_classes
    assert np.array_equal(cloud.classes, one.labels)


def test_each_cluster_shows_the_samples_it_is_surest_of_in_order(digits_portrait: Portrait) -> None:
    strips = portraits.surest(digits_portrait, 4)
    sure = digits_portrait.soft_labels.amax(dim=1).numpy()
    assert [strip.label for strip in strips] == [f"cluster {k}" for k in range(10)]
    for k, strip in enumerate(strips):
        own = sure[digits_portrait.labels == k]
        assert set(digits_portrait.labels[strip.rows]) == {k}
        assert sure[strip.rows].tolist() == sorted(own, reverse=True)[:4]
        assert np.array_equal(strip.classes, digits_portrait.classes[strip.rows])


def test_images_are_those_of_the_rows_as_squares_in_0_to_1(digits_portrait: Portrait, few: Dataset) -> None:
    (strip, *_) = portraits.surest(digits_portrait, 2)
    expected = (few.views[0] / few.views[0].max()).view(-1, 8, 8, 1).numpy()[strip.rows]
    np.testing.assert_allclose(strip.images, expected, atol=1e-6)


def test_colors_and_pixels_with_bounds_stay_as_they_are(digits_portrait: Portrait) -> None:
    data = digits_portrait.data
    colored = replace(data, info=replace(data.info, shapes=((3, 2, 4),), bounds=(0.0, 1.0)))
    view = torch.rand(5, 3, 2, 4)
    np.testing.assert_allclose(portraits.images(view, colored), view.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("shape", [(77,), (2, 4, 4)])
def test_what_is_no_image_is_refused(digits_portrait: Portrait, shape: tuple[int, ...]) -> None:
    data = digits_portrait.data
    other = replace(data, info=replace(data.info, shapes=(shape,)))
    with pytest.raises(ShapeError, match=r"only be drawn of .* or of vectors of a square length, digits has"):
        portraits.images(torch.zeros(1, *shape), other)


def test_a_sample_of_each_class_stands_above_what_every_model_decodes_of_it(coded: Portrait, few: Dataset) -> None:
    given, decoded, again = portraits.outputs([("AE", coded), ("same", coded)])
    assert few.labels is not None
    assert given.rows.tolist() == [int(np.flatnonzero(few.labels == k)[0]) for k in range(10)]
    assert given.classes.tolist() == list(range(10))
    with torch.no_grad():
        expected = coded.model.decode(coded.model.encode((few.views[0][given.rows],)).z)[0]
    reference = (expected / few.views[0].max()).clamp(0, 1).view(-1, 8, 8, 1).numpy()
    np.testing.assert_allclose(decoded.images, reference, atol=1e-5)
    assert (decoded.label, again.label) == ("AE", "same")
    assert not np.allclose(decoded.images, given.images)


def test_neighbors_are_the_nearest_by_each_measure_and_never_the_query(coded: Portrait, few: Dataset) -> None:
    query, own, pixels = portraits.neighbors([("AE", coded)], "z", (8, 1), 3)
    (row,) = query.rows.tolist()
    for strip, points in ((own, coded.z), (pixels, few.views[0])):
        distances = torch.cdist(points[row : row + 1].double(), points.double())[0].numpy()
        expected = [i for i in np.argsort(distances, kind="stable") if i != row][:3]
        assert strip.rows.tolist() == expected
    assert [strip.label for strip in (query, own, pixels)] == ["query", "AE", "pixels"]


def test_the_query_is_the_first_of_its_class_that_the_other_class_surrounds() -> None:
    pixels = torch.tensor([[0.0], [10.0], [0.1], [0.2], [10.1], [10.2], [10.3]])
    classes = np.array([4, 4, 4, 4, 9, 9, 4])
    assert portraits.ambiguous(pixels, classes, (4, 9), 3) == 1
    with pytest.raises(DataError, match="no sample of class 9 has one of class 0 among its 3 nearest"):
        portraits.ambiguous(pixels, classes, (9, 0), 3)
    assert portraits.ambiguous(pixels, classes, (9, 4), 2) == 4, "nobody is surrounded: one of two is the most"


def test_a_model_without_a_decoder_has_no_outputs(digits_portrait: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, z: Tensor) -> Any:
        raise ConfigError("no decoder")

    monkeypatch.setattr(type(digits_portrait.model), "decode", refuse)
    with pytest.raises(ConfigError, match="no decoder"):
        portraits.outputs([("k-means", digits_portrait)])


@dataclass(frozen=True)
class Attacked:
    """Two finished attacks on one network's embedding, a weak one and a strong one, and what they decode."""

    context: Context
    specs: tuple[RunSpec, RunSpec]
    flips: tuple[float, float]
    found: Decodings


@pytest.fixture(scope="module")
def attacked(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    context = Context(RunStore(tmp_path_factory.mktemp("attacked")), few, "smoke", device="cpu", threads=1)
    settings = {"model.n_init": 1, "model.pretrain.epochs": 1, "model.hidden": [8]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "latent_pgd", lambda *_: {})  # of no use here
        patch.setattr(auditing, "findings", lambda *_: [])
        specs, flips = [], []
        for eps in (0.1, 0.3):
            overrides = {**settings, "attack.eps": eps, "attack.steps": 3}
            request = Request("attack", few.ref, "ae_kmeans", 6, attack="latent_pgd", profile="smoke")
            each = plan(replace(request, overrides=overrides), few.info)
            flips.append(execute(each, context)[-1]["metrics"]["flip"])
            specs.append(each[-1])
    runs = [("weak", specs[0]), ("strong", specs[1])]
    return Attacked(context, (specs[0], specs[1]), (flips[0], flips[1]), decodings(runs, context, 6))


def test_decodings_are_of_the_clean_embedding_and_of_what_each_attack_makes_of_it(
    attacked: Attacked, few: Dataset
) -> None:
    found = attacked.found
    sample, clean, weak, strong = found.strips
    assert [strip.label for strip in found.strips] == ["sample", "decoded", "weak", "strong"]
    assert found.flips == pytest.approx(attacked.flips, abs=1e-9)
    assert 0 < found.flips[0] < found.flips[1] < 1
    top = few.views[0].max()
    np.testing.assert_allclose(sample.images, (few.views[0][sample.rows] / top).view(-1, 8, 8, 1), atol=1e-6)
    assert few.labels is not None
    assert np.array_equal(sample.classes, few.labels[sample.rows])
    own = portrait(attacked.specs[0].ancestor("cluster"), attacked.context)
    with torch.no_grad():
        expected = (own.model.decode(own.z[sample.rows])[0] / top).clamp(0, 1).view(-1, 8, 8, 1)
    np.testing.assert_allclose(clean.images, expected, atol=1e-5)
    mapping = match(few.labels, own.labels, n_clusters=10)
    assert np.array_equal(clean.classes, mapping[own.labels[sample.rows]])
    assert not np.allclose(weak.images, clean.images, atol=1e-3)
    assert np.abs(strong.images - clean.images).mean() > np.abs(weak.images - clean.images).mean()


def test_decoded_samples_are_the_first_that_most_attacks_move_to_another_cluster(attacked: Attacked) -> None:
    everything = decodings([("a", attacked.specs[0]), ("b", attacked.specs[1])], attacked.context, 1000)
    sample, clean, weak, strong = everything.strips
    assert len(sample.rows) == everything.n_moved >= round(attacked.flips[1] * 200)
    assert everything.n_scored == 200
    changes = (weak.classes != clean.classes).astype(int) + (strong.classes != clean.classes)
    assert changes.min() >= 1
    best = sample.rows[np.argsort(-changes, kind="stable")[:6]]
    assert attacked.found.strips[0].rows.tolist() == sorted(best.tolist())
    alone = decodings([("a", attacked.specs[0])], attacked.context, 1000)
    assert alone.n_moved == round(attacked.flips[0] * 200)
    assert len(alone.strips) == 3


def test_decodings_without_labels_are_named_by_cluster(attacked: Attacked, few: Dataset) -> None:
    context = replace(attacked.context, dataset=replace(few, labels=None))
    sample, clean, moved = decodings([("a", attacked.specs[1])], context, 5).strips
    assert set(sample.classes) == {-1}
    assert (clean.classes != moved.classes).all()


def test_vectors_are_decoded_to_the_images_that_their_model_knows(attacked: Attacked) -> None:
    """The 64 values as 4 rows of 16 pixels; 65 values are no image."""
    spec = attacked.specs[1]
    assert spec.parent is not None
    given = replace(spec.parent, settings={"model": {**spec.parent.settings["model"], "image_shape": [1, 4, 16]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunSpec, "ancestor", lambda *_: given)
        assert decodings([("a", spec)], attacked.context, 2).strips[1].images.shape == (2, 4, 16, 1)
    info = replace(attacked.context.info, shapes=((65,),))
    context = replace(attacked.context, dataset=replace(attacked.context.dataset, info=info))
    with pytest.raises(ShapeError, match="or of vectors of a square length, digits has"):
        decodings([("a", spec)], context, 2)


def test_attacks_on_pixels_models_without_a_decoder_and_different_models_are_not_decoded(attacked: Attacked) -> None:
    spec, other = attacked.specs
    with pytest.raises(ConfigError, match="only be drawn of attacks on the embedding, view_gan moves the views"):
        decodings([("a", replace(spec, attack="view_gan"))], attacked.context, 2)
    with pytest.raises(ConfigError, match="only be drawn of a model that decodes, simvc has no decoder"):
        decodings([("a", replace(spec, model="simvc"))], attacked.context, 2)
    assert other.parent is not None
    stranger = replace(other, parent=replace(other.parent, seed=7))
    with pytest.raises(ConfigError, match="decoded is drawn of attacks on one model, those of"):
        decodings([("a", spec), ("b", stranger)], attacked.context, 2)
