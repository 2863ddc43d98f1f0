"""`rc table` on committed records: what it loads, and what a reader of a first table sees."""

import json
from pathlib import Path

from tests.cli.command import printed_without, rc, refused
from tests.report.toy import record

ROW = '[[methods]]\nlabel = "k-means"\nmodels = ["kmeans"]\n'
OWN = f"""title = "Mine"
source = "our own"
stage = "cluster"
statistic = "mean±std"
rows = ["method"]
columns = ["metric"]
{ROW}[[cells]]
label = "ACC"
values = ["ACC"]
scale = 100
[axes]
data = [{{ name = "digits", limit = 60 }}]
latent_dim = [8]
seed = [0, 1]
[profile.smoke]
"""


def test_a_table_of_records_is_printed_without_torch_and_scipy() -> None:
    """It answers in a second: PyTorch alone takes two to load, SciPy's statistics one."""
    words = ("table", "table1", "--profile", "cpu", "--from", "tables/results", "--format", "markdown")
    shown = printed_without({"torch", "scipy", "sklearn"}, *words)
    head, _, first, *_ = (line for line in shown.splitlines() if line.startswith("|"))
    assert head.endswith("| d = 64 | marks |")
    assert first.startswith("| MNIST (10,000) | k-means | ACC | ")


def test_a_table_of_ones_own_is_a_file_as_those_of_the_house() -> None:
    Path("my.toml").write_text(OWN)
    result = rc("table ./my.toml --profile smoke --quiet --format json")
    assert result.exit_code == 0, result.stderr
    (cell,) = json.loads(result.stdout)["cells"]
    assert (cell["method"], cell["n"]) == ("k-means", 2)
    assert "There is no file no.toml (rc ls tables)" in refused("table no.toml")


def test_a_row_that_asks_for_a_precision_is_trained_at_it() -> None:
    row = '[[methods]]\nlabel = "at {0}"\nmodels = ["kmeans"]\nprecision = "{0}"\n'
    Path("my.toml").write_text(OWN.replace(ROW, "".join(map(row.format, ("highest", "bf16")))))
    result = rc("table ./my.toml --profile smoke --quiet --format json")
    assert result.exit_code == 0, result.stderr
    flags = {cell["method"]: cell["flags"] for cell in json.loads(result.stdout)["cells"]}
    assert flags == {"at highest": [], "at bf16": ["precision bf16"]}


def test_runs_of_ones_own_are_averaged_over_seeds_and_none_is_exit_code_3() -> None:
    Path("found").mkdir()
    some = [record("cluster", seed=seed, metrics={"ACC": 0.5 + seed / 10}) for seed in (0, 1, 2)]
    some += [record("cluster", model="dec", metrics={"ACC": 0.9}), record("cluster", profile="cpu", latent_dim=5)]
    Path("found/runs.json").write_text(json.dumps(some))
    result = rc("table runs --model convae,dec --data stl10.npz --profile smoke --from found --format json")
    assert result.exit_code == 0, result.stderr
    cells = json.loads(result.stdout)["cells"]
    assert [(cell["model"], cell["mean"], cell["std"], cell["n"]) for cell in cells] == [
        ("convae", 60.0, 10.0, 3),
        ("dec", 90.0, None, 1),
    ]
    assert rc("table runs --seed 1 --from found --format csv").stdout.count("\n") == 2
    sentence = refused("table runs --model dec --data my.csv --attack pgd", 3)
    assert "No finished run in runs is of stage attack, model dec, data my.csv, attack pgd (rc runs ls)" in sentence


def test_what_says_nothing_of_runs_or_of_a_table_is_refused() -> None:
    assert "runs are shown as they are: it takes no --compare" in refused("table runs --compare")
    assert "lpvdn1 says itself which runs it has: it takes no --model" in refused("table lpvdn1 --model dec")
    assert "claims are judged by the runs that exist: it takes no --bold" in refused("table claims --bold best")
