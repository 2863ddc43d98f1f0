"""`rc predict`: what a finished model says of its rows, or of new ones: labels, soft labels, embedding."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_cluster.cli import console
from robust_cluster.cli.figure import finished, load
from robust_cluster.cli.options import DataDir, Debug, Device, Quiet, Threads, Verb, data_path, option
from robust_cluster.errors import ConfigError, DataError, StoreError
from robust_cluster.runs.spec import STAGES

if TYPE_CHECKING:
    from robust_cluster.stages.predict import Prediction

EXAMPLES = """
rc predict runs/cluster/graph-digits-d64-s0-*
rc predict runs/cluster/dec-mine-d10-s0-* --data mine.csv --soft --output labels.csv
rc predict runs/cluster/dec-mine-d10-s0-* --data new.csv --embedding --output new.npz
"""
SUMMARY = "Give the labels of a run's samples, or of new ones."
SUFFIXES = (".csv", ".npz", ".parquet")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What `rc predict` takes."""

    run: Annotated[
        Path, typer.Argument(help="Folder of a run; of an attack: the model that it attacked.", show_default=False)
    ]
    data: Annotated[
        str | None, option(metavar="FILE", help="Samples of yours, with the columns that the model was trained on.")
    ] = None
    output: Annotated[Path | None, option(help=".csv, .npz or .parquet file; without it CSV on stdout.")] = None
    soft: Annotated[bool, option("--soft", help="And the share of every cluster.")] = False
    embedding: Annotated[bool, option("--embedding", help="And the embedding.")] = False
    force: Annotated[bool, option("--force", help="Replace the output file.")] = False
    data_dir: DataDir = None
    device: Annotated[Device, option(help="Where to compute.")] = "auto"
    threads: Threads = None
    quiet: Quiet = False
    debug: Debug = False


def predict(ctx: typer.Context, options: PredictOptions) -> None:
    """Write the labels. Raises: ConfigError, DataError and ShapeError for data that are not like the run's."""
    check_output(options.output, force=options.force)
    store, spec, record = finished(options.run, STAGES, "labels are of")
    from robust_cluster.data.prepare import more_rows
    from robust_cluster.data.summary import lines
    from robust_cluster.stages import predict as stage
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import check_digest

    path = None if options.data is None else data_path(options.data)
    own = stage.model_of(spec)
    if stage.is_transductive(spec) and path is not None:
        raise ConfigError(
            f"{own.model} labels only the rows that it was fitted on", hint="leave out --data for their labels"
        )
    if path is not None:
        dataset = more_rows(own.data, record["data"], path)
    else:
        dataset = load(own, options.data, options.data_dir)
    for line in lines(dataset) if path is None else dataset.notes:
        console.stderr(quiet=options.quiet).print(line)
    context = Context(store, dataset, record["profile"], device=options.device, threads=options.threads)
    if path is None:
        check_digest(own, context)
        context = context.part(1)
    write(stage.predict(own, context), options)


def check_output(path: Path | None, *, force: bool) -> None:
    """Refuse, before any work, a file that cannot be written, and one that is there.

    Raises: ConfigError, StoreError, DataError without pyarrow.
    """
    if path is None:
        return
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--output must end in {', '.join(SUFFIXES)}, got {path}")
    if path.is_dir() or not path.parent.is_dir():
        wrong = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise StoreError(f"{path} cannot be written: {wrong}")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists", hint="--force replaces it")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise DataError(".parquet needs pyarrow", hint="pip install 'robust_cluster[parquet]'")


def write(found: "Prediction", options: PredictOptions) -> None:
    """Write a row a sample to the output, or to stdout. Raises: StoreError."""
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {found.id_name: found.ids, "label": found.labels}
    if options.output is not None and options.output.suffix == ".npz":
        arrays: dict[str, Any] = {"ids": found.ids, "labels": found.labels}
        arrays |= {"soft_labels": found.soft_labels} if options.soft else {}
        arrays |= {"embedding": found.embedding} if options.embedding else {}
        written(options.output, lambda path: np.savez(path, **arrays))
        return
    if options.soft:
        columns |= {f"share_{k}": found.soft_labels[:, k] for k in range(found.soft_labels.shape[1])}
    if options.embedding:
        columns |= {f"z_{j}": found.embedding[:, j] for j in range(found.embedding.shape[1])}
    table = pd.DataFrame(columns)
    if options.output is None:
        table.to_csv(sys.stdout, index=False)
    elif options.output.suffix == ".parquet":
        written(options.output, lambda path: table.to_parquet(path, index=False))
    else:
        written(options.output, lambda path: table.to_csv(path, index=False))


def written(path: Path, write: Any) -> None:
    """Write a file as a whole, and print where it is. Raises: StoreError."""
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    with sentence_of(path):
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    typer.echo(path)


@contextmanager
def sentence_of(path: Path) -> Iterator[None]:
    """A block in which an error of the system becomes a StoreError that names the output."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {os.strerror(error.errno) if error.errno else error}") from error


VERB = Verb("predict", SUMMARY, EXAMPLES, options=PredictOptions, run=predict)
