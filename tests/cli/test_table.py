"""`rc table` on committed records: what it loads, and what a reader of a first table sees."""

import json
from pathlib import Path

from tests.cli.command import printed_without, rc, refused


def test_a_table_of_records_is_printed_without_torch_and_scipy() -> None:
    """It answers in a second: PyTorch alone takes two to load, SciPy's statistics one."""
    words = ("table", "table1", "--profile", "cpu", "--from", "tables/results", "--format", "markdown")
    shown = printed_without({"torch", "scipy", "sklearn"}, *words)
    head, _, first, *_ = (line for line in shown.splitlines() if line.startswith("|"))
    assert head.endswith("| d = 64 | marks |")
    assert first.startswith("| MNIST (10,000) | k-means | ACC | ")


def test_a_table_of_ones_own_is_a_file_as_those_of_the_house() -> None:
    Path("my.toml").write_text(
        'title = "Mine"\nsource = "our own"\nstage = "cluster"\nstatistic = "mean±std"\n'
        'rows = ["method"]\ncolumns = ["metric"]\n'
        '[[methods]]\nlabel = "k-means"\nmodels = ["kmeans"]\n[[cells]]\nlabel = "ACC"\nvalues = ["ACC"]\nscale = 100\n'
        '[axes]\ndata = [{ name = "digits", limit = 60 }]\nlatent_dim = [8]\nseed = [0, 1]\n[profile.smoke]\n'
    )
    result = rc("table ./my.toml --profile smoke --quiet --format json")
    assert result.exit_code == 0, result.stderr
    (cell,) = json.loads(result.stdout)["cells"]
    assert (cell["method"], cell["n"]) == ("k-means", 2)
    assert "There is no file no.toml (rc ls tables)" in refused("table no.toml")
