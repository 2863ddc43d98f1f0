"""The options of every verb: a value comes from its flag, else RC_<NAME>, else --config's file, else the default."""

import csv
import inspect
import logging
import math
import os
import re
import tomllib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from typer.core import TyperCommand

from robust_cluster.data.formats import FOREIGN, PICKLES, SUFFIXES, name_and_suffix
from robust_cluster.discover import Kind, bare, construction, names, offers
from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.runs.spec import UNDEFENDED, DataRef, Normalize, Precision
from robust_cluster.stages.settings import flat

if TYPE_CHECKING:
    from robust_cluster.data.base import Folders

CONFIG_SET = "robust_cluster.config_set"  # where a context keeps the [set] table of --config
FRACTION = re.compile(r"\d+/0*[1-9]\d*")  # a radius as papers write it
DEBUG = "robust_cluster.debug"  # where a context keeps --debug
SEPARATORS = ("/", os.sep)
OF_RUN = (
    "images",
    "decoded",
    "curve",
    "certificate",
    "embedding",
    "confusion",
    "losses",
)  # figures of a run, beside those of tables/
Device = Literal["auto", "cpu", "cuda", "mps"]
Norm = Literal["linf", "l2"]
Space = Literal["input", "latent"]
Mode = Literal["frozen", "alternating", "control"]
Log = Literal["tensorboard"]
Profile = Literal["smoke", "short", "cpu", "paper"]


def offer(kind: Kind | Literal["tables", "figures"]) -> Callable[[str], list[str]]:
    """A shell completion of the names of one kind."""

    def known() -> Iterable[str]:
        from robust_cluster.report import spec  # late: help needs none of it

        if kind == "tables":
            return spec.table_names()
        return (*spec.figure_names(), *OF_RUN) if kind == "figures" else names(kind)

    return lambda incomplete: [name for name in known() if name.startswith(incomplete)]


offer_tables, offer_figures = offer("tables"), offer("figures")


def read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make what a TOML file says the defaults of this command, and return its `path`.

    Keys are option names, and `[set]` holds what `--set` takes. One file serves every verb: it may have the options of
    others. Raises: ConfigError for a missing or malformed file or settings outside `[set]`, UnknownNameError for a key
    that no verb takes.
    """
    if path is None or ctx.resilient_parsing:
        return path
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--config needs a readable TOML file, got {path}: {error}") from error
    settings = content.pop("set", {})
    if not isinstance(settings, Mapping):
        raise ConfigError(f'[set] in {path} must be a table like "model.neighbors" = 3, got {settings!r}')
    ctx.meta[CONFIG_SET] = flat(settings)
    for key, value in content.items():
        if isinstance(value, Mapping):
            raise ConfigError(f"[{key}] in {path} is no option; settings belong under [set.{key}]")
    known = _fields_by_flag(ctx)
    given = {key.replace("-", "_"): _asoption(value) for key, value in content.items()}
    for key in given:
        if key not in known:
            raise UnknownNameError(f"field of {path.name}", key, known)
        if given[key] in ("", []):
            raise ConfigError(f"{key} in {path.name} needs a value", hint="leave it out for the default")
    if len(given) < len(content):
        raise ConfigError(f"{path} gives one option twice: its name with - and with _ is one", hint="leave one out")
    ctx.default_map = {known[key]: value for key, value in given.items()}
    return path


def _fields_by_flag(ctx: typer.Context) -> dict[str, str]:
    """Flag without its dashes -> field, of all that a file may hold: the options of every verb."""
    verbs = ctx.find_root().command.commands.values()  # type: ignore[attr-defined]
    flags = {p.opts[0].lstrip("-").replace("-", "_"): str(p.name) for verb in verbs for p in verb.params}
    return {flag: name for flag, name in flags.items() if name not in ("set", "config", "help")}


def _asoption(value: Any) -> Any:
    """A value of TOML as it would be typed, so that `dim = true` is no 1; seed = [0, 1] is `--seed 0,1`."""
    if isinstance(value, list):
        return value if any(isinstance(item, str) for item in value) else ",".join(map(str, value))
    return str(value)


def positive(parameter: typer.CallbackParam, number: int | None) -> int | None:
    """Refuse a number below 1, and return any other. Raises: ConfigError."""
    if number is not None and number < 1:
        raise ConfigError(f"{parameter.opts[0]} must be >= 1, got {number}")
    return number


def option(*flags: str, help: str, offers: Kind | None = None, **more: Any) -> Any:
    """A flag of a verb, by default --NAME of its field; the shell completes what it `offers`, `more` is typer's."""
    complete = offer(offers) if offers else None
    return typer.Option(*flags, help=help, show_envvar=False, autocompletion=complete, **more)


