"""The options of every verb: a value comes from its flag, else RC_<NAME>, else --config's file, else the default."""

import inspect
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from robust_cluster.data.formats import FOREIGN, PICKLES, SUFFIXES, name_and_suffix
from robust_cluster.discover import NOISY, Kind, names
from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.runs.spec import UNDEFENDED, DataRef, Normalize

if TYPE_CHECKING:
    from robust_cluster.data.base import Folders

CONFIG_SET = "robust_cluster.config_set"  # where a context keeps the [set] table of --config
FRACTION = re.compile(r"\d+/0*[1-9]\d*")  # a radius as papers write it
DEBUG = "robust_cluster.debug"  # where a context keeps --debug
SEPARATORS = ("/", os.sep)
OF_RUN = ("images", "curve", "certificate")  # figures of one run, beside those of tables/
Device = Literal["auto", "cpu", "cuda", "mps"]
Norm = Literal["linf", "l2"]
Space = Literal["input", "latent"]
Mode = Literal["frozen", "alternating", "control"]
Profile = Literal["smoke", "short", "cpu", "paper"]


def offer(kind: Kind) -> Callable[[str], list[str]]:
    """A shell completion of the method names of one kind."""

    def offered(incomplete: str) -> list[str]:
        return [name for name in names(kind) if name.startswith(incomplete)]

    return offered


def offer_tables(incomplete: str) -> list[str]:
    """Shell completion of the names of the tables."""
    from robust_cluster.report.spec import table_names

    return [name for name in table_names() if name.startswith(incomplete)]


def offer_figures(incomplete: str) -> list[str]:
    """Shell completion of the names of the figures."""
    from robust_cluster.report.spec import figure_names

    return [name for name in (*figure_names(), *OF_RUN) if name.startswith(incomplete)]


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
    ctx.meta[CONFIG_SET] = dict(_dotted(settings))
    for key, value in content.items():
        if isinstance(value, Mapping):
            raise ConfigError(f"[{key}] in {path} is no option; settings belong under [set.{key}]")
    known = _fields_by_flag(ctx)
    given = {key.replace("-", "_"): _asoption(value) for key, value in content.items()}
    for key in given:
        if key not in known:
            raise UnknownNameError(f"field of {path.name}", key, known)
    ctx.default_map = {known[key]: value for key, value in given.items()}
    return path


def _fields_by_flag(ctx: typer.Context) -> dict[str, str]:
    """Flag without its dashes -> field, of all that a file may hold: the options of every verb."""
    verbs = ctx.find_root().command.commands.values()  # type: ignore[attr-defined]
    flags = {p.opts[0].lstrip("-").replace("-", "_"): str(p.name) for verb in verbs for p in verb.params}
    return {flag: name for flag, name in flags.items() if name not in ("set", "config", "help")}


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _asoption(value: Any) -> Any:
    """TOML lists of numbers are written with commas on the command line: seed = [0, 1] is `--seed 0,1`."""
    if isinstance(value, list) and not any(isinstance(item, str) for item in value):
        return ",".join(map(str, value))
    return value


def positive(parameter: typer.CallbackParam, number: int | None) -> int | None:
    """Refuse a number below 1, and return any other. Raises: ConfigError."""
    if number is not None and number < 1:
        raise ConfigError(f"{parameter.opts[0]} must be >= 1, got {number}")
    return number


def option(*flags: str, help: str, **more: Any) -> Any:
    """A flag of a verb; `more` goes to typer.Option."""
    return typer.Option(*flags, help=help, show_envvar=False, **more)


