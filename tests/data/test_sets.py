"""The built-in data sets, on small files in the published format."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from robust_cluster import discover
from robust_cluster.data import digits_28, fashion_mnist, mnist, mnist_test
from robust_cluster.data.base import Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import DataError
from robust_cluster.runs.spec import DataRef
from tests.data.given import idx, labels_of

MNIST = mnist.FAMILY
FASHION = fashion_mnist.FAMILY


def write_part(folder: Path, part: str, labels: tuple[int, ...], *, suffix: str = "") -> None:
    """Images whose pixels all equal 10 times their label."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.tile(10 * np.array(labels)[:, None, None], (1, 28, 28))
    for name, data in (("images-idx3", idx(images)), ("labels-idx1", idx(labels))):
        path = folder / f"{part}-{name}-ubyte{suffix}"
        path.write_bytes(gzip.compress(data) if suffix else data)


def write_family(folder: Path, family: mnist.Family, *, suffix: str = "") -> None:
    write_part(folder, "train", (3, 8), suffix=suffix)
    write_part(folder, "t10k", family.first_labels, suffix=suffix)


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [("data", ""), ("data/mnist", ".gz"), ("data/MNIST/raw", ""), ("system/mnist", ".gz"), ("cache/MNIST/raw", "")],
)
def test_mnist_is_found_wherever_its_files_may_lie(folders: Folders, tmp_path: Path, folder: str, suffix: str) -> None:
    assert mnist.find(folders) is None
    write_family(tmp_path / folder, MNIST, suffix=suffix)
    assert mnist.find(folders) is not None
    raw = mnist.read(folders)
    assert labels_of(raw) == [3, 8, *MNIST.first_labels]
    assert raw.views[0][:, 0, 0].tolist() == [10 * k for k in labels_of(raw)]
    assert raw.image


def test_the_data_dir_goes_before_the_system_and_the_cache(folders: Folders, tmp_path: Path) -> None:
    for folder, labels in (("cache/mnist", (1,)), ("system/mnist", (2,)), ("data/mnist", (5,))):
        write_part(tmp_path / folder, "t10k", MNIST.first_labels)
        write_part(tmp_path / folder, "train", labels)
    raw = mnist.read(folders)
    assert labels_of(raw)[0] == 5


def test_the_test_set_needs_its_two_files_only(folders: Folders, tmp_path: Path) -> None:
    write_part(tmp_path / "data", "t10k", MNIST.first_labels)
    assert mnist_test.find(folders) is not None
    assert mnist.find(folders) is None
    data = load(DataRef("mnist-test"), folders)
    assert (data.info.n_samples, data.info.shapes, data.info.bounds) == (10, ((1, 28, 28),), (0.0, 1.0))


def test_another_data_set_under_the_same_file_names_is_refused(folders: Folders, tmp_path: Path) -> None:
    write_family(tmp_path / "data", FASHION)
    assert fashion_mnist.read(folders).views[0].shape == (12, 28, 28)
    with pytest.raises(DataError, match=r"another data set under the names of mnist.*<data-dir>/mnist"):
        mnist.read(folders)


def test_files_of_other_shapes_are_refused(folders: Folders, tmp_path: Path) -> None:
    write_family(tmp_path / "data", MNIST)
    (tmp_path / "data" / "train-labels-idx1-ubyte").write_bytes(idx([3]))
    with pytest.raises(DataError, match=r"The train files in .* got \(2, 28, 28\) and \(1,\)"):
        mnist.read(folders)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion-mnist", "train-images-idx3-ubyte.gz (26.4 MB, MD5 8d4fb7e6c68d591d4c3dfef9ec88bf0d)"),
        ("mnist-test", "t10k-images-idx3-ubyte.gz (1.6 MB, MD5 9fb629c4189551a2d022fa330f9573f3)"),
    ],
)
def test_without_files_and_network_one_sentence_says_what_to_do(
    folders: Folders, capfd: pytest.CaptureFixture[str], name: str, file: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(DataRef(name), folders)
    sentence, folder = str(caught.value), name.removesuffix("-test")
    beginning = f"The data set {folder} is not there and could not be downloaded (no route to host): it needs {file}, "
    assert sentence.startswith(beginning)
    assert f"put them into a folder {folder} below the one given as --data-dir" in sentence
    assert ("apt-get install dataset-fashion-mnist" in sentence) == (name == "fashion-mnist")
    assert "\n" not in sentence
    assert capfd.readouterr() == ("", "")


def test_an_unwritable_cache_is_named(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cache.mnist cannot be written: .* \(RC_CACHE=FOLDER"):
        mnist.read(folders)


def test_digits_are_vectors_of_64(folders: Folders) -> None:
    data = load(DataRef("digits"), folders)
    assert (data.info.shapes, data.info.n_clusters, data.info.n_samples) == (((64,),), 10, 1797)
    np.testing.assert_allclose(data.views[0].numpy() / data.info.scale, load_digits().data, rtol=1e-5, atol=1e-5)


def test_resized_digits_keep_their_ink_and_their_side(folders: Folders) -> None:
    raw = digits_28.read(folders)
    source = load_digits().images * (255 / 16)
    assert raw.views[0].shape == (1797, 28, 28)
    assert raw.views[0].dtype == np.uint8
    image = np.asarray(raw.views[0], dtype=np.float64)
    assert image.mean() == pytest.approx(source.mean(), rel=0.03)
    for found, wanted in ((image[:, :14], source[:, :4]), (image[:, :, :14], source[:, :, :4])):
        assert np.corrcoef(found.mean((1, 2)), wanted.mean((1, 2)))[0, 1] > 0.98


@pytest.mark.parametrize("name", discover.names("data"))
def test_each_data_set_describes_and_cites_itself(name: str) -> None:
    module = discover.load("data", name)
    assert len(module.DESCRIPTION) > 20
    assert re.search(r"(19|20)\d\d", module.CITATION)
    assert module.LICENSE
    assert module.COLLECTION is None or all(file.name for file in module.COLLECTION.files)
