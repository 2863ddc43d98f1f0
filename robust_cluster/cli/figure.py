"""`rc figure`: a paper's figure from our runs, or a figure of one finished attack or certificate. It runs nothing."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from robust_cluster.cli import console
from robust_cluster.cli.console import Record
from robust_cluster.cli.options import (
    OF_RUN,
    Device,
    Only,
    Profile,
    Verb,
    chosen_part,
    data_folders,
    data_path,
    offer_figures,
    option,
    positive,
    refuse,
)
from robust_cluster.errors import ConfigError, DataError, MissingResultError, StoreError, UnknownNameError
from robust_cluster.measure.metric import Metric
from robust_cluster.runs.spec import STAGES, DataRef, RunSpec, Stage
from robust_cluster.runs.store import SPEC, RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from robust_cluster.data.base import Dataset
    from robust_cluster.measure.images import Sheet
    from robust_cluster.measure.portraits import Portrait
    from robust_cluster.report.paper_figures import Point
    from robust_cluster.report.spec import CellRequest, TableSpec

Format = Literal["csv", "json"]
Answers = list[tuple["CellRequest", Record | None]]
MOST = 100  # columns of a figure
COLUMNS = 10  # columns of images of one attack
OF_CHECKPOINTS = ("scatter", "top", "outputs", "neighbors")  # kinds of figure that are drawn from checkpoints
OF_SEVERAL = ("decoded", "losses")  # figures that may be of several runs
COUNTED = ("top", "neighbors")  # those whose columns can be counted
NAMED = 4  # missing runs that a sentence names
ROUNDING = 0.01  # share of the samples that another device or number of threads may label differently
EXAMPLES = """
rc figure lpvdn_noise --profile cpu --format csv
rc figure images runs/attack/simvc-noisymnist-d64-s0-* --output images.pdf
rc figure decoded runs/attack/convae-digits-d64-s0-*
rc figure curve runs/reattack/simvc-noisymnist-d64-s0-*
rc figure certificate runs/certify/convae-digits-d64-s0-*
rc figure embedding runs/attack/convae-digits-d64-s0-* --color class --plane tsne
"""
SUMMARY = "Draw a paper's figure from runs, or that of one attack or certificate."


def few(parameter: typer.CallbackParam, number: int | None) -> int | None:
    """`number` or None, as given. Raises: ConfigError when a figure cannot have so many columns."""
    if number is not None and not 1 <= number <= MOST:
        raise ConfigError(f"{parameter.opts[0]} must be in [1, {MOST}], got {number}")
    return number


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """What `rc figure` takes."""

    name: Annotated[
        str,
        typer.Argument(
            help="rc ls figures (rc table NAME runs what is missing); or images, decoded, curve or certificate of RUN; "
            "of any run embedding, confusion or losses.",
            show_default=False,
            autocompletion=offer_figures,
        ),
    ]
    run: Annotated[
        list[Path] | None,
        typer.Argument(help="Folder of a run; for decoded (a sweep) and losses also several."),
    ] = None
    output: Annotated[
        Path | None, option("--output", help=".png, .pdf or .svg file; NAME.png here, or in the run's folder.")
    ] = None
    profile: Annotated[Profile, option("--profile", help="Whose runs: smoke, short, cpu or paper.")] = "paper"
    records: Annotated[Path | None, option("--from", help="Draw the records in this folder.")] = None
    only: Only = None
    runs_dir: Annotated[Path, option("--runs-dir", help="Where runs are kept.")] = Path("runs")
    format: Annotated[Format | None, option("--format", help="Also write what is drawn, beside the picture.")] = None
    count: Annotated[
        int | None, option("--count", callback=few, help="Columns of images; 10, or as many as the paper's figure has.")
    ] = None
    color: Annotated[Literal["cluster", "class"], option("--color", help="What colors an embedding.")] = "cluster"
    plane: Annotated[Literal["pca", "tsne"], option("--plane", help="How an embedding gets two dimensions.")] = "pca"
    data: Annotated[str | None, option("--data", metavar="FILE", help="The run's data, if they are your file.")] = None
    data_dir: Annotated[Path | None, option("--data-dir", help="Where data files are.")] = None
    device: Annotated[Device, option("--device", help="Where to compute.")] = "auto"
    threads: Annotated[int | None, option("--threads", callback=positive, help="CPU threads.")] = None
    debug: Annotated[bool, option("--debug", help="Show tracebacks.")] = False


def draw(ctx: typer.Context, options: FigureOptions) -> None:
    """Draw the figure, and print where it is."""
    from robust_cluster.report.spec import (
        figure_names,
        load_spec,
        narrowed,
    )  # late, as all below: help needs none of it

    if options.name in OF_RUN:
        if not options.run:
            raise ConfigError(
                f"{options.name} needs a run's folder",
                hint=f"rc figure {options.name} runs/{stages_of(options.name)[0]}/...",
            )
        unused = ("records", "profile", "only", *(("count",) if options.name not in ("images", "decoded") else ()))
        unused += ("color", "plane") if options.name != "embedding" else ()
        refuse(ctx, unused, f"{options.name} is drawn of {'given runs' if options.name in OF_SEVERAL else 'one run'}")
        draw_run(options.run, options)
    elif options.name not in figure_names():
        raise UnknownNameError("figure", options.name, [*figure_names(), *OF_RUN], listing="rc ls figures")
    elif options.run:
        raise ConfigError(f"{options.name} is drawn of all its runs", hint=f"rc figure {options.name} --runs-dir DIR")
    else:
        draw_named(narrowed(load_spec(options.name), options.profile, chosen_part(options.only or [])), options)


def draw_run(runs: Sequence[Path], options: FigureOptions) -> None:
    """Draw images, decodings or the curve of an attack or reattack, or one certificate's figure."""
    from robust_cluster.report import canvas, run_figures

    run = runs[0]
    output = options.output or run / f"{options.name}.png"
    canvas.check_suffix(output)
    if len(runs) > 1 and options.name not in OF_SEVERAL:
        raise ConfigError(f"{options.name} is drawn of one run, got {len(runs)}")
    store, spec, record = finished(run, stages_of(options.name))
    has_radii = options.name == "curve" and "radii" in record
    if options.format and not has_radii:
        raise ConfigError(f"--format writes the radii of a standard attack, and {run} has no such curve")
    with canvas.style():  # without matplotlib nothing is computed for it
        if options.name == "images":
            figure = run_figures.images(scored(store, spec, options))
        elif options.name == "decoded":
            figure = decoded(runs, options)
        elif options.name == "losses":
            figure = drawn_losses(runs)
        elif options.name in ("embedding", "confusion"):
            figure = drawn_model(store, spec, record, options)
        elif options.name == "certificate":
            figure = run_figures.certificate(record)
        else:
            figure = run_figures.radii(record) if has_radii else run_figures.curve(record)
    save(figure, output, options, lambda form: run_figures.write_radii(record, form))


