"""From run records to a grid of cells. Nothing is dropped: what was not run is counted, what is doubtful is marked."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from robust_cluster.audit.marks import Mark, mark
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError, DataError, MissingResultError, RobustClusterError
from robust_cluster.metrics.bootstrap import Interval
from robust_cluster.report import intervals as spreads
from robust_cluster.report import threats
from robust_cluster.report.compare import Published, load_published
from robust_cluster.report.spec import UNDEFENDED, CellFormat, CellRequest, TableSpec, requests

Record = Mapping[str, Any]  # a run's result.json
Runs = Mapping[int, Sequence[Record]]  # seed -> the seed's records, one per attack seed
Labels = tuple[str, ...]

WHOLE = "all"  # how a record calls the worst case over an ensemble's members
NONE = "none"  # how a table writes a setting without a value
WHOLE_SET = "‡"  # marks a paper's number
REMARKS = 4  # places that a remark on the paper's numbers names
LEAST = 0.01  # of the samples that a mixture's component must own, as a cluster must that counts as used
MARKS = {
    "collapsed": "ᶜ",
    "components lost": "ᵍ",
    "settings not the method's own": "ʰ",
    "adversarial term inactive": "ᵈ",
    "not imperceptible": "ⁱ",
    "masked": "ᵐ",
    "no better than noise": "ⁿ",
    "unconverged": "ᵘ",
    "victim changed": "ᵛ",
    "audit fails": "ˣ",
    "audit warns": "ʷ",
    "audit not run in full": "ᵒ",
    "audit passes": "ᵃ",
}
AUDITS: Mapping[Mark, str] = {
    "fail": "audit fails",
    "warn": "audit warns",
    "not run": "audit not run in full",
    "pass": "audit passes",
}


@dataclass(frozen=True)
class Value:
    """One number of a cell in the table's units: the mean over `n` seeds; `std` (ddof = 1) is None for one seed.

    `paper`: the source's number for these data, `whole` for the data set that they are a part of. `note`: what there
    is to say of the paper's number, or stands in its place. `interval`: of the mean, and `change`: of the attacked
    number minus the clean one, both where they were asked for and can be had.
    """

    metric: str
    mean: float | None
    std: float | None
    n: int
    paper: float | None
    note: str = ""
    interval: Interval | None = None
    change: Interval | None = None
    whole: float | None = None


@dataclass(frozen=True)
class Cell:
    """The values that share a cell; `flags` of any of its runs; `comparable`: the source used this data set."""

    format: CellFormat
    values: tuple[Value, ...]
    flags: tuple[str, ...]
    comparable: bool


@dataclass(frozen=True)
class Grid:
    """A table before any format: `rows` and `columns` hold one label per axis, `cells` a cell per (row, column).

    `n_seeds`: how many seeds a full cell rests on.
    """

    spec: TableSpec
    profile: str
    caption: tuple[str, ...]
    rows: tuple[Labels, ...]
    columns: tuple[Labels, ...]
    cells: Mapping[tuple[Labels, Labels], Cell]
    n_seeds: int
    compare: bool
    intervals: bool = False

    @property
    def symbols(self) -> Mapping[str, str]:
        """Axis -> what stands before its values, e.g. latent_dim -> d."""
        return self.spec.labels.get("symbol", {})


def build(
    spec: TableSpec,
    records: Iterable[Record],
    *,
    profile: str,
    compare: bool = False,
    intervals: bool = False,
    keys: Collection[str] | None = None,
) -> Grid:
    """The table's grid from records of the profile, or from the records of exactly these `keys`.

    Raises: UnknownNameError for the profile; ConfigError when two runs answer one cell and seed, or when a column
    holds different threat models.
    """
    axes = spec.profile(profile)
    if not compare:  # a row of the paper alone would be one of dashes
        spec = replace(spec, methods=tuple(method for method in spec.methods if not method.published_only))
    usable = [r for r in records if (r["profile"] == profile if keys is None else r["key"] in keys)]
    asked = requests(spec, profile)
    published = load_published(spec.name, spec.folder) if compare else Published({})
    runs: dict[Labels, dict[int, list[Record]]] = {}
    cells: dict[tuple[Labels, Labels], Cell] = {}
    departed: set[str] = set()
    selected = list(select(asked, usable))
    threats.check(spec, [(request, record) for request, record in zip(asked, selected, strict=True) if record])
    for request, record in zip(asked, selected, strict=True):
        found = runs.setdefault(tuple(request.place.values()), {})
        if record is not None:
            found.setdefault(request.seed, []).append(record)
    shown = [*asked, *requests(spec, profile, published_only=True)]
    for place_key, request in {tuple(request.place.values()): request for request in shown}.items():
        found = runs.get(place_key, {})
        if spec.statistic == "best_loss":
            found = _best(found)
        other = {path for records in found.values() for record in records for path in departures(record, request)}
        departed |= other
        for form in spec.cells:
            place = {**request.place, "metric": form.label}
            at = tuple(place[axis] for axis in spec.rows), tuple(place[axis] for axis in spec.columns)
            cell = _cell(form, found, request=request, published=published, is_own=not other)
            cells[at] = _spread(cell, found) if intervals else cell
    return Grid(
        spec=spec,
        profile=profile,
        caption=tuple(
            _caption(
                spec,
                profile,
                asked=asked,
                found=selected,
                runs=runs,
                compared=cells if published.cells else None,
                spread=cells if intervals else None,
                flags={flag for cell in cells.values() for flag in cell.flags},
                departed=departed,
            )
        ),
        rows=tuple(product(*(spec.values(axis, axes) for axis in spec.rows))),
        columns=tuple(product(*(spec.values(axis, axes) for axis in spec.columns))),
        cells=cells,
        n_seeds=len(axes.seed),
        compare=bool(published.cells),
        intervals=intervals,
    )


def long_rows(grid: Grid) -> list[dict[str, Any]]:
    """One flat row per number: its axes, the cell it stands in, metric, mean, std, n, paper, difference, flags.

    Beside the paper's numbers also what there is to say of them. With intervals: low and high, how many samples a seed
    has, and the paired change under the attack (attacked minus clean) with its own.
    """
    rows = []
    for row, column in product(grid.rows, grid.columns):
        cell = grid.cells[row, column]
        axes = dict(zip(grid.spec.rows + grid.spec.columns, row + column, strict=True))
        label = axes.pop("metric")
        for value in cell.values:
            numbers = {**asdict(value), "difference": difference(value)}
            note = {"note": numbers.pop("note")}
            del numbers["interval"], numbers["change"]
            numbers |= _ends(value) if grid.intervals else {}
            rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in numbers.items()}
            rows.append({**axes, "cell": label, **rounded, **(note if grid.compare else {}), "flags": list(cell.flags)})
    return rows


def _ends(value: Value) -> dict[str, float | int | None]:
    """The columns of a number's interval and of its change."""
    own, change = value.interval, value.change
    return {
        "low": own.low if own else None,
        "high": own.high if own else None,
        "samples": own.samples if own else None,
        "change": change.mean if change else None,
        "change_low": change.low if change else None,
        "change_high": change.high if change else None,
    }


