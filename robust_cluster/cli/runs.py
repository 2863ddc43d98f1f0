"""`rc runs`: what is in the runs directory, what one run is, what they take on disk, and how to be rid of some."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_cluster.cli import console
from robust_cluster.cli.options import Json, Verb, option
from robust_cluster.errors import ConfigError, MissingResultError
from robust_cluster.runs.spec import STAGES, Stage

if TYPE_CHECKING:
    from robust_cluster.runs.catalog import Entry

SUMMARY = "List, show, remove and measure runs."
HELP = f"""\b
rc runs ls --model dec --running
rc runs show 4b68acabf481
rc runs du
rc runs rm --orphans

{SUMMARY}"""
LARGEST = 10  # runs that `du` names
RunsDir = Annotated[Path, option(help="Where runs are kept.")]


@dataclass(frozen=True, kw_only=True)
class LsOptions:
    """What `rc runs ls` takes."""

    stage: Annotated[Stage | None, option(help="Runs of this stage.")] = None
    model: Annotated[str | None, option("--model", "-m", metavar="NAME[,N...]", help="Runs of these models.")] = None
    data: Annotated[str | None, option(metavar="NAME[,N...]", help="Runs on these data.")] = None
    failed: Annotated[bool, option("--failed", help="Begun, not ended, and nobody works on it.")] = False
    running: Annotated[bool, option("--running", help="Somebody works on it now.")] = False
    runs_dir: RunsDir = Path("runs")
    json: Json = False


def list_runs(ctx: typer.Context, options: LsOptions) -> None:
    """Print a row for every run that is asked for. Raises: StoreError."""
    from robust_cluster.runs.catalog import entries

    states = {name for name, asked in (("unfinished", options.failed), ("running", options.running)) if asked}
    wanted = {name: set(text.split(",")) for name, text in (("model", options.model), ("data", options.data)) if text}
    found = [
        row(one)
        for one in entries(options.runs_dir)
        if options.stage in (None, one.spec.stage)
        and (not states or one.state in states)
        and one.spec.model in wanted.get("model", {one.spec.model})
        and {one.spec.data.name, one.spec.data.label} & wanted.get("data", {one.spec.data.name})
    ]
    if options.json:
        console.show_json(found)
    elif found:
        console.show_rows(found)
    else:
        console.stderr().print("no runs found")


def row(entry: "Entry") -> dict[str, str]:
    """Column -> text of a run: its key, what it is, K, scaling, attack, defense, headline numbers, what was set."""
    from robust_cluster.stages.settings import typed

    spec, record = entry.spec, entry.record
    defense = next((str(one.defense) for one in spec.lineage() if one.defense), "")
    clusters = spec.data.n_clusters or ((record or {}).get("data") or {}).get("n_clusters")
    flags = {} if record else {"flags": [f"{entry.state}, {entry.epochs} epochs"]}
    return {
        **dict.fromkeys(("key", "stage", "model", "data", "K", "normalize"), ""),  # first, in this order
        **console.summary(record or {"spec": spec.to_json(), **flags}),
        "key": spec.key,
        "data": spec.data.label,
        "K": str(clusters or ""),
        "normalize": spec.data.normalize,
        "attack": spec.attack or "",
        "defense": defense,
        "profile": record["profile"] if record else "",
        "set": " ".join(f"{key}={typed(value)}" for key, value in (record or {}).get("overrides", {}).items()),
    }


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """What `rc runs show` takes."""

    run: Annotated[str, typer.Argument(metavar="KEY|PATH", help="A run's key, or its folder.", show_default=False)]
    runs_dir: RunsDir = Path("runs")
    json: Annotated[bool, option("--json", help="Print its record.")] = False


def show(ctx: typer.Context, options: ShowOptions) -> None:
    """Print one run: state, lineage, settings that differ from its profile, metrics. Raises: MissingResultError."""
    from robust_cluster.runs.catalog import entries, named

    known = entries(options.runs_dir)
    entry = named(options.run, known)
    if options.json:
        if entry.record is None:
            raise MissingResultError(f"The run {entry.path} is not finished", hint="rc runs show without --json")
        console.show_json(entry.record)
        return
    states = {one.spec.key: one.state for one in known}
    for spec in reversed(list(entry.spec.lineage())):
        console.stdout().print(f"{states.get(spec.key, 'missing'):10} {spec.directory}", soft_wrap=True)
    console.stdout().print()
    differing = list(changed(entry))
    if differing:
        console.show_rows(differing)
    else:
        console.stdout().print("every setting is its profile's")
    if entry.record is not None:
        console.stdout().print()
        found = [row(entry)]
        found[0].pop("set")
        console.show_rows(found)


def changed(entry: "Entry") -> Sequence[dict[str, str]]:
    """The settings of a run, and of those before it, that are not those of its profile.

    All of a method whose file or package is no longer there.
    """
    from robust_cluster.report.answers import known_again
    from robust_cluster.report.command import differing
    from robust_cluster.stages.settings import typed

    record = entry.record or {}
    profile = str(record.get("profile", "paper"))
    return [
        {"stage": one.stage, "setting": one.path, "value": typed(one.value), f"profile {profile}": typed(one.usual)}
        for one in differing(entry.spec, profile, gone=known_again(record))
    ]


@dataclass(frozen=True, kw_only=True)
class RmOptions:
    """What `rc runs rm` takes."""

    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY|PATH]...", help="Keys or folders.", show_default=False)
    ] = None
    with_children: Annotated[bool, option("--with-children", help="And the runs that start from them.")] = False
    orphans: Annotated[bool, option("--orphans", help="Folders without a record that nobody works on.")] = False
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.")] = False
    runs_dir: RunsDir = Path("runs")


def rm(ctx: typer.Context, options: RmOptions) -> None:
    """Remove runs, once the user has agreed. Raises: ConfigError for one that others start from, StoreError."""
    from robust_cluster.runs.catalog import children, entries, named, orphans, remove

    if bool(options.runs) == options.orphans:
        raise ConfigError("rc runs rm takes runs, or --orphans", hint="rc runs ls")
    known = entries(options.runs_dir)
    if options.orphans:
        paths = list(orphans(options.runs_dir, known))
    else:
        chosen = [named(name, known) for name in options.runs or ()]
        needed = children({one.spec.key for one in chosen}, known)
        if needed and not options.with_children:
            raise ConfigError(
                f"{', '.join(one.spec.key for one in chosen)} cannot go alone: {needed[0].path} starts from it"
                + (f", and so do {len(needed) - 1} more" if len(needed) > 1 else ""),
                hint="--with-children removes those too",
            )
        paths = list(dict.fromkeys(one.path for one in (*needed, *chosen)))
    if not paths:
        console.stderr().print("nothing to remove")
        return
    for path in paths:
        console.stderr().print(str(path))
    if not options.yes:
        typer.confirm(f"Remove {len(paths)} folder{'s' if len(paths) > 1 else ''}?", abort=True, err=True)
    for path in paths:
        remove(path)


@dataclass(frozen=True, kw_only=True)
class DuOptions:
    """What `rc runs du` takes."""

    runs_dir: RunsDir = Path("runs")
    json: Json = False


def du(ctx: typer.Context, options: DuOptions) -> None:
    """Print what the runs of each stage and model take on disk, and the largest ones. Raises: StoreError."""
    from robust_cluster.runs.catalog import entries

    known = [(one, one.bytes) for one in entries(options.runs_dir)]
    sizes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one, size in known:
        sizes[one.spec.stage, one.spec.model].append(size)
    found: list[dict[str, Any]] = [
        {"stage": stage, "model": model, "runs": len(each), "bytes": sum(each)}
        for (stage, model), each in sorted(sizes.items(), key=lambda item: (STAGES.index(item[0][0]), item[0][1]))
    ]
    if options.json:
        console.show_json(found)
        return
    if not found:
        console.stderr().print("no runs found")
        return
    found.append({"stage": "all", "model": "", "runs": len(known), "bytes": sum(size for _, size in known)})
    console.show_rows([{**line, "runs": str(line["runs"]), "bytes": megabytes(line["bytes"])} for line in found])
    console.stdout().print()
    largest = sorted(known, key=lambda pair: -pair[1])[:LARGEST]
    console.show_rows([{"bytes": megabytes(size), "largest": str(one.path)} for one, size in largest])


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:,.1f} MB"


VERBS = (
    Verb("ls", "List runs, with their state and headline numbers.", "rc runs ls\nrc runs ls --model dec --failed",
         options=LsOptions, run=list_runs),
    Verb("show", "Show one run: lineage, settings unlike its profile's, numbers.",
         "rc runs show 4b68acabf481\nrc runs show runs/attack/convae-digits-d64-s0-*", options=ShowOptions, run=show),
    Verb("rm", "Remove runs; never one that others start from, unless told.",
         "rc runs rm 4b68acabf481 --with-children\nrc runs rm --orphans --yes", options=RmOptions, run=rm),
    Verb("du", "Show what runs take on disk.", "rc runs du", options=DuOptions, run=du),
)  # fmt: skip
