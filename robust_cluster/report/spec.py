"""What a table is: a file under `tables/`, read into axes, methods and cells, and the runs that those ask for.

A figure is a table with a `[figure]` section, in NAME.figure.toml: the same runs, drawn instead of printed. `rc table`
runs and prints it too.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from robust_cluster.errors import ConfigError, DataError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.runs.spec import UNDEFENDED, DataRef, Normalize, Precision, Stage

T = TypeVar("T")
Statistic = Literal["mean±std", "best_loss"]
Attackers = Literal["mean", "worst"]
Plot = Literal["lines", "heat", "learning", "scatter", "top", "outputs", "neighbors"]
NEEDED: Mapping[str, tuple[str, ...]] = {"lines": ("x",), "heat": ("x", "y"), "learning": ("logged",)}  # of a plot
AXES = ("data", "latent_dim", "seed", "attack_seed")  # beside them, dotted settings such as "attack.gamma"
LABELS = "labels"  # tables/labels.toml: display names, no table
CLAIMS = "claims"  # tables/claims.toml: what the papers claim, no table either
PAPERS = "papers"  # tables/papers.toml: whose each table is
FIGURE = ".figure"  # before the suffix of a figure's file
OWN = ("latent_dim", "normalize", "seed")  # beside the settings of a method on one data set: its own of the request's


@dataclass(frozen=True)
class Method:
    """A row (or column) of a table: one model at one stage, pinned by settings such as {"defense.mode": "frozen"}.

    `label` is what the source calls it: published numbers are found by it. `defense`: its own, else the table's.
    `on`: data set -> more settings that the source gives for it, and its "latent_dim", "normalize" and list of "seed"
    there; before those, profile -> more settings in it. A table's own `on` is that of all its methods. "none" is a
    setting without a value.
    `precision`: of its trainings, where that is what a table compares; else that of the command.
    `published_only`: a method of the source that is not ours, of which there are no runs. `without`: data sets that it
    cannot take, on which there are none either.
    """

    label: str
    stage: Stage
    model: str
    set: Mapping[str, Any]
    defense: str | None = None
    precision: Precision | None = None
    on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published_only: bool = False
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellFormat:
    """The metrics that share a cell, e.g. ACC and ACC*; each is multiplied by `scale` and printed with `digits`.

    `attackers`: a seed's value is the mean over its attack seeds, or that of the attacker with the lowest ACC*.
    """

    label: str
    values: tuple[Metric, ...]
    scale: float = 1.0
    digits: int = 1
    attackers: Attackers = "mean"


@dataclass(frozen=True)
class Profile:
    """The axes at one size of experiment. `sweep`: dotted setting -> its values; `set`: settings of every run."""

    data: tuple[DataRef, ...]
    latent_dim: tuple[int, ...]
    seed: tuple[int, ...]
    attack_seed: tuple[int, ...] = (0,)
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def along(self, axis: str) -> tuple[Any, ...]:
        """The values of "data", "latent_dim" or a sweep."""
        values: tuple[Any, ...] = self.sweep[axis] if axis in self.sweep else getattr(self, axis)
        return values


@dataclass(frozen=True)
class Drawing:
    """How a figure is drawn. Which fields count depends on the kind.

    "lines": every cell's metrics against the axis `x`, a curve per method, a band of one standard deviation over seeds.
    "heat": every cell's first metric over the axes `x` and `y`. "learning": the `logged` figures of each epoch against
    `x`, "iteration" or "epoch", as a trailing mean over `smooth` epochs, with the `average` of the whole curve.
    "scatter": the embedding in two dimensions, on the `last` rows of the data (0: all). "top": the `count` samples that
    each cluster is surest of. "outputs": a sample per class and what each model decodes of its embedding. "neighbors":
    those nearest to a sample of the first class in `query` whose nearest by pixels are mostly of the second.
    `space`: the points that are drawn or compared, "z" or the name of what maps z (n, d) to them, e.g. LPVDN's `f_lp`.
    """

    kind: Plot
    x: str = "iteration"
    y: str = ""
    logged: tuple[str, ...] = ()
    smooth: int = 1
    average: bool = False
    apart: bool = False  # a panel of its own for every curve
    log: bool = False  # a logarithmic x axis
    xlim: tuple[float, ...] = ()
    ylim: tuple[float, ...] = ()
    space: str = "z"
    count: int = 10
    last: int = 0
    query: tuple[int, ...] = (4, 9)

    @property
    def axes(self) -> tuple[str, ...]:
        """The table's axes that are drawn as axes."""
        return {"lines": (self.x,), "heat": (self.x, self.y)}.get(self.kind, ())


