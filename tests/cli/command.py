"""`rc`, as a user types it, in this process or one of its own."""

import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from typer import testing
from typer.main import get_command
from typer.testing import CliRunner

from robust_cluster.cli import app as entry

ROOT = Path(entry.__file__).parents[2]
testing._get_command = cache(get_command)  # else every command that is run builds those of all verbs, in 45 ms


def rc(words: str, **env: str) -> Any:
    """The result of a command: exit_code, stdout, stderr."""
    return CliRunner().invoke(entry.app, shlex.split(words), env=env, prog_name="rc")


def refused(words: str, code: int = 2) -> str:
    """The one sentence of a command that is refused and prints nothing else."""
    result = rc(words)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    return str(result.stderr)


def printed_without(modules: set[str], *words: str) -> str:
    """What a command prints in a process of its own, in which it imports none of these modules."""
    code = (
        f"import sys; from robust_cluster.cli.app import app\ntry: app({list(words)})\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"loaded = {modules} & set(sys.modules); assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stderr.strip()) == (0, "")
    return result.stdout


def check_help(words: str, verb: Any) -> None:
    """The help of a verb leads with its examples."""
    result = rc(f"{words} --help")
    assert result.exit_code == 0
    body = result.stdout.split("\n\n", 1)[1]
    assert body.strip().splitlines()[0] == verb.examples.strip().splitlines()[0]
    assert body.index("rc ") < body.index(verb.summary) < body.index("Options:")