def drawn_losses(runs: Sequence[Path]) -> "Figure":
    """The losses that some runs logged."""
    from robust_cluster.report import model_figures

    found = [finished(run, STAGES) for run in runs]
    return model_figures.losses([(spec, store.lines(spec)) for store, spec, _ in found])


def drawn_model(store: RunStore, spec: RunSpec, record: Record, options: FigureOptions) -> "Figure":
    """The embedding or the confusion of a run's model; of an attack with what it moved.

    Raises: ConfigError for a pretraining, and for classes where there are none.
    """
    import numpy as np

    from robust_cluster.measure.plane import ROWS, flattened
    from robust_cluster.measure.scores import known
    from robust_cluster.metrics.accuracy import match
    from robust_cluster.report import model_figures
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import check_digest, moved_embeddings
    from robust_cluster.stages.predict import model_of, predict

    dataset = load(spec, options.data, options.data_dir)
    context = Context(store, dataset, record["profile"], device=options.device, threads=options.threads)
    z: Any
    before: Any
    if spec.attack:
        moves = moved_embeddings(spec, context)
        z, moved, before, after, classes = moves.clean, moves.moved, moves.before, moves.after, moves.classes
    else:
        check_digest(spec, context)
        context = context.part(1)
        found = predict(model_of(spec), context)
        z, moved, before, after, classes = found.embedding, None, found.labels, None, context.labels
    title = f"{spec.stage} {spec.model} on {spec.data.label}, seed {spec.seed}"
    if options.name == "confusion":
        K = dataset.info.n_clusters
        if after is not None:
            moved_to = counted(before, after, K, K)
            return model_figures.confusion(title, moved_to, "cluster before", "cluster under the attack", range(K))
        if classes is None:
            raise ConfigError(f"{spec.data.name} has no classes", hint="rc figure confusion of an attack needs none")
        n_classes = int(classes.max()) + 1
        own = match(*known(classes, before), n_clusters=K)
        order = np.argsort(np.where(own < 0, n_classes, own), kind="stable")  # clusters without a class come last
        counts = counted(classes, before, n_classes, K)
        return model_figures.confusion(title, counts, "class", "cluster", order.tolist())
    if options.color == "class" and classes is None:
        raise ConfigError(f"{spec.data.name} has no classes", hint="--color cluster")
    few = np.linspace(0, len(z) - 1, min(ROWS[options.plane], len(z))).astype(int)
    colors = before if options.color == "cluster" or classes is None else classes
    points, ends = flattened(z[few], None if moved is None else moved[few], options.plane)
    return model_figures.embedding(f"{title} ({options.plane})", points, colors[few], ends, options.color)