DataDir = Annotated[Path | None, option("--data-dir", help="Where data files are.")]
Limit = Annotated[int | None, option("--limit", callback=positive, help="Class-balanced subset.")]
Flatten = Annotated[bool, option("--flatten", help="Images become vectors.")]
Normalized = Annotated[Normalize, option("--normalize", help="Scaling of vectors: mean ||x||^2 = 88, or d, or as is.")]
Size = Annotated[int | None, option("--size", callback=positive, help="Pixels a side of images.")]
Subset = Annotated[str | None, option("--subset", metavar="CLASS,...", help="Only these classes.")]
LabelColumn = Annotated[
    str | None, option("--label-column", metavar="NAME", help="Of a table of yours; y, label, class or target.")
]
TextColumn = Annotated[
    str | None, option("--text-column", metavar="NAME", help="Texts of a table or corpus of yours; text.")
]
IdColumn = Annotated[str | None, option("--id-column", metavar="NAME", help="Names of rows in a table: left out.")]
Drop = Annotated[str | None, option("--drop", metavar="NAME,...", help="Columns of a table that are left out.")]
NoHeader = Annotated[bool, option("--no-header", help="A table's first line is a sample; columns are 0, 1, ...")]
NoiseLabel = Annotated[str | None, option("--noise-label", metavar="LABEL", help="Of samples of no class: not scored.")]
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

    profile: Annotated[Profile, option("--profile", help="Schedules and sizes: smoke, short, cpu or paper.")] = "paper"
    set: Annotated[
        list[str] | None,
        option("--set", metavar="KEY=VALUE", help="One setting, e.g. model.neighbors=3. Repeatable."),
    ] = None
    config: Annotated[
        Path | None,
        option("--config", help="TOML file of options.", is_eager=True, callback=read_config),
    ] = None
    exact: Annotated[bool, option("--exact", help="Full float32 products everywhere.")] = False
    device: Annotated[Device, option("--device", help="Where to compute.")] = "auto"
    threads: Annotated[int | None, option("--threads", callback=positive, help="CPU threads.")] = None
    runs_dir: Annotated[Path, option("--runs-dir", help="Where runs are kept.")] = Path("runs")
    data_dir: DataDir = None
    curve: Annotated[bool, option("--curve", help="Log ACC, NMI and, clustering, ADEC's gradient cosines.")] = False
    no_run: Annotated[bool, option("--no-run", help="Only show results that exist.")] = False
    dry_run: Annotated[bool, option("--dry-run", help="Only print the plan.")] = False
    quiet: Quiet = False
    debug: Debug = False


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

    model: Annotated[str, option("--model", "-m", help="rc ls models", autocompletion=offer("models"))]
    data: Annotated[
        str,
        option(
            "--data",
            help="rc ls data, or a data file or folder/ of yours; noisy:IT for 2 views.",
            autocompletion=offer("data"),
        ),
    ]
    dim: Annotated[int, option("--dim", callback=positive, help="Latent dimensions.")] = 64
    seed: Annotated[str, option("--seed", metavar="N[,N...]", help="A run per seed.")] = "0"
    limit: Limit = None
    flatten: Flatten = False
    normalize: Normalized = "alrdc"
    size: Size = None
    subset: Subset = None
    clusters: Annotated[int | None, option("--clusters", help="Number of clusters; needed without labels.")] = None
    split: Annotated[
        str | None,
        option(
            "--split",
            metavar="halves|none|N/M",
            help="Train on one half, attack the other, as is for several views; or on the first N and last M.",
        ),
    ] = None
    noise_label: NoiseLabel = None
    attack: Annotated[str, option("--attack", help="rc ls attacks", autocompletion=offer("attacks"))] = "latent_net"
    attack_seeds: Annotated[
        str | None,
        option("--attack-seeds", metavar="N[,N...]", help="An attacker per seed."),
    ] = None
    defense: Annotated[str, option("--defense", help="rc ls defenses", autocompletion=offer("defenses"))] = (
        "mutual_info"
    )
    eps: Annotated[
        str | None, option("--eps", metavar="E[,E...]", help="Radius in pixels, or of the embedding; several: a curve.")
    ] = None
    norm: Annotated[Norm | None, option("--norm", help="The ball of --eps.")] = None
    space: Annotated[Space | None, option("--space", help="What a standard attack moves.")] = None
    rows: Annotated[int | None, option("--rows", callback=positive, help="Samples it attacks.")] = None
    source: Annotated[str | None, option("--source", metavar="RUN", help="Attack run to transfer from.")] = None
    against: Annotated[
        str | None,
        option("--against", help="Attack that the defense meets, if another.", autocompletion=offer("attacks")),
    ] = None
    mode: Annotated[Mode | None, option("--mode", help="The defense's mode: --set defense.mode=...")] = None
    sweep: Annotated[
        list[str] | None,
        option("--sweep", metavar="KEY=A,B,...", help="A run per value. Repeatable."),
    ] = None
    force: Annotated[bool, option("--force", help="Run this stage again.")] = False
    json: Annotated[bool, option("--json", help="Print the record as JSON.")] = False

    def check_names(self) -> None:
        """Refuse an unknown method at once. Raises: UnknownNameError with the nearest name."""
        chosen: tuple[tuple[Kind, str], ...] = (
            ("models", self.model),
            ("attacks", self.attack),
            ("attacks", self.against or self.attack),
            ("defenses", self.defense),
        )
        for kind, name in chosen:
            if name not in names(kind) and (kind, name) != ("defenses", UNDEFENDED):
                raise UnknownNameError(kind.removesuffix("s"), name, names(kind), listing=f"rc ls {kind}")

    def settings(self) -> dict[str, Any]:
        """Dotted setting -> value, of the flags that are settings: --eps, --norm, --space, --rows, --source.

        The largest of several radii is the one that the scores are of, and all are on the curve. Raises: ConfigError.
        """
        found: dict[str, Any] = {
            "attack.norm": self.norm,
            "attack.space": self.space,
            "attack.rows": self.rows,
            "attack.source": self.source and Path(self.source).name.rpartition("-")[2],
        }
        if self.eps is not None:
            radii = numbers(self.eps, "--eps")
            found["attack.eps"] = max(radii)
            if len(radii) > 1:
                found["attack.curve"] = sorted(radii)
        return {key: given for key, given in found.items() if given is not None}

    @property
    def path(self) -> Path | None:
        """The user's own data file, or folder written with a separator, None for a named data set."""
        return data_path(self.data)

    @property
    def ref(self) -> DataRef:
        """The data set with the choices that change its numbers."""
        construction = NOISY if self.data.startswith(NOISY) else ""
        name = construction + _data_name(self.path) if self.path else self.data
        return DataRef(
            name,
            self.limit,
            self.flatten,
            self.normalize,
            self.clusters,
            self.split,
            self.size,
            classes(self.subset),
            **self.columns,
            noise_label=self.noise_label,
        )


