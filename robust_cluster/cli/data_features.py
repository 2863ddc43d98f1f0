"""`rc data features`: what a trained network makes of images, as vectors that every method takes."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_cluster.cli import console
from robust_cluster.cli.options import Device, Verb, data_folders, data_path, offer, option, positive
from robust_cluster.discover import names
from robust_cluster.errors import ConfigError, DataError

if TYPE_CHECKING:
    from robust_cluster.data.features import Report

PLAIN_SECONDS = 5.0  # least time between two lines of progress where there is no terminal
EXAMPLES = """
rc data features photos/ --net resnet50 --weights default
rc data features images.npz --weights resnet50.pth --output features.npz --device cuda
rc data features digits-28 --weights default --output digits-resnet50.npz
"""


@dataclass(frozen=True, kw_only=True)
class FeaturesOptions:
    """What `rc data features` takes."""

    images: Annotated[
        str,
        typer.Argument(
            help="A folder/ with a sub-folder a class, an .npz or .npy of images, or a data set of images.",
            show_default=False,
            autocompletion=offer("data"),
        ),
    ]
    net: Annotated[str, option("--net", help="A classification network of torchvision.")] = "resnet50"
    weights: Annotated[
        str | None,
        option(
            "--weights",
            help="A file; default or one of torchvision's sets (IMAGENET1K_V1), which is downloaded if it is not here; "
            "none: random, a trial. [default, if it is here]",
        ),
    ] = None
    output: Annotated[Path | None, option("--output", "-o", help="The .npz to write; IMAGES-NET.npz here.")] = None
    pixels: Annotated[int, option("--pixels", callback=positive, help="A side of what the network sees.")] = 224
    batch_size: Annotated[int, option("--batch-size", callback=positive, help="Images at once.")] = 64
    device: Annotated[Device, option("--device", help="Where to compute.")] = "auto"
    threads: Annotated[int | None, option("--threads", callback=positive, help="CPU threads.")] = None
    data_dir: Annotated[Path | None, option("--data-dir", help="Where data files and weights are.")] = None
    force: Annotated[bool, option("--force", help="Replace the output.")] = False
    json: Annotated[bool, option("--json", help="Print the provenance as JSON.")] = False
    quiet: Annotated[bool, option("--quiet", "-q", help="Nothing on stderr but errors.")] = False
    debug: Annotated[bool, option("--debug", help="Show tracebacks.")] = False


def compute(ctx: typer.Context, options: FeaturesOptions) -> None:
    """Compute the features, or go on with them. Raises: ConfigError, UnknownNameError, DataError, ShapeError."""
    path = data_path(options.images)
    name = options.images if path is None else path.resolve().name if path.is_dir() else path.stem
    output = options.output or Path(f"{name}-{options.net}.npz")
    if output.suffix != ".npz":
        raise ConfigError(f"--output must end in .npz, got {output}")
    if options.weights == "none" and path is None and name in names("data"):
        raise ConfigError(
            f"--weights none gives random features, which are no result for {name}",
            hint="--weights IMAGENET1K_V1 or a FILE",
        )
    import torch  # late: help needs none of it

    from robust_cluster.data.features import Work, extract, find_network, find_source
    from robust_cluster.stages.device import choose

    if options.threads:
        torch.set_num_threads(options.threads)
    folders = data_folders(options.data_dir, quiet=options.quiet)
    device = choose(options.device)
    source = find_source(options.images, path, folders)
    is_asked = options.weights is not None
    try:
        network = find_network(options.net, options.weights or "default", replace(folders, downloads=is_asked))
    except DataError as error:
        if is_asked or not isinstance(error.__cause__, DataError):
            raise
        message = f"the weights of {options.net} are not here, and are downloaded only if they are asked for"
        raise DataError(message, hint="--weights default") from error
    work = Work(source, network, output, options.pixels, options.batch_size, device)
    if options.force:
        output.unlink(missing_ok=True)
    err = console.stderr(quiet=options.quiet)
    with shown_progress(f"features of {source.name} by {network.name}", quiet=options.quiet) as report:
        is_new = extract(work, report)
    if options.json:
        console.show_json(work.provenance)
    else:
        sys.stdout.write(f"{output}: {len(source)} x {network.width}\n")
    err.print("the features were there already" if not is_new else f"weights {network.weights} {network.sha256 or ''}")
    err.print(f"next: rc cluster --model ae_kmeans --data {output}")


@contextmanager
def shown_progress(title: str, *, quiet: bool) -> "Iterator[Report]":
    """A block that shows on stderr how many rows are done: a bar on a terminal, else a line every few seconds."""
    err = console.stderr(quiet=quiet)
    if err.is_terminal:
        from rich.progress import Progress

        with Progress(console=err) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last: float | None = None

    def report(done: int, total: int) -> None:
        nonlocal last
        if last is None:
            last = 0.0
            err.print(f"{title}: {total} images" + (f", {done} done before" if done else ""))
        elif done == total or time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            err.print(f"{title}: {done}/{total}")

    yield report


VERB = Verb("features", "Compute features of images with a trained network.", EXAMPLES, FeaturesOptions, compute)