DataDir = Annotated[Path | None, option(help="Where data files are.")]
Limit = Annotated[int | None, option(callback=positive, help="Class-balanced subset.")]
Flatten = Annotated[bool, option("--flatten", help="Images become vectors.")]
Normalized = Annotated[
    Normalize,
    option(help="Of vectors: by one constant (mean ||x||^2 = 88, or d), by column (standard, minmax), or none."),
]
Size = Annotated[int | None, option(callback=positive, help="Pixels a side of images.")]
Subset = Annotated[str | None, option(metavar="CLASS,...", help="Only these classes.")]
LabelColumn = Annotated[str | None, option(metavar="NAME", help="Of a table of yours; y, label, class or target.")]
TextColumn = Annotated[str | None, option(metavar="NAME", help="Texts of a table or corpus of yours; text.")]
IdColumn = Annotated[str | None, option(metavar="NAME", help="Names of rows in a table: left out.")]
Drop = Annotated[str | None, option(metavar="NAME,...", help="Columns of a table that are left out.")]
NoHeader = Annotated[bool, option(help="A table's first line is a sample; columns are 0, 1, ...")]
NoiseLabel = Annotated[str | None, option(metavar="LABEL", help="Of samples of no class: not scored.")]
Only = Annotated[
    list[str] | None,
    option("--only", metavar="AXIS=VALUE[,...]", help="Part of the grid: data=mnist,usps. Repeatable."),
]
Threads = Annotated[int | None, option(callback=positive, help="CPU threads.")]
Quiet = Annotated[bool, option("--quiet", "-q", help="Nothing on stderr but errors.")]
Debug = Annotated[bool, option("--debug", help="Show tracebacks.")]
Json = Annotated[bool, option("--json", help="Print a JSON document.")]