def classes(text: str | None) -> str | None:
    """The classes of --subset in one order, numbers by size, so that one choice has one name."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    return ",".join(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def data_path(text: str) -> Path | None:
    """The user's own file, or folder written with a separator, that `--data` names; None for a named data set."""
    path = Path(text.removeprefix(NOISY))
    is_file = name_and_suffix(path)[1] in (*SUFFIXES, *PICKLES, *FOREIGN) or (path.suffix and path.is_file())
    return path if is_file or any(mark in text for mark in SEPARATORS) else None


def _data_name(path: Path) -> str:
    """What a user's file or folder is called: flowers for flowers.csv."""
    name, suffix = name_and_suffix(path)
    return name if suffix in SUFFIXES else path.resolve().name


BUDGET = frozenset({"eps", "norm", "space", "rows", "source"})
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


def add(app: typer.Typer, verb: Verb) -> None:
    """Add a verb to `app`, with a flag for each field of its options: first its own, then the inherited ones."""
    hints = get_type_hints(verb.options, include_extras=True)
    shown = [f for f in fields(verb.options) if f.name not in verb.hidden]
    shown.sort(key=lambda f: f.name not in verb.options.__annotations__)
    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)] + [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=hints[f.name],
        )
        for f in shown
    ]

    def command(ctx: typer.Context, **values: Any) -> None:
        ctx.meta[DEBUG] = values.get("debug", False)
        verb.run(ctx, verb.options(**values))

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(
        verb.name,
        help=f"\b\n{inspect.cleandoc(verb.examples)}\n\n{verb.summary}",
        short_help=verb.summary,
        context_settings={"auto_envvar_prefix": "RC"},
    )(command)