@dataclass(frozen=True)
class TableSpec:
    """One table as data. `rows` and `columns` share out "data", "method", "metric", "latent_dim" and the sweeps.

    An axis of one value may be left out of both.
    """

    name: str
    title: str
    source: str
    statistic: Statistic
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    methods: tuple[Method, ...]
    cells: tuple[CellFormat, ...]
    profiles: Mapping[str, Profile]
    folder: Path
    attack: str | None = None
    defense: str | None = None
    notes: tuple[str, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    figure: Drawing | None = None

    def profile(self, name: str) -> Profile:
        """The axes of the profile `name`. Raises: UnknownNameError."""
        if name not in self.profiles:
            raise UnknownNameError(f"profile of {self.name}", name, self.profiles)
        return self.profiles[name]

    def display(self, axis: str, value: Any) -> str:
        """How a table writes a value of an axis: its name in labels.toml, else the value itself."""
        name = value.label if isinstance(value, DataRef) else str(value)
        return self.labels.get(axis, {}).get(name, name)

    def symbol(self, axis: str) -> str:
        """How headings write an axis, e.g. d for latent_dim; by its own name where labels.toml has no symbol for it."""
        return self.labels.get("symbol", {}).get(axis, axis)

    def heading(self, axis: str, label: str) -> str:
        """A label of an axis as headings write it, e.g. "d = 64"; the label alone where the axis has no symbol."""
        symbols = self.labels.get("symbol", {})
        return f"{symbols[axis]} = {label}" if axis in symbols else label

    def values(self, axis: str, profile: Profile) -> list[str]:
        """The display names along one axis, in the order of the table."""
        if axis == "method":
            return [method.label for method in self.methods]
        if axis == "metric":
            return [cell.label for cell in self.cells]
        return [self.display(axis, value) for value in profile.along(axis)]


@dataclass(frozen=True)
class CellRequest:
    """One run that a table needs.

    `place`: axis -> display name, all axes but "metric"; requests that differ in seeds alone share it.
    `settings` hold for the whole chain of runs, `own_settings` for this stage only: a re-attack may sweep its gamma
    while the attack that the defense met keeps its own. `attack_seed` is None where the stage has no such axis.
    """

    place: Mapping[str, str]
    stage: Stage
    data: DataRef
    model: str
    latent_dim: int
    seed: int
    attack_seed: int | None
    attack: str | None
    defense: str | None
    settings: Mapping[str, Any]
    own_settings: Mapping[str, Any]
    precision: Precision | None = None


def tables_folder() -> Path:
    """The checkout's `tables/`, beside the package. Raises: DataError when the package is installed without it."""
    folder = Path(__file__).parents[2] / "tables"
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder} with the tables", hint="install from a checkout: pip install -e ."
        )
    return folder


def table_names(folder: Path | None = None) -> list[str]:
    """Sorted names of the tables in `folder` (default: the checkout's), figures left out."""
    stems = [path.stem for path in (folder or tables_folder()).glob("*.toml")]
    return sorted(stem for stem in stems if stem not in (LABELS, CLAIMS, PAPERS) and not stem.endswith(FIGURE))


def figure_names(folder: Path | None = None) -> list[str]:
    """Sorted names of the figures in `folder` (default: the checkout's)."""
    return sorted(path.stem.removesuffix(FIGURE) for path in (folder or tables_folder()).glob(f"*{FIGURE}.toml"))


