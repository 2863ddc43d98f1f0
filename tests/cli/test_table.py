"""`rc table` on committed records: what it loads, and what a reader of a first table sees."""

from tests.cli.command import printed_without


def test_a_table_of_records_is_printed_without_torch_and_scipy() -> None:
    """It answers in a second: PyTorch alone takes two to load, SciPy's statistics one."""
    words = ("table", "table1", "--profile", "cpu", "--from", "tables/results", "--format", "markdown")
    shown = printed_without({"torch", "scipy", "sklearn"}, *words)
    head, _, first, *_ = (line for line in shown.splitlines() if line.startswith("|"))
    assert head.endswith("| d = 64 | marks |")
    assert first.startswith("| MNIST (10,000) | k-means | ACC | ")