def data_folders(data_dir: Path | None, *, quiet: bool = False) -> "Folders":
    """Where data are looked for: --data-dir, the folder in RC_DATA, the system's, the cache (RC_CACHE).

    RC_DATA may also be the value of --data: it is a place only when it names a folder. Raises: ConfigError when it is
    an absolute path to nothing.
    """
    from robust_cluster.cli.console import download_progress
    from robust_cluster.data.base import Folders

    named = Path(os.environ.get("RC_DATA", "")).expanduser()
    if named.is_absolute() and not named.exists():
        raise ConfigError(f"RC_DATA must be an existing folder (or what --data takes), got {named}")
    rc_data = named if os.environ.get("RC_DATA") and named.is_dir() else None
    found = Folders(data_dir, rc_data=rc_data, progress=download_progress(quiet=quiet))
    cache = os.environ.get("RC_CACHE")
    return replace(found, cache=Path(cache).expanduser()) if cache else found


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every verb that runs something takes."""

    profile: Annotated[Profile, option(help="Schedules and sizes: smoke, short, cpu or paper.")] = "paper"
    set: Annotated[
        list[str] | None, option(metavar="KEY=VALUE", help="One setting, e.g. model.neighbors=3. Repeatable.")
    ] = None
    config: Annotated[Path | None, option(help="TOML file of options.", is_eager=True, callback=read_config)] = None
    precision: Annotated[
        Precision | None,
        option(
            help="highest: float32; medium (default): bfloat16 on CPUs with AMX; bf16: in layers, while models train."
        ),
    ] = None
    exact: Annotated[bool, option("--exact", help="--precision highest.")] = False
    device: Annotated[Device, option(help="Where to compute.")] = "auto"
    threads: Threads = None
    jobs: Annotated[int | None, option(callback=positive, help="Runs at a time, each in a process of its own.")] = None
    cluster: Annotated[
        str | None, option(metavar="ADDRESS", help="Dask scheduler whose workers make the runs, or its JSON file.")
    ] = None
    per_gpu: Annotated[int | None, option(callback=positive, help="Of --jobs: runs that share a GPU.")] = None
    runs_dir: Annotated[Path, option(help="Where runs are kept.")] = Path("runs")
    data_dir: DataDir = None
    curve: Annotated[bool, option("--curve", help="Log ACC, NMI and, clustering, ADEC's gradient cosines.")] = False
    no_run: Annotated[bool, option("--no-run", help="Only show results that exist.")] = False
    dry_run: Annotated[bool, option("--dry-run", help="Only print the plan.")] = False
    quiet: Quiet = False
    debug: Debug = False

    @property
    def level(self) -> Precision:
        """The precision that was asked for. Raises: ConfigError where --exact and --precision ask for two."""
        if self.exact and self.precision not in (None, "highest"):
            raise ConfigError(f"--exact and --precision {self.precision} disagree", hint="give one of them")
        return "highest" if self.exact else self.precision or "medium"


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What a user says of a file of theirs that the file does not say itself: the columns of a table."""

    label_column: LabelColumn = None
    text_column: TextColumn = None
    id_column: IdColumn = None
    drop: Drop = None
    no_header: NoHeader = False

    @property
    def columns(self) -> dict[str, Any]:
        """Field -> value, for a DataRef."""
        return {field.name: getattr(self, field.name) for field in fields(FileOptions)}


