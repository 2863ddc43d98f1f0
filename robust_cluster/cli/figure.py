"""`rc figure`: a figure of a finished attack or reattack."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from robust_cluster.cli import console
from robust_cluster.cli.console import Record
from robust_cluster.cli.options import DATA_FILES, Device, Verb, option, positive
from robust_cluster.discover import NOISY
from robust_cluster.errors import ConfigError, DataError, MissingResultError, StoreError, UnknownNameError
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import SPEC, RunStore

if TYPE_CHECKING:
    from robust_cluster.data.base import Dataset
    from robust_cluster.stages.sheet import Sheet

Drawn = Literal["images", "curve"]
MOST = 100  # columns of a figure
ROUNDING = 0.01  # of the scored samples: another device or number of threads may label so many differently
EXAMPLES = """
rc figure images runs/attack/simvc-noisymnist-d64-s0-* --output images.pdf
rc figure curve runs/reattack/simvc-noisymnist-d64-s0-*
"""


def few(parameter: typer.CallbackParam, number: int) -> int:
    """`number`. Raises: ConfigError when a figure cannot have so many columns."""
    if not 1 <= number <= MOST:
        raise ConfigError(f"{parameter.opts[0]} must be in [1, {MOST}], got {number}")
    return number


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """What `rc figure` takes."""

    kind: Annotated[
        Drawn,
        typer.Argument(help="images: misled samples, clean and moved; curve: scores by epoch.", show_default=False),
    ]
    run: Annotated[Path, typer.Argument(help="Folder of an attack or reattack run.", show_default=False)]
    output: Annotated[
        Path | None, option("--output", help=".png, .pdf or .svg file; KIND.png in the run's folder without it.")
    ] = None
    count: Annotated[int, option("--count", callback=few, help="Columns of images.")] = 10
    data: Annotated[str | None, option("--data", metavar="FILE", help="The run's data, if they are your file.")] = None
    data_dir: Annotated[Path | None, option("--data-dir", help="Where data files are.")] = None
    device: Annotated[Device, option("--device", help="Where to compute.")] = "auto"
    threads: Annotated[int | None, option("--threads", callback=positive, help="CPU threads.")] = None
    debug: Annotated[bool, option("--debug", help="Show tracebacks.")] = False


def draw(ctx: typer.Context, options: FigureOptions) -> None:
    """Draw the figure, and print where it is."""
    from robust_cluster.report import figures  # late, as all below: help needs none of it

    output = options.output or options.run / f"{options.kind}.png"
    figures.check_suffix(output)
    store, spec, record = finished(options.run)
    with figures.style():  # without matplotlib nothing is computed for it
        figure = figures.curve(record) if options.kind == "curve" else figures.images(scored(store, spec, options))
    figures.save(figure, output)
    typer.echo(output)


def finished(folder: Path) -> tuple[RunStore, RunSpec, Record]:
    """The store, spec and record of a finished attack or reattack.

    Raises: MissingResultError when there is no such run or it is not done, ConfigError for another stage, StoreError.
    """
    try:
        spec = RunSpec.from_json(json.loads((folder / SPEC).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingResultError(f"There is no run in {folder}", hint="rc ls runs") from error
    except OSError as error:
        raise StoreError(f"{folder / SPEC} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, LookupError) as error:
        raise StoreError(f"{folder / SPEC} is not the spec of a run") from error
    if spec.stage not in ("attack", "reattack"):
        raise ConfigError(f"a figure is drawn of an attack or reattack run, {folder} is a {spec.stage} run")
    place = folder.resolve()
    store = RunStore(place.parent.parent)
    if store.path(spec) != place:
        raise StoreError(
            f"{folder} was renamed or moved alone, its parents are not found", hint=f"its place is {spec.directory}"
        )
    record = store.record(spec)
    if record is None:
        raise MissingResultError(f"The run {folder} is not finished", hint=f"the same rc {spec.stage} resumes it")
    return store, spec, record


def scored(store: RunStore, spec: RunSpec, options: FigureOptions) -> "Sheet":
    """The misled samples; a note on stderr when they are labelled otherwise than the record says."""
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.sheet import check_attack, sheet

    check_attack(spec)
    dataset = load(spec, options)
    found = sheet(spec, Context(store, dataset, device=options.device, threads=options.threads), options.count)
    recorded = (store.record(spec) or {})["metrics"]["flip"]
    if abs(found.flip - recorded) > ROUNDING:
        shares = f"{100 * found.flip:.1f} % of the samples change cluster here, {100 * recorded:.1f} % in the record"
        console.stderr().print(f"note: {shares}: another device or version")
    return found


def load(spec: RunSpec, options: FigureOptions) -> "Dataset":
    """The run's data: built in, the file given, or one in --data-dir. Raises: ConfigError, DataError, ShapeError."""
    from robust_cluster.data.base import Places
    from robust_cluster.data.prepare import load as prepared

    name = spec.data.name
    path = Path(options.data.removeprefix(NOISY)) if options.data not in (None, name) else None
    if path is not None and path.suffix not in DATA_FILES:
        raise ConfigError(f"--data takes the file that the run had, {name}, got {options.data!r}")
    try:
        return prepared(spec.data, Places(options.data_dir), path=path)
    except UnknownNameError as error:
        hint = "--data FILE, or --data-dir with the folder that it is in"
        raise DataError(f"The run's data {name} are a file of yours, which is not there", hint=hint) from error


VERB = Verb("figure", "Draw a figure of a finished attack or reattack.", EXAMPLES, options=FigureOptions, run=draw)
