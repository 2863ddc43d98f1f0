"""Every run as a row of one list, and what is told of it when it is opened: plain data for the page's script."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from robust_cluster.audit.marks import mark
from robust_cluster.measure.metric import WHOLE, Metric
from robust_cluster.report.answers import Record
from robust_cluster.report.command import command, differing
from robust_cluster.report.flags import flags_of
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages.settings import flat, typed

Lines = Callable[[RunSpec], Sequence[Mapping[str, Any]]]  # what a run has logged
TEXTS = ("key", "stage", "model", "data", "d", "seed", "attack", "attacker", "defense", "profile")
PERCENT = {  # heading -> what stands below it, times 100
    "ACC": Metric("ACC"),
    "ACC*": Metric("ACC", "attack"),
    "flip": Metric("flip", "attack"),
    "noise": Metric("flip", "noise"),
}
COLUMNS = (*TEXTS, *PERCENT, "flags", "audit")
POINTS = 60  # of a logged curve
TOGETHER = ("ACC", "NMI", "ARI")  # figures of one panel
DIGITS = 5  # significant ones


@dataclass
class Catalog:
    """The runs of a report: a row each, and the details of those for which there is room, None for the others."""

    records: Sequence[Record]
    rows: list[list[Any]]
    unlisted: int  # runs without a row
    details: list[dict[str, Any] | None]
    environments: list[dict[str, Any]] = field(default_factory=list)
    checks: dict[int, str] = field(default_factory=dict)

    @property
    def left_out(self) -> int:
        """How many of the listed runs have no details."""
        return self.details.count(None)

    def fill(self, lines: Lines | None, room: int) -> None:
        """Tell of the runs, in the order of the records, as long as there is room for so many bytes."""
        known: dict[str, int] = {}
        for place, record in enumerate(self.records):
            one = detail(record, lines)
            place_made = compact(one.pop("environment", None))
            room -= len(compact(one).encode()) + (0 if place_made in known else len(place_made.encode()))
            if room < 0:
                break
            one["environment"] = known.setdefault(place_made, len(known))
            self.checks |= {finding["id"]: finding["name"] for finding in record.get("audit") or ()}
            self.details[place] = one
        self.environments = [json.loads(text) or {} for text in known]


def catalog(records: Sequence[Record], first: Iterable[str], most: int) -> Catalog:
    """The rows of the records, `most` at most; those with the keys in `first`, which tables rest on, come first."""
    chosen = set(first)
    listed = sorted(records, key=lambda record: record["key"] not in chosen)[:most]
    return Catalog(listed, [row(one) for one in listed], len(records) - len(listed), [None] * len(listed))


def compact(content: Any) -> str:
    """JSON without spaces, its keys in order."""
    return json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)


def row(record: Record) -> list[Any]:
    """What the list of runs shows of one, in the order of `COLUMNS`."""
    spec = RunSpec.from_json(record["spec"])
    defense = next((str(one.defense) for one in spec.lineage() if one.defense), "")
    texts = (
        record["key"],
        spec.stage,
        spec.model,
        spec.data.label,
        spec.latent_dim,
        spec.seed,
        spec.attack or "",
        "" if spec.attack_seed is None else spec.attack_seed,
        defense,
        record["profile"],
    )
    percents = [metric.read(record) for metric in PERCENT.values()]
    shares = [None if value is None else round(100 * value, 1) for value in percents]
    audit = record.get("audit")
    return [*texts, *shares, ", ".join(flags_of(record, ())), mark(audit) if audit else ""]


def detail(record: Record, lines: Lines | None) -> dict[str, Any]:
    """What is told of a run when it is opened; nothing of what it does not have."""
    spec, profile = RunSpec.from_json(record["spec"]), record["profile"]
    training = numbers(record.get("training") or {})
    losses = numbers((record.get("training") or {}).get("losses") or {})
    found = {
        "lineage": list(ancestors(record["spec"])),
        "settings": [[one.stage, one.path, typed(one.value), typed(one.usual)] for one in differing(spec, profile)],
        "metrics": numbers(record["metrics"]),
        "health": numbers(record.get("health") or {}),
        "training": {**training, **({"losses": losses} if losses else {})},
        "threat": numbers(record.get("threat") or {}),
        "data": {key: record["data"].get(key) for key in ("n_samples", "n_clusters", "shapes", "source")},
        "audit": findings(record.get("audit") or ()),
        "curves": [
            one for one in (*recorded_curves(record), *(logged_curves(lines(spec)) if lines else ())) if one["lines"]
        ],
        "environment": environment(record.get("environment") or {}),
        "command": command(record),
        "own": sorted(record.get("own_files") or {}),
    }
    return {name: value for name, value in found.items() if value}


def ancestors(spec: Mapping[str, Any]) -> Iterator[list[str]]:
    """Stage, model and key of the runs before one, the oldest first."""
    if parent := spec["parent"]:
        yield from ancestors(parent)
        yield [parent["stage"], parent["model"], key_of(compact(parent))]


@cache
def key_of(spec: str) -> str:
    """The key of the run with this spec, as JSON; many runs start from one."""
    return RunSpec.from_json(json.loads(spec)).key


def findings(audit: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """The findings of an audit: numbers of checks, status, value, threshold and note, those that say one thing once."""
    said: dict[str, list[Any]] = {}
    for one in audit:
        about = [one["status"], rounded(one.get("value")), rounded(one.get("threshold")), one["note"]]
        said.setdefault(compact(about), [[], *about])[0].append(one["id"])
    return list(said.values())


def environment(content: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run was made, flat: "versions.torch" -> "2.14.1"."""
    return {key: rounded(value) for key, value in flat(content).items() if value is not None}


def numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, words and short lists of a group, rounded."""
    return {
        key: rounded(value) for key, value in content.items() if not isinstance(value, Mapping) and value is not None
    }


def rounded(value: Any) -> Any:
    """A number in `DIGITS` significant digits, a list of such; anything else as it is."""
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def panel(
    title: str, x: str, xs: Sequence[Any], lines: Mapping[str, Sequence[Any]], scale: float = 1.0
) -> dict[str, Any]:
    """A panel that the page draws: a line for each name that has a value, in percent where `scale` is 100."""
    known = {name: ys for name, ys in lines.items() if any(y is not None for y in ys)}
    scaled = {name: [None if y is None else rounded(float(scale * y)) for y in ys] for name, ys in known.items()}
    return {"title": title, "x": x, "xs": [rounded(at) for at in xs], "lines": scaled, "percent": scale == 100}


def recorded_curves(record: Record) -> Iterator[dict[str, Any]]:
    """The curves that a record keeps: over radii, over an attack's epochs, over the training, of a certificate."""
    if radii := record.get("radii"):
        at = sorted({line["eps"] for line in radii})
        found: dict[str, dict[float, Any]] = {}
        for line in radii:
            found.setdefault("worst of all" if line["attack"] == WHOLE else line["attack"], {})[line["eps"]] = line[
                "flip"
            ]
        lines = {name: [values.get(eps) for eps in at] for name, values in sorted(found.items())}
        yield panel("samples that change cluster (%)", "radius", at, lines, 100)
    if curve := record.get("curve"):
        lines = {name: [line.get(name) for line in curve] for name in sorted({name for line in curve for name in line})}
        yield panel("while the attacker trains (%)", "epoch", range(1, len(curve) + 1), lines, 100)
    if certified := record.get("certified"):
        lines = {"stable": certified["share"], **({"ACC": certified["ACC"]} if certified.get("ACC") else {})}
        at = thinned(range(len(certified["radii"])))
        taken = {name: [values[i] for i in at] for name, values in lines.items()}
        yield panel("certified (%)", "radius", [certified["radii"][i] for i in at], taken, 100)
    drift = record.get("drift") or {}
    if steps := drift.get("steps"):
        kept = {name: values for name, values in sorted(drift.items()) if isinstance(values, list) and name != "steps"}
        at = thinned(range(len(steps)))
        scores = {name: [kept[name][i] for i in at] for name in TOGETHER if len(kept.get(name, ())) == len(steps)}
        if scores:
            yield panel("scores during training (%)", "step", [steps[i] for i in at], scores, 100)
        for name in kept:
            if name not in TOGETHER and len(kept[name]) == len(steps):
                yield panel(name, "step", [steps[i] for i in at], {name: [kept[name][i] for i in at]})


def logged_curves(lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The losses that a run logged, a panel a term."""
    few = [lines[i] for i in thinned(range(len(lines)))]
    for name in sorted({name for line in few for name in line.get("losses") or {}}):
        known = [(line["epoch"], line["losses"][name]) for line in few if name in (line.get("losses") or {})]
        yield panel(f"loss: {name}", "epoch", [at for at, _ in known], {name: [value for _, value in known]})


def thinned(places: range) -> list[int]:
    """At most `POINTS` of the places, evenly, with the first and the last."""
    if len(places) <= POINTS:
        return list(places)
    return [places[round(i * (len(places) - 1) / (POINTS - 1))] for i in range(POINTS)]