@dataclass(frozen=True, kw_only=True)
class StageOptions(FileOptions, RunOptions):
    """What the verbs of the chain take; a verb has those of `EXTRAS` that it does not hide."""

    model: Annotated[str, option("--model", "-m", help="rc ls models, or ./mine.py of yours.", offers="models")]
    data: Annotated[
        str, option(help="rc ls data, or a data file or folder/ of yours; noisy:IT for 2 views.", offers="data")
    ]
    dim: Annotated[int, option(callback=positive, help="Latent dimensions.")] = 64
    seed: Annotated[str, option(metavar="N[,N...]", help="A run per seed.")] = "0"
    limit: Limit = None
    flatten: Flatten = False
    normalize: Normalized = "alrdc"
    size: Size = None
    subset: Subset = None
    clusters: Annotated[
        str | None, option(metavar="K[,K...]", help="Number of clusters; needed without labels. A run per number.")
    ] = None
    split: Annotated[
        str | None,
        option(
            metavar="halves|none|N/M",
            help="Train on one half, attack the other, as is for several views; or on the first N and last M.",
        ),
    ] = None
    noise_label: NoiseLabel = None
    weights: Annotated[
        Path | None, option(metavar="FILE", help="Weights of your own, in place of the pretraining's training.")
    ] = None
    attack: Annotated[str, option(help="rc ls attacks", offers="attacks")] = "latent_net"
    attack_seeds: Annotated[str | None, option(metavar="N[,N...]", help="An attacker per seed.")] = None
    defense: Annotated[str, option(help="rc ls defenses", offers="defenses")] = "mutual_info"
    eps: Annotated[
        str | None, option(metavar="E[,E...]", help="Radius in pixels, or of the embedding; several: a curve.")
    ] = None
    norm: Annotated[Norm | None, option(help="The ball of --eps.")] = None
    space: Annotated[Space | None, option(help="What a standard attack moves.")] = None
    rows: Annotated[int | None, option(callback=positive, help="Samples it attacks.")] = None
    target: Annotated[
        int | None, option(metavar="K", help="Cluster, numbered from 0, that a standard attack moves samples into.")
    ] = None
    source: Annotated[str | None, option(metavar="RUN", help="Attack run to transfer from.")] = None
    against: Annotated[str | None, option(help="Attack that the defense meets, if another.", offers="attacks")] = None
    mode: Annotated[Mode | None, option(help="The defense's mode: --set defense.mode=...")] = None
    sweep: Annotated[list[str] | None, option(metavar="KEY=A,B,...", help="A run per value. Repeatable.")] = None
    log: Annotated[
        Log | None, option(help="Also log into RUN/events, for tensorboard --logdir runs.", show_default=False)
    ] = None
    force: Annotated[bool, option("--force", help="Run this stage again.")] = False
    json: Annotated[bool, option("--json", help="Print the record as JSON.")] = False

    @property
    def own(self) -> tuple[tuple[Kind, Path], ...]:
        """The files of the user's own that methods are in, each once."""
        chosen: tuple[tuple[Kind, str | None], ...] = (
            ("models", self.model),
            ("attacks", self.attack),
            ("attacks", self.against),
            ("defenses", self.defense),
        )
        return tuple(dict.fromkeys((kind, Path(name)) for kind, name in chosen if name and name.endswith(".py")))

    def check_names(self) -> list[str]:
        """Refuse an unknown method at once; what must be said of one whose name an installed package wants too.

        Raises: UnknownNameError with the nearest name, ConfigError for one that two installed packages have.
        """
        chosen: tuple[tuple[Kind, str], ...] = (
            ("models", self.model),
            ("attacks", self.attack),
            ("attacks", self.against or self.attack),
            ("defenses", self.defense),
        )
        notes = []
        for kind, name in dict.fromkeys(chosen):
            refused = offers(kind)[1].get(name)
            if name in names(kind):
                notes += [refused] if refused else []
            elif refused:
                raise ConfigError(refused)
            elif (kind, name) != ("defenses", UNDEFENDED) and not name.endswith(".py"):
                raise UnknownNameError(kind.removesuffix("s"), name, names(kind), listing=f"rc ls {kind}")
        return notes

    def settings(self) -> dict[str, Any]:
        """Dotted setting -> value, of the flags that are settings: --eps, --norm, --space, --rows, --target, --source.

        The largest of several radii is the one that the scores are of, and all are on the curve. Raises: ConfigError.
        """
        found: dict[str, Any] = {
            "attack.norm": self.norm,
            "attack.space": self.space,
            "attack.rows": self.rows,
            "attack.target": self.target,
            "attack.source": self.source and Path(self.source).name.rpartition("-")[2],
        }
        if self.eps is not None:
            radii = sorted(numbers(self.eps, "--eps"))
            found |= {"attack.eps": radii[-1], "attack.curve": radii if len(radii) > 1 else None}
        return {key: given for key, given in found.items() if given is not None}

    @property
    def path(self) -> Path | None:
        """The user's own data file, or folder written with a separator, None for a named data set."""
        return data_path(self.data)

    @property
    def ref(self) -> DataRef:
        """The data set with the choices that change its numbers; with the first number of clusters."""
        return self.refs[0]

    @property
    def refs(self) -> list[DataRef]:
        """The same with each number of clusters. Raises: ConfigError."""
        name = construction(self.data) + data_name(self.path) if self.path else self.data
        alike = ("limit", "flatten", "normalize", "split", "size", "noise_label")
        chosen = {field: getattr(self, field) for field in alike}
        counts: Sequence[int | None] = [None] if self.clusters is None else integers(self.clusters, "--clusters")
        return [DataRef(name, n_clusters=K, subset=classes(self.subset), **chosen, **self.columns) for K in counts]


def classes(text: str | None) -> str | None:
    """The classes of --subset in one order, numbers by size, so that one choice has one name."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    return ",".join(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def data_path(text: str) -> Path | None:
    """The user's own file, or folder written with a separator, that `--data` names; None for a named data set."""
    path = Path(bare(text))
    is_file = name_and_suffix(path)[1] in (*SUFFIXES, *PICKLES, *FOREIGN) or (path.suffix and path.is_file())
    return path if is_file or any(mark in text for mark in SEPARATORS) else None


