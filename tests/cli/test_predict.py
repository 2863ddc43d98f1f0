"""`rc predict`: the labels that a run was scored by, and those of new rows."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from robust_cluster.cli.predict import VERB, written
from robust_cluster.errors import StoreError
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from tests.cli.command import check_help, rc, refused

WORDS = "cluster --model kmeans --data iris.csv --id-column name --normalize standard --quiet"


@pytest.fixture
def run() -> Path:
    """k-means on the iris, whose rows have names, with every column at variance 1."""
    table = load_iris(as_frame=True).frame
    table.insert(0, "name", [f"flower {row}" for row in range(len(table))])
    table.to_csv("iris.csv", index=False)
    assert rc(WORDS).exit_code == 0
    (found,) = Path("runs/cluster").iterdir()
    return found


def labels(words: str) -> dict[str, int]:
    result = rc(words)
    assert result.exit_code == 0, result.stderr
    lines = [line.split(",") for line in result.stdout.splitlines()]
    assert lines[0][:2] == ["name", "label"]
    return {line[0]: int(line[1]) for line in lines[1:]}


def test_help_leads_with_examples() -> None:
    check_help("predict", VERB)


def test_the_labels_of_the_training_rows_have_the_scores_of_the_record(run: Path) -> None:
    found = labels(f"predict {run} --data iris.csv")
    assert list(found) == [f"flower {row}" for row in range(150)]
    (record,) = RunStore(Path("runs")).records()
    truth = load_iris().target
    assert accuracy(truth, np.array(list(found.values()))) == record["metrics"]["ACC"]


def test_new_rows_are_scaled_as_the_training_rows_and_their_columns_found_by_name(run: Path) -> None:
    whole = pd.read_csv("iris.csv")
    some = whole.iloc[[140, 3, 70]]
    some[[*whole.columns[::-1]]].to_csv("some.csv", index=False)
    before = labels(f"predict {run} --data iris.csv")
    found = labels(f"predict {run} --data some.csv")
    assert found == {name: before[name] for name in ("flower 140", "flower 3", "flower 70")}
    some.iloc[:1].to_csv("one.csv", index=False)
    assert labels(f"predict {run} --data one.csv") == {"flower 140": before["flower 140"]}


def test_soft_labels_and_embedding_are_columns_or_arrays(run: Path) -> None:
    assert rc(f"predict {run} --data iris.csv --soft --embedding --output all.npz").stdout == "all.npz\n"
    with np.load("all.npz") as arrays:
        assert arrays["ids"][149] == "flower 149"
        np.testing.assert_allclose(arrays["soft_labels"].sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(arrays["soft_labels"].argmax(axis=1), arrays["labels"])
        np.testing.assert_allclose(arrays["embedding"].std(axis=0), 1, rtol=1e-4)
        shares, z = arrays["soft_labels"], arrays["embedding"]
    rc(f"predict {run} --data iris.csv --soft --embedding --output all.csv")
    table = pd.read_csv("all.csv")
    assert list(table.columns) == ["name", "label", *(f"share_{k}" for k in range(3)), *(f"z_{j}" for j in range(4))]
    np.testing.assert_allclose(table[["share_0", "share_1", "share_2"]], shares, rtol=1e-5)
    np.testing.assert_allclose(table.iloc[:, -4:], z, rtol=1e-5)


def test_rows_of_a_named_data_set_are_numbered_as_in_its_files() -> None:
    assert rc("cluster --model kmeans --data digits --limit 40 --subset 3,7 --quiet").exit_code == 0
    (run,) = Path("runs/cluster").iterdir()
    rows = [int(line.split(",")[0]) for line in rc(f"predict {run}").stdout.splitlines()[1:]]
    from sklearn.datasets import load_digits

    assert (len(rows), set(load_digits().target[rows])) == (40, {3, 7})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(columns="petal width (cm)"), "lacks petal width (cm) of the 4 columns"),
        (lambda table: table.assign(**{"petal width (cm)": "wide"}), "must hold numbers, as in the data"),
        (lambda table: table.iloc[:0], "must hold at least 1 sample"),
    ],
)
def test_rows_that_are_not_like_those_of_the_run_are_refused(run: Path, change: object, sentence: str) -> None:
    change(pd.read_csv("iris.csv")).to_csv("other.csv", index=False)  # type: ignore[operator]
    assert sentence in refused(f"predict {run} --data other.csv --quiet", 1)
    np.save("other.npy", np.ones((3, 7), np.float32))
    assert "samples of 7 columns, the model was trained on 4 columns" in refused(f"predict {run} --data other.npy", 1)


def test_an_output_is_not_overwritten_unless_told(run: Path) -> None:
    Path("mine.csv").write_text("precious")
    assert "mine.csv exists (--force replaces it)" in refused(f"predict {run} --data iris.csv --output mine.csv")
    assert Path("mine.csv").read_text() == "precious"
    assert rc(f"predict {run} --data iris.csv --output mine.csv --force --quiet").exit_code == 0
    assert "--output must end in .csv, .npz, .parquet" in refused(f"predict {run} --output mine.txt")
    assert "cannot be written" in refused(f"predict {run} --data iris.csv --quiet --output no/folder.csv", 1)


def test_an_output_that_cannot_be_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("folder.csv").mkdir()
    assert "folder.csv cannot be written: folder.csv is a folder" in refused("predict runs --output folder.csv -q", 1)
    assert "there is no folder no" in refused("predict runs --output no/folder.csv --quiet", 1)
    monkeypatch.setattr("robust_cluster.cli.predict.find_spec", lambda name: None)
    assert "pip install 'robust_cluster[parquet]'" in refused("predict runs --output x.parquet --quiet", 1)


def test_a_full_disk_leaves_what_was_there_and_no_half_file() -> None:
    path = Path("labels.csv")
    path.write_text("precious")

    def fill(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "in the words of some library")

    with pytest.raises(StoreError, match=r"^labels.csv cannot be written: No space left on device$"):
        written(path, fill)
    assert [one.name for one in Path().iterdir()] == ["labels.csv"]
    assert path.read_text() == "precious"


@pytest.mark.parametrize("embedding", ["", " --embedding"])
def test_parquet_holds_what_csv_does(run: Path, embedding: str) -> None:
    pytest.importorskip("pyarrow")
    for suffix in ("csv", "parquet"):
        result = rc(f"predict {run} --data iris.csv --soft --output labels.{suffix} --quiet{embedding}")
        assert result.exit_code == 0, result.stderr
    pd.testing.assert_frame_equal(pd.read_parquet("labels.parquet"), pd.read_csv("labels.csv"), check_dtype=False)


def test_a_run_without_clusters_or_checkpoint_is_refused(run: Path) -> None:
    (run / "model.pt").unlink()
    assert "is missing (rc cluster with --force makes it anew)" in refused(f"predict {run} --data iris.csv -q", 1)
    assert "There is no run in nowhere" in refused("predict nowhere", 3)
    spec = RunSpec("pretrain", DataRef("digits"), "0" * 64, "ae_kmeans", 64, 0)
    from robust_cluster.stages.predict import model_of

    with pytest.raises(Exception, match="has no clusters yet"):
        model_of(spec)


def test_several_numbers_of_clusters_are_runs_of_their_own_with_scores_that_need_no_labels() -> None:
    corners = np.array([[0, 0], [0, 9], [9, 0], [9, 9]], np.float32)
    np.save("x.npy", np.repeat(corners, 20, axis=0) + np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32))
    result = rc("cluster --model kmeans --data x.npy --clusters 2,4,6 --quiet")
    assert result.exit_code == 0, result.stderr
    head, *rows = [line.split("  ") for line in result.stdout.splitlines()]
    assert "silhouette, embedding" in [one.strip() for one in head]
    records = RunStore(Path("runs")).records()
    found = {record["spec"]["data"]["n_clusters"]: record["internal"]["data"]["silhouette"] for record in records}
    assert max(found, key=found.__getitem__) == 4
    assert len(rows) == 3
    assert "--clusters takes distinct whole numbers" in refused("cluster --model kmeans --data x.npy --clusters 2,2")
