"""`rc table`: a paper's table from our runs, running what is missing; `rc table claims`: what papers claim of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from robust_cluster.cli import console
from robust_cluster.cli.console import Record
from robust_cluster.cli.options import (
    Only,
    RunOptions,
    Verb,
    chosen_part,
    data_name,
    data_path,
    integers,
    offer_tables,
    option,
    overrides,
    refuse,
)
from robust_cluster.errors import ConfigError, DataError, MissingResultError, RobustClusterError, UnknownNameError
from robust_cluster.runs.spec import Stage

if TYPE_CHECKING:
    from robust_cluster.cli.session import Session
    from robust_cluster.report.grid import Grid
    from robust_cluster.report.spec import CellRequest, TableSpec
    from robust_cluster.stages.chain import Plan

EXAMPLES = """
rc table table1 --profile smoke
rc table table1 --profile cpu --compare --from tables/results
rc table table1 --profile smoke --format latex --no-run
rc table lpvdn1 --profile cpu --only data=mnist10k --only method=DEC,VaDE --only seed=0,1 --jobs 2
rc table table1 --profile cpu --intervals --from tables/results
rc table lpvdn1 --profile cpu --bold significant --format latex --from tables/results
rc table claims --profile cpu --from tables/results
rc table runs --model dec,idec --data mnist10k --bold significant --from tables/results
"""
CLAIMS, RUNS = "claims", "runs"
Format = Literal["terminal", "markdown", "latex", "html", "csv", "json"]
Bold = Literal["best", "significant"]
OF_RUNS = ("stage", "model", "data", "attack")  # options of `rc table runs` alone
RUN_ONLY = ("set", "curve", "dry_run", "save_records")  # options that say something of what is run


@dataclass(frozen=True, kw_only=True)
class TableOptions(RunOptions):
    """What `rc table` takes."""

    name: Annotated[
        str,
        typer.Argument(
            help="rc ls tables; ./my.toml; runs, the mean over seeds of finished runs of yours; a figure, to run what "
            "it draws; or claims, the papers' claims tested on finished runs.",
            show_default=False,
            autocompletion=offer_tables,
        ),
    ]
    records: Annotated[Path | None, option("--from", help="Show the records in this folder, run nothing.")] = None
    save_records: Annotated[
        Path | None,
        option(
            help="Also put the records, and those of the runs before them, into PROFILE.json here; other runs of the "
            "same settings that it has stay."
        ),
    ] = None
    format: Annotated[Format, option(help="How to print.")] = "terminal"
    seed: Annotated[str | None, option(metavar="N[,N...]", help="Run only these seeds of the table.")] = None
    only: Only = None
    stage: Annotated[
        Stage | None, option(help="Of runs: of this stage; cluster, or with --attack attack.", show_default=False)
    ] = None
    model: Annotated[str | None, option("--model", "-m", metavar="NAME[,N...]", help="Of runs: of these models.")] = (
        None
    )
    data: Annotated[str | None, option(metavar="NAME[,N...]", help="Of runs: on these data.")] = None
    attack: Annotated[str | None, option(metavar="NAME[,N...]", help="Of runs: under these attacks.")] = None
    compare: Annotated[bool, option("--compare", help="The paper's numbers beside ours.")] = False
    intervals: Annotated[bool, option("--intervals", help="95 % intervals over seeds and samples.")] = False
    bold: Annotated[
        Bold | None,
        option(
            help="Bold the best on the same data, or with it all that a paired test over seeds does not tell from it."
        ),
    ] = None
    json: Annotated[bool, option("--json", help="The same as --format json.")] = False


def run_table(ctx: typer.Context, options: TableOptions) -> None:
    """Print a table. Raises: MissingResultError, after the table, when none of its runs exists."""
    if options.json:
        options = replace(options, format="json")
    if options.name == CLAIMS:
        show_claims(ctx, options)
        return
    if options.name == RUNS:
        show_runs(ctx, options)
        return
    refuse(ctx, OF_RUNS, f"{options.name} says itself which runs it has")
    from robust_cluster.cli.session import Session  # late, as all below: help needs none of it
    from robust_cluster.report.spec import load_spec, narrowed, requests
    from robust_cluster.report.table import load_results

    spec = narrowed(load_spec(options.name), options.profile, chosen_part(options.only or []))
    given = overrides(ctx, options)
    session = Session(options, given, curve=options.curve or (options.records is None and needs_curve(spec)))
    keys: set[str] | None = None
    records: Sequence[Record]
    if options.records:
        refuse(ctx, (*RUN_ONLY, "seed"), "--from shows the records as they are")
        records = load_results(options.records)
    else:
        asked = sorted(requests(spec, options.profile), key=lambda request: request.data.label)
        check_free(given, asked, spec)
        if options.seed is not None:
            asked = of_seeds(asked, integers(options.seed, "--seed"), options)
        kept = None if options.dry_run else kept_records(options)
        session.check_workers()
        every = [
            plan
            for _, group in groupby(asked, key=lambda request: request.data)
            for plan in plans_of(list(group), session)
        ]
        try:
            records = session.carry_out(every) if every else []
        finally:
            if kept is not None:  # also what was finished before a Ctrl-C
                save(session.done({spec.key: spec for plan in every for spec in plan.runs}.values()), kept)
        if options.dry_run:
            if options.format == "json":
                console.show_json(session.planned(every))
            session.end()
            return
        keys = {plan.asked.key for plan in every}
    is_empty = show_table(spec, records, keys, options)
    session.end()
    if is_empty:
        raise MissingResultError(f"No run of {options.name} exists for the profile {options.profile}")


def needs_curve(spec: "TableSpec") -> bool:
    """Whether the table is a figure of what only --curve logs."""
    if spec.figure is None or spec.figure.kind != "learning":
        return False
    from robust_cluster.measure.training_curve import FIGURES

    return not set(FIGURES).isdisjoint(spec.figure.logged)


def show_claims(ctx: typer.Context, options: TableOptions) -> None:
    """Print a ruling on every claim. Raises: MissingResultError, after printing, when no claim has enough runs."""
    from robust_cluster.report.claims import LEGEND, judge, load_claims, rows
    from robust_cluster.report.table import load_results
    from robust_cluster.runs.store import RunStore

    refuse(
        ctx,
        (*RUN_ONLY, *OF_RUNS, "seed", "only", "compare", "intervals", "bold", "precision"),
        "claims are judged by the runs that exist",
    )
    if options.format not in ("terminal", "json"):
        raise ConfigError(f"claims are printed as terminal or json, not as {options.format}", hint="--json")
    records = load_results(options.records) if options.records else RunStore(options.runs_dir).records()
    found = rows(judge(load_claims(), records, options.profile))
    if options.format == "json":
        console.show_json(found)
    else:
        shown = ("claim", "compares", "data", "outcome", "effect", "interval", "n", "p")
        full = [{**row, "interval": ends(row)} for row in found]
        console.show_rows([{key: console.plain(row[key]) for key in shown} for row in full])
        notes = {row["note"]: row["claim"].partition(":")[0] for row in found if row["note"]}
        console.stdout().print("\n".join(["", LEGEND, *(f"{claim}: {note}" for note, claim in notes.items())]))
    if all(row["outcome"] == "not enough runs" for row in found):
        raise MissingResultError(
            f"No claim has enough runs for the profile {options.profile}", hint="rc table NAME makes those of a table"
        )


def show_runs(ctx: typer.Context, options: TableOptions) -> None:
    """Print the mean over seeds of the runs that are asked for. Raises: MissingResultError when there are none."""
    from robust_cluster.report.answers import known_again
    from robust_cluster.report.run_table import build
    from robust_cluster.report.table import load_results
    from robust_cluster.runs.store import RunStore

    refuse(ctx, (*RUN_ONLY, "only", "compare", "precision", "jobs", "cluster"), "runs are shown as they are")
    stage: Stage = options.stage or ("attack" if options.attack else "cluster")
    where = options.records or options.runs_dir
    records = load_results(where) if options.records else RunStore(where).records(stage)
    given = {name: text for name in ("model", "data", "attack") if (text := getattr(options, name)) is not None}
    wanted = {name: set(text.split(",")) for name, text in given.items()}
    wanted |= {} if options.seed is None else {"seed": set(map(str, integers(options.seed, "--seed")))}
    is_default = str(ctx.get_parameter_source("profile")).endswith("DEFAULT")
    wanted |= {} if is_default else {"profile": {options.profile}}
    found = [one for one in records if one["spec"]["stage"] == stage and is_wanted(one, wanted)]
    if not found:
        asked = "".join(f", {name} {' or '.join(sorted(names))}" for name, names in wanted.items())
        raise MissingResultError(f"No finished run in {where} is of stage {stage}{asked}", hint="rc runs ls")
    for record in found:
        known_again(record)
    show(build(stage, found, source=str(where), intervals=options.intervals, bold=options.bold), options)


def is_wanted(record: Record, wanted: Mapping[str, Collection[str]]) -> bool:
    """Whether a run has one of the wanted names in each field; what is of one's own also by its file."""
    from robust_cluster.runs.spec import RunSpec

    spec = RunSpec.from_json(record["spec"])
    attacks = {one.attack for one in spec.lineage() if one.attack}
    own = {
        "model": {spec.model, file_of(spec.model)},
        "data": {spec.data.name, spec.data.label},
        "attack": {*attacks, *map(file_of, attacks)},
        "seed": {str(spec.seed)},
        "profile": {record["profile"]},
    }

    def name(text: str) -> str:
        path = data_path(text)
        return text if path is None else path.name if path.suffix == ".py" else data_name(path)

    return all(own[field] & set(map(name, texts)) for field, texts in wanted.items())