def data_name(path: Path) -> str:
    """What a user's file or folder is called: flowers for flowers.csv."""
    name, suffix = name_and_suffix(path)
    return name if suffix in SUFFIXES else path.resolve().name


BUDGET = frozenset({"eps", "norm", "space", "rows", "target", "source"})
EXTRAS = BUDGET | {"attack", "attack_seeds", "against", "defense", "mode", "sweep"}


@dataclass(frozen=True)
class Verb:
    """A verb of the command line; `run` gets an object of type `options`, whose fields but the `hidden` are flags."""

    name: str
    summary: str
    examples: str
    options: type[Any]
    run: Callable[[typer.Context, Any], None]
    hidden: frozenset[str] = frozenset()


class Command(TyperCommand):
    """A verb on the command line, where an option that is given says something."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words that are left. Raises: ConfigError for --runs-dir '', which would be the folder one is in."""
        words, _, _ = self.make_parser(ctx).parse_args(list(args))
        flags = {parameter.name: parameter.opts[0] for parameter in self.params}
        for name, given in words.items():
            if "" in (given if isinstance(given, list) else [given]):
                raise ConfigError(f"{flags[name]} needs a value, got ''", hint="leave it out for the default")
        return super().parse_args(ctx, args)


def add(app: typer.Typer, verb: Verb) -> None:
    """Add a verb to `app`, with a flag for each field of its options: first its own, then the inherited ones."""
    hints = get_type_hints(verb.options, include_extras=True)
    shown = [f for f in fields(verb.options) if f.name not in verb.hidden]
    shown.sort(key=lambda f: f.name not in verb.options.__annotations__)

    def parameter(name: str, hint: Any, default: Any = MISSING) -> inspect.Parameter:
        required = inspect.Parameter.empty if default is MISSING else default
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=required, annotation=hint)

    parameters = [parameter("ctx", typer.Context), *(parameter(f.name, hints[f.name], f.default) for f in shown)]

    def command(ctx: typer.Context, **values: Any) -> None:
        ctx.meta[DEBUG] = values.get("debug", False)
        cores = os.cpu_count() or 1
        if (values.get("threads") or 0) > cores:
            if not values.get("quiet"):
                typer.echo(f"--threads {values['threads']}: {cores}, as many as this machine has cores", err=True)
            values["threads"] = cores
        with hushed() if values.get("quiet") else nullcontext():
            verb.run(ctx, verb.options(**values))

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(
        verb.name,
        help=f"\b\n{inspect.cleandoc(verb.examples)}\n\n{verb.summary}",
        short_help=verb.summary,
        context_settings={"auto_envvar_prefix": "RC"},
        cls=Command,
    )(command)