def counted(rows: Any, columns: Any, n_rows: int, n_columns: int) -> Any:
    """How many samples are in each pair (n_rows, n_columns); those of no class, -1, are left out."""
    import numpy as np

    found = np.zeros((n_rows, n_columns), np.int64)
    there = rows >= 0
    np.add.at(found, (rows[there], columns[there]), 1)
    return found


def draw_named(spec: "TableSpec", options: FigureOptions) -> None:
    """Draw a figure of tables/. Raises: MissingResultError, after the picture is written, when runs are missing."""
    from robust_cluster.report import canvas, paper_figures
    from robust_cluster.report.answers import select
    from robust_cluster.report.spec import requests
    from robust_cluster.report.table import build, load_results

    output = options.output or Path(f"{spec.name}.png")
    canvas.check_suffix(output)
    kind = paper_figures.drawing_of(spec).kind
    if options.count is not None and kind not in COUNTED:
        raise ConfigError(f"{spec.name} has no columns of images to count", hint="leave out --count")
    if options.records and kind in OF_CHECKPOINTS:
        raise only_records(options)
    records = load_results(options.records) if options.records else RunStore(options.runs_dir).records()
    usable = [record for record in records if record["profile"] == options.profile]
    asked = requests(spec, options.profile)
    answers: Answers = list(zip(asked, select(asked, usable), strict=True))
    missing = [request for request, record in answers if record is None]
    if len(missing) == len(asked):
        raise missing_runs(spec, missing, asked, options)
    grid = build(spec, usable, profile=options.profile)
    note = f"profile {options.profile}, {len(asked) - len(missing)} of {len(asked)} runs"
    with canvas.style():
        if kind in ("lines", "heat", "learning"):
            notes: list[str] = []
            if kind == "learning":
                points = paper_figures.logged_points(spec, logs(spec, answers, options))
                notes = paper_figures.collapsed(spec, answers)
            else:
                points = paper_figures.swept_points(grid)
            notes = [note, paper_figures.statistic(spec, points), *notes]
            figure = paper_figures.draw(spec, options.profile, points, "; ".join(notes))
        else:
            figure, points = pictured(spec, answers, note, options)
    save(figure, output, options, lambda form: paper_figures.write(spec, points, grid.caption, form))
    if missing:
        raise missing_runs(spec, missing, asked, options)


def save(figure: "Figure", output: Path, options: FigureOptions, text: Callable[[Format], str]) -> None:
    """Write the figure, and with --format beside it what is drawn; print where they are."""
    from robust_cluster.report import canvas

    canvas.save(figure, output)
    typer.echo(output)
    if options.format:
        beside = output.with_suffix(f".{options.format}")
        console.write_text(beside, text(options.format))
        typer.echo(beside)