def file_of(method: str) -> str:
    """The name of the file that a method of one's own is in, "mine.py" of "mine-0123abcd"."""
    return f"{method.rpartition('-')[0]}.py"


def ends(row: Record) -> str | None:
    """A ruling's interval as it is printed, None without one."""
    if row["p"] is None:
        return None
    low, high = ("∞" if row[end] is None else f"{row[end]:.3g}" for end in ("low", "high"))
    return f"[{low.replace('∞', '-∞')}, {high}]"


def of_seeds(asked: "Sequence[CellRequest]", seeds: Sequence[int], options: TableOptions) -> "list[CellRequest]":
    """The requests of these seeds. Raises: ConfigError for a seed that the table does not have."""
    known = sorted({request.seed for request in asked})
    for seed in seeds:
        if seed not in known:
            has = ", ".join(map(str, known))
            raise ConfigError(f"{options.name} has no seed {seed} in profile {options.profile}: its seeds are {has}")
    return [request for request in asked if request.seed in seeds]


def check_free(given: Mapping[str, Any], asked: "Sequence[CellRequest]", spec: "TableSpec") -> None:
    """Refuse another value for a setting that the table decides: no cell would show those runs. Raises: ConfigError."""
    fixed = [item for request in asked for item in (*request.settings.items(), *request.own_settings.items())]
    if taken := sorted({key for key, value in fixed if key in given and given[key] != value}):
        raise ConfigError(
            f"{spec.name} itself decides {', '.join(taken)}", hint="rc attack, defend and reattack take any value"
        )