def refuse(ctx: typer.Context, names: Sequence[str], reason: str) -> None:
    """Refuse options that were typed and have nothing to say here, e.g. --seed beside --from. Raises: ConfigError."""
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    if typed := [name for name in names if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]:
        raise ConfigError(f"{reason}: it takes no {flags[typed[0]]}")


def integers(text: str, flag: str) -> list[int]:
    """[0, 1, 2] of "0,1,2". Raises: ConfigError for anything but distinct whole numbers >= 0."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len({int(part) for part in parts}) < len(parts):
        raise ConfigError(
            f"{flag} takes distinct whole numbers >= 0 with commas between, got {text!r}", hint=f"{flag} 0,1,2"
        )
    return [int(part) for part in parts]


def value(text: str) -> Any:
    """3 of "3", 1e-3 of "1e-3", True of "true", [1, 2] of "[1, 2]", "control" of "control": TOML, bare words allowed.

    8 / 255 of "8/255".

    Raises: ConfigError for text that is neither.
    """
    if FRACTION.fullmatch(text):
        return float(Fraction(text))
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text.translate(str.maketrans("", "", "_-+")).isalnum():
            return text
        raise ConfigError(f'A setting is a number, true, false, "text" or [a, list], got {text!r}') from error
    if set(parsed) != {"value"}:
        raise ConfigError(f"A setting is one value, got {text!r}")
    return parsed["value"]


def _pair(text: str, flag: str) -> tuple[str, str]:
    key, equals, right = text.partition("=")
    if not (key.strip() and equals and right.strip()):
        raise ConfigError(f"{flag} takes key=value, got {text!r}", hint=f"{flag} model.neighbors=3")
    return key.strip(), right.strip()


def overrides(ctx: typer.Context, options: RunOptions, mode: str | None = None) -> dict[str, Any]:
    """Dotted setting -> value, of `--config`'s [set] table, then `--mode`, then `--set`. Raises: ConfigError."""
    given = {key: value(right) for key, right in (_pair(text, "--set") for text in options.set or [])}
    if mode and given.get("defense.mode", mode) != mode:
        raise ConfigError(
            f"--mode {mode} and --set defense.mode={given['defense.mode']} disagree", hint="give one of them"
        )
    return {**ctx.meta.get(CONFIG_SET, {}), **({"defense.mode": mode} if mode else {}), **given}


def numbers(text: str, flag: str) -> list[float]:
    """[0, 0.1] of "0,0.1", [8 / 255] of "8/255". Raises: ConfigError for anything but distinct finite numbers >= 0."""
    try:
        found = [float(Fraction(part.strip())) for part in text.split(",")]
    except (ValueError, ArithmeticError):
        found = []
    if not found or not all(0 <= number < math.inf for number in found) or len(set(found)) < len(found):
        raise ConfigError(f"{flag} takes distinct numbers >= 0 with commas between, got {text!r}", hint=f"{flag} 0,0.1")
    return found


def sweeps(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Dotted setting -> its values, of `--sweep attack.gamma=20,40`. Raises: ConfigError."""
    found: dict[str, list[Any]] = {}
    for key, right in (_pair(text, "--sweep") for text in texts):
        if key in found:
            raise ConfigError(f"--sweep gives {key} twice", hint=f"--sweep {key}=A,B with all values")
        values = (
            value(f"[{right}]") if "[" in right or '"' in right else [value(part.strip()) for part in right.split(",")]
        )
        found[key] = values
    return found
