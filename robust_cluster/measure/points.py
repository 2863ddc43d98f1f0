"""The points of a finished attack, in the units that its user knows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import DataInfo
from robust_cluster.measure.rows import Rows

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """n scored samples before and under an attack.

    `clean`, `moved`: of each view (n, *shape), in the units of the data before they were scaled; of an attack on the
    embedding one array (n, d) in units of the embedding. `before`, `after` (n,): clusters. `ids` (n,): names of rows.
    """

    ids: npt.NDArray[np.generic]
    clean: tuple[Floats, ...]
    moved: tuple[Floats, ...]
    before: Ints
    after: Ints


def points_of(rows: Rows, attacker: Attack) -> Points:
    """What an attacker makes of the rows, in their order."""
    moved, after = rows.moved(attacker), np.empty(len(rows), np.int64)
    pairs: list[tuple[list[Floats], list[Floats]]] = []
    for number, places in enumerate(rows.places):
        points = moved(number)
        with torch.no_grad():
            after[places] = rows.surface.labels(points).cpu().numpy()
        pairs.append(([view.cpu().numpy() for view in rows.point(number)], [view.cpu().numpy() for view in points]))
    order = torch.cat(rows.places).argsort().numpy()
    is_input = rows.surface.space == "input"

    def joined(which: int) -> tuple[Floats, ...]:
        views = (np.concatenate(parts)[order] for parts in zip(*(pair[which] for pair in pairs), strict=True))
        return tuple(unscaled(view, rows.info, place) if is_input else view for place, view in enumerate(views))

    index = rows.index.numpy()
    ids = index if rows.data.ids is None else rows.data.ids[index]
    return Points(ids, joined(0), joined(1), rows.clean.labels, after)


def unscaled(view: Floats, info: DataInfo, place: int) -> Floats:
    """A view in the units of the data as they were given."""
    if info.columns is not None:
        scale, shift = np.array(info.columns.scale[place]), np.array(info.columns.shift[place])
        return np.asarray(view / scale + shift, np.float32)
    return np.asarray(view / np.float32(info.scale), np.float32)
