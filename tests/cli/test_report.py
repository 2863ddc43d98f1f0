"""`rc report`: the file of many runs as a user makes it, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from robust_cluster.cli.report import VERB
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from tests.cli.command import check_help, rc, refused
from tests.made import MADE


def finished(seed: int = 0) -> dict[str, object]:
    """A k-means run on the digits in ./runs."""
    spec = RunSpec("cluster", DataRef("digits"), "0" * 64, "kmeans", 64, seed)
    with RunStore(Path("runs")).own(spec) as run:
        run.log({"epoch": 1, "losses": {"inertia": 2.0}})
        return run.finish({**MADE, "metrics": {"ACC": 0.5}})


def test_the_help_leads_with_its_examples() -> None:
    check_help("report", VERB)


@pytest.mark.slow
def test_a_report_of_a_runs_directory_is_written_and_a_damaged_run_named() -> None:
    record = finished()
    other = RunStore(Path("runs")).path(RunSpec.from_json({**record["spec"], "seed": 1}))  # type: ignore[dict-item]
    other.mkdir(parents=True)
    (other / "result.json").write_text('{"key": ')
    result = rc("report --output out/r.html")
    assert (result.exit_code, result.stdout) == (0, "out/r.html\n")
    place = other.relative_to("runs") / "result.json"
    assert f"error: left out: {place} is not valid JSON" in result.stderr
    text = Path("out/r.html").read_text(encoding="utf-8")
    assert str(record["key"]) in text
    assert f"{place} is not valid JSON" in text
    assert "loss: inertia" in text  # which only the run's log has


def test_what_there_is_no_report_of_is_said_and_nothing_is_written() -> None:
    assert refused("report", 3) == ("error: There is no record of a run (rc table NAME makes a table's runs)\n")
    assert "There is no folder of results nowhere" in refused("report --from nowhere", 3)
    record = finished()
    Path("records").mkdir()
    Path("records/a.json").write_text(json.dumps(record))
    assert "Unknown table 'tabel1'. Did you mean 'table1'?" in refused("report --from records --only table=tabel1")
    assert "it takes no --data-dir" in refused("report --from records --data-dir .")
    assert not Path("report.html").exists()


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_an_error() -> None:
    finished()
    Path("r.html").mkdir()
    assert "The report cannot be written to r.html: " in refused("report --output r.html -q", 1)


@pytest.mark.slow
def test_a_run_has_a_report_of_its_own_with_what_its_data_allow() -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))
    few = "--set model.pretrain.epochs=1 --set model.cluster.epochs=2 --set attack.schedule.epochs=1 --quiet"
    flags = "--model convae --data x.npy --clusters 3 --dim 4 --profile smoke --threads 1"
    assert rc(f"attack {flags} {few}").exit_code == 0
    (run,) = Path("runs/attack").iterdir()
    result = rc(f"report {run} --output r.html --data x.npy")
    assert (result.exit_code, result.stdout) == (0, "r.html\n"), result.stderr
    text = Path("r.html").read_text(encoding="utf-8")
    for heading in ("Losses", "Embedding", "Confusion"):
        assert re.search(rf">{heading}</h2>\n<figure", text), heading
    first = Path("r.html").read_bytes()
    assert rc(f"report {run} --output r.html --data x.npy").exit_code == 0
    assert Path("r.html").read_bytes() == first
    without = rc(f"report {run} --output s.html")
    assert without.exit_code == 0
    assert "no figure embedding: The run's data x are a file of yours, which is not there" in without.stderr
    assert "No figure: The run&#39;s data x are a file of yours" in Path("s.html").read_text(encoding="utf-8")
    assert "a report of one run shows all of it: it takes no --from" in refused(f"report {run} --from runs")
    (pretrain,) = Path("runs/pretrain").iterdir()
    assert rc(f"report {pretrain}").exit_code == 0
    assert ">Embedding</h2>" not in Path("report.html").read_text(encoding="utf-8")
