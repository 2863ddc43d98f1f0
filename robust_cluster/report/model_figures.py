"""Figures of any run: its embedding in two dimensions, its clusters against the classes, and its losses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robust_cluster.errors import ConfigError
from robust_cluster.report import canvas
from robust_cluster.report.canvas import NARROWEST
from robust_cluster.runs.spec import RunSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
ARROWS = 200  # samples whose move is drawn
MARKERS = "o^s*"  # of values that share a color
SIDE = 4.2  # inches of a square panel


def embedding(title: str, points: Floats, colors: Ints, moved: Floats | None, what: str) -> "Figure":
    """Points (n, 2) colored by class or cluster (n,), -1 gray; where they went (n, 2) as arrows from some of them."""
    with canvas.panels(title, 1, (SIDE + 1.2, SIDE)) as (figure, (axes,)):
        for value in np.unique(colors):
            rows = colors == value
            shade = "#7f7f7f" if value < 0 else canvas.COLORS[value % len(canvas.COLORS)]
            label = "unknown" if value < 0 else str(value)
            marker = MARKERS[value // len(canvas.COLORS) % len(MARKERS)]
            shown: dict[str, Any] = {
                "s": 8,
                "color": shade,
                "marker": marker,
                "linewidths": 0,
                "alpha": 0.7,
                "label": label,
            }
            axes.scatter(points[rows, 0], points[rows, 1], **shown)
        if moved is not None:
            few = np.linspace(0, len(points) - 1, min(ARROWS, len(points))).astype(int)
            step = moved[few] - points[few]
            axes.quiver(*points[few].T, *step.T, angles="xy", scale_units="xy", scale=1, width=0.002, color="#000000")
        axes.set(xticks=(), yticks=())
        axes.legend(frameon=False, fontsize=7, title=what, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def confusion(title: str, counts: Ints, rows: str, columns: str, order: Sequence[int]) -> "Figure":
    """A matrix of counts, each row colored by its shares, with its columns in an order."""
    counts = counts[:, list(order)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas.panels(title, 1, (SIDE + 0.4, SIDE)) as (figure, (axes,)):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    j, i, str(count), ha="center", va="center", fontsize=6, color="w" if shares[i, j] > 0.5 else "k"
                )
        axes.set(xlabel=columns, ylabel=rows, xticks=range(counts.shape[1]), yticks=range(counts.shape[0]))
        axes.set_xticklabels(list(map(str, order)))
    return figure


def losses(runs: Sequence[tuple[RunSpec, Sequence[Record]]]) -> "Figure":
    """A panel for each term of the loss with a line for each run over its epochs. Raises: ConfigError."""
    terms = list(dict.fromkeys(name for _, lines in runs for line in lines for name in line.get("losses", {})))
    if not terms:
        raise ConfigError("no run has logged a loss", hint="a run that is trained, e.g. rc cluster --model graph")
    heading = ", ".join(dict.fromkeys(f"{spec.stage} {spec.model} on {spec.data.label}" for spec, _ in runs))
    with canvas.panels(heading, len(terms), (NARROWEST / 2, 3.0)) as (figure, axes):
        for panel, term in zip(axes, terms, strict=True):
            for (spec, lines), color in zip(runs, canvas.COLORS * len(runs), strict=False):
                known = [(line["epoch"], line["losses"][term]) for line in lines if term in line.get("losses", {})]
                if known:
                    panel.plot(
                        *zip(*known, strict=True), lw=1, color=color, label=f"{spec.model} s{spec.seed} {spec.key[:6]}"
                    )
            panel.set(xlabel="epoch", ylabel=term)
        axes[0].legend(frameon=False, fontsize=6)
    return figure
