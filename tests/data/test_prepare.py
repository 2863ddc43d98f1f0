import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from robust_cluster import discover
from robust_cluster.data import multiview
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import available, digest, load, part
from robust_cluster.errors import ConfigError, DataError, RobustClusterError, ShapeError, UnknownNameError
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir, labels_of, one_sentence

X = np.arange(24, dtype=np.float64).reshape(12, 2)
Y = np.arange(12) % 3


def prepared(folders: Folders, arrays: dict[str, Any], **ref: Any) -> Dataset:
    np.savez(data_dir(folders) / "mine.npz", **arrays)
    return load(DataRef("mine", **ref), folders)


def images(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def test_vectors_are_multiplied_by_one_constant_so_that_the_mean_square_is_88(folders: Folders) -> None:
    data = prepared(folders, {"x": X, "y": Y})
    assert data.views[0].dtype == torch.float32
    assert data.views[0].double().square().sum(1).mean().item() == pytest.approx(88, rel=1e-6)
    np.testing.assert_allclose(data.views[0].numpy(), X * data.info.scale, rtol=1e-6)
    assert data.info.scale == pytest.approx((88 / np.square(X).sum(1).mean()) ** 0.5, rel=1e-6)
    assert (data.info.shapes, data.info.n_samples, data.info.n_clusters, data.info.bounds) == (((2,),), 12, 3, None)


def test_the_mean_square_of_all_values_is_known(folders: Folders) -> None:
    data = prepared(folders, {"view_0": X, "view_1": 10 * X, "y": Y}, normalize="none")
    assert data.info.mean_square == pytest.approx(np.square(np.stack([X, 10 * X])).mean())
    pixels = images(4, 5, 6)
    assert prepared(folders, {"x": pixels, "y": [0, 1, 0, 1]}).info.mean_square == pytest.approx(
        np.square(pixels / 255).mean()
    )


def test_normalize_none_leaves_vectors_alone(folders: Folders) -> None:
    data = prepared(folders, {"x": X, "y": Y}, normalize="none")
    assert (data.views[0].tolist(), data.info.scale) == (X.tolist(), 1.0)


def test_views_share_one_constant(folders: Folders) -> None:
    data = prepared(folders, {"view_0": X, "view_1": 10 * X, "y": Y})
    first, second = (view.double() for view in data.views)
    assert torch.cat([first, second]).square().sum(1).mean().item() == pytest.approx(88, rel=1e-6)
    torch.testing.assert_close(second, 10 * first, rtol=1e-5, atol=1e-6)


def test_bytes_become_images_with_a_channel_axis_in_0_to_1(folders: Folders) -> None:
    pixels = images(4, 5, 6)
    data = prepared(folders, {"x": pixels, "y": [0, 1, 0, 1]})
    np.testing.assert_array_equal(data.views[0].numpy(), pixels[:, None] / np.float32(255))
    assert (data.info.shapes, data.info.bounds, data.info.scale) == (((1, 5, 6),), (0.0, 1.0), 1.0)


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 8, 7, 3), 3), ((3, 3, 8, 7), 1), ((3, 1, 4, 4), 1), ((3, 4, 4, 1), 3), ((3, 4, 6, 4), 1)]
)
def test_the_channel_axis_is_found_and_put_first(folders: Folders, shape: tuple[int, ...], axis: int) -> None:
    pixels = images(*shape)
    found = prepared(folders, {"x": pixels, "y": [0, 1, 1]}).views[0]
    assert found.is_contiguous()
    np.testing.assert_array_equal(found.numpy(), np.moveaxis(pixels, axis, 1) / np.float32(255))


def test_images_of_fractions_are_used_as_they_are(folders: Folders) -> None:
    pixels = images(3, 4, 4) / 255
    data = prepared(folders, {"x": pixels, "y": [0, 1, 1]})
    np.testing.assert_array_equal(data.views[0].numpy()[:, 0], pixels.astype(np.float32))


def test_flattened_images_are_vectors_scaled_or_bounded(folders: Folders) -> None:
    arrays = {"x": images(3, 4, 4), "y": [0, 1, 1]}
    scaled = prepared(folders, arrays, flatten=True)
    assert (scaled.info.shapes, scaled.info.bounds) == (((16,),), None)
    assert scaled.views[0].double().square().sum(1).mean().item() == pytest.approx(88, rel=1e-6)
    plain = prepared(folders, arrays, flatten=True, normalize="none")
    assert plain.info.bounds == (0.0, 1.0)
    torch.testing.assert_close(plain.views[0] * scaled.info.scale, scaled.views[0])