def load_spec(name: str, folder: Path | None = None) -> TableSpec:
    """The table or figure `name` of `folder` (default: the checkout's), or one's own, e.g. "./my.toml".

    One's own takes its display names from the labels.toml beside it, else from the checkout's.
    Raises: UnknownNameError for an unknown table or key, ConfigError for a file that describes no table.
    """
    if name.endswith(".toml"):
        own = Path(name)
        if not own.is_file():
            raise ConfigError(f"There is no file {own}", hint="rc ls tables")
        beside = own.parent / f"{LABELS}.toml"
        return _table(
            read_toml(own), own, labels=read_toml(beside if beside.exists() else tables_folder() / beside.name)
        )
    folder = folder or tables_folder()
    figures = figure_names(folder)
    if name not in (known := table_names(folder) + figures):
        raise UnknownNameError("table", name, known, listing="rc ls tables")
    labels = read_toml(folder / f"{LABELS}.toml") if (folder / f"{LABELS}.toml").exists() else {}
    path = folder / f"{name}{FIGURE if name in figures else ''}.toml"
    return _table(read_toml(path), path, labels=labels)


def requests(spec: TableSpec, profile: str, *, published_only: bool = False) -> list[CellRequest]:
    """Every run that the table needs under a profile, in the order of its methods. Raises: UnknownNameError.

    With `published_only`, places instead of runs: those for which only the paper has numbers, if anyone.
    """
    axes = spec.profile(profile)
    swept = [dict(zip(axes.sweep, values, strict=True)) for values in product(*axes.sweep.values())]
    found = []
    for method, data, latent_dim, choice in product(spec.methods, axes.data, axes.latent_dim, swept):
        if published_only != (method.published_only or data.name in method.without):
            continue
        here = {**method.on.get(profile, {}), **method.on.get(data.name, {})}
        along = {"data": data, "latent_dim": latent_dim, **choice}
        # a re-attack sweeps its own attack only, but any setting of the defense before it
        own = {k: v for k, v in choice.items() if method.stage != "reattack" or k.startswith("attack.")}
        shared = {k: v for k, v in choice.items() if k not in own}
        place = {"method": method.label, **{axis: spec.display(axis, value) for axis, value in along.items()}}
        attack_seeds = axes.attack_seed if method.stage == "reattack" else (None,)
        found += [
            CellRequest(
                place=place,
                stage=method.stage,
                data=replace(data, normalize=here.get("normalize", data.normalize)),
                model=method.model,
                latent_dim=here.get("latent_dim", latent_dim),
                seed=seed,
                attack_seed=attack_seed,
                attack=spec.attack if method.stage in ("attack", "defend", "reattack") else None,
                defense=_defense(method, spec),
                settings={**method.set, **{k: v for k, v in here.items() if k not in OWN}, **axes.set, **shared},
                own_settings=own,
                precision=method.precision,
            )
            for seed, attack_seed in product(here.get("seed", axes.seed), attack_seeds)
        ]
    return found


def narrowed(spec: TableSpec, profile: str, only: Mapping[str, Collection[str]]) -> TableSpec:
    """The part of a table, under one profile, whose axes have only the values asked for: {"data": {"mnist"}}.

    A value is named as the table shows it, or by its own name ("dec", "mnist10k", "64"), in any case of letters.
    Raises: UnknownNameError for an axis or a value that the table does not have there, which lists those it has.
    """
    if not only:
        return spec
    axes = spec.profile(profile)
    values: dict[str, tuple[Any, ...]] = {
        "method": spec.methods,
        "metric": spec.cells,
        **{name: getattr(axes, name) for name in AXES},
        **axes.sweep,
    }
    own_seeds = (seed for method in spec.methods for here in method.on.values() for seed in here.get("seed", ()))
    values["seed"] = tuple(dict.fromkeys([*axes.seed, *own_seeds]))

    def names(axis: str, value: Any) -> list[str]:
        if isinstance(value, Method):
            return [value.label, value.model]
        if isinstance(value, CellFormat):
            return [value.label]
        if isinstance(value, DataRef):
            return [spec.display(axis, value), value.label, value.name]
        number = [str(float(value))] if isinstance(value, int | float) else []  # 10.0 is 10
        return [spec.display(axis, value), str(value), *number]

    for axis, wanted in only.items():
        if axis not in values:
            raise UnknownNameError(f"axis of {spec.name}", axis, values)
        known = {name.lower() for value in values[axis] for name in names(axis, value)}
        for name in wanted:
            if name.lower() not in known:
                first = dict.fromkeys(names(axis, value)[0] for value in values[axis])
                shown = [f'"{one}"' if "," in one else one for one in first]  # as --only takes them
                raise UnknownNameError(f"{axis} of {spec.name} in profile {profile}", name, shown)
        lower = {name.lower() for name in wanted}
        values[axis] = tuple(value for value in values[axis] if lower & {name.lower() for name in names(axis, value)})
    kept: dict[str, Any] = {name: values[name] for name in AXES}
    kept["seed"] = tuple(seed for seed in axes.seed if seed in values["seed"])
    kept["sweep"] = {axis: values[axis] for axis in axes.sweep}
    part = replace(axes, **kept)
    profiles = {**spec.profiles, profile: part}
    methods = tuple(replace(method, on=_of_seeds(method.on, values["seed"])) for method in values["method"])
    return replace(spec, methods=methods, cells=values["metric"], profiles=profiles)


