"""`rc table runs`: the mean over seeds of any runs of one stage; the rows are what differs between them otherwise.

Runs of one model, data set, attack, defense and profile are compared field by field, with the runs before them: every
field that is not alike is a column of labels. Between two models only what varies within one of them is, and what was
set by hand: that DEC's own settings are not IDEC's is told by their names.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from robust_cluster.measure.metric import Metric
from robust_cluster.report.answers import Record, settings_held
from robust_cluster.report.bold import Bold
from robust_cluster.report.caption import sentences
from robust_cluster.report.compare import Published
from robust_cluster.report.grid import Grid, grid_of
from robust_cluster.report.spec import CellFormat, CellRequest, Profile, TableSpec
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.stages.settings import flat, typed

METHODS = ("model", "data", "attack", "defense", "against", "profile")  # what a run is of: alike in what is compared
ALWAYS = ("data", "model")  # columns of labels also where all runs are alike in them


def cells(stage: Stage) -> tuple[CellFormat, ...]:
    """The headline numbers of a stage's runs, those of a metric clean and under the attack side by side."""

    def cell(label: str, *names: str, scale: float = 100, digits: int = 1) -> CellFormat:
        return CellFormat(label, tuple(map(Metric.parse, names)), scale, digits)

    loss = cell("loss", "training.loss", scale=1, digits=4)
    apart = [cell(f"silhouette, {of}", f"internal.{of}.silhouette", scale=1, digits=3) for of in ("embedding", "data")]
    held = [cell(f"{name}, held out", f"{name}_held") for name in ("ACC", "NMI")]
    attacked = (
        *(cell(name, name, f"{name}*") for name in ("ACC", "NMI", "ARI")),
        cell("ACC, clean matching", "ACC*_clean_map"),
        cell("flips / noise", "flip", "noise_flip"),
        cell("reached / noise", "reached", "noise_reached"),
        cell("flips by PGD", "pgd_flip"),
        cell("size", "delta_norm", scale=1, digits=3),
        cell("D", "D", scale=1, digits=3),
    )
    certified = (
        *(cell(name, name) for name in ("ACC", "certified_share", "ACC_certified", "abstained")),
        cell("median_radius", "median_radius", scale=1, digits=3),
    )
    found: Mapping[Stage, tuple[CellFormat, ...]] = {
        "pretrain": (loss,),
        "cluster": (*(cell(name, name) for name in ("ACC", "NMI", "ARI")), *held, *apart),
        "certify": certified,
    }
    return found.get(stage, attacked)


def build(
    stage: Stage, records: Sequence[Record], *, source: str, intervals: bool = False, bold: Bold | None = None
) -> Grid:
    """The table of some runs of a stage, at least one; `source`: where they are, for the caption."""
    told = [described(record) for record in records]
    rows = axes(told, {path for one in records for path in given(one)})
    known = {axis: in_order({label(one, axis) for one in told}) for axis in rows}
    shown = [cell for cell in cells(stage) if any(m.read(one) is not None for m in cell.values for one in records)]
    by_hand = {f"{path}={typed(x)}" for one in records for path, x in given(one).items() if path not in rows}
    notes = (f"Set by hand for all or some: {', '.join(in_order(by_hand))}.",) if by_hand else ()
    seeds = sorted({record["spec"]["seed"] for record in records})
    attackers = sorted({record["spec"]["attack_seed"] or 0 for record in records})
    profile = "/".join(in_order({record["profile"] for record in records}))
    spec = TableSpec(
        name="runs",
        title=f"Runs: {stage}",
        source=source,
        statistic="mean±std",
        rows=rows,
        columns=("metric",),
        methods=(),
        cells=tuple(shown) or cells(stage)[:1],
        profiles={profile: Profile((), (), tuple(seeds), tuple(attackers), sweep=known, notes=notes)},
        folder=Path(),
    )
    answers = [(request(record, one, rows), record) for record, one in zip(records, told, strict=True)]
    choices: dict[str, Any] = {"intervals": intervals, "bold": bold, "records": records, "is_full": False}
    grid = grid_of(spec, profile, answers, published=Published({}), **choices)
    return replace(grid, caption=tuple(sentences(grid, answers)))


