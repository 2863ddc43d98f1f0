"""What a number of a record is of, and the string under which it stands there: written and read here alone. No torch.

"ACC*_clean_map_seen" is the accuracy of attacked points under the clean matching, on the rows that the attacker learned
on: Metric("ACC", "attack", matching="clean", rows="seen").
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

Points = Literal["clean", "attack"] | str  # or a named move beside the attack, one of `MOVES`
Matching = Literal["own", "clean", "refit", "training"]
Rows = Literal["scored", "seen", "held", "pgd", "certified"]
Group = Literal["metrics", "training", "drift", "internal", "radii"]
NAMED = ("training", "drift", "internal")  # groups whose name stands before the score

CONTROLS = ("zero", "equal_norm", "sign", "uniform", "shuffled", "untrained")
MOVES = (*CONTROLS, "noise", "pgd", "pgd_noise", "pgd:shift", "pgd:assignment")
MATCHED = ("ACC", "NMI", "AMI", "ARI", "purity")  # scores against the classes
CHANGES = ("flip", "shift", "reached")  # scores that compare a moved point with its clean one
MATCHINGS: Mapping[Matching, str] = {"clean": "_clean_map", "refit": "_refit", "training": "_training"}
ROWS: Mapping[Rows, str] = {"seen": "_seen", "held": "_held", "pgd": "_pgd_rows", "certified": "_rows"}
RADIUS = re.compile(r"_(half|at_[\d.]+s?)$")
RADII = re.compile(r"radii\.([\d.e+-]+)\.(.+)")
WHOLE = "all"  # how a curve calls the worst case over an attack's members
DRIFTS: Mapping[str, Callable[[Sequence[float]], float | None]] = {  # of a figure's values at the checkpoints
    "max": lambda values: max(values, default=None),
    "fall": lambda values: fmean(max(0.0, a - b) for a, b in pairwise(values)) if len(values) > 1 else None,
}


@dataclass(frozen=True)
class Metric:
    """One number of a record, in the record's own units (an ACC is a share).

    `score`: "ACC", "flip" (the share that changes cluster), "reached" (that is in the one aimed at), "D", "delta_norm".
    `points`: "clean", "attack", or the move beside it that was made. `member`: of an attack of many, the one that was
    alone. `matching`: how clusters meet classes: by their own best match, the clean points' match, a fit made anew, or
    as the training labeled its rows. `rows`: those that the run scores, or others. `radius`: "" for the run's own, else
    "half", "0.2" or "1s" (sigmas). `group`: where it stands in the record; "radii" is a curve, at `radius`.
    """

    score: str
    points: Points = "clean"
    member: str = ""
    matching: Matching = "own"
    rows: Rows = "scored"
    radius: str = ""
    group: Group = "metrics"

    @classmethod
    def parse(cls, text: str) -> "Metric":
        """The metric that a record, a table's file or a claim writes so; `str` of it is the text again."""
        return _parsed(text)

    def __str__(self) -> str:
        if self.group in NAMED:
            return f"{self.group}.{self.score}"
        if self.group == "radii":
            return f"radii.{self.radius}.{replace(self, group='metrics', radius='')}"
        return self._stem() + MATCHINGS.get(self.matching, "") + self._ball() + ROWS.get(self.rows, "")

    def _stem(self) -> str:
        move = "" if self.points in ("clean", "attack") else self.points.replace(":", "_")
        if self.score in CHANGES:
            return f"{self.score}_{self.member}" if self.member else f"{move}_{self.score}".lstrip("_")
        star = "*" if self.is_attacked and self.score in MATCHED else ""
        return f"{self.score}{star}{'_' if move else ''}{move}"

    def _ball(self) -> str:
        return f"_{self.radius}" if self.radius == "half" else f"_at_{self.radius}" if self.radius else ""

    @property
    def is_attacked(self) -> bool:
        """Whether it is of points that an attack, or a move beside it, has moved."""
        return self.points != "clean"

    @property
    def is_starred(self) -> bool:
        """Whether papers write it with a star: a score against the classes, of moved points."""
        return self.is_attacked and self.score in MATCHED

    @property
    def clean(self) -> "Metric | None":
        """The number of the clean points that it is held against: ACC of ACC*_clean_map, ACC_refit of ACC*_refit."""
        if self.points != "attack" or not self.is_starred:
            return None
        return replace(self, points="clean", matching="refit" if self.matching == "refit" else "own")

    def checkpoints(self, record: Mapping[str, Any]) -> set[int]:
        """The steps after which a run logged a figure of "drift", without its start."""
        return {steps for steps, _ in self._logged(record.get("drift") or {})}

    def read(self, record: Mapping[str, Any], steps: Collection[int] | None = None) -> float | None:
        """The number in a run's record; None where it has none.

        A figure of "drift" is the mean over the training; "drift.max.ACC" the largest at a checkpoint, "drift.fall.ACC"
        the mean fall from one checkpoint to the next, a rise counting as 0. None is over the model before its first
        step. With `steps` it is over the checkpoints at these alone, so that runs of different lengths are compared
        where both were.
        """
        if self.group == "radii":
            lines = (line for line in record.get("radii", ()) if line["attack"] == WHOLE)
            found: Mapping[str, Any] = next((line for line in lines if line["eps"] == float(self.radius)), {})
            value = found.get(str(replace(self, group="metrics", radius="")))
        elif self.group in ("training", "internal"):  # "losses.consistency" is a term of the loss
            value = record
            for name in (self.group, *self.score.split(".")):
                value = (value or {}).get(name)
        elif self.group == "drift":
            value = self._drift(record.get("drift") or {}, steps)
        else:
            value = (record.get(self.group) or {}).get(str(self))
        return None if value is None else float(value)

    def _drift(self, drift: Mapping[str, Any], steps: Collection[int] | None) -> float | None:
        statistic = self.score.rpartition(".")[0]
        if statistic not in DRIFTS and steps is None:
            mean: float | None = drift.get("mean", {}).get(self.score)
            return mean
        values = [value for at, value in self._logged(drift) if steps is None or at in steps]
        if statistic in DRIFTS:
            return DRIFTS[statistic](values)
        return fmean(values) if values else None

    def _logged(self, drift: Mapping[str, Any]) -> list[tuple[int, float]]:
        """Step and value of every checkpoint that has one, without the start."""
        values = drift.get(self.score.rpartition(".")[2], ())
        at = drift.get("steps") or range(len(values))
        return [(step, value) for step, value in list(zip(at, values, strict=False))[1:] if value is not None]