def _of_seeds(on: Mapping[str, Mapping[str, Any]], seeds: Collection[int]) -> dict[str, dict[str, Any]]:
    """A method's settings of its own, and of its seeds there those asked for."""
    return {
        name: {
            key: [seed for seed in value if seed in seeds] if key == "seed" else value for key, value in here.items()
        }
        for name, here in on.items()
    }


def _defense(method: Method, spec: TableSpec) -> str | None:
    """The defense that a method's runs have; UNDEFENDED for certificates of models without one."""
    if method.stage == "certify":
        return method.defense or UNDEFENDED
    return (method.defense or spec.defense) if method.stage in ("defend", "reattack") else None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises: ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _table(content: Mapping[str, Any], path: Path, *, labels: Mapping[str, Mapping[str, str]]) -> TableSpec:
    required = ("title", "source", "stage", "statistic", "rows", "columns", "axes", "methods", "cells", "profile")
    file, is_figure = path.name, path.stem.endswith(FIGURE)
    optional = ("attack", "defense", "set", "on", "notes")
    check_keys(content, file, required=(*required, "figure") if is_figure else required, optional=optional)
    profiles = content["profile"].items()
    made = {
        "name": path.stem.removesuffix(FIGURE),
        "methods": [one for entry in content["methods"] for one in _methods(entry, content, labels, file)],
        "cells": [_cell(entry, f"{file} [[cells]]") for entry in content["cells"]],
        "profiles": {key: _profile({**content["axes"], **own}, f"{file} [{key}]") for key, own in profiles},
        "folder": path.parent,
        "labels": labels,
        "figure": _drawing(content["figure"], f"{file} [figure]") if is_figure else None,
    }
    told = {key: value for key, value in content.items() if key not in ("stage", "axes", "profile", "set", "on")}
    spec = filled(TableSpec, {**told, **made}, file)
    _check_axes(spec, file)
    return spec


def _methods(
    entry: Mapping[str, Any], table: Mapping[str, Any], labels: Mapping[str, Mapping[str, str]], file: str
) -> Iterator[Method]:
    where, shown = f"{file} [[methods]]", labels.get("model", {})
    optional = ("stage", "set", "defense", "precision", "on", "published_only", "without")
    check_keys(entry, where, required=("label", "models"), optional=optional)
    common, own = table.get("on", {}), entry.get("on", {})
    pinned = {
        "stage": entry.get("stage", table["stage"]),
        "set": {**table.get("set", {}), **entry.get("set", {})},
        "on": {name: {**common.get(name, {}), **own.get(name, {})} for name in {**common, **own}},
    }
    told = {key: value for key, value in entry.items() if key != "models"}
    for model in entry["models"]:
        named = {"label": entry["label"].format(model=shown.get(model, model)), "model": model}
        yield filled(Method, {**told, **pinned, **named}, file)


def _cell(entry: Mapping[str, Any], where: str) -> CellFormat:
    cell = filled(CellFormat, entry, where)
    return replace(cell, values=tuple(Metric.parse(str(name)) for name in cell.values))


