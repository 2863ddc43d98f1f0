"""The interval of a cell's number, and of what the attack changed, from the records of its runs.

A record that lists the label of every scored sample gives an interval over seeds and samples. Where it does not, and at
all but the largest radius of a curve, the interval is over the seeds' values alone, and one seed has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import numpy.typing as npt

from robust_cluster.measure.metric import Metric
from robust_cluster.metrics.bootstrap import (
    STATISTICS,
    Assignments,
    Interval,
    difference,
    interval,
    over_seeds,
    statistic,
)
from robust_cluster.report.answers import Record

Seeds = Sequence[Sequence[Record]]  # of each seed its records, one an attacker
EXACT = 1e-6  # by which a metric made anew from the listed samples may differ from the recorded one
BOUNDS: Mapping[str, tuple[float, float]] = {  # score -> what it can be; the "D" are ratios of norms
    **dict.fromkeys(("ACC", "ACC_certified", "NMI", "purity", "flip", "reached"), (0.0, 1.0)),
    **dict.fromkeys(("D", "D_abs", "D_code", "D_norm"), (0.0, np.inf)),
    "ARI": (-0.5, 1.0),
}


def of_metric(seeds: Seeds, metric: Metric, scale: float) -> Interval | None:
    """The interval of a metric's mean over seeds (of each the mean over attackers), times `scale`.

    None where there is one seed and nothing of its samples. Seeds without a number are left out.
    """
    return _of(seeds, (metric,), bounds(metric), scale)


def of_change(seeds: Seeds, metric: Metric, scale: float) -> Interval | None:
    """The interval of an attacked metric minus its clean one, paired by seed and sample; None for one not attacked."""
    if metric.clean is None:
        return None
    low, high = bounds(metric)
    return _of(seeds, (metric, metric.clean), (low - high, high - low), scale)


def bounds(metric: Metric) -> tuple[float, float]:
    """The least and the largest value that a metric can have, as far as its score tells."""
    return BOUNDS.get(metric.score, (-np.inf, np.inf))


def _of(seeds: Seeds, metrics: tuple[Metric, ...], limits: tuple[float, float], scale: float) -> Interval | None:
    """The interval of the first metric, minus the second where there is one."""

    def gain(record: Record) -> float | None:
        numbers = [number for metric in metrics if (number := metric.read(record)) is not None]
        return numbers[0] - sum(numbers[1:]) if len(numbers) == len(metrics) else None

    measured = [[(record, x) for record in records if (x := gain(record)) is not None] for records in seeds]
    if not (known := [pairs for pairs in measured if pairs]):
        return None
    names = [str(metric) for metric in metrics]
    rows = [one for pairs in known if (one := rows_of([record for record, _ in pairs], names)) is not None]
    found: Interval | None
    if len(rows) == len(known):
        found = interval(rows, statistic(names[0]) if len(names) == 1 else difference(*names), bounds=limits)
    else:
        found = over_seeds([fmean(x for _, x in pairs) for pairs in known], limits)
    return found and replace(found, mean=scale * found.mean, low=scale * found.low, high=scale * found.high)


def rows_of(records: Sequence[Record], metrics: Sequence[str]) -> Assignments | None:
    """The samples of one seed under each of its attackers; None where the metrics do not follow from them.

    Some records list fewer samples than their number was measured on.
    """
    listed = [record.get("samples") for record in records]
    if not set(metrics) <= STATISTICS or any(not one or "moved" not in one for one in listed):
        return None
    first, *others = (one for one in listed if one)
    if "-" in (first["truth"] or "") or any(
        (one["truth"], one["clean"]) != (first["truth"], first["clean"]) for one in others
    ):
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