def test_the_range_of_valid_values_is_known_in_the_units_of_the_model(folders: Folders) -> None:
    pixels = {"x": images(12, 4, 4), "y": Y}
    plain, scaled = prepared(folders, pixels, flatten=True, normalize="none"), prepared(folders, pixels, flatten=True)
    assert (plain.info.box, plain.info.unit) == ((0.0, 1.0), 1.0)
    assert (scaled.info.box, scaled.info.unit) == ((0.0, scaled.info.scale), scaled.info.scale)
    counts = load(DataRef("digits"), folders).info
    assert (counts.box, counts.bounds) == ((0.0, 16 * counts.scale), None)
    unknown = prepared(folders, {"x": X, "y": Y}).info
    assert (unknown.box, unknown.unit) == (None, unknown.scale), "one unit of the data as they were"
    assert unknown.scale != 1


def test_labels_of_any_kind_are_numbered_in_sorted_order(folders: Folders) -> None:
    for labels in (["b", "a", "c"], [7, -1, 9], [2.0, 1.0, 3.0]):
        found = prepared(folders, {"x": X[:3], "y": labels})
        assert (labels_of(found), found.labels.dtype) == ([1, 0, 2], np.int64)


@pytest.mark.parametrize(
    ("labels", "noise"),
    [
        ([5, -1, 7, 5], "-1"),
        ([5.0, -1.0, 7.0, 5.0], "-1"),
        ([5, np.nan, 7, 5], None),
        (["b", "", "c", "b"], None),
        (["b", "noise", "c", "b"], "noise"),
    ],
)
def test_samples_without_a_class_are_kept_and_not_scored_which_is_said(
    folders: Folders, labels: list[Any], noise: str | None
) -> None:
    found = prepared(folders, {"x": X[:4], "y": labels}, noise_label=noise)
    assert (labels_of(found), found.info.n_samples, found.info.n_clusters) == ([0, -1, 1, 0], 4, 2)
    assert found.notes == ("1 of 4 samples have no label and are not scored",)
    few = prepared(folders, {"x": X[:4], "y": labels}, noise_label=noise, limit=3)
    assert sorted(labels_of(few)) == [-1, 0, 1], "an equal share of those without a class"
    some = [str(label) for label in labels[::2]]
    chosen = prepared(folders, {"x": X[:4], "y": labels}, noise_label=noise, subset=",".join(some).replace(".0", ""))
    assert (labels_of(chosen), chosen.notes) == ([0, 1, 0], ())


