"""What attacks did: flips over the radius with noise beside them and certificates beside these, and a row an attack."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import fmean
from typing import TYPE_CHECKING, Any

from robust_cluster.audit.marks import mark
from robust_cluster.measure.metric import WHOLE, Metric
from robust_cluster.report import canvas
from robust_cluster.report.answers import Record, settings_held
from robust_cluster.report.canvas import NARROWEST, PERCENT
from robust_cluster.report.run_figures import NOISE, unit_of, unit_of_radius
from robust_cluster.runs.spec import DataRef

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANDOM = ("noise", "noise:all")  # members of an ensemble that are no attack but noise
SHOWN: Mapping[str, tuple[Metric, float]] = {  # column of the list -> metric and scale
    "ACC": (Metric("ACC"), 100),
    "ACC*": (Metric("ACC", "attack"), 100),
    "flips": (Metric("flip", "attack"), 100),
    "by noise": (Metric("flip", "noise"), 100),
    "by PGD": (Metric("flip", "pgd"), 100),
    "size": (Metric("delta_norm"), 1),
}
DASHES = ("-", "--", "-.")  # dots are noise
PANEL = (NARROWEST / 2, 3.2)


@dataclass(frozen=True)
class Victim:
    """A model as it was attacked: its name, its data as tables write them, and how it was defended."""

    model: str
    data: str
    defense: str

    @property
    def label(self) -> str:
        """The model and its defense."""
        return f"{self.model}, {self.defense}" if self.defense else self.model


@dataclass(frozen=True)
class Line:
    """A value at each radius, the mean over n runs, for one victim."""

    victim: Victim
    radii: tuple[float, ...]
    values: tuple[float, ...]
    n: int

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Radius and value."""
        return list(zip(self.radii, self.values, strict=True))


@dataclass(frozen=True)
class Panel:
    """Attacks in one kind of ball on one data set: flips by the worst and by noise, and certificates beside them.

    `attack` is "" for certificates alone. `unit`: of the radius; `certified`: the share that is certified, over radii
    in `certified_unit`.
    """

    profile: str
    data: str
    attack: str
    unit: str
    flips: tuple[Line, ...]
    noise: tuple[Line, ...]
    certified: tuple[Line, ...]
    certified_unit: str

    @property
    def title(self) -> str:
        """What was done to which data."""
        return f"{self.attack or 'Certificates'} on {self.data}"

    @property
    def counts(self) -> str:
        """Over how many runs a line is the mean: "3 runs", "1 to 3 runs"."""
        counts = sorted({line.n for line in (*self.flips, *self.certified)})
        return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} run{'s' if counts[-1] > 1 else ''}"


@dataclass(frozen=True)
class Attacked:
    """A row of the list: an attack on a victim, mean over `n` runs, None where they have no number."""

    stage: str
    attack: str
    victim: Victim
    profile: str
    n: int
    numbers: Mapping[str, float | None]
    audits: str
    runs: tuple[str, ...]


def victim_of(record: Record) -> Victim:
    """Whom a run attacks, or certifies."""
    spec = record["spec"]
    defend = next((run for run in lineage(spec) if run["defense"]), None)
    mode = "" if defend is None else str(settings_held(defend).get("defense.mode", ""))
    defense = "" if defend is None else f"{defend['defense']} {mode}".strip()
    return Victim(spec["model"], label_of(spec["data"]), defense)


