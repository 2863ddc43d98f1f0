"""The work of one command: load the data, plan the runs, say so, run what is missing, show the results."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from robust_cluster.cli import console, sizes
from robust_cluster.cli.console import Record
from robust_cluster.cli.options import (
    RunOptions,
    StageOptions,
    data_folders,
    integers,
    on_command_line,
    overrides,
    sweeps,
)
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError, MissingResultError, OutOfMemory
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import STATE, RunStore

if TYPE_CHECKING:
    from rich.console import Console

    from robust_cluster.data.base import Dataset, Folders
    from robust_cluster.stages.chain import Plan, Request
    from robust_cluster.stages.context import Log
    from robust_cluster.stages.weights import Weights
    from robust_cluster.stages.workers import Where

ATTACK_SEEDS: Mapping[Stage, str] = {"reattack": "0,1,2"}  # three fresh attackers, so that none is lucky
NOT_REPEATED = frozenset({"force", "curve", "no_run", "dry_run", "json", "quiet", "debug"})  # in the next command


@dataclass
class Session:
    """One command at work. `given`: its settings, for the records; `curve`: log one, as --curve asks; `log`: as --log.

    `failed`: the error of each run that failed, by its key; `failures`: the sentences of all that did.
    `read`: what is said of the data. `dataset`: those that were loaded last.
    """

    options: RunOptions
    given: Mapping[str, Any]
    force: bool = False
    curve: bool = False
    log: "Log | None" = None
    failures: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    path: Path | None = None
    own: tuple[tuple[Kind, Path], ...] = ()
    weights: "Weights | None" = None
    dataset: "Dataset | None" = None

    @cached_property
    def err(self) -> "Console":
        """Where plans and progress go."""
        return console.stderr(quiet=self.options.quiet)

    @cached_property
    def store(self) -> RunStore:
        """The runs directory."""
        return RunStore(self.options.runs_dir)

    @cached_property
    def folders(self) -> "Folders":
        """Where data are; they are downloaded for a run, not for a look. Raises: ConfigError."""
        is_run = not (self.options.no_run or self.options.dry_run)
        return replace(data_folders(self.options.data_dir, quiet=self.options.quiet), downloads=is_run)

    @cached_property
    def where(self) -> "Where":
        """Who makes the runs. Raises: ConfigError."""
        from robust_cluster.stages.workers import where

        o = self.options
        return where(o.jobs, o.cluster, o.per_gpu, o.device, self.err.print)

    def check_workers(self) -> None:
        """Refuse --jobs, --cluster and --per-gpu that cannot be, before anything is loaded. Raises: ConfigError."""
        if not self.options.no_run:
            _ = self.where

    def load(self, ref: DataRef) -> "Dataset":
        """The data set in memory, also a file of the user's, which `path` names.

        Raises: DataError, UnknownNameError, ConfigError, ShapeError.
        """
        from robust_cluster.data.prepare import load
        from robust_cluster.data.summary import lines

        self.dataset = None  # two data sets need not fit into memory
        self.dataset = load(ref, self.folders, path=self.path)
        self.read += [line for line in lines(self.dataset) if line not in self.read]
        return self.dataset

    def plan(self, request: "Request", dataset: "Dataset") -> "Plan":
        """The plan of a request. Raises: ConfigError and UnknownNameError for values and names that are not allowed."""
        from robust_cluster.stages.chain import Plan

        found = Plan(replace(request, data=dataset.ref), dataset.info)
        if not self.options.no_run:
            sizes.check(found, self.options.device)
        return found

    def state(self, spec: RunSpec, *, asked: bool) -> str:
        """What will be done about a run: "done", "resumes" or "to run"."""
        from robust_cluster.stages.chain import lacks_curve

        if (record := self.store.record(spec)) is not None:
            is_again = asked and (self.force or (self.curve and lacks_curve(record)))
            return "to run" if is_again or record.get("memory") else "done"
        return "resumes" if (self.store.path(spec) / STATE).exists() else "to run"

    def planned(self, plans: "Sequence[Plan]") -> list[dict[str, str]]:
        """Key, directory and state of every run of the plans, once."""
        asked = {plan.asked.key for plan in plans}
        specs = {spec.key: spec for plan in plans for spec in plan.runs}
        return [
            {"key": key, "directory": spec.directory, "state": self.state(spec, asked=key in asked)}
            for key, spec in specs.items()
        ]

    def carry_out(self, plans: "Sequence[Plan]") -> list[Record]:
        """Show what was read and every run of the plans once, then return the asked runs' records, which are made now.

        With --no-run only their number is shown and those that exist returned, with --dry-run none. Raises: as `run`.
        """
        for line in self.read:
            self.err.print(line, highlight=False, markup=False)
        runs = self.planned(plans)
        n_done = sum(run["state"] == "done" for run in runs)
        self.err.print(f"plan: {len(runs)} run{'s' if len(runs) > 1 else ''}, {n_done} done")
        for run in runs if not self.options.no_run else ():
            self.err.print(f"  {run['state']:8}{run['directory']}")
        if self.options.dry_run:
            return []
        if not self.options.no_run:
            self.run(plans)
        return self.done(plan.asked for plan in plans if plan.asked.key not in self.failed)

    def run(self, plans: "Sequence[Plan]") -> None:
        """Make what is missing; what fails is kept in `failed`, and what does not need it goes on.

        Raises: StoreError, for then no run can be written; also any other error where there is one plan alone.
        """
        from robust_cluster.cli.board import board
        from robust_cluster.runs.environment import has_bfloat16
        from robust_cluster.stages import device, engine

        o = self.options
        where = self.where
        work = engine.Work(
            self.store.root,
            self.folders,
            self.path,
            o.profile,
            device=o.device,
            threads=o.threads if where.is_here else o.threads or 1,
            force=self.force,
            curve=self.curve,
            log=self.log,
            overrides=self.given,
            own=self.own,
            weights=self.weights,
        )
        tasks = engine.graph((plan.runs for plan in plans), work)
        if not tasks:
            return
        todo = {task.spec.key: task.spec for task in tasks}
        others = self.done(spec for plan in plans for spec in plan.runs if spec.key not in todo)
        shown = board(self.err, list(todo.values()), others, is_alone=where.is_here)
        if where.is_here:
            if o.level == "bf16" and not has_bfloat16(str(device.choose(o.device))):
                shown.note("--precision bf16 is slower here, not faster: this processor has no bfloat16 products")
            self.failed = engine.here(tasks, engine.Carrier(work, self.dataset).carry, shown)
        else:
            from robust_cluster.stages import workers

            self.dataset = None
            self.failed = workers.carry_out(tasks, work, shown, where)
        if self.failed and (len(plans) == 1 or o.debug):
            raise next(iter(self.failed.values()))
        self.failures += [
            f"{todo[key].directory}: {console.sentence(error)[0]}"
            for key, error in self.failed.items()
            if not isinstance(error, engine.ParentError)  # the board has named those
        ]

    def complete_log(self, plans: "Sequence[Plan]") -> None:
        """Give the runs that were done before this command what --log asks for, too. Raises: StoreError."""
        if self.log is None:
            return
        from robust_cluster.stages import events

        for spec in {spec.key: spec for plan in plans for spec in plan.runs}.values():
            events.complete(self.store, spec)
        self.err.print(f"tensorboard --logdir {self.store.root}")

    def done(self, specs: Iterable[RunSpec]) -> list[Record]:
        """The records of those of the runs that are done."""
        return [record for spec in specs if (record := self.store.record(spec)) is not None]

    def end(self) -> None:
        """List what failed, each sentence once. Raises: typer.Exit(1) when anything did."""
        for failure in dict.fromkeys(self.failures):
            console.show_error(failure)
        if self.failures:
            raise typer.Exit(1)


def run_stage(stage: Stage, ctx: typer.Context, options: StageOptions) -> None:
    """Run one stage for every seed, attacker and swept value that was asked for, and show the records."""
    notes = options.check_names()
    files, options = options.own, known_by_name(options)
    fixed, swept, more = with_own_members(chosen(stage, ctx, options), sweeps(options.sweep or []))
    refs = options.refs
    session = Session(
        options,
        {**fixed, **swept},
        force=options.force,
        curve=options.curve,
        log=options.log,
        path=options.path,
        own=(*files, *more),
        read=notes,
    )
    if options.weights is not None:
        from robust_cluster.stages.weights import read

        session.weights = read(options.weights)
    session.check_workers()
    if options.log is not None and not (options.no_run or options.dry_run):
        from robust_cluster.stages import events

        events.check()
    plans = []
    for ref in refs:
        requests = stage_requests(stage, options, ref, fixed, swept)
        if session.weights is not None:
            requests = [replace(request, weights=session.weights.sha256) for request in requests]
        dataset = session.load(ref)
        plans += [session.plan(request, dataset) for request in requests]
    records = session.carry_out(plans)
    if options.dry_run:
        if options.json:
            console.show_json(session.planned(plans))
        return
    show_records(records, options, single=len(plans) == 1)
    if options.no_run and len(records) < len(plans):
        missing = next(plan.asked for plan in plans if session.store.record(plan.asked) is None)
        raise MissingResultError(
            f"{len(plans) - len(records)} of {len(plans)} results do not exist in {options.runs_dir}, "
            f"the first is {missing.directory}",
            hint="leave out --no-run to run what is missing",
        )
    if not options.no_run:
        session.complete_log(plans)
        done = {record["key"] for record in records}
        for plan in plans:
            if plan.asked.key in done:
                session.err.print(f"result in {session.store.path(plan.asked)}")
    beyond = (record for record in records if record.get("memory"))
    session.failures += [str(OutOfMemory(record["spec"]["model"], **record["memory"])) for record in beyond]
    session.end()
    if records and "radii" in records[-1]:  # of the standard evaluation
        following = f"rc audit {session.store.path(plans[-1].asked)}"
    else:
        following = next_command(ctx, plans[-1])
    session.err.print(f"next: {following}")


def known_by_name(options: StageOptions) -> StageOptions:
    """The options with the names of methods in place of the user's own files. Raises: ConfigError."""
    if not options.own:
        return options
    from robust_cluster.stages.own import adopt

    found = {str(path): adopt(kind, path) for kind, path in options.own}
    fields = ("model", "attack", "against", "defense")
    given = {field: getattr(options, field) for field in fields}
    return replace(options, **{field: found.get(str(Path(name)), name) for field, name in given.items() if name})


