"""`rc export`: the points of a finished attack, clean and moved, with their clusters, in the units of the data."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_cluster.cli import console
from robust_cluster.cli.figure import finished, load
from robust_cluster.cli.options import DataDir, Debug, Device, Quiet, Threads, Verb, option
from robust_cluster.cli.predict import check_output, sentence_of, written
from robust_cluster.errors import ConfigError, DataError

if TYPE_CHECKING:
    from robust_cluster.measure.points import Points

EXAMPLES = """
rc export runs/attack/kmeans-digits-d64-s0-* --output moved.npz
rc export runs/attack/dec-mine-d10-s0-* --data mine.csv --output moved.csv
rc export runs/attack/comvc-noisymnist-d64-s0-* --output moved/
"""
SUMMARY = "Write the points of an attack, clean and moved."


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `rc export` takes."""

    run: Annotated[Path, typer.Argument(help="Folder of an attack or reattack run.", show_default=False)]
    output: Annotated[
        str,
        option(
            help=".npz, .csv or .parquet (with pyarrow) file; a folder/ for images: PNG files and a CSV of clusters."
        ),
    ]
    flipped: Annotated[bool, option("--flipped", help="Only samples that change cluster.")] = False
    force: Annotated[bool, option("--force", help="Replace the output file.")] = False
    data: Annotated[str | None, option(metavar="FILE", help="The run's data, if they are your file.")] = None
    data_dir: DataDir = None
    device: Annotated[Device, option(help="Where to compute.")] = "auto"
    threads: Threads = None
    quiet: Quiet = False
    debug: Debug = False


def export(ctx: typer.Context, options: ExportOptions) -> None:
    """Write the points. Raises: ConfigError, DataError, CheckpointError."""
    is_folder, path = options.output.endswith("/"), Path(options.output)
    if is_folder and path.exists() and not options.force:
        raise ConfigError(f"{path} exists", hint="--force writes into it")
    if not is_folder:
        check_output(path, force=options.force)
    store, spec, record = finished(options.run, ("attack", "reattack"), "points are of")
    from robust_cluster.measure.images import check_drawable
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import moved_points

    dataset = load(spec, options.data, options.data_dir)
    if is_folder:
        check_drawable(dataset.info)
    context = Context(store, dataset, record["profile"], device=options.device, threads=options.threads)
    found = moved_points(spec, context)
    share = float((found.before != found.after).mean())
    err = console.stderr(quiet=options.quiet)
    err.print(f"{len(found.ids)} samples, {100 * share:.1f} % in another cluster; the record has "
              f"{100 * record['metrics']['flip']:.1f} %")  # fmt: skip
    if options.flipped:
        found = only(found, found.before != found.after)
    if is_folder:
        pictures(found, path, dataset.info.box or (0.0, 1.0), dataset.info.scale)
    else:
        save(found, path, dataset.columns)


def only(found: "Points", rows: Any) -> "Points":
    """Some rows of the points."""
    from robust_cluster.measure.points import Points

    clean, moved = (tuple(view[rows] for view in views) for views in (found.clean, found.moved))
    return Points(found.ids[rows], clean, moved, found.before[rows], found.after[rows])


def save(found: "Points", path: Path, columns: tuple[str, ...] | None) -> None:
    """Write arrays, or a table with a row a sample. Raises: StoreError, DataError."""
    import numpy as np
    import pandas as pd

    if path.suffix == ".npz":
        several = len(found.clean) > 1
        arrays: dict[str, Any] = {"ids": found.ids, "before": found.before, "after": found.after}
        for place, (clean, moved) in enumerate(zip(found.clean, found.moved, strict=True)):
            end = f"_{place}" if several else ""
            arrays |= {f"clean{end}": clean, f"moved{end}": moved}
        written(path, lambda temporary: np.savez(temporary, **arrays))
        return
    if len(found.clean) > 1 or found.clean[0].ndim > 2:
        raise DataError(f"a table has one row a sample, and these are images or several views: not {path.suffix}",
                        hint="--output points.npz")  # fmt: skip
    width = found.clean[0].shape[1]
    names = columns if columns is not None and len(columns) == width else [str(j) for j in range(width)]
    parts = {
        "clean": pd.DataFrame(found.clean[0], columns=[f"{name} clean" for name in names]),
        "moved": pd.DataFrame(found.moved[0], columns=[f"{name} moved" for name in names]),
    }
    head = pd.DataFrame({"row": found.ids, "before": found.before, "after": found.after})
    table = pd.concat([head, *parts.values()], axis=1)
    to = table.to_parquet if path.suffix == ".parquet" else table.to_csv
    written(path, lambda temporary: to(temporary, index=False))


def pictures(found: "Points", folder: Path, box: tuple[float, float], scale: float) -> None:
    """Write two PNG a sample and view, and clusters.csv, which names them: all or none. Raises: StoreError."""
    temporary = folder.resolve().with_name(f".{folder.resolve().name}.tmp")
    with sentence_of(folder):
        try:
            temporary.mkdir(parents=True, exist_ok=True)
            draw(found, temporary, box, scale)
            folder.mkdir(exist_ok=True)
            for path in sorted(temporary.iterdir()):
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    typer.echo(folder)


def draw(found: "Points", folder: Path, box: tuple[float, float], scale: float) -> None:
    """The same into a folder that is there."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    from robust_cluster.measure.images import image_shape

    top = box[1] / scale
    rows = []
    for place, name in enumerate(found.ids):
        for view in range(len(found.clean)):
            files = {}
            for kind, points in (("clean", found.clean), ("moved", found.moved)):
                image = points[view][place].reshape(image_shape(points[view].shape[1:])) / top
                pixels = np.rint(255 * image.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
                files[kind] = f"{name}{f'_view{view}' if len(found.clean) > 1 else ''}_{kind}.png"
                Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(folder / files[kind])
            rows.append(
                {"row": name, "view": view, "before": found.before[place], "after": found.after[place], **files}
            )
    pd.DataFrame(rows).to_csv(folder / "clusters.csv", index=False)


VERB = Verb("export", SUMMARY, EXAMPLES, options=ExportOptions, run=export)