def difference(value: Value) -> float | None:
    """Ours minus the paper's, None where one is missing."""
    return None if value.mean is None or value.paper is None else value.mean - value.paper


def load_results(folder: Path) -> list[Record]:
    """The records of every JSON file in `folder`; a file holds one record or a list of them.

    Raises: MissingResultError without the folder; DataError for a file that is no record, or two records of one key.
    """
    if not folder.is_dir():
        raise MissingResultError(f"There is no folder of results {folder}")
    found: dict[str, Record] = {}
    for path in sorted(folder.glob("*.json")):
        for record in read_records(path):
            if record["key"] in found:
                raise DataError(f"Run {record['key']} is in {folder} twice, the second time in {path.name}")
            found[record["key"]] = record
    return list(found.values())


def read_records(path: Path) -> list[Record]:
    """The records of a JSON file, which holds one or a list of them. Raises: DataError for a file of something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    records = content if isinstance(content, list) else [content]
    for record in records:
        if not isinstance(record, dict) or not {"key", "spec", "profile", "metrics"} <= record.keys():
            raise DataError(f"{path} holds something else than run records (key, spec, profile, metrics, ...)")
    return records


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def select(asked: Sequence[CellRequest], records: Iterable[Record]) -> Iterator[Record | None]:
    """The one record that answers each request, None where there is none.

    Of several that differ in a setting which the table leaves open, a sweep's for example, it is the one that has the
    method's own value. Raises: ConfigError where that does not decide.
    """
    index: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        run = record["spec"]
        index[run["stage"], run["model"], run["latent_dim"], run["seed"]].append(record)
    for request in asked:
        candidates = index[request.stage, request.model, request.latent_dim, request.seed]
        answers = {record["key"]: record for record in candidates if _answers(record, request)}
        if len(answers) > 1:
            own = [record for record in answers.values() if not departures(record, request)]
            if len(own) != 1:
                raise _ambiguous(request, list(answers.values()))
            yield own[0]
        else:
            yield next(iter(answers.values()), None)


def departures(record: Record, request: CellRequest) -> list[str]:
    """The settings in which a run differs from its methods' own under its profile, where the request asks for none.

    A method that is no longer there, or no longer takes what it is asked, is named itself.
    """
    from robust_cluster.stages import methods, settings  # late: they load torch

    found: list[str] = []
    run, asked = record["spec"], settings.nested({**request.settings, **request.own_settings})
    named: tuple[tuple[Kind, str | None], ...] = (
        ("models", request.model), ("attacks", request.attack), ("defenses", request.defense)
    )  # fmt: skip
    for kind, name in named:
        if name not in (None, UNDEFENDED):
            group = kind.removesuffix("s")
            try:
                config = methods.resolve(kind, name, record["profile"], asked.get(group, {}))
            except RobustClusterError:
                return [name]
            own = _flat({group: methods.plain(config)})
            found += [path for path, value in own.items() if _has_setting(run, path) and _setting(run, path) != value]
    return found


def _answers(record: Record, request: CellRequest) -> bool:
    run = record["spec"]
    named = {"name", "limit", "flatten", "normalize", "size", "subset"}
    if any(run["data"].get(key) != value for key, value in asdict(request.data).items() if key in named):
        return False
    split = request.data.decided_split(len(record["data"]["shapes"]))
    if (run["data"].get("split") or "none") != (split or "none"):
        return False
    if request.attack_seed is not None and run["attack_seed"] != request.attack_seed:
        return False
    wanted = {key: value for key in ("attack", "defense") if (value := getattr(request, key))}
    if any(_nearest(run, key) != (None if value == UNDEFENDED else value) for key, value in wanted.items()):
        return False
    if any(_setting(run, path) != value for path, value in request.own_settings.items()):
        return False
    # a swept setting of this stage says nothing about the same setting of the stages before it
    return all(
        _holds(run["parent"] if path in request.own_settings else run, path, value, request.attack)
        for path, value in request.settings.items()
    )


def _holds(run: Mapping[str, Any], path: str, value: Any, attack: str | None) -> bool:
    """Whether a setting has this value throughout the lineage, but in attacks that are not the asked one."""
    allowed = (value, None) if value == NONE else (value,)
    stages = [_flat(stage["settings"]) for stage in _lineage(run) if stage["attack"] in (None, attack)]
    found = [stage[path] for stage in stages if path in stage]
    return bool(found) and all(one in allowed for one in found)


def _lineage(run: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    while run is not None:
        yield run
        run = run["parent"]


def _nearest(run: Mapping[str, Any], name: str) -> Any:
    return next((stage[name] for stage in _lineage(run) if stage[name] is not None), None)


def _setting(run: Mapping[str, Any] | None, path: str) -> Any:
    """The setting at a dotted path, e.g. "attack.gamma", of the youngest run in the lineage that has it."""
    for stage in _lineage(run):
        flat = _flat(stage["settings"])
        if path in flat:
            return flat[path]
    return None


def _has_setting(run: Mapping[str, Any], path: str) -> bool:
    """Whether a run or one before it has this setting at all: what it does not have cannot have changed it."""
    return any(path in _flat(stage["settings"]) for stage in _lineage(run))


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _ambiguous(request: CellRequest, answers: Sequence[Record]) -> ConfigError:
    one, other = answers[:2]
    first, second = _flat(one["spec"]), _flat(other["spec"])
    paths = [path for path in sorted(first.keys() | second.keys()) if first.get(path) != second.get(path)]
    where = ", ".join([*request.place.values(), f"seed {request.seed}"])
    return ConfigError(
        f"Two runs answer one cell ({where}): {one['key']} and {other['key']} differ in {', '.join(paths[:5])}",
        hint="pin that setting under `set` in the table's file, or move one run out of the folder",
    )


def _cell(form: CellFormat, runs: Runs, *, request: CellRequest, published: Published, is_own: bool) -> Cell:
    flags = {flag for records in runs.values() for record in records for flag in flags_of(record)}
    flags |= set() if is_own else {"settings not the method's own"}
    known = [flag for flag in MARKS if flag in flags]
    method, dim = request.place["method"], request.latent_dim
    printed = partial(published.value, request.data, method=method, latent_dim=dim)
    is_same, whole = published.has(request.data), published.whole(request.data)
    of_whole = partial(published.value, whole, method=method, latent_dim=dim)
    noted = partial(published.note, request.data, method=method, latent_dim=dim)
    values = []
    for metric in form.values:
        per_seed = [v for records in runs.values() if (v := _over_attackers(records, metric, form=form)) is not None]
        values.append(
            Value(
                metric=metric,
                mean=fmean(per_seed) if per_seed else None,
                std=stdev(per_seed) if len(per_seed) > 1 else None,
                n=len(per_seed),
                # a paper prints its ordinary re-attack, not the worst of several
                paper=printed(metric=metric) if form.attackers == "mean" else None,
                note=noted(metric=metric) if form.attackers == "mean" else "",
                whole=of_whole(metric=metric) if form.attackers == "mean" and not is_same else None,
            )
        )
    return Cell(form, tuple(values), (*known, *sorted(flags.difference(known))), is_same)


def flags_of(record: Record) -> list[str]:
    """A record's flags, what its audit says (an attack from before there were audits has none), and whether a mixture
    lost components, which labels of k-means beside it do not show.
    """
    found = [*record["flags"], *([AUDITS[mark(record["audit"])]] if "audit" in record else [])]
    if (record.get("health") or {}).get("smallest_component", 1.0) < LEAST:
        found.append("components lost")
    return found


def _over_attackers(records: Sequence[Record], metric: str, *, form: CellFormat) -> float | None:
    """A seed's value in the table's units: over its attack seeds, before any statistic over seeds."""
    found = [value for record in _attackers(records, form) if (value := measured(record, metric)) is not None]
    return form.scale * fmean(found) if found else None


def _attackers(records: Sequence[Record], form: CellFormat) -> Sequence[Record]:
    """A seed's records that count for a cell: all its attackers, or the one with the lowest ACC*."""
    if form.attackers == "mean":
        return records
    accuracies = [record["metrics"].get("ACC*") for record in records]
    if None in accuracies:  # no labels: no attacker can be called the worst
        return []
    return [records[accuracies.index(min(accuracies))]]


