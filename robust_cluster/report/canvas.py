"""What all figures share: one style, sizes in inches, an image, and a file whose bytes depend on its content alone.

Equal input gives equal bytes under one version of matplotlib, which is an extra and is imported when it is needed.
"""

from collections.abc import Iterator
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
CELL, GAP = 0.8, 0.06  # inches: width of an image, space between images
NARROWEST = 6.5  # inches that the text above and below needs


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


def draw_image(axes: "Axes", image: Pixels) -> None:
    """Draw one image (H, W, 1 or 3), gray or RGB, with a thin frame and no ticks."""
    is_gray = image.shape[2] == 1
    axes.imshow(image[:, :, 0] if is_gray else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=0.3, color="0.6")
