"""`rc`, as a user types it, in this process."""

import shlex
from typing import Any

from typer.testing import CliRunner

from robust_cluster.cli import app as entry


def rc(words: str, **env: str) -> Any:
    """The result of a command: exit_code, stdout, stderr."""
    return CliRunner().invoke(entry.app, shlex.split(words), env=env, prog_name="rc")