@pytest.mark.parametrize("kind", ["e", "f", "d", "g"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_found_in_every_type(folders: Folders, kind: str, value: float) -> None:
    x = X.astype(kind)
    x[2, 1] = value
    with one_sentence(DataError, "x has 1 values that are NaN, infinite or too large for float32"):
        prepared(folders, {"x": x, "y": Y})


def test_labels_in_a_column_or_a_row_are_labels(folders: Folders) -> None:
    for labels in (Y[:, None], Y[None]):
        found = prepared(folders, {"x": X, "y": labels})
        assert labels_of(found) == Y.tolist()


def test_whole_numbers_of_any_size_are_kept_apart(folders: Folders) -> None:
    for labels in (Y + 2**53, Y.astype(np.uint64) + 2**63):
        assert labels_of(prepared(folders, {"x": X, "y": labels})) == Y.tolist()


def test_noisy_pairs_need_the_class_of_every_image(folders: Folders) -> None:
    np.savez(data_dir(folders) / "mine.npz", x=IMAGES, y=np.where(Y, Y, np.nan))
    with one_sentence(DataError, "noisy pairs are made within each class, so the file needs a label for every sample"):
        load(DataRef("noisy:mine"), folders)


def test_the_given_number_of_clusters_wins_over_the_classes(folders: Folders) -> None:
    assert prepared(folders, {"x": X, "y": Y}, n_clusters=5).info.n_clusters == 5


def test_without_labels_the_number_of_clusters_is_taken_as_given(folders: Folders) -> None:
    data = prepared(folders, {"x": X}, n_clusters=4)
    assert (data.labels, data.info.n_clusters) == (None, 4)


def bad(**changes: Any) -> dict[str, Any]:
    return {"x": X, "y": Y} | changes


IMAGES = images(12, 4, 4)
HOLED = X.copy()
HOLED[3, 1], HOLED[5, 0] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("arrays", "ref", "error", "sentence"),
    [
        (bad(x=HOLED), {}, DataError, "mine: x has 2 values that are NaN, infinite or too large for float32"),
        (bad(x=X * 1e300), {}, DataError, "x has 23 values"),
        ({"view_0": X, "view_1": HOLED}, {}, DataError, "mine: view_1 has 2 values"),
        (bad(x=X.astype(str)), {}, DataError, "x must hold numbers, got the type <U"),
        (bad(x=X[:, 0]), {}, ShapeError, r"x must be \(n, d\), got \(12,\)"),
        ({"view_0": X, "view_1": X[None]}, {}, ShapeError, r"view_0 must be \(n, height, width"),
        (bad(y=Y[:-1]), {}, ShapeError, "the same number of samples, got x 12, labels 11"),
        ({"view_0": X, "view_1": X[1:]}, {}, ShapeError, "got view_0 12, view_1 11"),
        (bad(y=np.eye(12)), {}, ShapeError, r"labels must be \(n,\), one class a sample, got \(12, 12\)"),
        ({"x": X[:0]}, {"n_clusters": 2}, DataError, r"at least 2 samples of at least 1 value, got \(0, 2\)"),
        ({"x": X[:, :0]}, {"n_clusters": 2}, DataError, r"got \(12, 0\)"),
        ({"x": X[:1]}, {"n_clusters": 2}, DataError, r"at least 2 samples"),
        (bad(x=X * 0), {}, DataError, "every sample of x is the same, so there is nothing to cluster"),
        (
            bad(y=Y * 0 + 7),
            {},
            DataError,
            r"at least 2 classes, got only '7' \(leave the labels out and give --clusters K",
        ),
        (bad(y=Y / 2), {}, DataError, "whole numbers or words, got fractions or infinite ones"),
        (bad(y=np.where(Y, Y, np.inf)), {}, DataError, "got fractions or infinite ones"),
        (bad(y=np.full(12, np.nan)), {}, DataError, "at least 2 classes, got none"),
        (bad(y=Y + 2.0**53), {}, DataError, r"labels this large are one and the same as float64 \(save them as int64"),
        (bad(), {"noise_label": "-1"}, ConfigError, r"--noise-label must be one of 0, 1, 2, got -1 \(leave it out\)"),
        (bad(y=Y * 1j), {}, DataError, "got the type complex128"),
        ({"x": X}, {}, ConfigError, r"mine has no labels, so the number of clusters must be given \(--clusters K\)"),
        (bad(), {"n_clusters": 1}, ConfigError, r"n_clusters must be in \[2, n_samples\] = \[2, 12\], got 1"),
        (bad(), {"n_clusters": 13}, ConfigError, r"\[2, 12\], got 13"),
        (bad(), {"limit": 2}, ConfigError, r"\[2, 2\], got 3 \(--clusters K or --limit N\)"),
        (bad(), {"limit": 13}, ConfigError, r"limit must be in \[2, n_samples\] = \[2, 12\], got 13"),
        (bad(), {"limit": 0}, ConfigError, r"\[2, 12\], got 0"),
        (bad(x=IMAGES), {"normalize": "adec"}, ConfigError, "adec is for vectors, mine are images"),
        (bad(), {"normalize": "nome"}, UnknownNameError, "Unknown normalize 'nome'. Did you mean 'none'?"),
        (bad(x=IMAGES / 1.0), {}, DataError, r"as floats in \[0, 1\], got float64 in \[0\.0, 2\d\d\.0\] \(divide"),
        (bad(x=IMAGES.astype(int)), {}, DataError, r"uint8 in 0\.\.255 or as floats in \[0, 1\], got int64"),
        (bad(x=images(12, 6, 6, 6)), {}, ShapeError, r"at most 4 channels, .* got \(12, 6, 6, 6\)"),
    ],
)
def test_bad_data_get_one_clear_sentence(
    folders: Folders, arrays: dict[str, Any], ref: dict[str, Any], error: type[RobustClusterError], sentence: str
) -> None:
    with one_sentence(error, sentence):
        prepared(folders, arrays, **ref)


def test_a_subset_that_is_zero_everywhere_is_refused(folders: Folders) -> None:
    x = np.zeros((400, 1))
    x[int(np.random.default_rng(5).integers(400))] = 1
    with pytest.raises(DataError, match="every value is 0"):
        prepared(folders, {"x": x}, n_clusters=2, limit=2)


def test_the_limit_is_balanced_and_passes_on_what_a_small_class_lacks(folders: Folders) -> None:
    labels = np.repeat([0, 1, 2, 3], [2, 50, 50, 50])
    data = prepared(folders, {"x": np.arange(152.0)[:, None] + 1, "y": labels}, limit=20, normalize="none")
    assert np.bincount(labels_of(data)).tolist() == [2, 6, 6, 6]
    rows = data.views[0].flatten().numpy().astype(int) - 1
    assert (np.diff(rows) > 0).all()
    assert labels[rows].tolist() == labels_of(data)


def test_a_limit_that_classes_do_not_divide_is_met_exactly(folders: Folders) -> None:
    found = prepared(folders, {"x": np.arange(30.0)[:, None], "y": np.arange(30) % 3}, limit=11)
    assert sorted(np.bincount(labels_of(found)).tolist()) == [3, 4, 4]


def test_each_data_set_draws_its_own_rows(folders: Folders) -> None:
    arrays = {"x": np.arange(300.0)[:, None], "y": np.arange(300) % 3}
    first = prepared(folders, arrays, limit=30)
    second = load(DataRef("other", limit=30), folders, path=data_dir(folders) / "mine.npz")
    assert first.info.sha256 != second.info.sha256


def test_a_limit_without_labels_takes_rows_from_everywhere(folders: Folders) -> None:
    data = prepared(folders, {"x": np.arange(1000.0)[:, None]}, limit=100, n_clusters=2, normalize="none")
    rows = data.views[0].flatten()
    assert len(set(rows.tolist())) == 100
    assert rows.mean().item() == pytest.approx(500, abs=120)


def test_the_limit_neither_uses_nor_moves_the_global_generators(folders: Folders) -> None:
    arrays = {"x": np.arange(90.0)[:, None], "y": np.arange(90) % 3}
    np.random.seed(1)
    torch.manual_seed(1)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state())  # type: ignore[index]
    first = prepared(folders, arrays, limit=30)
    assert np.random.get_state()[1].tolist() == before[0]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])
    np.random.seed(2)
    assert prepared(folders, arrays, limit=30).info.sha256 == first.info.sha256


