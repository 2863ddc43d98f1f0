"""The paper's numbers: `tables/<name>.published.csv`, one cell a line, every published cell and none besides.

A cell in which the paper printed no number has none here either; its note is what stands there instead (OOM, NA). Notes
of other cells say what the number does not: that it was copied from another paper, or cannot be right.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from robust_cluster.errors import DataError
from robust_cluster.report.spec import tables_folder
from robust_cluster.runs.spec import DataRef

T = TypeVar("T")
Place = tuple[str, str, int | None, str]
COLUMNS = ["data", "model", "latent_dim", "metric", "value", "notes"]
PARTS = {"mnist10k": "mnist", "noisy:mnist10k": "noisymnist"}  # a data set of ours -> the source's that it is a part of


@dataclass(frozen=True)
class Published:
    """What a source printed, in its own units. `cells`: (data name, method label, latent_dim, metric) -> the number.

    latent_dim is None where the source has no such axis. `notes`: the same for the cells that have a note.
    """

    cells: Mapping[Place, float]
    notes: Mapping[Place, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> frozenset[str]:
        """The data sets of which it has a number."""
        return frozenset(name for name, *_ in self.cells)

    def has(self, data: DataRef) -> bool:
        """Whether the source used this data set, whole."""
        return data.limit is None and data.name in self.names

    def whole(self, data: DataRef) -> DataRef:
        """The whole data set that these are a part of, e.g. MNIST of 10,000 of its images; else the data themselves."""
        return replace(data, name=PARTS.get(data.name, data.name), limit=None)

    def value(self, data: DataRef, **place: Any) -> float | None:
        """The published number, None where there is none; `place`: method, latent_dim and metric."""
        return self._at(self.cells, data, **place)

    def note(self, data: DataRef, **place: Any) -> str:
        """A remark on the published number, or what the source printed in its place; "" where there is neither."""
        return self._at(self.notes, data, **place) or ""

    def _at(self, found: Mapping[Place, T], data: DataRef, *, method: str, latent_dim: int, metric: str) -> T | None:
        everywhere = found.get((data.name, method, None, metric))
        return found.get((data.name, method, latent_dim, metric), everywhere) if self.has(data) else None


def load_published(name: str, folder: Path | None = None) -> Published:
    """The published cells of the table `name`; none where the source printed no such table.

    Raises: DataError for a file with other columns or a value that is no number.
    """
    path = (folder or tables_folder()) / f"{name}.published.csv"
    if not path.exists():
        return Published({})
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        if lines.fieldnames != COLUMNS:
            raise DataError(f"{path} must have the columns {', '.join(COLUMNS)}, got {lines.fieldnames}")
        cells: dict[Place, float] = {}
        notes: dict[Place, str] = {}
        try:
            for line in lines:
                dim = int(line["latent_dim"]) if line["latent_dim"] else None
                place = line["data"], line["model"], dim, line["metric"]
                if line["value"]:
                    cells[place] = float(line["value"])
                if line["notes"]:
                    notes[place] = line["notes"]
        except ValueError as error:
            raise DataError(f"{path}, line {lines.line_num}: {error}") from error
    return Published(cells, notes)