def with_own_members(
    fixed: dict[str, Any], swept: dict[str, list[Any]]
) -> tuple[dict[str, Any], dict[str, list[Any]], tuple[tuple[Kind, Path], ...]]:
    """The settings with the names of an ensemble's members in place of the user's own files, and these files."""
    if "attack.members" not in {**fixed, **swept}:
        return fixed, swept, ()
    from robust_cluster.stages.own import adopt_members

    (fixed, one), (swept, other) = adopt_members(fixed), adopt_members(swept)
    return fixed, swept, tuple(dict.fromkeys((*one, *other)))


def chosen(stage: Stage, ctx: typer.Context, options: StageOptions) -> dict[str, Any]:
    """Dotted setting -> value, of everything but the sweeps. Raises: ConfigError, also for one that is given twice.

    A re-attack may sweep a setting of the attack that is set too: the attack before the defense has the value set.
    """
    flags = options.settings()
    fixed, swept = ([text.partition("=")[0].strip() for text in texts or []] for texts in (options.set, options.sweep))
    for key in (*fixed, *swept):
        if key in flags:
            raise ConfigError(f"--{key.rpartition('.')[2]} and {key} are one setting", hint="give one of them")
    for key in swept:
        if key in fixed and not is_own(stage, key):
            raise ConfigError(f"--set and --sweep both give {key}", hint="leave one of them out")
    return {**overrides(ctx, options, options.mode), **flags}


