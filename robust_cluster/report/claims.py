"""What the papers claim, held against our runs: `tables/claims.toml`, a paired test over seeds for each data set.

A claim is that one side is above the other in a metric. A side is a method of a table or figure; where that sweeps a
setting, a seed's value is the mean, best or worst over the sweep. Only seeds that have all their runs on both sides
count. A figure of the training (Delta_FR) is a mean over the checkpoints that all runs of a seed have on both sides:
one may train thirty times as long as the other.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from scipy import stats

from robust_cluster.errors import UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.report.answers import Record, select
from robust_cluster.report.spec import (
    CLAIMS,
    CellRequest,
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
Outcome = Literal["holds", "does not hold", "not enough runs"]
LEAST = 3  # pairs
LEVEL = 0.05  # one-sided
LEGEND = (
    "effect: the first method's value minus the second's, a mean over the n seeds that both have (an ACC is a share).\n"
    f"holds: above the claim's margin, one-sided p < {LEVEL:g} of a paired t test, or of the signs where one says so.\n"
    "does not hold: these runs do not show it, which is no proof of the contrary. "
    f"not enough runs: fewer than {LEAST} seeds."
)
OVER: dict[str, Callable[[Iterable[float]], float]] = {"mean": fmean, "max": max, "min": min}
Values = dict[str, dict[int, float]]  # data set as tables write it -> seed -> value


@dataclass(frozen=True)
class Side:
    """A method of a table, by its label there; `over`: what a seed's value is where the table sweeps a setting."""

    table: str
    method: str
    over: Over = "mean"


@dataclass(frozen=True)
class Claim:
    """That `above` exceeds `below` in `metric` by more than `margin`, in the metric's own units.

    `where`: swept setting -> the values that count, by default all. `minus`: swept settings at which each side's own
    value is taken off first, so that what is compared is gained or lost since. `test`: paired t, or signs of the
    differences.
    """

    name: str
    says: str
    source: str
    metric: Metric
    above: Side
    below: Side
    margin: float = 0.0
    test: Test = "t"
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    minus: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def comparison(self) -> str:
        """Which runs are compared, in words."""
        sides = [
            f"{side.method} ({side.table}{'' if side.over == 'mean' else f', {side.over} of its sweep'})"
            for side in (self.above, self.below)
        ]
        margin = f" {'+' if self.margin > 0 else '-'} {abs(self.margin):g}" if self.margin else ""
        start = ", ".join(f"{key} {'/'.join(map(str, values))}" for key, values in self.minus.items())
        since = f" minus its own at {start}" if start else ""
        at = " at the checkpoints of both" if self.metric.group == "drift" else ""
        return f"{self.metric}{at}{since}: {' > '.join(sides)}{margin}"


@dataclass(frozen=True)
class Ruling:
    """A claim on one data set: the mean difference over `n` seeds (None without any) and the test's p.

    "holds": above the margin at the 5 % level, one-sided; "does not hold": these runs do not show it; with fewer than
    three pairs neither is said, and p is None.
    """

    claim: Claim
    data: str
    outcome: Outcome
    effect: float | None
    n: int
    p: float | None


def load_claims(folder: Path | None = None) -> list[Claim]:
    """The claims of `folder` (default: the checkout's `tables/`), in their order.

    Raises: UnknownNameError for an unknown key, ConfigError for a file that describes no claims.
    """
    path = (folder or tables_folder()) / f"{CLAIMS}.toml"
    content = read_toml(path)
    check_keys(content, path.name, required=("claims",))
    return [_claim(entry, f"{path.name} [[claims]]") for entry in content["claims"]]


def _claim(entry: Mapping[str, Any], where: str) -> Claim:
    sides = {key: filled(Side, entry[key], f"{where} {key}") for key in ("above", "below") if key in entry}
    claim = filled(Claim, {**entry, **sides}, where)
    return replace(claim, metric=Metric.parse(str(claim.metric)))


