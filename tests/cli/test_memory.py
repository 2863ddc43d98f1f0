"""What a user reads where a method would take more memory than there is."""

import json
from pathlib import Path

import pytest

from tests.cli.command import rc

BOUND = "--data digits --limit 300 --profile smoke --threads 1 --set model.memory=0.0001"
SENTENCE = "rbf_kmeans needs 0.38 MiB of memory, 0.1 MiB are available (--limit N, or a machine with more memory)"
TOY = """
title = "Toy"
source = "Nobody, 2020"
stage = "cluster"
statistic = "mean±std"
rows = ["method"]
columns = ["metric"]
[axes]
data = [{ name = "digits", limit = 300 }]
latent_dim = [10]
seed = [0]
[[methods]]
label = "{model}"
models = ["rbf_kmeans", "spectral"]
set = { "model.memory" = 1e-4 }
[[cells]]
label = "ACC"
values = ["ACC"]
[profile.smoke]
"""


def test_a_verb_shows_the_flag_and_ends_with_a_sentence() -> None:
    result = rc(f"cluster --model rbf_kmeans {BOUND}")
    assert result.exit_code == 1
    assert "out of memory" in result.stdout
    assert result.stderr.splitlines()[-1].removeprefix("error: ").removeprefix("Error: ") == SENTENCE
    again = rc(f"cluster --model rbf_kmeans {BOUND} --dry-run --json")
    assert [run["state"] for run in json.loads(again.stdout)] == ["to run"]


def test_a_table_prints_oom_and_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.toml").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr("robust_cluster.report.spec.tables_folder", lambda: tmp_path)
    result = rc("table toy --profile smoke --threads 1 --quiet --format markdown --save-records kept")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "| rbf_kmeans | OOM |" in result.stdout
    assert "OOM: the fit needs more memory than there was" in result.stdout
    again = rc("table toy --profile smoke --format markdown --from kept")
    assert (again.exit_code, again.stdout) == (0, result.stdout)
