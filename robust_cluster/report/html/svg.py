"""A figure of matplotlib as SVG inside a page: its text is text, black is the page's color of text, ids are its own.

Static SVG serves for every figure of a page. The few curves of one run that a reader opens are drawn by the page's
script from their numbers: there are thousands, and as SVG they would take a hundred times as much room.
"""

import re
from io import BytesIO
from typing import TYPE_CHECKING

from robust_cluster.report import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = re.compile(r'(\bid="|href="#|url\(#)([^")]+)')
UNUSED = (  # what a page does not need: its own title and styles, names of groups, the page's font, no rotation
    re.compile(r"<(title|metadata|style)\b.*?</\1>|<!--.*?-->", re.DOTALL),
    re.compile(r'(?<=<g) id="[^"]*"'),
    re.compile(r"font-family: [^;\"]*;? ?"),
    re.compile(r' transform="rotate\(-0 [^"]*"'),
    re.compile(r"(?<=>)\s+(?=<)|\s*\n\s*"),
)
HEAD = re.compile(r'<svg[^>]*\swidth="([\d.]+)pt" height="[\d.]+pt" viewBox="([^"]+)"[^>]*>')
PIXELS = 4 / 3  # of a point


def inline(figure: "Figure", name: str) -> str:
    """The figure's SVG, with `name` before each of its ids; the page says beside it what it shows."""
    content = BytesIO()
    with canvas.style():
        import matplotlib

        # text that can be selected; what is drawn as pixels need not be finer than a screen
        matplotlib.rcParams.update({"svg.fonttype": "none", "savefig.dpi": 100})
        figure.savefig(content, format="svg", metadata=canvas.METADATA[".svg"], transparent=True)
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    for unused in UNUSED:
        text = unused.sub("", text)
    text = NAMES.sub(lambda found: f"{found[1]}{name}-{found[2]}", text)
    text = HEAD.sub(_head, text, count=1)
    return text.replace(": #000000", ": currentColor")


def _head(found: re.Match[str]) -> str:
    width = round(PIXELS * float(found[1]))
    return f'<svg viewBox="{found[2]}" style="max-width:{width}px" aria-hidden="true" focusable="false">'