def _spread(cell: Cell, runs: Runs) -> Cell:
    """The cell with the interval of every number, and of its change under the attack."""
    form = cell.format
    counted = [_attackers(records, form) for records in runs.values()]
    values = (
        replace(
            value,
            interval=spreads.of_metric(counted, value.metric, form.scale, measured),
            change=spreads.of_change(counted, value.metric, form.scale, measured),
        )
        for value in cell.values
    )
    return replace(cell, values=tuple(values))


def measured(record: Record, metric: str) -> float | None:
    """The metric of a record, None without; "training.<figure>" is of its training, "drift.<figure>" a mean over it.

    "radii.<eps>.<metric>" is what the worst of all attacks of a curve does at one radius.
    """
    group, _, name = metric.partition(".")
    if group == "training":
        value = (record.get("training") or {}).get(name)
    elif group == "drift":
        value = (record.get("drift") or {}).get("mean", {}).get(name)
    elif group == "radii":
        eps, _, name = name.rpartition(".")
        lines = (line for line in record.get("radii", ()) if line["attack"] == WHOLE and line["eps"] == float(eps))
        found: Mapping[str, Any] = next(lines, {})
        value = found.get(name)
    else:
        value = record["metrics"].get(metric)
    return None if value is None else float(value)


def _best(runs: dict[int, list[Record]]) -> dict[int, list[Record]]:
    """The seed with the lowest final loss, a number that reads no labels."""
    losses = {seed: fmean(_loss(record) for record in records) for seed, records in runs.items()}
    best = sorted(losses, key=losses.__getitem__)[:1]  # none of no runs
    return {seed: runs[seed] for seed in best}