def missing_runs(
    spec: "TableSpec", missing: "Sequence[CellRequest]", asked: "Sequence[CellRequest]", options: FigureOptions
) -> MissingResultError:
    """The error that names the first of the missing runs, and the command that makes them."""

    def name(request: "CellRequest") -> str:
        place = request.place.items()
        axes = [label if axis in ("method", "data") else f"{spec.symbol(axis)} = {label}" for axis, label in place]
        return ", ".join([*axes, f"seed {request.seed}"])

    named = "; ".join(map(name, missing[:NAMED]))
    more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return MissingResultError(
        f"{len(missing)} of {len(asked)} runs of {spec.name} are missing: {named}{more}",
        hint=f"rc table {spec.name} --profile {options.profile} makes them",
    )


def store_of(spec: RunSpec, options: FigureOptions) -> RunStore:
    """The store that holds a run's files. Raises: ConfigError when only records are given, MissingResultError."""
    if options.records:
        raise only_records(options)
    store = RunStore(options.runs_dir)
    if not store.path(spec).is_dir():
        raise MissingResultError(f"There is no run in {store.path(spec)}", hint="rc ls runs")
    return store


def only_records(options: FigureOptions) -> ConfigError:
    """The error for a figure that needs the runs themselves where only records are given."""
    return ConfigError(
        f"{options.name} is drawn of the runs themselves, and --from has their records alone",
        hint="--runs-dir DIR in place of --from",
    )


def logs(spec: "TableSpec", answers: Answers, options: FigureOptions) -> "list[tuple[CellRequest, Sequence[Record]]]":
    """Each finished run with the lines that are drawn: those that its record keeps, else those of its log."""
    from robust_cluster.report import paper_figures

    found: list[tuple[CellRequest, Sequence[Record]]] = []
    for request, record in answers:
        if record is not None:
            lines = paper_figures.recorded(record, paper_figures.drawing_of(spec).logged)
            run = RunSpec.from_json(record["spec"])
            found.append((request, store_of(run, options).lines(run) if lines is None else lines))
    return found


def pictured(spec: "TableSpec", answers: Answers, note: str, options: FigureOptions) -> "tuple[Figure, list[Point]]":
    """A scatter or rows of images, for each cell from the first of its seeds that has run."""
    from robust_cluster.measure import portraits
    from robust_cluster.report import paper_figures

    firsts: dict[tuple[str, str], tuple[CellRequest, Record]] = {}
    for request, record in answers:
        if record is not None:
            firsts.setdefault(paper_figures.names_of(spec, request), (request, record))
    note = "; ".join([note, *paper_figures.collapsed(spec, firsts.values())])
    drawing = paper_figures.drawing_of(spec)
    count = options.count or drawing.count
    shown: dict[str, dict[str, Portrait]] = {}
    for (panel, curve), portrait in each_portrait(firsts, options):
        shown.setdefault(panel, {}).setdefault(curve, portrait)
    each = {f"{panel}{curve}": one for panel, curves in shown.items() for curve, one in curves.items()}
    if drawing.kind == "scatter":
        clouds = {title: portraits.cloud(one, drawing.space, drawing.last) for title, one in each.items()}
        return paper_figures.draw_clouds(spec, clouds, note), paper_figures.cloud_points(clouds)
    if drawing.kind == "top":
        sheets = {title: portraits.surest(one, count) for title, one in each.items()}
    else:
        panels = {panel.removesuffix(", "): list(curves.items()) for panel, curves in shown.items()}
        if drawing.kind == "outputs":
            sheets = {title: portraits.outputs(models) for title, models in panels.items()}
        else:
            space, query = drawing.space, drawing.query
            sheets = {title: portraits.neighbors(models, space, query, count) for title, models in panels.items()}
    return paper_figures.draw_strips(spec, sheets, note), paper_figures.strip_points(sheets)


def each_portrait(
    runs: "Mapping[tuple[str, str], tuple[CellRequest, Record]]", options: FigureOptions
) -> "Iterator[tuple[tuple[str, str], Portrait]]":
    """Panel and curve with the model of each run; data that several runs share are read once."""
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import portrait

    datasets: dict[DataRef, Dataset] = {}
    for place, (_, record) in runs.items():
        run = RunSpec.from_json(record["spec"])
        store = store_of(run, options)
        if run.data not in datasets:
            datasets[run.data] = load(run, options.data, options.data_dir)
        context = Context(store, datasets[run.data], device=options.device, threads=options.threads)
        yield place, portrait(run, context)


