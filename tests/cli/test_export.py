"""`rc export`: an attack's points, in the units of the user's data, with the clusters that the record has."""

import errno
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_iris

from robust_cluster.cli.export import VERB
from robust_cluster.runs.store import RunStore
from tests.cli.command import check_help, rc, refused

ATTACK = "attack --model kmeans --attack pgd --norm linf --rows 40 --profile smoke --threads 1 --quiet"


@pytest.fixture
def run() -> Path:
    """An attack of 0.1 of the range on 100 digits, of which 40 are attacked."""
    assert rc(f"{ATTACK} --data digits --limit 100 --eps 0.1").exit_code == 0
    return next(Path("runs/attack").iterdir())


def test_help_leads_with_examples() -> None:
    check_help("export", VERB)


def test_points_are_in_the_units_of_the_data_and_have_the_records_clusters(run: Path) -> None:
    result = rc(f"export {run} --output moved.npz")
    assert (result.exit_code, result.stdout) == (0, "moved.npz\n")
    (record,) = RunStore(Path("runs")).records("attack")
    with np.load("moved.npz") as found:
        clean, moved, ids = found["clean"], found["moved"], found["ids"]
        before, after = found["before"], found["after"]
    np.testing.assert_allclose(clean, load_digits().data[ids], atol=1e-5)
    assert np.abs(moved - clean).max() == pytest.approx(1.6, abs=1e-4), "0.1 of the range from 0 to 16"
    if find_spec("pyarrow"):
        assert rc(f"export {run} --output moved.parquet --quiet").exit_code == 0
        table = pd.read_parquet("moved.parquet")
        assert table.columns[:4].tolist() == ["row", "before", "after", "0 clean"]
        np.testing.assert_array_equal(table["63 moved"], moved[:, 63])
    assert (moved.min(), moved.max()) == (pytest.approx(0, abs=1e-5), pytest.approx(16, abs=1e-4))
    assert "".join(f"{label:x}" for label in before) == record["samples"]["clean"]
    assert "".join(f"{label:x}" for label in after) == record["samples"]["moved"]
    flip = 100 * record["metrics"]["flip"]
    assert result.stderr == f"40 samples, {flip:.1f} % in another cluster; the record has {flip:.1f} %\n"


def test_the_flipped_ones_as_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rc(f"export {run} --output moved/ --flipped --quiet").stdout == "moved\n"
    table = pd.read_csv("moved/clusters.csv")
    (record,) = RunStore(Path("runs")).records("attack")
    assert len(table) == round(40 * record["metrics"]["flip"]) > 0
    assert (table["before"] != table["after"]).all()
    first = table.iloc[0]
    pixels = np.asarray(Image.open(Path("moved") / first["clean"]))
    np.testing.assert_array_equal(pixels, np.rint(load_digits().images[first["row"]] * 255 / 16))
    assert "moved exists (--force writes into it)" in refused(f"export {run} --output moved/")
    pictures = Image.Image.save

    def full(self: Image.Image, path: Path) -> None:
        if len(list(path.parent.iterdir())) == 3:
            raise OSError(errno.ENOSPC, "full")
        pictures(self, path)

    monkeypatch.setattr(Image.Image, "save", full)
    assert "other cannot be written: No space left on device" in refused(f"export {run} --output other/ --quiet", 1)
    assert sorted(one.name for one in Path().iterdir()) == ["moved", "runs"], "no folder with some of the images"


def test_a_table_keeps_names_of_columns_and_rows_and_undoes_their_scaling() -> None:
    table = load_iris(as_frame=True).frame
    table.insert(0, "name", [f"flower {row}" for row in range(len(table))])
    table.to_csv("iris.csv", index=False)
    assert rc(f"{ATTACK} --data iris.csv --id-column name --normalize standard --eps 0.5").exit_code == 0
    run = next(Path("runs/attack").iterdir())
    assert rc(f"export {run} --data iris.csv --output moved.csv --quiet").exit_code == 0
    found = pd.read_csv("moved.csv")
    known = table.set_index("name").loc[found["row"]]
    for column in table.columns[1:-1]:
        np.testing.assert_allclose(found[f"{column} clean"], known[column], rtol=1e-4)
        step = np.abs(found[f"{column} moved"] - found[f"{column} clean"]).max()
        assert step <= 0.5 * table[column].std(ddof=0) * (1 + 1e-3), "half a standard deviation of its column"


def test_what_cannot_be_exported_is_refused(run: Path) -> None:
    Path("there.csv").write_text("precious")
    assert "there.csv exists" in refused(f"export {run} --output there.csv")
    assert "--output must end in" in refused(f"export {run} --output there.txt")
    cluster = next(Path("runs/cluster").iterdir())
    assert "points are of an attack or reattack run" in refused(f"export {cluster} --output x.npz")
