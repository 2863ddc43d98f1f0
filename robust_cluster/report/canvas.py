"""What all figures share: one style, sizes in inches, an image, and a file whose bytes depend on its content alone.

Equal input gives equal bytes under one version of matplotlib, which is an extra and is imported when it is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robust_cluster.errors import ConfigError, RobustClusterError, StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robust_cluster.measure.portraits import Strip

Pixels = npt.NDArray[np.float32]
METADATA: dict[str, dict[str, str | None]] = {  # suffix -> what matplotlib must not write: versions and times
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.hashsalt": "robust_cluster",
    "text.parse_math": False,  # a data set's name may hold a dollar
}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")  # Okabe and Ito's
PERCENT: dict[str, Any] = {"ylim": (-2, 102), "yticks": range(0, 101, 20)}  # of axes
CELL, GAP = 0.8, 0.06  # inches: width of an image, space between images
NARROWEST = 6.5  # inches that the text above and below needs
MOST_ABREAST = 3  # panels; four stand two by two
LABEL = 1.1  # inches left of a row of images
LETTERS = 12  # of a legend or title in an inch


def check_suffix(path: Path) -> None:
    """Refuse a file name that does not end in .png, .pdf or .svg. Raises: ConfigError."""
    if path.suffix not in METADATA:
        raise ConfigError(f"a figure's file must end in {', '.join(METADATA)}, got {path.name!r}", hint="--output FILE")


@contextmanager
def style() -> Iterator[None]:
    """A block in which matplotlib has its own defaults and ours, whatever the user's matplotlibrc says.

    Raises: RobustClusterError when matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise RobustClusterError("figures need matplotlib", hint="pip install -e '.[figures]'") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: "Figure", path: Path) -> None:
    """Write the figure, in the format of the suffix. Raises: ConfigError for another suffix, StoreError."""
    check_suffix(path)
    content = BytesIO()
    with style():
        figure.savefig(content, format=path.suffix[1:], metadata=METADATA[path.suffix])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getvalue())
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"The figure cannot be written to {path}: {reason}", hint="--output FILE") from error


@contextmanager
def panels(
    title: str, count: int, panel: tuple[float, float], room: float = 0.0
) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A block that draws on the panels of a new figure, of so many inches each, under a title in small print.

    They stand row by row; `room`: inches of height for what stands beside them.
    """
    columns = abreast(count)
    rows = -(-count // columns)
    with style():
        from matplotlib.figure import Figure

        size = max(NARROWEST, panel[0] * columns), panel[1] * rows + room
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for unused in axes[count:]:
            unused.set_axis_off()
        figure.suptitle(title, fontsize=9, x=0.02, ha="left", wrap=True)
        yield figure, axes[:count]


def abreast(count: int) -> int:
    """How many of so many panels stand side by side."""
    return 2 if count == 4 else min(count, MOST_ABREAST)


def legend_below(figure: "Figure", **more: Any) -> None:
    """Write one legend below all panels, each label once, as many abreast as fit; `more` is matplotlib's."""
    entries = {
        label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        columns = max(1, int(figure.get_figwidth() * LETTERS / (max(map(len, entries)) + 8)))
        place: dict[str, Any] = {"loc": "outside lower center", "ncol": columns, "frameon": False}
        figure.legend(entries.values(), entries, **(place | more))


def add_image(figure: "Figure", image: Pixels, left: float, top: float, height: float = CELL) -> "Axes":
    """Draw one image (H, W, 1 or 3), gray or RGB, at so many inches from the figure's left and top; its axes.

    It is CELL inches wide, with a thin frame and no ticks.
    """
    width, whole = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + height) / whole, CELL / width, height / whole))
    is_gray = image.shape[2] == 1
    axes.imshow(image[:, :, 0] if is_gray else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=0.3, color="0.6")
    return axes


def strips(title: str, sheets: 'Mapping[str, Sequence["Strip"]]') -> "Figure":
    """Rows of images under each other, by the panel's name, each labeled at its left, each image with its class above.

    A class below 0 is not known, and none is written. `title`: two lines.
    """
    step, top = CELL + GAP + 0.14, 0.75  # room for the classes
    rows = [(panel, strip) for panel, strips in sheets.items() for strip in strips]
    columns = max(len(strip.images) for _, strip in rows)
    size = max(NARROWEST, LABEL + columns * (CELL + GAP) + 0.2), top + len(rows) * step + 0.35 * len(sheets)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size)
        at, before = top, None
        for panel, strip in rows:
            if panel != before:
                at, before = at + 0.35, panel
                figure.text(0.1 / size[0], 1 - (at - 0.22) / size[1], panel, fontweight="bold")
            for i, (image, own) in enumerate(zip(strip.images, strip.classes, strict=True)):
                axes = add_image(figure, image, LABEL + i * (CELL + GAP), at)
                axes.set_title(str(own) if own >= 0 else "", fontsize=7, pad=2)
            figure.text((LABEL - 0.1) / size[0], 1 - (at + CELL / 2) / size[1], strip.label, ha="right", va="center")
            at += step
        figure.text(0.1 / size[0], 1 - 0.1 / size[1], title, va="top")
    return figure