def _loss(record: Record) -> float:
    loss = record["training"].get("loss")
    if loss is None:
        raise ConfigError(f"The statistic best_loss needs training.loss, and run {record['key']} has none")
    return float(loss)


def _caption(
    spec: TableSpec,
    profile: str,
    *,
    asked: Sequence[CellRequest],
    found: Sequence[Record | None],
    runs: Mapping[Labels, Runs],
    compared: Mapping[tuple[Labels, Labels], Cell] | None,
    spread: Mapping[tuple[Labels, Labels], Cell] | None,
    flags: Collection[str],
    departed: Collection[str],
) -> Iterator[str]:
    axes = spec.profile(profile)
    over = f"{len(axes.seed)} seed{'s' if len(axes.seed) > 1 else ''}"
    if spec.statistic == "best_loss":
        yield f"Of {over}, the one with the lowest final loss, which reads no labels."
    elif spread is None:
        is_alone = len(axes.seed) == 1
        yield "One seed." if is_alone else f"Mean±sample standard deviation over {over}; a cell with fewer says so."
    if spread is not None:
        yield from spreads.sentences(list(spread.values()), over)
    if len(axes.attack_seed) > 1 and any(request.attack_seed is not None for request in asked):
        yield f"A seed's re-attack is the mean of {len(axes.attack_seed)} attackers."
    empty = sum(not found for found in runs.values())
    done = [record for found in runs.values() for records in found.values() for record in records]
    if len(done) < len(asked):
        yield f"{empty} of {len(runs)} cells not run (–); {len(done)} of {len(asked)} runs found."
    names = {name for cell in spec.cells for name in cell.values}
    lacking = {name for name in names if any(measured(record, name) is None for record in done)}
    if lacking:
        reasons = dict.fromkeys(why_missing(name) for name in sorted(lacking, key=lambda name: (name == "D", name)))
        yield f"A – in a cell that was run: {', or '.join(reasons)}."
    if marks := [f"{mark} {flag}" for flag, mark in MARKS.items() if flag in flags]:
        yield f"Marks, for at least one run of the cell: {', '.join(marks)}."
    if departed:
        yield f"Not as the method's profile has it now: {', '.join(sorted(departed))}."
    attacked = [record for record in done if record["spec"]["stage"] in ("attack", "reattack")]
    if bare := sum("audit" not in record for record in attacked):
        yield f"{bare} of {len(attacked)} attacks have no audit (rc audit RUN)."
    by_hand = {
        f"{key}={value}"
        for request, record in zip(asked, found, strict=True)
        if record is not None
        for key, value in record.get("overrides", {}).items()
        if key not in request.settings and key not in request.own_settings and _has_setting(record["spec"], key)
    }
    if by_hand:
        yield f"Settings given by hand for some of the runs: {', '.join(sorted(by_hand))}."
    yield from axes.notes
    yield from spec.notes
    if compared is not None:
        wholes = [value.whole for cell in compared.values() if not cell.comparable for value in cell.values]
        if any(cell.comparable for cell in compared.values()):
            yield "Difference: ours minus the paper's."
        elif not any(whole is not None for whole in wholes):
            yield "The paper has no number for these data."
        if any(whole is not None for whole in wholes):
            yield f"{WHOLE_SET}: of the whole data set, of which ours is a part: no difference is taken."
        yield from _remarks(compared)
    yield from _provenance(done)
    yield f"Source: {spec.source}."


