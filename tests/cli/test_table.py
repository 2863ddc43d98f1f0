"""`rc table` on committed records: what it loads, and what a reader of a first table sees."""

import subprocess
import sys
from pathlib import Path

from robust_cluster.cli import app as entry

ROOT = Path(entry.__file__).parents[2]


def test_a_table_of_records_is_printed_without_torch_and_scipy() -> None:
    """It answers in a second: PyTorch alone takes two to load, SciPy's statistics one."""
    code = (
        "import sys; from robust_cluster.cli.app import app\n"
        "try: app(['table', 'table1', '--profile', 'cpu', '--from', 'tables/results', '--format', 'markdown'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "loaded = {'torch', 'scipy', 'sklearn'} & set(sys.modules); assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stderr.strip()) == (0, "")
    head, _, first, *_ = (line for line in result.stdout.splitlines() if line.startswith("|"))
    assert head.endswith("| d = 64 | marks |")
    assert first.startswith("| MNIST (10,000) | k-means | ACC | ")
