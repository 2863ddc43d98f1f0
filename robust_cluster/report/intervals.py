"""From the records of a cell's runs to the interval of its number, and of what the attack changed.

Records that keep the label of every scored sample give intervals over seeds and samples; of others, and of all but the
largest radius of a curve, only the seeds' own values are known: with one seed there is no interval.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robust_cluster.metrics.bootstrap import (
    STATISTICS,
    Assignments,
    Interval,
    difference,
    interval,
    over_seeds,
    statistic,
)

if TYPE_CHECKING:
    from robust_cluster.report.table import Cell

Record = Mapping[str, Any]  # a run's result.json
Read = Callable[[Record, str], float | None]  # the number of a record
Seeds = Sequence[Sequence[Record]]  # of each seed its records, one an attacker
EXACT = 1e-6  # by which a metric made anew from the listed samples may differ from the recorded one
RANGES = {"ACC": (0.0, 1.0), "NMI": (0.0, 1.0), "ARI": (-0.5, 1.0), "purity": (0.0, 1.0)}  # by how a metric begins


def of_metric(seeds: Seeds, metric: str, scale: float, read: Read) -> Interval | None:
    """The interval of a metric's mean over seeds (of each the mean over attackers), times `scale`.

    None where there is one seed and nothing of its samples. Seeds without a number are left out.
    """
    return _of(seeds, (metric,), read, bounds(metric), scale)


def of_change(seeds: Seeds, metric: str, scale: float, read: Read) -> Interval | None:
    """The interval of an attacked metric minus its clean one, paired by seed and sample; None for one not attacked."""
    clean = before(metric)
    if clean is None:
        return None
    low, high = bounds(metric)
    return _of(seeds, (metric, clean), read, (low - high, high - low), scale)


def before(metric: str) -> str | None:
    """The clean metric of an attacked one: ACC of ACC* and ACC*_clean_map, ACC_refit of ACC*_refit; None for others."""
    name, star, more = metric.partition("*")
    return (name if more in ("", "_clean_map") else name + more) if star else None


def bounds(metric: str) -> tuple[float, float]:
    """The values that a metric can have, as far as its name tells; of one radius of a curve as of the largest."""
    metric = metric.rpartition(".")[2] if metric.startswith("radii.") else metric
    if "flip" in metric:
        return 0.0, 1.0
    if metric == "D" or metric.startswith("D_"):  # a ratio of norms
        return 0.0, np.inf
    return next((found for name, found in RANGES.items() if metric.startswith(name)), (-np.inf, np.inf))


def _of(
    seeds: Seeds, metrics: tuple[str, ...], read: Read, limits: tuple[float, float], scale: float
) -> Interval | None:
    """The interval of the first metric, minus the second where there is one."""
    known: list[list[Record]] = []
    values: list[list[float]] = []  # of each seed the number of each attacker
    for records in seeds:
        numbers = [[read(record, name) for name in metrics] for record in records]
        whole = [(r, [x for x in one if x is not None]) for r, one in zip(records, numbers, strict=True)]
        whole = [(r, one) for r, one in whole if len(one) == len(metrics)]
        if whole:
            known.append([record for record, _ in whole])
            values.append([minus(one) for _, one in whole])
    if not known:
        return None
    found: Interval | None
    rows = [one for records in known if (one := rows_of(records, metrics)) is not None]
    if len(rows) == len(known):
        found = interval(rows, statistic(metrics[0]) if len(metrics) == 1 else difference(*metrics), bounds=limits)
    else:
        found = over_seeds([fmean(one) for one in values], limits)
    if found is None:
        return None
    return Interval(scale * found.mean, scale * found.low, scale * found.high, found.seeds, found.samples)


def minus(values: Sequence[float]) -> float:
    """The first value, less the second where there is one."""
    return values[0] - sum(values[1:])


def rows_of(records: Sequence[Record], metrics: Sequence[str]) -> Assignments | None:
    """The samples of one seed under each of its attackers, where the metrics follow from them, else None.

    They do not where the record's number is of more rows than it lists.
    """
    listed = [record.get("samples") for record in records]
    if not set(metrics) <= STATISTICS or any(not one or "moved" not in one for one in listed):
        return None
    first, *others = (one for one in listed if one)
    if any((one["truth"], one["clean"]) != (first["truth"], first["clean"]) for one in others):
        return None
    truth = None if first["truth"] is None else labels(first["truth"])
    rows = Assignments(truth, labels(first["clean"]), np.array([labels(one["moved"]) for one in (first, *others)]))
    once = np.ones((1, len(rows.clean)), dtype=np.int64)
    for name in metrics:
        recorded = fmean(float(record["metrics"][name]) for record in records)
        if abs(float(statistic(name)(rows, once)[0]) - recorded) > EXACT:
            return None
    return rows


def labels(text: str) -> npt.NDArray[np.int64]:
    """Cluster or class numbers (n,) of one character each, 0-9 and a-z."""
    return np.array([int(character, 36) for character in text], dtype=np.int64)


def shown_changes(cell: "Cell") -> "list[Interval]":
    """The changes under the attack of which a cell has both numbers."""
    names = {value.metric for value in cell.values}
    return [value.change for value in cell.values if value.change is not None and before(value.metric) in names]


def sentences(cells: "Sequence[Cell]", over: str) -> Iterator[str]:
    """What the intervals of a table are of. `over`: how many seeds a full cell has, in words."""
    yield f"Mean over {over} [95 % interval] (n = seeds × samples)."
    values = [value for cell in cells for value in cell.values]
    known = [value.interval for value in values if value.interval is not None]
    if any(one.samples is not None and one.seeds > 1 for one in known):
        yield "Intervals are over seeds (Student's t) and samples (bootstrap)."
    if any(one.samples is not None and one.seeds == 1 for one in known):
        yield "Those of one seed are over samples alone: another seed may lie outside."
    if any(one.samples is None for one in known):
        yield "Where n has no samples the records list none, or not all: over seeds alone."
    if any(value.mean is not None and value.interval is None for value in values):
        yield "A number without an interval has one seed and no samples."
    if any(map(shown_changes, cells)):
        yield "Δ: under the attack minus clean, paired."