def why_missing(metric: str) -> str:
    """Why a run that was made may not have this metric."""
    if metric == "D":
        return "D over a dimension of the embedding that is always 0"
    if metric.endswith("_held"):
        return "no rows held out"
    if metric.endswith(("_transferred", "_adaptive")):
        return "a model without a defense"
    return "a method without such labels" if metric.endswith(("_refit", "_training")) else "no labels"


def _remarks(cells: Mapping[tuple[Labels, Labels], Cell]) -> Iterator[str]:
    """What there is to say of the paper's numbers, each remark once with the places of its first numbers."""
    said: dict[str, list[str]] = defaultdict(list)
    for (row, column), cell in cells.items():
        for value in cell.values:
            if value.note and value.paper is not None:
                said[value.note].append(" ".join([*row, *column]))
    for note, places in said.items():
        named = list(dict.fromkeys(places))
        more = f" and {len(named) - REMARKS} more" if len(named) > REMARKS else ""
        yield f"Paper: {note} ({', '.join(named[:REMARKS])}{more})."


def _provenance(records: Sequence[Record]) -> Iterator[str]:
    """How long the runs of a table trained (those before them not counted), where, and with which code."""
    told = {record["key"]: record for record in records if record.get("environment") and record.get("training")}
    if not told:
        return
    minutes = sum(record["training"]["seconds"] for record in told.values()) / 60
    environments = [record["environment"] for record in told.values()]
    places = sorted({f"{e['accelerator'] or e['cpu']} ({_threads(e['threads'])})" for e in environments})
    commits = sorted({str(e["commit"])[:7] + ("+" if e["dirty"] else "") for e in environments})
    yield (
        f"{len(told)} run{'s' if len(told) > 1 else ''} of this stage, "
        f"{minutes:.0f} min of training in all on {', '.join(places)}; commit {', '.join(commits)}."
    )


def _threads(number: int) -> str:
    return f"{number} thread" + ("s" if number > 1 else "")