def judge(
    claims: Iterable[Claim], records: Iterable[Record], profile: str, *, folder: Path | None = None
) -> list[Ruling]:
    """A ruling per claim and data set that both its sides have, from the records of a profile.

    Raises: UnknownNameError for a table, method or profile that does not exist; ConfigError where two runs compete.
    """
    runs = Runs([record for record in records if record["profile"] == profile], profile, folder)
    return [ruling for claim in claims for ruling in _rulings(claim, runs)]


def _rulings(claim: Claim, runs: "Runs") -> Iterator[Ruling]:
    above, below = (runs.gained(claim, side) for side in (claim.above, claim.below))
    for data in (name for name in above if name in below):
        seeds = sorted(above[data].keys() & below[data].keys())
        gains = [above[data][seed] - below[data][seed] for seed in seeds]
        effect = fmean(gains) if gains else None
        if len(gains) < LEAST or effect is None:
            yield Ruling(claim, data, "not enough runs", effect, len(gains), None)
            continue
        p = p_value([gain - claim.margin for gain in gains], claim.test)
        holds = effect > claim.margin and p < LEVEL
        yield Ruling(claim, data, "holds" if holds else "does not hold", effect, len(gains), p)


@dataclass(frozen=True)
class Runs:
    """The records of one profile, and the folder of the tables that ask for them (None: the checkout's)."""

    records: Sequence[Record]
    profile: str
    folder: Path | None

    def gained(self, claim: Claim, side: Side) -> Values:
        """The values of one side; where the claim has `minus`, less the side's own values at those settings."""
        found = self.values(claim, side, claim.where)
        if not claim.minus:
            return found
        start = self.values(claim, side, claim.minus)
        return {
            data: {seed: value - start[data][seed] for seed, value in seeds.items() if seed in start[data]}
            for data, seeds in found.items()
        }

    def values(self, claim: Claim, side: Side, where: Mapping[str, Sequence[Any]]) -> Values:
        """The value of one side on each data set for each seed; a seed that lacks a run or the metric is left out."""
        common = self.checkpoints(claim) if claim.metric.group == "drift" else {}
        complete: Values = {}
        for (data, seed), records in self.answers(side, where).items():
            steps = common.get((data, seed))
            each = [None if record is None else claim.metric.read(record, steps) for record in records]
            known = [value for value in each if value is not None]
            complete.setdefault(data, {})
            if len(known) == len(each):
                complete[data][seed] = OVER[side.over](known)
        return complete

    def checkpoints(self, claim: Claim) -> dict[tuple[str, int], set[int]]:
        """The steps at which all runs of both sides logged the metric, on each data set and for each seed."""
        found: dict[tuple[str, int], set[int]] = {}
        for side in (claim.above, claim.below):
            for place, records in self.answers(side, claim.where).items():
                for steps in (claim.metric.checkpoints(record) for record in records if record is not None):
                    found[place] = found.get(place, steps) & steps
        return found

    def answers(self, side: Side, where: Mapping[str, Sequence[Any]]) -> dict[tuple[str, int], list[Record | None]]:
        """The runs of one side on each data set for each seed, None for one that is not there."""
        spec = load_spec(side.table, self.folder)
        methods = [method.label for method in spec.methods if not method.published_only]
        if side.method not in methods:
            raise UnknownNameError(f"method of {side.table}", side.method, methods)
        for key in where:
            choose(key, spec.profile(self.profile).sweep, kind=f"sweep of {side.table}")
        asked = [r for r in requests(spec, self.profile) if r.place["method"] == side.method and _counts(r, where)]
        found: dict[tuple[str, int], list[Record | None]] = defaultdict(list)
        for request, record in zip(asked, select(asked, self.records), strict=True):
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


def rows(rulings: Iterable[Ruling]) -> list[dict[str, Any]]:
    """One flat row per ruling: claim, what it says, the comparison, data, outcome, effect, n, p, test, source."""
    return [
        {
            "claim": one.claim.name,
            "says": one.claim.says,
            "compares": one.claim.comparison,
            "data": one.data,
            "outcome": one.outcome,
            "effect": None if one.effect is None else round(one.effect, 6),
            "margin": one.claim.margin,
            "n": one.n,
            "p": None if one.p is None else float(f"{one.p:.4g}"),
            "test": one.claim.test,
            "source": one.claim.source,
        }
        for one in rulings
    ]