@contextmanager
def hushed() -> Iterator[None]:
    """A block in which libraries do not warn: -q leaves stderr to errors."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(max(level, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(level)


def on_command_line(ctx: typer.Context) -> set[str | None]:
    """The names of the options that were typed, and not read from the environment or a file."""
    options = [parameter.name or "" for parameter in ctx.command.params]
    return {name for name in options if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")}


def refuse(ctx: typer.Context, names: Sequence[str], reason: str) -> None:
    """Refuse options that were typed and have nothing to say here, e.g. --seed beside --from. Raises: ConfigError."""
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    typed = on_command_line(ctx)
    for name in names:
        if name in typed:
            raise ConfigError(f"{reason}: it takes no {flags[name]}")


def integers(text: str, flag: str) -> list[int]:
    """[0, 1, 2] of "0,1,2". Raises: ConfigError for anything but distinct whole numbers >= 0."""
    return [int(number) for number in _distinct(text, flag, int, "whole numbers", "0,1,2")]


def numbers(text: str, flag: str) -> list[float]:
    """[0, 0.1] of "0,0.1", [8 / 255] of "8/255". Raises: ConfigError for anything but distinct finite numbers >= 0."""
    return _distinct(text, flag, lambda part: float(Fraction(part.strip())), "numbers", "0,0.1")


def _distinct(text: str, flag: str, kind: Callable[[str], Any], what: str, example: str) -> list[Any]:
    try:
        found = [kind(part) for part in text.split(",")]
    except (ValueError, ArithmeticError):
        found = []
    if not found or not all(0 <= number < math.inf for number in found) or len(set(found)) < len(found):
        raise ConfigError(
            f"{flag} takes distinct {what} >= 0 with commas between, got {text!r}", hint=f"{flag} {example}"
        )
    return found


def value(text: str) -> Any:
    """3 of "3", 1e-3 of "1e-3", True of "true", [1, 2] of "[1, 2]", "control" of "control": TOML, bare words allowed.

    8 / 255 of "8/255", ["apgd:margin", "./mine.py"] of "[apgd:margin, ./mine.py]". Raises: ConfigError for other text.
    """
    if FRACTION.fullmatch(text):
        return float(Fraction(text))
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text.endswith(".py") or text.translate(str.maketrans("", "", "_-+:")).isalnum():
            return text
        if re.fullmatch(r"\[[^][\"']+\]", text):
            return [value(part.strip()) for part in text[1:-1].split(",")]
        raise ConfigError(f'A setting is a number, true, false, "text" or [a, list], got {text!r}') from error
    if set(parsed) != {"value"}:
        raise ConfigError(f"A setting is one value, got {text!r}")
    return parsed["value"]


def _pairs(texts: Iterable[str], flag: str, *, example: str = "model.neighbors=3") -> Iterator[tuple[str, str]]:
    """Key and value of every text of a flag. Raises: ConfigError, also for a key that is given twice."""
    seen: set[str] = set()
    for text in texts:
        key, equals, right = (part.strip() for part in text.partition("="))
        if not (key and equals and right):
            raise ConfigError(f"{flag} takes key=value, got {text!r}", hint=f"{flag} {example}")
        if key in seen:
            is_list = flag in ("--sweep", "--only")
            all_of_it = f"{flag} {key}=A,B with all values" if is_list else "leave one of them out"
            raise ConfigError(f"{flag} gives {key} twice", hint=all_of_it)
        seen.add(key)
        yield key, right


def chosen_part(texts: Iterable[str]) -> dict[str, list[str]]:
    """Axis -> the values asked for, of `--only data=mnist,usps`. Raises: ConfigError, also for an axis given twice.

    A name with a comma in it is quoted: `--only 'method="IDEC*, 13,000 steps"'`.
    """
    found: dict[str, list[str]] = {}
    for key, right in _pairs(texts, "--only", example="data=mnist"):
        parts = next(csv.reader([" ".join(right.split())], skipinitialspace=True))
        found[key] = [part.strip() for part in parts]
    return found


def overrides(ctx: typer.Context, options: RunOptions, mode: str | None = None) -> dict[str, Any]:
    """Dotted setting -> value, of `--config`'s [set] table, then `--mode`, then `--set`. Raises: ConfigError."""
    given = {key: value(right) for key, right in _pairs(options.set or [], "--set")}
    if mode and given.get("defense.mode", mode) != mode:
        raise ConfigError(
            f"--mode {mode} and --set defense.mode={given['defense.mode']} disagree", hint="give one of them"
        )
    return {**ctx.meta.get(CONFIG_SET, {}), **({"defense.mode": mode} if mode else {}), **given}


def sweeps(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Dotted setting -> its values, of `--sweep attack.gamma=20,40`. Raises: ConfigError."""
    found: dict[str, list[Any]] = {}
    for key, right in _pairs(texts, "--sweep"):
        is_toml = "[" in right or '"' in right
        found[key] = value(f"[{right}]") if is_toml else [value(part.strip()) for part in right.split(",")]
        if repeated := [one for place, one in enumerate(found[key]) if one in found[key][:place]]:
            raise ConfigError(f"--sweep {key} takes distinct values, got {repeated[0]} twice")
    return found