def _drawing(entry: Mapping[str, Any], where: str) -> Drawing:
    drawing = filled(Drawing, entry, where)
    check_keys(entry, where, required=NEEDED.get(drawing.kind, ()), optional=entry)
    return drawing


def _profile(content: Mapping[str, Any], where: str) -> Profile:
    sweep = {key: tuple(value) for key, value in content.items() if "." in key and isinstance(value, list)}
    plain = {key: value for key, value in content.items() if "." not in key}
    check_keys(plain, where, required=AXES[:3], optional=("attack_seed", "set", "notes"))
    for key, value in content.items():
        if key != "set" and not isinstance(value, list):
            raise ConfigError(f"{where}: {key} must be a list, got {value!r}", hint=f"{key} = [{value!r}]")
    named = ({"name": entry} if isinstance(entry, str) else entry for entry in plain["data"])
    data = [filled(DataRef, entry, f"{where} data") for entry in named]
    return filled(Profile, {**plain, "data": data, "sweep": sweep}, where)


def filled(shape: type[T], content: Mapping[str, Any], where: str) -> T:
    """The dataclass `shape` from a section of a file: a field without a default is a key that must be there.

    Lists become tuples. Raises: UnknownNameError for an unknown key, or a word that the field's Literal does not have;
    ConfigError without a key that must be there.
    """
    known = fields(shape)  # type: ignore[arg-type]
    needed = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
    check_keys(content, where, required=needed, optional=[f.name for f in known])
    for name, hint in get_type_hints(shape).items():
        for words in (one for one in (hint, *get_args(hint)) if get_origin(one) is Literal):
            if content.get(name) is not None:
                choose(content[name], get_args(words), kind=f"{name} of {where}")
    return shape(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})


def check_keys(
    content: Mapping[str, Any], where: str, *, required: Collection[str], optional: Collection[str] = ()
) -> None:
    """Refuse a section with an unknown key, or without a required one. Raises: UnknownNameError, ConfigError."""
    for key in content:
        if key not in (known := {*required, *optional}):
            raise UnknownNameError(f"key in {where}:", key, known)
    for key in required:
        if key not in content:
            raise ConfigError(f"{where} needs the key {key!r}, and has {', '.join(content) or 'none'}")


def choose(value: str, allowed: Collection[str], *, kind: str) -> None:
    """Refuse a value that is not allowed. Raises: UnknownNameError with the nearest that is."""
    if value not in allowed:
        raise UnknownNameError(kind, value, allowed)


def _check_axes(spec: TableSpec, file: str) -> None:
    known = {data.name for profile in spec.profiles.values() for data in profile.data}
    for name in (name for method in spec.methods for name in method.on):
        choose(name, known | set(spec.profiles), kind=f"data set of {file} [methods.on]:")
    for here in (here for method in spec.methods for here in method.on.values() if "normalize" in here):
        choose(here["normalize"], get_args(Normalize), kind=f"normalize of {file} [methods.on]:")
    for here in (here for method in spec.methods for here in method.on.values() if "seed" in here):
        if not isinstance(here["seed"], list):
            got = here["seed"]
            raise ConfigError(f"{file} [methods.on]: seed must be a list, got {got!r}", hint=f"seed = [{got!r}]")
    for name, profile in spec.profiles.items():
        axes = ("data", "method", "metric", "latent_dim", *profile.sweep)
        shared = spec.rows + spec.columns
        needed = {axis for axis in axes if len(spec.values(axis, profile)) > 1}
        if len(set(shared)) != len(shared) or not needed <= set(shared) <= set(axes):
            wanted, got = ", ".join(sorted(axes)), ", ".join(shared)
            raise ConfigError(f"{file}: rows and columns must share out {wanted}, got {got}")
        for axis in spec.figure.axes if spec.figure else ():
            choose(axis, ("data", "latent_dim", *profile.sweep), kind=f"axis of {file} [figure]")
        for axis in axes:
            if len(labels := spec.values(axis, profile)) != len(set(labels)):
                raise ConfigError(
                    f"{file}: two entries of {axis} have one label in profile {name}: {', '.join(labels)}"
                )
