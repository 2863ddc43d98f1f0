"""Which numbers of a table are its best: `rc table NAME --bold best|significant`.

Only what is comparable competes: methods and their settings on one data set, under one attack, in one metric. What is
best is seen from the model: high scores against the classes and high certificates, few flips. Noise, sizes of moves,
losses and times have no best, and neither has a number without a rival. An oracle that saw the classes is nobody's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from robust_cluster.measure.metric import CONTROLS, MATCHED, Metric
from robust_cluster.report.flags import SAW_CLASSES
from robust_cluster.report.spec import TableSpec

Bold = Literal["best", "significant"]
HIGH = {*MATCHED, "ACC_certified", "certified_share", "median_radius", "data.silhouette", "data.calinski_harabasz"}
LOW = {"flip", "reached", "abstained", "reconstruction_error", "data.davies_bouldin"}
NO_RIVALS = {*CONTROLS, "noise", "pgd_noise"}  # moves that are no attack
METHOD_AXES = ("method", "model", "defense")  # along which methods compete
FIXED = ("data", "attack", "certify", "profile")  # axes, or the groups of swept settings, along which nothing does
Values = Mapping[int, float]  # row of the frame of numbers, or seed -> a value that is better the higher it is


@dataclass(frozen=True)
class Winners:
    """The rows of a frame of numbers that are bold for our number, and for the paper's.

    `compared`: how many numbers were tested against a best one, or could not be: `untested`, for they share too few
    seeds.
    """

    ours: frozenset[int]
    paper: frozenset[int]
    compared: int = 0
    untested: int = 0


def direction(metric: Metric) -> int:
    """1 where more is better, -1 where less is, 0 where neither is."""
    if metric.points in NO_RIVALS or metric.group in ("training", "drift"):  # "internal" are "data.silhouette", ...
        return 0
    return (metric.score in HIGH) - (metric.score in LOW)


def conditions(spec: TableSpec) -> list[str]:
    """The axes whose values two numbers that compete have alike.

    Where methods are rows, all that tells columns apart, and of the rows the data and the attack; or the reverse.
    """
    is_column = any(axis in METHOD_AXES for axis in spec.columns)
    own, other = (spec.columns, spec.rows) if is_column else (spec.rows, spec.columns)
    fixed = [axis for axis in own if axis.partition(".")[0] in FIXED]
    return [axis for axis in (*other, *fixed) if axis != "metric"]


def winners(spec: TableSpec, numbers: pd.DataFrame, long: pd.DataFrame, bold: Bold) -> Winners:
    """The best of a table. `numbers`: a row per number, `long`: one per run and metric, as in grid.py.

    The paper's numbers compete among themselves where `bold` is "best": they have no seeds to test.
    """
    digits = {form.label: form.digits for form in spec.cells}
    keys = [*(axis for axis in spec.rows + spec.columns if axis != "metric"), "cell", "metric"]
    values: dict[tuple[Any, ...], dict[int, float]] = {}
    seeds = long[long["counts"]].groupby([*keys, "seed"], sort=False)["value"].mean().dropna()
    for place, value in zip(seeds.index.to_list(), seeds, strict=True):
        values.setdefault(place[:-1], {})[place[-1]] = float(value)
    ours, paper, tests = set[int](), set[int](), list[float | None]()
    rivals = numbers[[SAW_CLASSES not in flags for flags in numbers["flags"]]]
    for _, group in rivals.groupby(["cell", "metric", *conditions(spec)], sort=False):
        metric, cell = group.iloc[0]["metric"], group.iloc[0]["cell"]
        if not (sign := direction(metric)):
            continue
        means = {int(row): sign * mean for row, mean in group["mean"].dropna().items()}  # type: ignore[call-overload]
        first = top(means, digits[cell])
        ours |= first
        if bold == "best":
            for column in ("paper", "whole"):
                printed = group[column].dropna().items()
                paper |= top({int(row): sign * x for row, x in printed}, digits[cell])  # type: ignore[call-overload]
        elif first:
            of = {row: {s: sign * x for s, x in values[tuple(group.loc[row, keys])].items()} for row in means}
            leader = max(means, key=lambda row: means[row])
            found = {row: p_above(of[leader], of[row]) for row in means if row not in first}
            ours |= {row for row, p in found.items() if cannot_tell(p)}
            tests += found.values()
    return Winners(frozenset(ours), frozenset(paper), len(tests), tests.count(None))


def top(values: Values, digits: int) -> set[int]:
    """The rows with the highest value, as it is printed; none where there is one row alone."""
    if len(values) < 2:
        return set()
    shown = {row: round(value, digits) for row, value in values.items()}
    return {row for row, value in shown.items() if value == max(shown.values())}


def p_above(one: Values, other: Values) -> float | None:
    """One-sided p of a paired t test that one is above the other, over the seeds of both; None for too few of them."""
    from robust_cluster.report.claims import LEAST, p_value  # late: SciPy takes a second to load

    shared: Sequence[int] = sorted(one.keys() & other.keys())
    gains = [round(one[seed] - other[seed], 12) for seed in shared]  # equal ones differ by rounding otherwise
    return p_value(gains, "t") if len(shared) >= LEAST else None


def cannot_tell(p: float | None) -> bool:
    """Whether a test was made that does not tell two numbers apart."""
    from robust_cluster.report.claims import LEVEL

    return p is not None and p >= LEVEL