def lineage(spec: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """A run and those before it, as JSON."""
    while spec is not None:
        yield spec
        spec = spec["parent"]


def label_of(data: Mapping[str, Any]) -> str:
    """The short name of a run's data."""
    return DataRef(**data).label


def panels(records: Iterable[Record]) -> list[Panel]:
    """A panel for each profile, data set, attack and ball of the runs that have a curve, and for certificates alone.

    Certificates stand beside attacks in an L2 ball of the same space; of several sigmas the smallest does.
    """
    flips: dict[tuple[str, str, str, str], dict[Victim, list[Record]]] = defaultdict(lambda: defaultdict(list))
    certificates: dict[tuple[str, str, str], dict[Victim, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        victim, profile, found = victim_of(record), record["profile"], record.get("certified")
        if record.get("radii"):
            place = profile, victim.data, str(record["spec"]["attack"]), radius_unit(record)
            flips[place][victim].append(record)
        elif found:
            unit = f"L2 radius, {unit_of(found)}; noise σ = {found['sigma']:g}"
            certificates[profile, victim.data, unit][victim].append(record)
    made, beside = [], set()
    for (profile, data, attack, unit), victims in sorted(flips.items()):
        space = "embedding" if "embedding" in unit else "range"
        alike = [at for at in sorted(certificates) if at[:2] == (profile, data) and space in at[2] and "L2" in unit]
        beside |= {*alike[:1]}
        made.append(
            Panel(
                profile=profile,
                data=data,
                attack=attack,
                unit=unit,
                flips=tuple(lines(victims, (WHOLE,))),
                noise=tuple(lines(victims, RANDOM)),
                certified=tuple(certified(certificates[alike[0]])) if alike else (),
                certified_unit=alike[0][2] if alike else "",
            )
        )
    for (profile, data, unit), victims in sorted(certificates.items()):
        if (profile, data, unit) not in beside:
            made.append(Panel(profile, data, "", unit, (), (), tuple(certified(victims)), unit))
    return made


def radius_unit(record: Record) -> str:
    """What the radius of an attack is measured in, as far as its record says."""
    threat = record.get("threat") or {}
    return unit_of_radius(record) if threat.get("norm") in ("linf", "l2") and "box" in threat else "radius"


def lines(victims: Mapping[Victim, Sequence[Record]], members: Sequence[str]) -> Iterator[Line]:
    """For each victim the flips by these members of its attacks, the mean over the runs that have each radius."""
    for victim, runs in sorted(victims.items(), key=lambda item: (item[0].model, item[0].defense)):
        values: dict[float, list[float]] = defaultdict(list)
        for run in runs:
            for one in run["radii"]:
                if one["attack"] in members:
                    values[one["eps"]].append(one["flip"])
        if values:
            at = tuple(sorted(values))
            yield Line(victim, at, tuple(fmean(values[eps]) for eps in at), len(runs))


def certified(victims: Mapping[Victim, Sequence[Record]]) -> Iterator[Line]:
    """For each victim the certified share over the radius, the mean over the runs with the radii that most have."""
    for victim, runs in sorted(victims.items(), key=lambda item: (item[0].model, item[0].defense)):
        alike: dict[tuple[float, ...], list[Record]] = defaultdict(list)
        for run in runs:
            alike[tuple(run["certified"]["radii"])].append(run)
        at, most = max(alike.items(), key=lambda item: len(item[1]))
        shares = zip(*(run["certified"]["share"] for run in most), strict=False)
        yield Line(victim, at, tuple(map(fmean, shares)), len(most))


def draw(panel: Panel) -> "Figure":
    """Flips over the radius, solid by the worst attack and dotted by noise; beside it the certified share."""
    victims = sorted(
        {line.victim for line in (*panel.flips, *panel.certified)}, key=lambda one: (one.model, one.defense)
    )
    looks = dict(zip(victims, looks_of(), strict=False))
    with canvas.panels("", bool(panel.flips) + bool(panel.certified), PANEL, room=0.5) as (figure, axes):
        for line in panel.flips:
            draw_line(axes[0], line, looks[line.victim], marker=".", label=line.victim.label)
        for line in panel.noise:
            draw_line(axes[0], line, (looks[line.victim][0], ":"), lw=0.9)
        if panel.noise:
            axes[0].plot([], [], color=NOISE, linestyle=":", label="noise")
        if panel.flips:
            axes[0].set(xlabel=panel.unit, ylabel="samples that change cluster (%)", **PERCENT)
        for line in panel.certified:
            draw_line(axes[-1], line, looks[line.victim], label=line.victim.label)
        if panel.certified:
            axes[-1].set(xlabel=panel.certified_unit, ylabel="certified not to change (%)", **PERCENT)
        canvas.legend_below(figure)
    return figure


def looks_of() -> Iterator[tuple[str, str]]:
    """Color and dash of one curve after another: no two of the first 24 alike."""
    for dash in cycle(DASHES):
        for color in canvas.COLORS:
            yield color, dash


def draw_line(axes: "Axes", line: Line, look: tuple[str, str], **more: Any) -> None:
    """Draw a line in percent; `more` is matplotlib's."""
    color, dash = look
    percent = [100 * value for value in line.values]
    axes.plot(line.radii, percent, color=color, linestyle=dash, clip_on=False, **{"lw": 1.3, **more})


def attacked(records: Iterable[Record]) -> list[Attacked]:
    """A row for each attack and victim: runs that differ in seeds alone, or in settings, are one row."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record["spec"]["stage"] in ("attack", "reattack"):
            victim = victim_of(record)
            sort = (victim.data, victim.model, victim.defense, record["spec"]["attack"], radius_of(record))
            groups[(*sort, record["profile"], record["spec"]["stage"])].append(record)
    found = []
    for (data, model, defense, attack, radius, profile, stage), runs in sorted(groups.items()):
        audits = [mark(run["audit"]) for run in runs if run.get("audit")]
        counted = ", ".join(f"{audits.count(one)} {one}" for one in dict.fromkeys(sorted(audits)))
        found.append(
            Attacked(
                stage=stage,
                attack=f"{attack}, {radius}" if radius else attack,
                victim=Victim(model, data, defense),
                profile=profile,
                n=len(runs),
                numbers={name: mean(metric, runs, scale) for name, (metric, scale) in SHOWN.items()},
                audits=counted or "none",
                runs=tuple(run["key"] for run in runs),
            )
        )
    return found


def radius_of(record: Record) -> str:
    """The radius of a bounded attack with its ball, or its sigma; "" where it has none."""
    held = record["spec"]["settings"].get("attack", {})
    ball = {"linf": "L∞ ", "l2": "L2 "}.get(held.get("norm") or "", "")
    for name, symbol in (("eps", "ε"), ("sigma", "σ"), ("gamma", "γ")):
        if isinstance(held.get(name), int | float):
            return f"{ball}{symbol} = {held[name]:g}{' in the embedding' if held.get('space') == 'latent' else ''}"
    return ""


def mean(metric: Metric, runs: Sequence[Record], scale: float) -> float | None:
    """The mean of a metric over the runs that have it, times `scale`; None where none has."""
    known = [value for run in runs if (value := metric.read(run)) is not None]
    return scale * fmean(known) if known else None
