"""`rc ls`: what there is, by name, without importing any of it, and the settings of one method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from robust_cluster.cli import console
from robust_cluster.cli.options import DataDir, Json, Profile, Verb, data_folders, option
from robust_cluster.discover import offers
from robust_cluster.errors import ConfigError
from robust_cluster.stages.declared import descriptions

Listed = Literal["models", "data", "attacks", "defenses", "tables", "figures", "runs"]
LEGEND = "–: as in profile paper. A setting is given as --set SETTING=VALUE."
EXAMPLES = """
rc ls
rc ls models
rc ls models lpvdn
rc ls data --json
rc ls runs
"""


@dataclass(frozen=True, kw_only=True)
class LsOptions:
    """What `rc ls` takes."""

    kind: Annotated[Listed | None, typer.Argument(help="What to list; all without it.", show_default=False)] = None
    name: Annotated[
        str | None, typer.Argument(help="A model, attack or defense: list its settings.", show_default=False)
    ] = None
    runs_dir: Annotated[Path, option(help="Where runs are kept.")] = Path("runs")
    data_dir: DataDir = None
    json: Json = False


def list_names(ctx: typer.Context, options: LsOptions) -> None:
    """Print the names of one kind, or of all, each with one line on what it is; or the settings of one method."""
    if options.name is not None:
        show_settings(options.kind, options.name, as_json=options.json)
        return
    kinds: Sequence[Listed] = [options.kind] if options.kind else get_args(Listed)
    found = [row for kind in kinds for row in rows(kind, options)]
    if options.json:
        console.show_json(found)
    elif found:
        console.show_rows(found)
    else:
        console.stderr().print(f"no {options.kind or 'names'} found")
    for kind in kinds:
        for sentence in offers(kind)[1].values() if kind in ("models", "attacks", "defenses") else ():
            console.stderr().print(sentence)


def show_settings(kind: Listed | None, name: str, *, as_json: bool) -> None:
    """Print the settings of a method as `--set` takes them, each with the profiles in which it has another value.

    Raises: ConfigError for a kind without settings, UnknownNameError.
    """
    if kind not in ("models", "attacks", "defenses"):
        raise ConfigError(f"{kind} have no settings: rc ls {kind} takes no name", hint="rc ls models NAME")
    from robust_cluster.stages.methods import described
    from robust_cluster.stages.settings import typed

    *others, usual = get_args(Profile)
    found = list(described(kind, name, (usual, *others)))
    if as_json:
        console.show_json(found)
        return
    for row in found:
        for one in (*others, usual):
            row[f"profile {one}"] = "" if same(row, one, usual) else typed(row[one])
    columns = ("setting", "allowed", f"profile {usual}", *(f"profile {one}" for one in reversed(others)), "what")
    console.show_rows([{column: row[column] for column in columns} for row in found])
    console.stdout().print(f"\n{LEGEND}")


def same(row: Mapping[str, Any], profile: str, usual: str) -> bool:
    """Whether a profile's cell stays empty: its value is the usual one, or the row is a group and has no values."""
    return profile not in row or (profile != usual and row[profile] == row[usual])


def rows(kind: Listed, options: LsOptions) -> Iterator[dict[str, str]]:
    """Column -> text of every name of one kind."""
    if kind == "runs":
        from robust_cluster.cli.runs import row
        from robust_cluster.runs.catalog import entries

        yield from (row(one) for one in entries(options.runs_dir)) if options.kind else ()
    elif kind == "tables" or kind == "figures":
        from robust_cluster.report.spec import figure_names, load_spec, table_names

        known = table_names() if kind == "tables" else figure_names()
        yield from ({"kind": kind, "name": name, "what": load_spec(name).title} for name in known)
    elif kind == "data" and options.kind:
        from robust_cluster.data.prepare import available

        for name, what, state in available(data_folders(options.data_dir)):
            yield {"kind": kind, "name": name, "what": what, "state": state}
    else:
        yield from ({"kind": kind, "name": name, "what": what} for name, what in descriptions(kind))


VERB = Verb(
    "ls", "List models, data, attacks, defenses, tables, figures and runs.", EXAMPLES, options=LsOptions, run=list_names
)
