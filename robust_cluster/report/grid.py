"""From the runs that answer a table to its numbers, on one long frame: a row for every run and metric that it asks for.

Nothing is dropped: what was not run is a number without a value, and what is doubtful has a flag.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from robust_cluster.errors import ConfigError
from robust_cluster.measure.metric import Metric
from robust_cluster.report.answers import Answer, Record, departures
from robust_cluster.report.bold import Bold, Winners, winners
from robust_cluster.report.compare import Published
from robust_cluster.report.flags import MARKS, flags_of, merged
from robust_cluster.report.spec import CellFormat, CellRequest, TableSpec, requests
from robust_cluster.runs.record import OUT_OF_MEMORY

if TYPE_CHECKING:
    from robust_cluster.metrics.bootstrap import Interval

Labels = tuple[str, ...]
ATTACKED = Metric("ACC", "attack")  # by which the worst of several attackers is told
ENDS = {  # column of the long rows -> the interval that it is of, and what of it
    "low": ("interval", "low"),
    "high": ("interval", "high"),
    "samples": ("interval", "samples"),
    "change": ("change", "mean"),
    "change_low": ("change", "low"),
    "change_high": ("change", "high"),
}


@dataclass(frozen=True)
class Value:
    """One number of a cell in the table's units: the mean over `n` seeds; `std` (ddof = 1) is None for one seed.

    `paper`: the source's number for these data, `whole` for the data set that they are a part of, `difference`: ours
    minus the paper's. `is_best`: whether ours is bold, `is_best_paper`: the paper's. `note`: what there is to say of
    the paper's number, or stands in its place. `interval`: of the mean, and `change`: of the attacked number minus the
    clean one, both where they were asked for and can be had.
    """

    metric: Metric
    mean: float | None
    std: float | None
    n: int
    paper: float | None
    note: str = ""
    interval: "Interval | None" = None
    change: "Interval | None" = None
    whole: float | None = None
    difference: float | None = None
    is_best: bool = False
    is_best_paper: bool = False


@dataclass(frozen=True)
class Cell:
    """The values that share a cell; `flags` of any of its runs; `comparable`: the source used this data set."""

    format: CellFormat
    values: tuple[Value, ...]
    flags: tuple[str, ...]
    comparable: bool

    @property
    def is_out_of_memory(self) -> bool:
        """Whether it has no number because no run of it had the memory for one."""
        return OUT_OF_MEMORY in self.flags and not any(value.n for value in self.values)

    @property
    def changes(self) -> "list[Interval]":
        """The changes under the attack of which the cell has both numbers."""
        metrics = {value.metric for value in self.values}
        return [value.change for value in self.values if value.change is not None and value.metric.clean in metrics]


@dataclass(frozen=True)
class Grid:
    """A table before any format: `rows` and `columns` hold one label per axis.

    `runs`: the frame of the runs that count. `numbers`: a row per number, in the order of the table, with its axes,
    cell, metric and what `Value` and `Cell` say of it. `n_seeds`: how many seeds a full cell rests on. `winners`: which
    numbers are `bold`, None where none was asked for.
    """

    spec: TableSpec
    profile: str
    rows: tuple[Labels, ...]
    columns: tuple[Labels, ...]
    runs: pd.DataFrame = field(compare=False)
    numbers: pd.DataFrame = field(compare=False)
    n_seeds: int
    compare: bool
    intervals: bool
    caption: tuple[str, ...] = ()
    bold: Bold | None = None
    winners: Winners | None = None

    @cached_property
    def cells(self) -> Mapping[tuple[Labels, Labels], Cell]:
        """The cell of each (row, column)."""
        forms = {form.label: form for form in self.spec.cells}
        found: dict[tuple[Labels, Labels], Cell] = {}
        for number in records_of(self.numbers):
            place = number | {"metric": number["cell"]}
            at = tuple(place[axis] for axis in self.spec.rows), tuple(place[axis] for axis in self.spec.columns)
            value = Value(**{one.name: number[one.name] for one in fields(Value)})
            before = found[at].values if at in found else ()
            found[at] = Cell(forms[number["cell"]], (*before, value), number["flags"], number["comparable"])
        return found

    def marks(self, row: Labels) -> str:
        """The letters of a row's flags: "u i1,3" where all its runs are unconverged, and in columns 1 and 3 some is
        not imperceptible. That runs were out of memory stands in the cells.
        """
        cells = {number: self.cells[row, column] for number, column in enumerate(self.columns, start=1)}
        made = [number for number, cell in cells.items() if cell.flags or any(value.n for value in cell.values)]
        letters = []
        for flag in merged([one for one in cell.flags if one != OUT_OF_MEMORY] for cell in cells.values()):
            where = [number for number in made if flag in cells[number].flags]
            letters.append(MARKS.get(flag, f"[{flag}]") + ("" if where == made else ",".join(map(str, where))))
        return " ".join(letters)


def grid_of(
    spec: TableSpec,
    profile: str,
    answers: Sequence[Answer],
    *,
    published: Published,
    intervals: bool = False,
    bold: Bold | None = None,
    records: Sequence[Record] = (),
    is_full: bool = True,
) -> Grid:
    """The table of the runs that answer its requests, beside what the paper printed; its caption is yet to be written.

    `records`: all that there are, so that a run's own ancestors can be asked. `is_full`: whether there is a row for
    each combination of the labels of its axes, and not for those of the requests alone.
    Raises: ConfigError for the statistic "best_loss" and a run without a loss.
    """
    axes = spec.profile(profile)
    runs = runs_of(spec, answers, records)
    ours = [request for request, _ in answers]
    places = [*ours, *requests(spec, profile, published_only=True)] if is_full else ours
    long = observed(runs, spec.cells)
    numbers = numbers_of(spec, places, long, published=published, intervals=intervals)
    best = winners(spec, numbers, long, bold) if bold else None
    numbers["is_best"] = numbers.index.isin(best.ours if best else ())
    numbers["is_best_paper"] = numbers.index.isin(best.paper if best else ())
    labels = {axis: spec.values(axis, axes) for axis in spec.rows + spec.columns}
    order = {"cell" if axis == "metric" else axis: known for axis, known in labels.items()}
    return Grid(
        spec=spec,
        profile=profile,
        rows=tuple(product(*(labels[axis] for axis in spec.rows))) if is_full else rows_of(spec, places, labels),
        columns=tuple(product(*(labels[axis] for axis in spec.columns))),
        runs=runs,
        numbers=numbers.sort_values(list(order), key=lambda one: one.map(order[str(one.name)].index), kind="stable"),
        n_seeds=len(axes.seed or {request.seed for request in ours}),
        compare=bool(published.cells),
        intervals=intervals,
        bold=bold,
        winners=best,
    )


def rows_of(spec: TableSpec, places: Iterable[CellRequest], labels: Mapping[str, Sequence[str]]) -> tuple[Labels, ...]:
    """The rows that requests ask for, none by its metric, in the order of the labels of each axis."""
    asked = {tuple(request.place[axis] for axis in spec.rows) for request in places}
    place = {axis: {label: number for number, label in enumerate(known)} for axis, known in labels.items()}
    return tuple(sorted(asked, key=lambda row: [place[axis][own] for axis, own in zip(spec.rows, row, strict=True)]))


def runs_of(spec: TableSpec, answers: Iterable[Answer], records: Sequence[Record] = ()) -> pd.DataFrame:
    """A row per run that counts: its axes, seeds, flags, the settings in which it departs, and its record.

    `is_worst`: whether it is the attacker with the lowest ACC* of its seed; without labels none can be called so.
    With the statistic "best_loss" one seed counts, that of the lowest final loss, which reads no labels.
    """
    axes, is_best = axes_of(spec), spec.statistic == "best_loss"
    columns = [*axes, "seed", "attack_seed", "record", "departed", "flags", "accuracy", "loss"]
    rows = [
        (
            *(request.place[axis] for axis in axes),
            request.seed,
            request.attack_seed,
            record,
            departed := departures(record, request, records),
            flags_of(record, departed),
            ATTACKED.read(record),
            loss_of(record) if is_best else None,
        )
        for request, record in answers
        if record is not None
    ]
    runs = pd.DataFrame(rows, columns=columns).astype({"accuracy": float, "loss": float})
    if is_best:
        losses = runs.groupby([*axes, "seed"], sort=False)["loss"].mean()
        best = list(losses.groupby(axes, sort=False).idxmin())
        runs = runs[pd.MultiIndex.from_frame(runs[[*axes, "seed"]]).isin(best)]
    attackers = runs.groupby([*axes, "seed"], sort=False)["accuracy"]
    is_known = attackers.transform("count") == attackers.transform("size")
    return runs.assign(is_worst=is_known & (attackers.rank(method="first") == 1))


def observed(runs: pd.DataFrame, cells: Iterable[CellFormat]) -> pd.DataFrame:
    """The long frame: a row per run and metric, with its cell and value in the table's units, NaN where it has none.

    `counts`: whether the value enters the cell's mean, which may be that of the worst attackers alone.
    """
    asked = [(form.label, metric, form.scale, form.attackers) for form in cells for metric in form.values]
    long = runs.merge(pd.DataFrame(asked, columns=["cell", "metric", "scale", "attackers"]), how="cross")
    found = [metric.read(record) for metric, record in zip(long["metric"], long["record"], strict=True)]
    value = long["scale"] * pd.Series(found, dtype=float)
    return long.assign(value=value, counts=(long["attackers"] == "mean") | long["is_worst"])


def numbers_of(
    spec: TableSpec, places: Iterable[CellRequest], long: pd.DataFrame, *, published: Published, intervals: bool
) -> pd.DataFrame:
    """A row per number: the mean over seeds of the mean over attackers, its flags, and the paper's number beside it."""
    axes = axes_of(spec)
    keys = [*axes, "cell", "metric"]
    shown = [
        {
            **{axis: request.place[axis] for axis in axes},
            "cell": form.label,
            "metric": metric,
            "scale": form.scale,
            **printed(published, request, form, metric),
        }
        for request in {tuple(request.place.items()): request for request in places}.values()
        for form in spec.cells
        for metric in form.values
    ]
    seeds = long[long["counts"]].groupby([*keys, "seed"], sort=False)
    means = seeds["value"].mean().groupby(keys, sort=False).agg(["mean", "std", "count"])
    flags = long.groupby(keys, sort=False)["flags"].agg(merged)
    numbers = pd.DataFrame(shown).astype({"paper": float, "whole": float}).join(means, on=keys).join(flags, on=keys)
    numbers["n"] = numbers.pop("count").fillna(0).astype(int)
    numbers["flags"] = [found if isinstance(found, tuple) else () for found in numbers["flags"]]
    numbers["difference"] = numbers["mean"] - numbers["paper"]
    if not intervals:
        return numbers.assign(interval=None, change=None)
    from robust_cluster.report.intervals import of_change, of_metric  # late: SciPy takes a second to load

    records = seeds["record"].agg(list).groupby(keys, sort=False).agg(list).to_dict()
    asked = [(records.get(tuple(row[keys]), []), row["metric"], row["scale"]) for _, row in numbers.iterrows()]
    found = {"interval": [of_metric(*one) for one in asked], "change": [of_change(*one) for one in asked]}
    return numbers.join(pd.DataFrame(found, index=numbers.index, dtype=object))


