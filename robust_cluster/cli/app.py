"""The command `rc`: every verb, and what becomes of an error."""

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any, NoReturn

# Threads that spin while they wait slow a busy machine down by 7; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from typer.core import TyperGroup

from robust_cluster import __version__
from robust_cluster.cli import (
    audit,
    certify,
    chain,
    check,
    console,
    data,
    data_features,
    export,
    figure,
    ls,
    predict,
    report,
    runs,
    table,
)
from robust_cluster.cli.options import DEBUG, add
from robust_cluster.cli.start import INTERRUPTED

HELP = """\b
rc attack --model graph --data digits --profile smoke
rc reattack --model graph --data digits --profile smoke --mode alternating
rc table table1 --profile smoke --compare
rc ls

Train, attack, defend and attack again: how robust is a clustering model?
A verb runs what is missing before it. Every option can also be given as RC_<NAME> or in --config file.toml."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as gently as Ctrl-C does."""

    exit_code = 143


class Verbs(TyperGroup):
    """Verbs that are written in lower case."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb and the words after it. Raises: typer's UsageError, which knows the verb in capitals too."""
        if args and args[0] not in self.commands and args[0].lower() in self.commands:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {args[0].lower()!r}?")
        return super().resolve_command(ctx, args)


class Group(Verbs):
    """The verbs, with one sentence and an exit code for every error of theirs."""

    def invoke(self, ctx: Any) -> Any:
        """What the verb returns. Raises: typer.Exit with the exit code of an error, once its sentence is printed."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as stop:
            console.show_error(INTERRUPTED)
            raise typer.Exit(getattr(stop, "exit_code", 130)) from stop
        except BrokenPipeError as error:
            # The reader has left (`| head`): the interpreter's last flush must not meet the closed pipe either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(128 + 13) from error  # as a command that SIGPIPE ends
        except Exception as error:
            if ctx.meta.get(DEBUG):
                traceback.print_exc()
            text, code = console.sentence(error)
            console.show_error(text)
            raise typer.Exit(code) from error
        return result


app = typer.Typer(
    cls=Group,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rc {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


VERBS = (audit, certify, predict, export, table, figure, report, check, ls)
for verb in (*chain.VERBS, *(module.VERB for module in VERBS)):
    add(app, verb)

data_app = typer.Typer(
    name="data", cls=Verbs, no_args_is_help=True, help=data.HELP, short_help=data.SUMMARY, rich_markup_mode=None
)
for verb in (*data.VERBS, data_features.VERB):
    add(data_app, verb)
app.add_typer(data_app)
runs_app = typer.Typer(
    name="runs", cls=Verbs, no_args_is_help=True, help=runs.HELP, short_help=runs.SUMMARY, rich_markup_mode=None
)
for verb in runs.VERBS:
    add(runs_app, verb)
app.add_typer(runs_app)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def main() -> None:
    """Run the command line of this process."""
    signal.signal(signal.SIGTERM, _terminate)
    app()
