"""What the papers claim, held against our runs: `tables/claims.toml`, a paired test over seeds for each data set.

A claim is that one side is above the other in a metric, by a margin. A side is a method of a table or figure; where
that sweeps a setting, a seed's value is the mean, best or worst over the sweep. A side that is left out is 0. So "loses
at most 0.6 points" is ACC* above ACC by more than -0.006, both of one run; "flat over a grid" the worst of the grid
above its best by more than -0.05; "negative" 0 above the value. Only seeds that have all their runs on both sides
count.

In the file a claim may be written once for several methods, `each = ["ConvAE", "MIE"]`, which stand where it says
{each}, and for several metrics, `metric = ["ACC", "NMI"]`: each is then a claim of its own, named NAME:ConvAE:NMI.

A figure of the training (Delta_FR) is a mean over the checkpoints that all runs of a seed have on both sides: one may
train thirty times as long as the other.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import isfinite, isnan
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from scipy import stats

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.metrics.bootstrap import LEVEL as INTERVAL
from robust_cluster.metrics.bootstrap import over_seeds
from robust_cluster.report.answers import Record, select
from robust_cluster.report.spec import (
    CLAIMS,
    CellRequest,
    TableSpec,
    check_keys,
    choose,
    filled,
    load_spec,
    read_toml,
    requests,
    tables_folder,
)

Over = Literal["mean", "max", "min"]
Test = Literal["t", "sign"]
Outcome = Literal["holds", "does not hold", "undecided", "not enough runs"]
LEAST = 3  # pairs
LEVEL = 0.05  # one-sided
EACH = "{each}"  # in a claim of the file: one after the other of its `each`
LEGEND = (
    "effect: the first method's value minus the second's, a mean over the n seeds that both have (an ACC is a share); "
    "0 where a side is 0.\n"
    f"interval: of the effect at the {100 * INTERVAL:g} % level, Student's t (of the median with the test of signs).\n"
    f"holds: above the claim's margin, one-sided p < {LEVEL:g} of a paired t test, or of the signs where one says so.\n"
    "does not hold: the whole interval is at or below the margin. undecided: neither, these runs cannot tell. "
    f"not enough runs: fewer than {LEAST} seeds.\n"
    f"Every claim is tested by itself: of 100 false ones about {100 * LEVEL:g} would hold by chance."
)
OVER: dict[str, Callable[[Iterable[float]], float]] = {"mean": fmean, "max": max, "min": min}
Values = dict[str, dict[int, float]]  # data set as tables write it -> seed -> value


@dataclass(frozen=True)
class Side:
    """A method of a table, by its label there; `over`: what a seed's value is where the table sweeps a setting.

    `metric`: its own, by default the claim's. `where`: values of swept settings that count, beside the claim's.
    """

    table: str
    method: str
    over: Over = "mean"
    metric: Metric | None = None
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """That `above` exceeds `below` in `metric` by more than `margin`, in the metric's own units; None is 0.

    `where`: swept setting -> the values that count, by default all. `minus`: swept settings at which each side's own
    value is taken off first, so that what is compared is gained or lost since. `test`: paired t, or signs of the
    differences. `data`: the data sets that the paper says it of, as tables write them, by default all that both sides
    have. `note`: what to know of it, for instance that the paper contradicts itself.
    """

    name: str
    says: str
    source: str
    metric: Metric
    above: Side | None = None
    below: Side | None = None
    margin: float = 0.0
    test: Test = "t"
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    minus: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    note: str = ""

    @property
    def sides(self) -> tuple[Side, ...]:
        """Its sides that are not 0, the one above first."""
        return tuple(side for side in (self.above, self.below) if side is not None)

    @property
    def comparison(self) -> str:
        """Which runs are compared, in words."""
        sides = [self._words(side) for side in (self.above, self.below)]
        margin = f" {'+' if self.margin > 0 else '-'} {abs(self.margin):g}" if self.margin else ""
        since = f" minus its own at {settings(self.minus)}" if self.minus else ""
        at = " at the checkpoints of both" if self.metric.group == "drift" and len(sides) == 2 else ""
        return f"{self.metric}{at}{since}: {' > '.join(sides)}{margin}"

    def _words(self, side: Side | None) -> str:
        if side is None:
            return "0"
        metric = "" if side.metric is None else f"{side.metric} of "
        over = "" if side.over == "mean" else f", {side.over} of its sweep"
        where = f" at {settings(side.where)}" if side.where else ""
        return f"{metric}{side.method}{where} ({side.table}{over})"


def settings(values: Mapping[str, Sequence[Any]]) -> str:
    """Swept settings in words: "attack.sigma 0.1/0.2"."""
    return ", ".join(f"{key} {'/'.join(map(str, each))}" for key, each in values.items())


@dataclass(frozen=True)
class Ruling:
    """A claim on one data set: the mean difference over `n` seeds (None without any), its 95 % interval, the test's p.

    "holds": above the margin at the 5 % level, one-sided; "does not hold": the interval (low, high) is at or below the
    margin; "undecided": neither; with fewer than three pairs none is said, and interval and p are None.
    """

    claim: Claim
    data: str
    outcome: Outcome
    effect: float | None
    n: int
    p: float | None
    interval: tuple[float, float] | None = None


def load_claims(folder: Path | None = None) -> list[Claim]:
    """The claims of `folder` (default: the checkout's `tables/`), in their order.

    Raises: UnknownNameError for an unknown key, ConfigError for a file that describes no claims.
    """
    path = (folder or tables_folder()) / f"{CLAIMS}.toml"
    content = read_toml(path)
    check_keys(content, path.name, required=("claims",))
    where = f"{path.name} [[claims]]"
    return [_claim(one, where) for entry in content["claims"] for one in _each(entry)]


def _each(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A claim of the file as claims of one metric and, with `each`, one method."""
    metric, rest = entry.get("metric"), {key: value for key, value in entry.items() if key != "each"}
    metrics, methods = metric if isinstance(metric, list) else [None], entry.get("each", [None])
    for method, one in product(methods, metrics):
        own = rest if method is None else _put(rest, method)
        own = own if one is None else {**own, "metric": one}
        parts = [part for part in (method, one) if part is not None]
        yield {**own, "name": ":".join([own["name"], *parts])} if "name" in own else own


def _put(value: Any, method: str) -> Any:
    """The same with a method in place of {each}."""
    if isinstance(value, Mapping):
        return {key: _put(one, method) for key, one in value.items()}
    if isinstance(value, list):
        return [_put(one, method) for one in value]
    return value.replace(EACH, method) if isinstance(value, str) else value


def _claim(entry: Mapping[str, Any], where: str) -> Claim:
    sides = {key: _side(entry[key], f"{where} {key}") for key in ("above", "below") if key in entry}
    claim = filled(Claim, {**entry, **sides}, where)
    if not sides:
        raise ConfigError(f"{where} {claim.name!r} needs the key 'above' or 'below'")
    return replace(claim, metric=Metric.parse(str(claim.metric)))


def _side(entry: Mapping[str, Any], where: str) -> Side:
    side = filled(Side, entry, where)
    return side if side.metric is None else replace(side, metric=Metric.parse(str(side.metric)))


def judge(
    claims: Iterable[Claim], records: Iterable[Record], profile: str, *, folder: Path | None = None
) -> list[Ruling]:
    """A ruling per claim and data set that both its sides have, from the records of a profile.

    Claims of tables that do not have the profile are left out. Raises: UnknownNameError for a table, method or profile
    that does not exist; ConfigError where two runs compete.
    """
    claims = list(claims)
    runs = Runs([record for record in records if record["profile"] == profile], profile, folder)
    there = [claim for claim in claims if all(profile in runs.spec(s.table).profiles for s in claim.sides)]
    return [ruling for claim in there or claims for ruling in _rulings(claim, runs)]


def _rulings(claim: Claim, runs: "Runs") -> Iterator[Ruling]:
    above, below = (None if side is None else runs.gained(claim, side) for side in (claim.above, claim.below))
    known = [values for values in (above, below) if values is not None]
    shared = [name for name in known[0] if all(name in values for values in known)]
    for data in [name for name in shared if name in claim.data] or claim.data or shared:
        seeds = sorted(set.intersection(*(set(values.get(data, {})) for values in known)))
        gains = [_at(above, data, seed) - _at(below, data, seed) for seed in seeds]
        effect = fmean(gains) if gains else None
        if len(gains) < LEAST or effect is None:
            yield Ruling(claim, data, "not enough runs", effect, len(gains), None)
            continue
        p = p_value([gain - claim.margin for gain in gains], claim.test)
        low, high = interval(gains, claim.test)
        refuted: Outcome = "does not hold" if high <= claim.margin else "undecided"
        holds = effect > claim.margin and p < LEVEL
        yield Ruling(claim, data, "holds" if holds else refuted, effect, len(gains), p, (low, high))


def _at(values: Values | None, data: str, seed: int) -> float:
    return 0.0 if values is None else values[data][seed]


@dataclass(frozen=True)
class Runs:
    """The records of one profile, and the folder of the tables that ask for them (None: the checkout's)."""

    records: Sequence[Record]
    profile: str
    folder: Path | None
    specs: dict[str, TableSpec] = field(default_factory=dict)  # those that were read already
    of_model: dict[str, list[Record]] = field(default_factory=dict)

    def spec(self, name: str) -> TableSpec:
        """A table or figure, which many claims are of."""
        if name not in self.specs:
            self.specs[name] = load_spec(name, self.folder)
        return self.specs[name]

    def of(self, models: Iterable[str]) -> list[Record]:
        """The records of some models."""
        if not self.of_model:
            for record in self.records:
                self.of_model.setdefault(record["spec"]["model"], []).append(record)
        return [record for model in sorted(set(models)) for record in self.of_model.get(model, ())]

    def gained(self, claim: Claim, side: Side) -> Values:
        """The values of one side; where the claim has `minus`, less the side's own values at those settings."""
        found = self.values(claim, side, {**claim.where, **side.where})
        if not claim.minus:
            return found
        start = self.values(claim, side, {**side.where, **claim.minus})
        return {
            data: {seed: value - start[data][seed] for seed, value in seeds.items() if seed in start[data]}
            for data, seeds in found.items()
        }

    def values(self, claim: Claim, side: Side, where: Mapping[str, Sequence[Any]]) -> Values:
        """The value of one side on each data set for each seed; a seed that lacks a run or the metric is left out."""
        metric = side.metric or claim.metric
        common = self.checkpoints(claim) if metric.group == "drift" else {}
        complete: Values = {}
        for (data, seed), records in self.answers(claim, side, where).items():
            steps = common.get((data, seed))
            each = [None if record is None else metric.read(record, steps) for record in records]
            known = [value for value in each if value is not None]
            complete.setdefault(data, {})
            if len(known) == len(each):
                complete[data][seed] = OVER[side.over](known)
        return complete

    def checkpoints(self, claim: Claim) -> dict[tuple[str, int], set[int]]:
        """The steps at which all runs of both sides logged the metric, on each data set and for each seed."""
        found: dict[tuple[str, int], set[int]] = {}
        for side in claim.sides:
            metric = side.metric or claim.metric
            for place, records in self.answers(claim, side, {**claim.where, **side.where}).items():
                for steps in (metric.checkpoints(record) for record in records if record is not None):
                    found[place] = found.get(place, steps) & steps
        return found

    def answers(
        self, claim: Claim, side: Side, where: Mapping[str, Sequence[Any]]
    ) -> dict[tuple[str, int], list[Record | None]]:
        """The runs of one side on each data set for each seed, None for one that is not there."""
        spec = self.spec(side.table)
        methods = [method.label for method in spec.methods if not method.published_only]
        if side.method not in methods:
            raise UnknownNameError(f"method of {side.table}", side.method, methods)
        for key in where:
            choose(key, spec.profile(self.profile).sweep, kind=f"sweep of {side.table}")
        for name in claim.data:
            known = {spec.display("data", data) for profile in spec.profiles.values() for data in profile.data}
            choose(name, known, kind=f"data set of {side.table}")
        asked = [r for r in requests(spec, self.profile) if r.place["method"] == side.method and _counts(r, where)]
        found: dict[tuple[str, int], list[Record | None]] = defaultdict(list)
        for request, record in zip(asked, select(asked, self.of(one.model for one in asked)), strict=True):
            found[request.place["data"], request.seed].append(record)
        return found


def _counts(request: CellRequest, where: Mapping[str, Sequence[Any]]) -> bool:
    settings = {**request.settings, **request.own_settings}
    return all(settings[key] in allowed for key, allowed in where.items())


def p_value(gains: Sequence[float], test: Test) -> float:
    """One-sided p that the gains are above 0: of a paired t test, or of the signs of those that are not 0."""
    if test == "sign":
        signed = [gain for gain in gains if gain]
        positive = sum(gain > 0 for gain in signed)
        return float(stats.binomtest(positive, len(signed), alternative="greater").pvalue) if signed else 1.0
    if len(set(gains)) == 1:  # no spread: the limit of the t test
        return 0.0 if gains[0] > 0 else 1.0
    return float(stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue)


def interval(gains: Sequence[float], test: Test) -> tuple[float, float]:
    """The 95 % interval of the mean gain by Student's t; with the test of signs that of the median gain.

    Of order statistics: fewer than six gains have none, and its ends are infinite.
    """
    if test == "sign":
        found: Any = stats.quantile_test(gains, p=0.5).confidence_interval(INTERVAL)
        low, high = float(found.low), float(found.high)
        return (float("-inf") if isnan(low) else low, float("inf") if isnan(high) else high)
    student = over_seeds(gains)
    return (student.low, student.high) if student else (float("-inf"), float("inf"))


def rows(rulings: Iterable[Ruling]) -> list[dict[str, Any]]:
    """One flat row per ruling: claim, what it says, the comparison, data, outcome, effect, low and high, n, p, ..."""
    return [
        {
            "claim": one.claim.name,
            "says": one.claim.says,
            "compares": one.claim.comparison,
            "data": one.data,
            "outcome": one.outcome,
            "effect": rounded(one.effect),
            "low": rounded(one.interval and one.interval[0]),
            "high": rounded(one.interval and one.interval[1]),
            "margin": one.claim.margin,
            "n": one.n,
            "p": None if one.p is None else float(f"{one.p:.4g}"),
            "test": one.claim.test,
            "source": one.claim.source,
            "note": one.claim.note,
        }
        for one in rulings
    ]


def rounded(value: float | None) -> float | None:
    """Six digits after the point; None for what is not known, or has no end."""
    return round(value, 6) if value is not None and isfinite(value) else None