@cache
def _parsed(text: str) -> Metric:
    group, _, name = text.partition(".")
    if group in NAMED:
        return Metric(name, group=group)  # type: ignore[arg-type]
    if at := RADII.fullmatch(text):
        return replace(_parsed(at[2]), radius=at[1], group="radii")
    stem, rows = _stripped(text, ROWS, "scored")
    at = RADIUS.search(stem)
    radius, stem = (at[1].removeprefix("at_"), stem[: at.start()]) if at else ("", stem)
    stem, matching = _stripped(stem, MATCHINGS, "own")
    rest = {"matching": matching, "rows": rows, "radius": radius}
    score, star, move = stem.partition("*")
    moves = {name.replace(":", "_"): name for name in MOVES}
    if star:
        return Metric(score, moves[move[1:]] if move else "attack", **rest)
    first, _, last = stem.rpartition("_")
    if last in CHANGES and (not first or first in moves):
        return Metric(last, moves.get(first, "attack"), **rest)
    first, _, member = stem.partition("_")
    if member and first in ("flip", "reached"):
        return Metric(first, "attack", member, **rest)
    return Metric(stem, **rest)


def _stripped(text: str, suffixes: Mapping[Any, str], default: str) -> tuple[str, Any]:
    """The text without the suffix that it ends in, and what that means."""
    return next(
        ((text.removesuffix(end), name) for name, end in suffixes.items() if text.endswith(end)), (text, default)
    )