def stage_requests(
    stage: Stage, options: StageOptions, ref: DataRef, fixed: Mapping[str, Any], swept: Mapping[str, Sequence[Any]]
) -> list["Request"]:
    """A request per seed, swept value and attacker. Raises: ConfigError.

    What a re-attack sweeps of the attack is its own: the attack that the defense met stays as it was.
    """
    from robust_cluster.stages.chain import Request

    seeds = integers(options.seed, "--seed")
    attack_seeds = integers(options.attack_seeds or ATTACK_SEEDS.get(stage, "0"), "--attack-seeds")
    choices = [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]
    return [
        Request(
            stage=stage,
            data=ref,
            model=options.model,
            latent_dim=options.dim,
            seed=seed,
            attack=options.attack,
            attack_seed=attack_seed,
            defense=options.defense,
            against=options.against,
            profile=options.profile,
            overrides={**fixed, **{key: v for key, v in choice.items() if not is_own(stage, key)}},
            own={key: v for key, v in choice.items() if is_own(stage, key)},
            precision=options.level,
        )
        for seed, choice, attack_seed in product(seeds, choices, attack_seeds)
    ]


def is_own(stage: Stage, key: str) -> bool:
    """Whether a swept setting is of the re-attack alone: `--sweep attack.gamma=20,40` leaves the attack before it."""
    return stage == "reattack" and key.startswith("attack.")


