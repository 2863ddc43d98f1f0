"""Sparse data: batches equal the dense ones, nothing else of a run differs, and what is damaged is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse
import torch

from robust_cluster.data import files
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import digest, load, part, take
from robust_cluster.data.sparse import SparseView, canonical, view_of
from robust_cluster.errors import DataError, ShapeError
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir, labels_of

LABELS = np.arange(40) % 4


def matrix(n: int = 40, d: int = 9, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """About a third of the entries, and none of row 3 and of column 5."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((n, d)) < 0.3, rng.normal(size=(n, d)), 0).astype(np.float32)
    x[3], x[:, 5] = 0, 0
    return x


def save(folder: Path, name: str, content: Any, labels: Any = LABELS) -> Path:
    path = folder / f"{name}.npz"
    scipy.sparse.save_npz(path, content)
    if labels is not None:
        np.save(folder / f"{name}.labels.npy", labels)
    return path


def sparse_and_dense(folders: Folders, **ref: Any) -> tuple[Dataset, Dataset]:
    save(data_dir(folders), "mine", scipy.sparse.csr_array(matrix()))
    np.savez(data_dir(folders) / "plain.npz", x=matrix(), y=LABELS)
    path = data_dir(folders) / "plain.npz"
    return load(DataRef("mine", **ref), folders), load(DataRef("mine", **ref), folders, path=path)


def view(data: Dataset) -> SparseView:
    (found,) = data.views
    assert isinstance(found, SparseView)
    return found


@pytest.mark.parametrize("index", [[0, 1, 2], [39, 3, 3, 17], [], [3]])
def test_rows_of_a_sparse_view_are_the_rows_of_the_dense_one(index: list[int]) -> None:
    x, rows = torch.from_numpy(matrix()), torch.tensor(index, dtype=torch.int64)
    sparse = view_of(canonical(scipy.sparse.csr_array(matrix())))
    assert torch.equal(sparse[rows], x[rows])
    assert torch.equal(sparse.select(rows)[:], x[rows])
    assert torch.equal(sparse[5:9], x[5:9])
    assert (len(sparse), tuple(sparse.shape), sparse.ndim) == (40, (40, 9), 2)
    assert torch.equal(sparse.to(torch.device("cpu"), memory_format=torch.contiguous_format)[:], x)


@pytest.mark.parametrize("ref", [{}, {"normalize": "none"}, {"limit": 12}, {"split": "halves"}, {"flatten": True}])
def test_a_sparse_file_is_prepared_like_its_dense_form(folders: Folders, ref: dict[str, Any]) -> None:
    sparse, dense = sparse_and_dense(folders, **ref)
    assert labels_of(sparse) == labels_of(dense)
    assert torch.equal(view(sparse)[:], dense.views[0])  # type: ignore[arg-type]
    assert sparse.info.shapes == dense.info.shapes
    assert sparse.info.scale == dense.info.scale
    assert sparse.info.mean_square == pytest.approx(dense.info.mean_square, rel=1e-6)
    for which in (1, 2):
        assert torch.equal(view(part(sparse, which))[:], part(dense, which).views[0])  # type: ignore[arg-type]
    rows = np.array([1, 3, 5])
    assert torch.equal(view(take(sparse, rows))[:], dense.views[0][torch.from_numpy(rows)])


def test_the_digest_of_a_sparse_view_sees_entries_columns_and_shape() -> None:
    x = canonical(scipy.sparse.csr_array(matrix()))
    wider = scipy.sparse.csr_array((x.data, x.indices, x.indptr), shape=(40, 10))
    moved = scipy.sparse.csr_array((x.data, (x.indices + 1) % 9, x.indptr), shape=(40, 9))
    other = scipy.sparse.csr_array((2 * x.data, x.indices, x.indptr), shape=(40, 9))
    digests = {digest([m], None) for m in (x, wider, canonical(moved), other, matrix())}  # type: ignore[list-item]
    assert len(digests) == 5
    wide = scipy.sparse.csr_array((x.data, x.indices.astype(np.int64), x.indptr.astype(np.int64)), shape=(40, 9))
    assert digest([wide], LABELS) == digest([x], LABELS)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_every_form_that_scipy_saves_is_read(tmp_path: Path, form: str) -> None:
    raw = files.read(save(tmp_path, "one", scipy.sparse.csr_array(matrix()).asformat(form)))
    assert np.array_equal(raw.views[0].toarray(), matrix())  # type: ignore[union-attr]
    assert labels_of(raw) == LABELS.tolist()


