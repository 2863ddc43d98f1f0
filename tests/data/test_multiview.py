"""Noisy pairs, patches, RegDB's pairs and the halves, on made-up images of the published format."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from robust_cluster.cli.options import StageOptions
from robust_cluster.data import cache, fashion_mnist, mnist, patchedmnist, regdb
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.multiview import Floats, halves, noisy, patches, published, shares_images, sources
from robust_cluster.data.prepare import load, take
from robust_cluster.data.split import apart, chains
from robust_cluster.errors import ConfigError, DataError, RobustClusterError, ShapeError
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir, idx, labels_of, one_sentence

LABELS = np.arange(60) % 3


def images(n: int = 60, side: int = 8, *, seed: int = 0) -> Floats:
    """Random images in [0, 1] with a black and a white pixel."""
    found = np.random.default_rng(seed).random((n, 1, side, side)).astype(np.float32)
    found[0, 0, 0, :2] = 0, 1
    return found


def write_idx(folder: Path, family: mnist.Family, n: int) -> None:
    """A train part of n random digits and a test part with the family's first labels."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    parts = {"train": [i % 10 for i in range(n)], "t10k": [*family.first_labels]}
    for part, labels in parts.items():
        pixels = rng.integers(256, size=(len(labels), 28, 28), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def test_noisy_pairs_are_the_published_construction_step_by_step() -> None:
    x = images()
    first, second = noisy([x], LABELS)
    rng = np.random.default_rng(7)
    signed = (x.astype(np.float64) - 0.5) / 0.5
    expected = np.empty_like(signed)
    for k in range(3):
        rows = np.arange(k, 60, 3)
        expected[rows] = signed[rng.permutation(rows)]
    expected += rng.normal(0, 0.2, expected.shape)
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(
        second, ((expected - expected.min()) / (expected.max() - expected.min())).astype(np.float32)
    )


def test_partners_share_the_class_and_each_image_is_partner_once() -> None:
    shades = np.random.default_rng(3).permutation(60) / 59
    x = np.broadcast_to(shades[:, None, None, None], (60, 1, 64, 64)).astype(np.float32)
    order = noisy([x], LABELS)[1].mean(axis=(1, 2, 3)).argsort()  # the noise of 4,096 pixels swaps no two shades
    partners = np.empty(60, np.int64)
    partners[order] = shades.argsort()
    np.testing.assert_array_equal(LABELS[partners], LABELS)
    assert sorted(partners) == list(range(60))
    assert (partners == np.arange(60)).sum() < 10


def test_noise_is_drawn_in_one_stream_however_many_images_there_are() -> None:
    """Working in portions of 1,000 changes nothing: the draws of 1,500 images are one draw."""
    x = np.zeros((1500, 1, 2, 2), np.float32)
    x[0] = 1
    labels = np.zeros(1500, np.int64)
    rng = np.random.default_rng(7)
    partners = rng.permutation(1500)
    expected = 2.0 * x[partners] - 1 + rng.normal(0, 0.2, x.shape)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_array_equal(noisy([x], labels)[1], expected.astype(np.float32))


def test_a_views_range_is_stretched_as_a_whole_not_per_image() -> None:
    x = images() / 2 + 0.25
    first, second = noisy([x], LABELS)
    assert (first.min(), first.max(), second.min(), second.max()) == (0, 1, 0, 1)
    assert first[1:].max() < 1
    np.testing.assert_allclose(first, images(), atol=1e-6)


def test_patches_are_the_cells_of_a_bilinear_enlargement_by_four() -> None:
    x = images(n=5, side=28)
    signed = torch.from_numpy(x).double() * 2 - 1
    large = torch.nn.functional.interpolate(signed, scale_factor=4, mode="bilinear", align_corners=False)
    cells = {0: (0, 1), 1: (0, 2), 3: (1, 1), 11: (3, 2)}
    found = patches(x, list(cells))
    for view, (i, j) in zip(found, cells.values(), strict=True):
        cell = large[:, :, 28 * i : 28 * (i + 1), 28 * j : 28 * (j + 1)]
        expected = (cell - cell.min()) / (cell.max() - cell.min())
        np.testing.assert_allclose(view, expected.numpy(), atol=1e-7)
        assert (view.min(), view.max(), view.dtype) == (0, 1, np.float32)


def test_a_patch_that_never_changes_is_refused() -> None:
    x = np.zeros((3, 1, 28, 28), np.float32)
    x[1, 0, 9, 9] = 1  # in cell (1, 1) only
    assert len(patches(x, [3])) == 1
    with pytest.raises(DataError, match=r"every value of view_0 is -1\.0, so it cannot be scaled to \[0, 1\]"):
        patches(x, [0])


def test_halves_are_disjoint_complete_and_always_the_same() -> None:
    first, second = halves(11)
    assert (len(first), len(second)) == (5, 6)
    assert sorted([*first, *second]) == list(range(11))
    assert first.tolist() == sorted(np.random.RandomState(7).permutation(11)[:5])
    with pytest.raises(DataError, match="two halves need at least 2 samples, got 1"):
        halves(1)


def test_the_sources_of_noisy_pairs_are_the_images_that_their_views_show() -> None:
    x = images()
    second = noisy([x], LABELS)[1]
    shown = sources(LABELS)
    assert shown[:, 0].tolist() == list(range(60))
    low, high = second.min(), second.max()
    for row, image in enumerate(shown[:, 1]):
        likeness = [np.corrcoef(second[row].ravel(), one.ravel())[0, 1] for one in x]
        assert np.argmax(likeness) == image
    assert low < high
    assert [shares_images(name) for name in ("noisymnist", "noisyfashion", "noisy:mine")] == [True] * 3
    assert [shares_images(name) for name in ("patchedmnist", "regdb", "mnist", "mine")] == [False] * 4


@pytest.mark.parametrize("is_half", [True, False])
def test_no_row_that_is_scored_shows_an_image_that_the_attacker_learns_on(is_half: bool) -> None:
    """Held back row by row, two of three would; of a half no row is lost, of rings that are cut a few are."""
    labels = np.arange(2000) % 10
    shown = sources(labels)[halves(2000)[1]] if is_half else sources(labels)
    n = len(shown)
    seen, held = apart(shown, 0.8, seed=1)
    assert not np.isin(shown[held], shown[seen]).any()
    assert not np.isin(seen, held).any()
    assert len(seen) + len(held) == n if is_half else 0.97 * n < len(seen) + len(held) < n
    assert len(seen) == round(0.8 * n)
    again, other = apart(shown, 0.8, seed=1), apart(shown, 0.8, seed=2)
    assert again[1].tolist() == held.tolist() != other[1].tolist()
    order = np.random.default_rng(1).permutation(n)
    assert np.isin(shown[order[int(0.8 * n) :]], shown[order[: int(0.8 * n)]]).any(axis=1).mean() > 0.5


def test_chains_lead_from_image_to_image_and_have_every_row_once() -> None:
    """0 -> 1 -> 2 ends at an image of no row, 3 and 4 are a ring, 5 shows one image twice."""
    shown = np.array([[10, 11], [11, 12], [12, 99], [13, 14], [14, 13], [15, 15]])
    assert chains(shown) == [[0, 1, 2], [3, 4], [5]]
    with pytest.raises(ConfigError, match="all of the 2 samples share images") as caught:
        apart(np.array([[0, 1], [1, 0]]), 0.5, seed=0)
    assert caught.value.hint == "--set attack.train_share=1"


def test_a_published_value_is_found_by_what_the_data_are_built_of() -> None:
    values = {"noisymnist": 0.3, "noisyfashion": 0.15}
    names = ("noisymnist", "noisy:mnist10k", "noisyfashion", "noisy:fashion-mnist", "mnist", "noisy:mine")
    assert [published(values, name, 0.1) for name in names] == [0.3, 0.3, 0.15, 0.15, 0.1, 0.1]


@pytest.mark.parametrize(("name", "family"), [("noisymnist", mnist.FAMILY), ("noisyfashion", fashion_mnist.FAMILY)])
def test_the_noisy_sets_have_two_views_of_all_images(folders: Folders, tmp_path: Path, name: str, family: Any) -> None:
    write_idx(tmp_path / "data" / family.name, family, 30)
    data = load(DataRef(name), folders)
    assert (data.info.shapes, data.info.n_samples, data.info.n_clusters) == (((1, 28, 28),) * 2, 40, 10)
    assert (data.info.bounds, data.info.scale) == ((0.0, 1.0), 1.0)
    assert data.views[0].equal(load(DataRef(family.name), folders).views[0])
    assert labels_of(data) == [i % 10 for i in range(30)] + list(family.first_labels)


def test_patchedmnist_has_three_views_of_the_digits_0_1_and_2(folders: Folders, tmp_path: Path) -> None:
    write_idx(tmp_path / "data" / "mnist", mnist.FAMILY, 40)
    data = load(DataRef("patchedmnist"), folders)
    assert (data.info.shapes, data.info.n_clusters, data.info.n_samples) == (((1, 28, 28),) * 3, 3, 12 + 4)
    assert labels_of(data) == [0, 1, 2] * 4 + [2, 1, 0, 1]
    whole = mnist.read(folders)
    rows = np.flatnonzero(np.asarray(whole.labels) < 3)
    pixels = (whole.views[0][rows][:, None] / np.float32(255)).astype(np.float32)
    for view, expected in zip(data.views, patches(pixels, (0, 1, 3)), strict=True):
        np.testing.assert_array_equal(view.numpy(), expected)
    assert patchedmnist.POSITIONS == (0, 1, 3)


def test_what_views_are_made_of_goes_with_the_rows_and_with_a_prepared_copy(folders: Folders, tmp_path: Path) -> None:
    write_idx(tmp_path / "data" / "mnist", mnist.FAMILY, 40)
    data = load(DataRef("noisymnist"), folders)
    assert data.labels is not None
    assert data.sources is not None
    np.testing.assert_array_equal(data.sources, sources(data.labels))
    few = take(data, np.array([3, 1])).sources
    assert few is not None
    np.testing.assert_array_equal(few, data.sources[[3, 1]])
    cache.write(data, folders, mnist.find(folders) or ())
    copy = load(DataRef("noisymnist"), folders).sources
    assert copy is not None
    np.testing.assert_array_equal(copy, data.sources)
    assert load(DataRef("mnist"), folders).sources is None


def made(folders: Folders, *, limit: int | None = None, name: str = "noisy:mine", **arrays: Any) -> Dataset:
    pixels = np.round(255 * images()[:, 0]).astype(np.uint8)
    np.savez(data_dir(folders) / "mine.npz", **({"x": pixels, "y": LABELS} | arrays))
    return load(DataRef(name, limit=limit), folders)


def test_the_bytes_of_a_construction_never_change(folders: Folders) -> None:
    """The digest of the first release: another one means that every machine and version has other data."""
    digest = "f4d23b0465e58925b9a05ca028b6e3a5dc60aae6ae1b70c3c7062d1d3b4fd3a3"
    assert made(folders).info.sha256 == digest


def test_any_single_view_image_file_can_be_made_noisy(folders: Folders) -> None:
    data, plain = made(folders), made(folders, name="mine")
    assert [view.shape for view in data.views] == [(60, 1, 8, 8)] * 2
    assert data.views[0].equal(plain.views[0])
    np.testing.assert_array_equal(data.views[1].numpy(), noisy([plain.views[0].numpy()], LABELS)[1])
    assert (data.info.name, data.source) == ("noisy:mine", "mine.npz")


def test_a_limit_is_taken_before_the_pairs_are_made(folders: Folders) -> None:
    """Both views are built of the same 30 images, 10 of each class."""
    few = made(folders, limit=30)
    assert np.bincount(labels_of(few)).tolist() == [10, 10, 10]
    whole = made(folders, name="mine").views[0]
    assert all(any(image.equal(other) for other in whole) for image in few.views[0] * few.views[0].max())
    np.testing.assert_array_equal(few.views[1].numpy(), noisy([few.views[0].numpy()], labels_of(few))[1])


def test_noisy_images_can_be_vectors(folders: Folders) -> None:
    made(folders)
    data = load(DataRef("noisy:mine", flatten=True, normalize="none"), folders)
    assert data.info.shapes == ((64,), (64,))
    assert data.views[1].unflatten(1, (1, 8, 8)).equal(made(folders).views[1])


def test_the_command_line_takes_noisy_names_and_paths() -> None:
    by_path = StageOptions(model="simvc", data="noisy:far/mnist10k.npz", limit=100)
    assert (by_path.path, by_path.ref.name, by_path.ref.limit) == (Path("far/mnist10k.npz"), "noisy:mnist10k", 100)
    by_name = StageOptions(model="simvc", data="noisy:mnist-test")
    assert (by_name.path, by_name.ref.name) == (None, "noisy:mnist-test")
    plain = StageOptions(model="simvc", data="far/mnist10k.npz")
    assert (plain.path, plain.ref.name) == (Path("far/mnist10k.npz"), "mnist10k")


PIXELS = np.zeros((60, 8, 8), np.uint8)
PIXELS[::2] = 9


@pytest.mark.parametrize(
    ("arrays", "name", "error", "sentence"),
    [
        ({"y": LABELS[:-1]}, "noisy:mine", ShapeError, "got x 60, labels 59"),
        ({"x": PIXELS.reshape(60, 64)}, "noisy:mine", ShapeError, r"one view of images .* got \(60, 64\)"),
        ({"view_0": PIXELS, "view_1": PIXELS[1:]}, "mine", ShapeError, "got view_0 60, view_1 59"),
        ({"view_0": PIXELS, "view_2": PIXELS}, "mine", DataError, r"view_0, view_1, ... without a gap"),
        ({"view_0": PIXELS, "view_1": PIXELS, "n_views": 3}, "mine", DataError, "n_views 3, got view_0, view_1"),
        ({"view_0": PIXELS, "view_1": PIXELS[:, 0]}, "mine", ShapeError, r"view_1 must be .* got \(60, 8\)"),
        ({"labels": LABELS}, "mine", DataError, "its labels once, got them as y and as labels"),
        ({"view_0": PIXELS, "view_1": PIXELS}, "noisy:mine", ShapeError, r"\(60, 1, 8, 8\), \(60, 1, 8, 8\)"),
    ],
)
def test_views_that_do_not_fit_get_one_sentence(
    folders: Folders, arrays: dict[str, Any], name: str, error: type[RobustClusterError], sentence: str
) -> None:
    given = {"y": LABELS} | arrays
    np.savez(data_dir(folders) / "mine.npz", **({} if "view_0" in given else {"x": PIXELS}) | given)
    with one_sentence(error, sentence):
        load(DataRef(name), folders)


def test_noisy_pairs_need_labels_and_a_single_view(folders: Folders) -> None:
    np.savez(data_dir(folders) / "bare.npz", x=PIXELS)
    with pytest.raises(DataError, match=r"within each class, so the file needs labels \(an array y\)"):
        load(DataRef("noisy:bare", n_clusters=3), folders)
    with pytest.raises(ConfigError, match="noisy: needs a single-view data set, noisymnist has several views"):
        load(DataRef("noisy:noisymnist"), folders)


def test_deepmvcs_own_files_are_read(folders: Folders) -> None:
    views = {f"view_{v}": PIXELS[:, None] / np.float32(9 + v) for v in range(3)}
    np.savez(data_dir(folders) / "mine_train.npz", n_views=3, labels=LABELS, **views)
    data = load(DataRef("mine_train"), folders)
    assert (data.info.shapes, data.info.n_clusters) == (((1, 8, 8),) * 3, 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten persons with 4 visible and 3 thermal images of their own shade, in files of RegDB's names."""
    folder = tmp_path / "data" / "regdb"
    (folder / "idx").mkdir(parents=True)
    for modality, count, mode in (("Visible", 4, "RGB"), ("Thermal", 3, "L")):
        lines = []
        for person in range(10):
            for shot in range(count):
                path = folder / modality / str(person) / f"{modality.lower()} {shot}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                shade = 20 * person + shot
                color: Any = (shade, shade, 0) if mode == "RGB" else shade
                Image.new(mode, (30, 60), color).save(path)
                lines.append(f"{path.relative_to(folder)} {person}")
        (folder / "idx" / f"train_{modality.lower()}_1.txt").write_text("\n".join(lines) + "\n")
    return folder


def shades(view: npt.NDArray[np.generic]) -> list[int]:
    return np.asarray(view)[:, 5, 5, 0].astype(int).tolist()


def test_regdb_pairs_visible_and_thermal_images_of_one_person(folders: Folders, root: Path) -> None:
    assert regdb.find(folders) is not None
    raw = regdb.read(folders)
    visible, thermal = raw.views
    assert visible.shape == thermal.shape == (30, 128, 64, 3)
    assert labels_of(raw) == [person for person in range(10) for _ in range(3)]
    for left, right, person in zip(shades(visible), shades(thermal), labels_of(raw), strict=True):
        assert (left // 20, right // 20) == (person, person)
    rng = np.random.default_rng(7)
    first = [rng.permutation(4)[:3].tolist(), rng.permutation(3).tolist()]
    assert [[s % 20 for s in shades(view)[:3]] for view in raw.views] == first
    assert (visible[:, :, :, 2] == 0).all()
    assert (thermal[..., 0] == thermal[..., 2]).all()
    data = load(DataRef("regdb"), folders)
    assert (data.info.shapes, data.info.n_clusters) == (((3, 128, 64),) * 2, 10)


def test_regdb_is_cut_to_the_first_identities(folders: Folders, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regdb, "IDENTITIES", 4)
    assert set(labels_of(regdb.read(folders))) == {0, 1, 2, 3}


def test_regdbs_plain_index_names_do_too(folders: Folders, root: Path) -> None:
    for name in ("visible", "thermal"):
        (root / "idx" / f"train_{name}_1.txt").rename(root / f"{name}.txt")
    assert regdb.find(folders) == (root, root / "visible.txt", root / "thermal.txt")


def add_line(root: Path, line: str) -> None:
    with (root / "idx" / "train_thermal_1.txt").open("a") as file:
        file.write(f"\n{line}\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Thermal/0/nobody.bmp 0", r"train_thermal_1\.txt names the image .*nobody\.bmp, which is not there"),
        ("Thermal/0/thermal 0.bmp", r"line 32, must be `relative/path label` with a whole number"),
        ("alone", "line 32, must be"),
        ("Thermal/0/thermal 0.bmp 77", r"train_visible_1\.txt names no image of identity 77"),
        ("idx/train_thermal_1.txt 0", r"train_thermal_1\.txt, named in .*, is no readable image"),
    ],
)
def test_a_wrong_line_in_an_index_file_gets_one_sentence(
    folders: Folders, root: Path, line: str, sentence: str
) -> None:
    add_line(root, line)
    with one_sentence(DataError, sentence):
        regdb.read(folders)


def test_without_its_folder_regdb_says_what_it_needs(folders: Folders) -> None:
    assert regdb.find(folders) is None
    with pytest.raises(DataError, match=r"needs a folder .* index files, .*thermal\.txt, lines `relative/path label`"):
        load(DataRef("regdb"), folders)


def test_an_index_of_one_person_is_refused(folders: Folders, root: Path) -> None:
    (root / "idx" / "train_visible_1.txt").write_text("Visible/0/visible 0.bmp 0\n\n")
    with pytest.raises(DataError, match="at least 2 identities, got 1"):
        regdb.read(folders)