def show_records(records: Sequence[Record], options: StageOptions, *, single: bool) -> None:
    """The result on stdout: a short table, or one JSON document (the record, or a list when several were asked for)."""
    settings = list(sweeps(options.sweep or []))
    if options.json:
        console.show_json(records[0] if single and records else list(records))
    elif records:
        rows = [console.summary(record, settings) for record in records]
        console.show_rows(rows + [row for group in fresh_attackers(records) for row in mean_and_worst(group, settings)])


def fresh_attackers(records: Sequence[Record]) -> list[list[Record]]:
    """Groups of two or more re-attacks that differ in the attacker's seed alone."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["spec"]["stage"] == "reattack":
            alike = RunSpec.from_json({**record["spec"], "attack_seed": None}).key
            groups.setdefault(alike, []).append(record)
    return [group for group in groups.values() if len(group) > 1]


def mean_and_worst(records: Sequence[Record], settings: Sequence[str]) -> list[dict[str, str]]:
    """Two rows for fresh attackers of one model: the mean with the flags of any of them, and the worst.

    The worst has the lowest ACC*, or without labels the most flips.
    """

    def harm(record: Record) -> float:
        accuracy, flip = record["metrics"]["ACC*"], record["metrics"]["flip"]
        return float(flip if accuracy is None else -accuracy)

    metrics = {
        name: None if any(record["metrics"].get(name) is None for record in records)
        else sum(record["metrics"][name] for record in records) / len(records)
        for name in records[0]["metrics"]
    }  # fmt: skip
    flags = list(dict.fromkeys(flag for record in records for flag in record["flags"]))
    mean = {**records[0], "metrics": metrics, "flags": flags}
    worst = max(records, key=harm)
    return [
        {**console.summary(mean, settings), "attacker": "mean"},
        {**console.summary(worst, settings), "attacker": f"worst: {worst['spec']['attack_seed']}"},
    ]


def next_command(ctx: typer.Context, plan: "Plan") -> str:
    """The command of the stage after a plan's, with the options that this command was given, as it would be typed.

    Where these methods have none, a list of what there is instead.
    """
    following = plan.following
    if following is None:
        return "rc ls attacks" if plan.request.stage == "cluster" else "rc ls runs"
    words = ["rc", following]
    taken = {p.name for p in ctx.find_root().command.commands[following].params}  # type: ignore[attr-defined]
    repeated = (on_command_line(ctx) & taken) - NOT_REPEATED
    for parameter in ctx.command.params:
        if parameter.name in repeated:
            words += _typed(parameter.opts[0], ctx.params[parameter.name])
    return shlex.join(words)


def _typed(flag: str, value: Any) -> list[str]:
    if value is True:
        return [flag]
    return [word for item in (value if isinstance(value, list) else [value]) for word in (flag, str(item))]