def request(record: Record, told: Mapping[str, str], rows: Iterable[str]) -> CellRequest:
    """What would have asked for this run: for its row's settings and those that were given by hand."""
    spec, held = RunSpec.from_json(record["spec"]), settings_held(record["spec"])
    return CellRequest(
        place={axis: label(told, axis) for axis in rows},
        stage=spec.stage,
        data=spec.data,
        model=spec.model,
        latent_dim=spec.latent_dim,
        seed=spec.seed,
        attack_seed=spec.attack_seed,
        attack=nearest(spec, "attack"),
        defense=nearest(spec, "defense"),
        settings={**given(record), **{path: held[path] for path in rows if path in held}},
        own_settings={},
    )


def given(record: Record) -> dict[str, Any]:
    """The settings of a run, or of those before it, that were given by hand, with the values that it has."""
    held = settings_held(record["spec"])
    return {path: held[path] for path in record.get("overrides", {}) if path in held}


def described(record: Record) -> dict[str, str]:
    """Path -> text of all that a run and those before it are made with, but for seeds: {"model.lr": "0.001", ...}.

    Where a run before has another value in a path, that stands under its own stage: "attack: attack.gamma".
    """
    spec = RunSpec.from_json(record["spec"])
    found = {"model": spec.model, "data": spec.data.label, "profile": record["profile"], "d": str(spec.latent_dim)}
    for name in ("attack", "defense"):
        found[name] = nearest(spec, name) or ""
    met = [one.attack for one in spec.lineage() if one.stage == "attack" and spec.stage == "reattack"]
    found["against"] = met[0] or "" if met else ""
    for field in fields(DataRef):
        value = getattr(spec.data, field.name)
        found[f"data.{field.name}"] = "" if value in (None, False) else typed(value)
    found["data.sha256"] = spec.data_sha256[:8]
    for one in spec.lineage():
        own = {path: typed(value) for path, value in flat(one.settings).items()}
        own |= {f"version of {name}": str(number) for name, number in one.versions.items()}
        for path, text in {**own, "precision": one.precision}.items():
            if found.setdefault(path, text) != text:
                found[f"{one.stage}: {path}"] = text
    return found


def axes(told: Sequence[Mapping[str, str]], by_hand: Iterable[str]) -> tuple[str, ...]:
    """The paths that tell runs apart, those of `ALWAYS` first. `by_hand`: those that were set for any of them."""
    alike: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for one in told:
        alike[tuple(one[name] for name in METHODS)].append(one)
    varying = [path for path in (*METHODS, *sorted(by_hand)) if differs(told, path)]
    for group in alike.values():
        varying += [path for path in paths(group) if differs(group, path)]
    return tuple(dict.fromkeys((*ALWAYS, *varying)))


def differs(told: Iterable[Mapping[str, str]], path: str) -> bool:
    """Whether runs differ in a path."""
    return len({label(one, path) for one in told}) > 1


def label(told: Mapping[str, str], axis: str) -> str:
    """What stands in a row for a path; "" where the run has none such, its own value where one before has no other."""
    return told.get(axis, told.get(axis.partition(": ")[2], ""))


def paths(told: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Every path of some runs, once."""
    yield from dict.fromkeys(path for one in told for path in one)


def nearest(spec: RunSpec, name: str) -> str | None:
    """The method of a kind, "attack" or "defense", of the run or of the nearest before it that has one."""
    found: str | None = next((value for one in spec.lineage() if (value := getattr(one, name))), None)
    return found


def in_order(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts, numbers among them by their size and first."""

    def place(text: str) -> tuple[float, str]:
        try:
            return float(text), ""
        except ValueError:
            return float("inf"), text

    return tuple(sorted(texts, key=place))