def plans_of(asked: "list[CellRequest]", session: "Session") -> "list[Plan]":
    """Plans of the requests that share one data set; without the data, none and a sentence on stderr."""
    from robust_cluster.stages.chain import Request

    options = session.options
    try:
        dataset = session.load(asked[0].data)
    except (DataError, UnknownNameError) as error:
        console.show_error(f"{asked[0].data.label} is left out: {error}")
        return []
    plans: list[Plan] = []
    for cell in asked:
        request = Request(
            stage=cell.stage,
            data=cell.data,
            model=cell.model,
            latent_dim=cell.latent_dim,
            seed=cell.seed,
            attack=cell.attack or "latent_net",
            attack_seed=cell.attack_seed or 0,
            defense=cell.defense or "mutual_info",
            profile=options.profile,
            overrides={**cell.settings, **session.given},
            own=cell.own_settings,
            precision=cell.precision or options.level,
        )
        try:
            plans.append(session.plan(request, dataset))
        except RobustClusterError as error:
            session.failures.append(f"{cell.stage} {cell.model} on {cell.data.label}: {error}")
    return plans


def kept_records(options: TableOptions) -> Path | None:
    """The file of --save-records. Raises: DataError, before anything is run, when it holds something else."""
    from robust_cluster.report.table import read_records

    path = options.save_records and options.save_records / f"{options.profile}.json"
    if path and path.exists():
        read_records(path)
    return path


def save(records: Sequence[Record], path: Path) -> None:
    """Put the records into a JSON file, beside those that it has.

    Where it has another run of the same settings, from another machine say, that one stays and a note tells it: records
    of what was built on it name its checkpoint. New ones of what was built on the run that is left out are put there,
    and name a checkpoint that no record has. Raises: StoreError, DataError.
    """
    from robust_cluster.report.table import read_records

    known = {record["key"]: record for record in (read_records(path) if path.exists() else [])}
    fresh = [record for record in records if not is_another_run(record, known.get(record["key"]))]
    merged = known | {record["key"]: record for record in fresh}
    console.write_json(path, sorted(merged.values(), key=lambda r: (r["spec"]["stage"], r["spec"]["model"], r["key"])))
    if others := len(records) - len(fresh):
        console.stderr().print(
            f"note: {path} has other runs of the same settings in place of {others} of these {len(records)}, "
            "and keeps them"
        )


def is_another_run(record: Record, saved: Record | None) -> bool:
    """Whether both were trained, and ended at different checkpoints."""
    ends = [one["checkpoint"]["sha256"] for one in (record, saved) if one and one.get("checkpoint")]
    return len(set(ends)) == 2


def show_table(
    spec: "TableSpec", records: Sequence[Record], keys: Collection[str] | None, options: TableOptions
) -> bool:
    """Print the table on stdout; returns whether none of its cells has a run."""
    from robust_cluster.report.table import build

    grid = build(
        spec,
        records,
        profile=options.profile,
        compare=options.compare,
        intervals=options.intervals,
        bold=options.bold,
        keys=keys,
        precision=options.level,
    )
    show(grid, options)
    return grid.runs.empty


def show(grid: "Grid", options: TableOptions) -> None:
    """Print a grid on stdout."""
    from robust_cluster.report.formats import render

    shown = render(grid, options.format)
    if isinstance(shown, str):
        typer.echo(shown, nl=not shown.endswith("\n"))
    else:
        console.stdout().print(shown)


VERB = Verb("table", "Print a table, running what is missing.", EXAMPLES, options=TableOptions, run=run_table)
