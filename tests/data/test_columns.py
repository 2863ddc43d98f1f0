"""Vectors whose columns are normalized each by itself, and a word where one column outweighs all others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_wine
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from robust_cluster.data import cache
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load, source_files
from robust_cluster.data.summary import lines
from robust_cluster.errors import ConfigError
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

WINE = load_wine()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    np.savez(tmp_path / "wine.npz", x=WINE.data, y=WINE.target)
    return Folders(tmp_path, cache=tmp_path / "cache", system=())


def wine(folders: Folders, normalize: Any) -> Dataset:
    return load(DataRef("wine", normalize=normalize), folders)


@pytest.mark.parametrize(("normalize", "scaler"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
def test_columns_are_normalized_as_by_scikit_learn_and_the_way_back_is_kept(
    folders: Folders, normalize: str, scaler: Any
) -> None:
    data = wine(folders, normalize)
    np.testing.assert_allclose(data.views[0].numpy(), scaler.fit_transform(WINE.data), atol=1e-5)  # type: ignore[union-attr]
    assert data.info.columns is not None
    (shift,), (scale,) = data.info.columns.shift, data.info.columns.scale
    np.testing.assert_allclose(data.views[0].numpy() / scale + shift, WINE.data, rtol=1e-4, atol=1e-3)  # type: ignore[union-attr]
    assert data.info.box == ((0.0, 1.0) if normalize == "minmax" else None)
    assert (data.info.unit, data.info.scale, data.notes) == (1.0, 1.0, ())
    assert lines(data)[0].endswith(f"every column scaled by itself ({normalize})")


def test_a_constant_column_becomes_zero(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(12, 3))
    x[:, 1] = 7
    np.savez(tmp_path / "flat.npz", x=x, y=np.arange(12) % 2)
    data = load(DataRef("flat", normalize="standard"), Folders(tmp_path))
    assert not data.views[0][:, 1].any()


def test_a_prepared_copy_knows_its_columns(folders: Folders) -> None:
    data = wine(folders, "standard")
    cache.write(data, folders, source_files(data.ref, folders, path=None))
    again = wine(folders, "standard")
    assert again.info == data.info
    assert again.views[0].equal(data.views[0])  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize("normalize", ["standard", "minmax"])
def test_what_cannot_be_normalized_by_column_is_refused(tmp_path: Path, normalize: Any) -> None:
    scipy.sparse.save_npz(tmp_path / "thin.npz", scipy.sparse.random(20, 5, 0.5, "csr", random_state=0))
    with pytest.raises(ConfigError, match="would fill the zeros of thin, which is sparse"):
        load(DataRef("thin", normalize=normalize, n_clusters=2), Folders(tmp_path))
    with pytest.raises(ConfigError, match=f"--normalize {normalize} is for vectors, digits-28 are images"):
        load(DataRef("digits-28", normalize=normalize), Folders(tmp_path))


def test_one_column_with_nearly_all_of_the_variance_is_told(folders: Folders, tmp_path: Path) -> None:
    (note,) = wine(folders, "alrdc").notes
    assert note.startswith("column 12 has 100% of the variance, so that the others hardly count: --normalize standard")
    np.savez(tmp_path / "even.npz", x=StandardScaler().fit_transform(WINE.data), y=WINE.target)
    assert load(DataRef("even"), folders).notes == ()
    assert load(DataRef("digits"), folders).notes == ()


def test_k_means_finds_the_wines_once_their_columns_count_alike_and_the_record_says_in_which_units(
    folders: Folders, tmp_path: Path
) -> None:
    found = {}
    for normalize in ("alrdc", "standard"):
        data = wine(folders, normalize)
        settings = {"model.n_init": 1, "attack.norm": "linf", "attack.eps": 0.5}
        request = Request("attack", data.ref, "kmeans", attack="pgd", profile="smoke", overrides=settings)
        context = Context(RunStore(tmp_path / normalize), data, "smoke", device="cpu", threads=1)
        found[normalize] = execute(plan(request, data.info), context)[-1]
    assert found["alrdc"]["metrics"]["ACC"] < 0.75
    assert found["standard"]["metrics"]["ACC"] > 0.95
    assert found["standard"]["threat"]["unit"] == "standard deviations of each column"
    assert found["standard"]["threat"]["eps_data"] is None
    assert found["alrdc"]["threat"]["unit"] == "units of the data"
    assert len(found["standard"]["data"]["columns"]["shift"][0]) == 13
    assert found["alrdc"]["data"]["columns"] is None


def test_keys_of_runs_that_do_not_use_it_stay() -> None:
    spec = RunSpec("cluster", DataRef("wine"), "ab" * 32, "kmeans", 64, 0)
    assert spec.key == "48fbe4b4a87b"
