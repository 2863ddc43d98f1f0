"""Figures of any run: its embedding, its clusters against the classes, its losses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.cli.figure import counted
from robust_cluster.measure.plane import flattened
from robust_cluster.report import model_figures
from tests.cli.command import rc, refused

CONVAE = "--model convae --data digits --limit 100 --dim 8 --profile smoke --threads 1 --quiet"


@pytest.fixture
def run() -> Path:
    few = "--set model.pretrain.epochs=1 --set model.cluster.epochs=2 --set attack.schedule.epochs=1"
    assert rc(f"attack {CONVAE} {few}").exit_code == 0
    return next(Path("runs/attack").iterdir())


@pytest.mark.slow
def test_the_pictures_of_a_run_are_made(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    embedding, confusion = model_figures.embedding, model_figures.confusion
    monkeypatch.setattr(model_figures, "embedding", lambda *a: seen.update(embedding=a) or embedding(*a))
    monkeypatch.setattr(model_figures, "confusion", lambda *a: seen.update(confusion=a) or confusion(*a))
    model = next(Path("runs/cluster").iterdir())
    assert rc(f"figure embedding {run} --color class --output e.png").stdout == "e.png\n"
    title, points, colors, moved, what = seen["embedding"]
    assert (title, what) == ("attack convae on digits-100, seed 0 (pca)", "class")
    assert points.shape == moved.shape == (100, 2)
    assert np.bincount(colors).tolist() == [10] * 10
    assert rc(f"figure confusion {model} --output c.png").stdout == "c.png\n"
    _, counts, rows, _, order = seen["confusion"]
    assert (rows, counts.sum(), sorted(order)) == ("class", 100, list(range(10)))
    assert rc(f"figure confusion {run} --output a.png").exit_code == 0
    assert seen["confusion"][1].sum() == 100
    assert rc(f"figure losses {model} {run} --output l.svg").stdout == "l.svg\n"
    for name in ("reconstruction", "entropy", "size"):
        assert f"<!-- {name} -->" in Path("l.svg").read_text(), name
    for file in ("e.png", "c.png", "a.png"):
        assert Path(file).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_cannot_be_drawn_is_refused(run: Path) -> None:
    pretrain = next(Path("runs/pretrain").iterdir())
    assert "has no clusters yet" in refused(f"figure embedding {pretrain}")
    assert "it takes no --color" in refused(f"figure losses {run} --color class")
    assert "is drawn of one run, got 2" in refused(f"figure confusion {run} {run}")
    assert rc("cluster --model kmeans --data digits --limit 50 --quiet").exit_code == 0
    shallow = next(path for path in Path("runs/cluster").iterdir() if "kmeans" in path.name)
    assert "no run has logged a loss" in refused(f"figure losses {shallow}")
    np.save("x.npy", np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32))
    assert rc("cluster --model kmeans --data x.npy --clusters 2 --quiet").exit_code == 0
    unlabeled = next(path for path in Path("runs/cluster").iterdir() if "-x-" in path.name)
    refusal = refused(f"figure embedding {unlabeled} --color class --data x.npy")
    assert "x has no classes (--color cluster)" in refusal


def test_a_plane_of_two_dimensions_is_the_embedding_itself_and_pca_keeps_distances_within_it() -> None:
    z = np.array([[0.0, 0.0], [3.0, 4.0]])
    points, moved = flattened(z, z + 1, "pca")
    np.testing.assert_array_equal(points, z)
    np.testing.assert_array_equal(moved, z + 1)
    flat = np.random.default_rng(0).normal(size=(20, 2)) @ np.random.default_rng(1).normal(size=(2, 5))
    points, moved = flattened(flat, flat[::-1], "pca")
    expected = np.linalg.norm(flat[:, None] - flat, axis=2)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points, axis=2), expected, atol=1e-8)
    np.testing.assert_allclose(moved, points[::-1], atol=1e-8)
    points, moved = flattened(flat, flat + 0.1, "tsne")
    assert points.shape == moved.shape == (20, 2)


def test_pairs_are_counted_without_what_has_no_class() -> None:
    classes, clusters = np.array([0, 1, -1, 1]), np.array([2, 0, 1, 0])
    assert counted(classes, clusters, 2, 3).tolist() == [[0, 0, 1], [2, 0, 0]]