def test_the_digest_is_stable_and_sees_every_byte_shape_type_and_label(folders: Folders) -> None:
    views, labels = [np.arange(6, dtype=np.float32).reshape(2, 3)], np.array([0, 1])
    changed = views[0].copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    digests = [
        digest(views, labels),
        digest([changed], labels),
        digest([views[0].reshape(3, 2)], labels),
        digest([views[0].view(np.int32)], labels),
        digest([views[0], views[0]], labels),
        digest(views, np.array([1, 1])),
        digest(views, np.array([], dtype=np.int64)),
        digest(views, None),
    ]
    assert len(set(digests)) == len(digests)
    by_hand = b"view_0 <f4 (2, 3)\n" + views[0].tobytes() + b"labels absent\n"
    assert digest(views, None) == hashlib.sha256(by_hand).hexdigest()


def test_a_file_given_by_path_is_read_from_there(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    np.savez(tmp_path / "far" / "digits.npz", x=X, y=Y)
    data = load(DataRef("digits"), folders, path=tmp_path / "far" / "digits.npz")
    assert (data.info.n_samples, data.source) == (12, "digits.npz")


def test_a_name_is_first_a_built_in_then_a_file_in_the_data_dir(folders: Folders) -> None:
    np.savez(data_dir(folders) / "digits.npz", x=X, y=Y)
    (data_dir(folders) / "flowers.csv").write_text("a,b,y\n1,2,p\n2,1,q\n5,5,q\n")
    assert load(DataRef("digits"), folders).info.n_samples == 1797
    assert load(DataRef("flowers"), folders).info.n_samples == 3


def test_an_unknown_name_is_answered_with_the_nearest(folders: Folders) -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown data set 'fashon-mnist'. Did you mean 'fashion-mnist'\? \(rc ls data"
    ):
        load(DataRef("fashon-mnist"), folders)
    (data_dir(folders) / "flowers.npz").touch()
    with pytest.raises(UnknownNameError, match="Did you mean 'flowers'"):
        load(DataRef("flower"), folders)


def test_the_listing_tells_what_is_there_without_reading_it(folders: Folders) -> None:
    (data_dir(folders) / "flowers.npz").touch()
    states = {name: state for name, _, state in available(folders)}
    assert set(states) == {*discover.names("data"), "flowers"}
    shipped = {name for name in discover.names("data") if discover.load("data", name).find(folders) == ()}
    assert {"digits", "digits-28"} <= shipped
    assert {name for name, state in states.items() if state == "ready"} == shipped | {"flowers"}
    assert set(states.values()) == {"ready", "needs files"}


def two_views() -> dict[str, Any]:
    return {"view_0": images(12, 4, 4), "view_1": images(12, 4, 4, seed=1), "y": np.arange(12) % 3}


def test_several_views_are_split_in_halves_one_is_not_unless_asked(folders: Folders) -> None:
    assert prepared(folders, two_views()).ref.split == "halves"
    assert prepared(folders, two_views(), split="none").ref.split == "none"
    one = {"x": images(12, 4, 4), "y": np.arange(12) % 3}
    assert prepared(folders, one).ref.split is None
    assert prepared(folders, one, split="halves").ref.split == "halves"


def test_a_half_has_its_own_rows_of_views_and_labels_and_the_digest_of_the_whole(folders: Folders) -> None:
    data = prepared(folders, two_views())
    first, second = part(data, 1), part(data, 2)
    for half, rows in zip((first, second), multiview.halves(12), strict=True):
        assert half.info.n_samples == len(half.views[0]) == 6
        assert torch.equal(half.views[1], data.views[1][rows])
        assert labels_of(half) == [labels_of(data)[row] for row in rows]
        assert half.info.sha256 == data.info.sha256
    whole = prepared(folders, two_views(), split="none")
    assert part(whole, 2) is whole


def test_a_half_must_hold_as_many_samples_as_there_are_clusters(folders: Folders) -> None:
    with pytest.raises(ConfigError, match=r"n_clusters must be in \[2, samples of each part\] = \[2, 6\], got 7"):
        prepared(folders, two_views(), n_clusters=7)


def test_the_first_rows_train_and_the_last_are_kept(folders: Folders) -> None:
    data = prepared(folders, two_views(), split="7/3")
    for half, rows in zip((part(data, 1), part(data, 2)), (slice(0, 7), slice(9, 12)), strict=True):
        assert torch.equal(half.views[0], data.views[0][rows])
    for wrong in ("halfs", "7", "0/3", "7/-3"):
        with pytest.raises(ConfigError, match=f"split must be halves, none, or N/M .*, got {wrong}"):
            prepared(folders, two_views(), split=wrong)
    with pytest.raises(ConfigError, match=r"--split 7/6 takes 13 samples, mine has 12"):
        prepared(folders, two_views(), split="7/6")


def test_adec_makes_the_mean_square_of_all_values_1(folders: Folders) -> None:
    data = prepared(folders, {"x": 3 + X, "y": Y}, normalize="adec")
    assert data.views[0].double().square().mean().item() == pytest.approx(1, rel=1e-6)
    assert data.info.mean_square == pytest.approx(1, rel=1e-6)
    assert data.info.scale == pytest.approx(np.square(3 + X).mean() ** -0.5, rel=1e-6)


def test_a_size_takes_the_mean_of_blocks_of_pixels(folders: Folders) -> None:
    pixels = images(3, 4, 6)
    data = prepared(folders, {"x": pixels, "y": [0, 1, 1]}, size=2)
    assert data.info.shapes == ((1, 2, 2),)
    by_hand = [[block.mean() / 255 for block in np.hsplit(rows, 2)] for rows in np.vsplit(pixels[1], 2)]
    np.testing.assert_allclose(data.views[0][1, 0].numpy(), by_hand, rtol=1e-6)


def test_a_subset_keeps_classes_by_the_names_that_the_file_gives_them(folders: Folders) -> None:
    data = prepared(folders, {"x": X, "y": np.array(["cat", "dog", "owl"])[Y]}, subset="cat,owl", normalize="none")
    assert labels_of(data) == [0, 1] * 4
    assert data.views[0].tolist() == X[Y != 1].tolist()
    assert data.info.n_clusters == 2
    assert prepared(folders, {"x": X, "y": Y.astype(float)}, subset="1,2", limit=4).info.n_samples == 4
    with pytest.raises(ConfigError, match="mine has no labels, so no classes can be chosen"):
        prepared(folders, {"x": X}, subset="0,1", n_clusters=2)


def test_some_constant_columns_are_no_fault(folders: Folders) -> None:
    x = np.column_stack([X, np.ones(12)])
    assert prepared(folders, {"x": x, "y": Y}).info.shapes == ((3,),)