def printed(published: Published, request: CellRequest, form: CellFormat, metric: Metric) -> dict[str, Any]:
    """The paper's number at a place, and what there is to say of it; none beside the worst of several attackers.

    A paper prints its ordinary re-attack.
    """
    data, is_same, is_printed = request.data, published.has(request.data), form.attackers == "mean"
    method = request.place.get("method", request.model)
    place: dict[str, Any] = {"method": method, "latent_dim": request.latent_dim, "metric": str(metric)}
    return {
        "paper": published.value(data, **place) if is_printed else None,
        "whole": published.value(published.whole(data), **place) if is_printed and not is_same else None,
        "note": published.note(data, **place) if is_printed else "",
        "comparable": is_same,
    }


def axes_of(spec: TableSpec) -> list[str]:
    """The axes that a table shares out over its rows and columns, but for that of the metrics."""
    return [axis for axis in spec.rows + spec.columns if axis != "metric"]


def loss_of(record: Record) -> float:
    """The final loss of a run. Raises: ConfigError for one that records none."""
    loss = record["training"].get("loss")
    if loss is None:
        raise ConfigError(f"The statistic best_loss needs training.loss, and run {record['key']} has none")
    return float(loss)


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, None where it has no value."""
    rows: Any = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return list(rows)


def long_rows(grid: Grid) -> list[dict[str, Any]]:
    """One flat row per number: its axes, the cell it stands in, metric, mean, std, n, paper, difference, flags.

    Beside the paper's numbers also what there is to say of them. Where numbers are bold, whether it is one. With
    intervals: low and high, how many samples a seed has, and the paired change under the attack (attacked minus clean)
    with its own.
    """
    columns = [*axes_of(grid.spec), "cell", "metric", "mean", "std", "n", "paper", "whole", "difference"]
    columns += [*(ENDS if grid.intervals else ()), *(["note"] if grid.compare else [])]
    columns += [*(["is_best", *(["is_best_paper"] if grid.compare else [])] if grid.bold else []), "flags"]
    rows = []
    for number in records_of(grid.numbers):
        ends = {name: getattr(number[of], end, None) for name, (of, end) in ENDS.items()}
        row = {**number, **ends, "metric": str(number["metric"]), "flags": list(number["flags"])}
        rows.append({name: round(row[name], 6) if isinstance(row[name], float) else row[name] for name in columns})
    return rows