def test_entries_that_stand_twice_are_added_and_zeros_are_no_entries() -> None:
    doubled = scipy.sparse.csr_array(([1.0, 2.0, 0.0, 4.0], [2, 2, 0, 1], [0, 3, 4]), shape=(2, 3))
    found = canonical(doubled)
    assert (found.data.tolist(), found.indices.tolist(), found.indptr.tolist()) == ([3, 4], [2, 1], [0, 1, 2])
    assert doubled.nnz == 4


def test_a_sparse_matrix_with_labels_of_its_own_is_read(tmp_path: Path) -> None:
    x = scipy.sparse.csr_array(matrix())
    parts = {"format": b"csr", "shape": x.shape, "data": x.data, "indices": x.indices, "indptr": x.indptr}
    np.savez(tmp_path / "own.npz", **parts, y=LABELS, allow_pickle=False)
    assert labels_of(files.read(tmp_path / "own.npz")) == LABELS.tolist()
    np.save(tmp_path / "own.labels.npy", LABELS)
    with pytest.raises(DataError, match=r"own.npz must hold its labels once, got them as y and as own\.labels\.npy"):
        files.read(tmp_path / "own.npz")


def test_indices_outside_of_the_matrix_are_refused(tmp_path: Path) -> None:
    x = scipy.sparse.csr_array(matrix())
    bad = x.indices.copy()
    bad[4] = 9
    np.savez(tmp_path / "bad.npz", format=b"csr", shape=x.shape, data=x.data, indices=bad, indptr=x.indptr)
    with pytest.raises(DataError, match="a sparse matrix is damaged"):
        files.read(tmp_path / "bad.npz")


def holed() -> npt.NDArray[np.float32]:
    x = matrix()
    x[np.nonzero(x)[0][0], np.nonzero(x)[1][0]] = np.nan
    return x


SAME = np.tile(matrix()[:1], (40, 1))


@pytest.mark.parametrize(
    ("content", "labels", "error", "sentence"),
    [
        (holed(), LABELS, DataError, "mine: x has 1 values that are NaN, infinite or too large for float32"),
        (SAME, LABELS, DataError, "every sample of x is the same"),
        (0 * matrix(), LABELS, DataError, "every sample of x is the same"),
        (matrix(), LABELS[:-1], ShapeError, "the same number of samples, got x 40, labels 39"),
        (matrix()[:1], None, DataError, r"at least 2 samples of at least 1 value, got \(1, 9\)"),
    ],
)
def test_a_sparse_file_that_cannot_be_used_gets_one_sentence(
    folders: Folders, content: Any, labels: Any, error: type[Exception], sentence: str
) -> None:
    save(data_dir(folders), "mine", scipy.sparse.csr_array(content), labels)
    with pytest.raises(error, match=sentence):
        load(DataRef("mine", n_clusters=2), folders)


def test_views_of_images_are_not_built_of_a_sparse_matrix(folders: Folders) -> None:
    path = save(data_dir(folders), "mine", scipy.sparse.csr_array(matrix()))
    with pytest.raises(ShapeError, match="several views are built of images, got a sparse matrix"):
        load(DataRef("noisy:mine"), folders, path=path)


def test_constant_columns_are_kept(folders: Folders) -> None:
    sparse, dense = sparse_and_dense(folders)
    assert view(sparse)[:][:, 5].eq(0).all()
    assert dense.info.shapes == sparse.info.shapes == ((9,),)


def test_an_svmlight_file_is_read_sparse_with_its_labels(folders: Folders) -> None:
    (data_dir(folders) / "mine.libsvm").write_text("+1 1:0.5 3:2 # first\n-1 2:1.5\n+1 3:4\n")
    data = load(DataRef("mine", normalize="none"), folders)
    assert view(data)[:].tolist() == [[0.5, 0, 2], [0, 1.5, 0], [0, 0, 4]]
    assert labels_of(data) == [1, 0, 1]
    assert data.source == "mine.libsvm"


def test_an_svmlight_file_without_classes_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "none.svm").write_text("0 1:0.5\n0 2:1.5\n")
    assert files.read(tmp_path / "none.svm").labels is None


@pytest.mark.parametrize("text", ["", "word 1:2\n", "1 1:2 1:x\n", "1,2 1:3\n"])
def test_what_is_no_svmlight_file_gets_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.svmlight").write_text(text)
    with pytest.raises(DataError, match=r"odd\.svmlight (is no svmlight file|holds no sample)"):
        files.read(tmp_path / "odd.svmlight")