def stages_of(figure: str) -> tuple[Stage, ...]:
    """The stages whose runs have this figure."""
    if figure in ("embedding", "confusion", "losses"):
        return STAGES
    return ("certify",) if figure == "certificate" else ("attack", "reattack")


def finished(
    folder: Path, stages: tuple[Stage, ...], purpose: str = "a figure is drawn of"
) -> tuple[RunStore, RunSpec, Record]:
    """The store, spec and record of a finished run of one of `stages`; `purpose` begins the message for other runs.

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
    if spec.stage not in stages:
        article = "an" if spec.stage == "attack" else "a"
        wanted = "a certify" if "certify" in stages else "an attack or reattack"
        raise ConfigError(f"{purpose} {wanted} run, {folder} is {article} {spec.stage} run")
    place = folder.resolve()
    store = RunStore(place.parent.parent)
    if store.path(spec) != place:
        raise StoreError(
            f"{folder} was renamed or moved alone, its parents are not found", hint=f"its place is {spec.directory}"
        )
    record = store.record(spec)
    if record is None:
        raise MissingResultError(f"The run {folder} is not finished", hint=f"the same rc {spec.stage} resumes it")
    files, packages = record.get("own_files"), any(one.packages for one in spec.lineage())
    if files or packages:
        from robust_cluster.stages.own import again, check_packages

        again(files or {})
        check_packages(spec)
    return store, spec, record


def scored(store: RunStore, spec: RunSpec, options: FigureOptions) -> "Sheet":
    """The misled samples; a note on stderr when they are labeled otherwise than the record says."""
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import check_pixels, sheet

    check_pixels(spec)
    dataset = load(spec, options.data, options.data_dir)
    found = sheet(
        spec, Context(store, dataset, device=options.device, threads=options.threads), options.count or COLUMNS
    )
    check_flip(found.flip, store.record(spec) or {})
    return found


def decoded(folders: Sequence[Path], options: FigureOptions) -> "Figure":
    """What is decoded of the embeddings of attacks on one model; a note on stderr for each that labels otherwise."""
    from robust_cluster.report import run_figures
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import check_decodable, decodings

    known = [finished(folder, stages_of("decoded")) for folder in folders]
    each = {spec.key: (store, spec, record) for store, spec, record in known}
    runs = run_figures.in_order([spec for _, spec, _ in each.values()])
    for _, spec in runs:
        check_decodable(spec)
    store, first, _ = each[runs[0][1].key]
    dataset = load(first, options.data, options.data_dir)
    context = Context(store, dataset, device=options.device, threads=options.threads)
    found = decodings(runs, context, options.count or COLUMNS)
    for flip, (_, spec) in zip(found.flips, runs, strict=True):
        check_flip(flip, each[spec.key][2])
    return run_figures.decoded(found, [spec for _, spec in runs])


def check_flip(share: float, record: Record) -> None:
    """Print a note when another share of the samples changes cluster than the record says."""
    recorded = Metric("flip", "attack").read(record) or 0.0
    if abs(share - recorded) > ROUNDING:
        shares = f"{100 * share:.1f} % of the samples change cluster here, {100 * recorded:.1f} % in the record"
        console.stderr().print(f"note: {shares}: another device or version")


def load(spec: RunSpec, data: str | None, data_dir: Path | None) -> "Dataset":
    """The run's data: built in, the file given, or one in --data-dir. Raises: ConfigError, DataError, ShapeError."""
    from robust_cluster.data.prepare import load as prepared

    name = spec.data.name
    path = data_path(data) if data not in (None, name) else None
    if path is None and data not in (None, name):
        raise ConfigError(f"--data takes the file that the run had, {name}, got {data!r}")
    try:
        return prepared(spec.data, data_folders(data_dir), path=path)
    except UnknownNameError as error:
        hint = "--data FILE, or --data-dir with the folder that it is in"
        raise DataError(f"The run's data {name} are a file of yours, which is not there", hint=hint) from error


VERB = Verb("figure", SUMMARY, EXAMPLES, options=FigureOptions, run=draw)
