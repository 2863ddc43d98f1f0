"""The report of one run: its numbers, figures, health, and its audit in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robust_cluster.audit.marks import count
from robust_cluster.errors import RobustClusterError
from robust_cluster.report.answers import Record
from robust_cluster.report.flags import MEANING, flags_of
from robust_cluster.report.html.page import templates
from robust_cluster.report.html.parts import Drawn, svg_of
from robust_cluster.report.html.runs import PERCENT, detail
from robust_cluster.runs.spec import RunSpec, Stage
from robust_cluster.stages.settings import flat, typed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {  # figure of `rc figure` -> its heading and what to know of it
    "losses": ("Losses", "Each term of the loss over the epochs that were logged."),
    "curve": ("While it attacks", "How many samples change cluster, after each epoch or at each radius."),
    "certificate": ("Certificate", "The share of samples that no attack within a radius can move."),
    "embedding": ("Embedding", "In two main axes; arrows show where an attack takes some of the samples."),
    "confusion": ("Confusion", "How many samples of each row are in each column; colors are shares of the row."),
    "images": ("Misled images", "The first of them: clean, the perturbation, and moved."),
    "decoded": ("Misled samples, decoded", "What the model decodes of the embedding before and under the attack."),
}
HEADINGS: Mapping[Stage, str] = {
    "pretrain": "Pretraining of",
    "cluster": "Clustering by",
    "attack": "Attack on",
    "defend": "Defense of",
    "reattack": "Fresh attack on",
    "certify": "Certificate of",
}
ON_WHITE = ("confusion", "images", "decoded")  # their colors need it


def drawn(name: str, draw: "Callable[[], Figure]") -> Drawn:
    """A figure of a run, or the sentence that says why there is none."""
    title, _ = TITLES[name]
    try:
        return Drawn(name, title, svg_of(draw(), name), on_white=name in ON_WHITE)
    except RobustClusterError as error:
        return Drawn(name, title, why=str(error))


def report(record: Record, figures: Sequence[Drawn]) -> str:
    """The report as one HTML document; the same record and figures give the same text."""
    return templates().get_template("run.html.jinja").render(content(record, figures))


def content(record: Record, figures: Sequence[Drawn]) -> dict[str, Any]:
    """What the template shows."""
    spec = RunSpec.from_json(record["spec"])
    groups = ("settings", "metrics", "threat", "health", "training", "data", "lineage", "own", "environment")
    told = {**dict.fromkeys(groups), **detail(record, None)}
    shares = {name: metric.read(record) for name, metric in PERCENT.items()}
    differing = {(stage, path): usual for stage, path, _, usual in told.get("settings") or ()}
    return {
        "spec": spec,
        "heading": HEADINGS[spec.stage],
        "record": record,
        "told": told,
        "headline": {name: 100 * value for name, value in shares.items() if value is not None},
        "flags": [(flag, MEANING.get(flag, "")) for flag in flags_of(record, ())],
        "figures": [(figure, TITLES[figure.name][1]) for figure in figures],
        "settings": [
            (one.stage, path, typed(value), differing.get((one.stage, path)))
            for one in reversed(list(spec.lineage()))
            for path, value in flat(one.settings).items()
        ],
        "audit": sorted(record.get("audit") or (), key=lambda finding: int(finding["id"])),
        "counts": count(record["audit"]) if record.get("audit") else {},
    }
