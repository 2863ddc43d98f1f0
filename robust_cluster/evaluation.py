"""How robust is a clustering model trained elsewhere? `evaluate` answers in one call, without a runs directory.

>>> import torch, robust_cluster
>>> x = torch.cat([torch.randn(50, 2) * 0.1, torch.randn(50, 2) * 0.1 + 1])
>>> model = torch.nn.Linear(2, 2)  # any module that gives (n, K) soft labels or logits
>>> found = robust_cluster.evaluate(model, x, eps=[0.1, 0.5], rows=50, profile="smoke")
>>> [line["eps"] for line in found.radii]
[0.1, 0.5]
>>> 0 <= found.flips <= 1
True
"""

from __future__ import annotations

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from robust_cluster.models.adopted import Estimator

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Record:
    """What an evaluation found: the record that `rc attack` writes, with its headline numbers as attributes.

    `flips`, `noise_flips`: shares in [0, 1] of the samples that the attack, and noise of its size, move to another
    cluster at the largest radius; `radii`: a dictionary for each radius; `scores`: ACC, NMI, ... clean and attacked
    (starred), None without classes; `flags` and `audit`: what speaks against believing it.
    """

    content: Mapping[str, Any]

    @property
    def flips(self) -> float:
        """Share of samples that change cluster at the largest radius."""
        return float(self.content["metrics"]["flip"])

    @property
    def noise_flips(self) -> float:
        """Share that noise of the same size moves."""
        return float(self.content["metrics"]["noise_flip"])

    @property
    def radii(self) -> list[dict[str, Any]]:
        """What the attack found at each radius: eps, flip, scores. `content` has the lines of its members too."""
        return list({line["eps"]: line for line in self.content["radii"]}.values())  # the worst case is the last

    @property
    def scores(self) -> Mapping[str, float | None]:
        """Every measured number by name."""
        return dict(self.content["metrics"])

    @property
    def flags(self) -> list[str]:
        """What a reader must know, e.g. "masked"."""
        return list(self.content["flags"])

    @property
    def audit(self) -> list[dict[str, Any]]:
        """The findings of the quick audit."""
        return list(self.content["audit"])

    def _repr_html_(self) -> str:
        """A table of the radii, for notebooks."""
        rows = "".join(f"<tr><td>{line['eps']:g}</td><td>{100 * line['flip']:.1f}</td></tr>" for line in self.radii)
        flags = html.escape(", ".join(self.flags) or "none")
        return f"<table><tr><th>radius</th><th>flips, %</th></tr>{rows}</table><p>flags: {flags}</p>"


def evaluate(
    model: torch.nn.Module | Estimator,
    x: npt.ArrayLike | torch.Tensor,
    y: npt.ArrayLike | None = None,
    *,
    n_clusters: int | None = None,
    norm: Norm = "linf",
    eps: float | Sequence[float] = 8 / 255,
    rows: int = 1000,
    target: int | None = None,
    seed: int = 0,
    attack: str = "ensemble",
    profile: str = "paper",
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Record:
    """The record of a standard attack on a trained clustering model, with noise beside it and a quick audit.

    model: a module that gives (n, K) soft labels or logits for x, or an estimator with `predict`.
    x: (n, d) vectors, or (n, channels, height, width) images in [0, 1]; y: (n,) classes, for ACC and NMI alone.
    n_clusters: K; by default the width of the model's output, or the number of its labels.
    eps: one radius or several, in units of the data (of images: of the range 0 to 1). rows: most samples attacked.
    target: the cluster that the attack moves samples into, by its number from 0; by default any other than their own.
    settings: more of the attack's, e.g. {"steps": 200}.
    Raises: ConfigError for a model that does not fit the data, ShapeError and DataError for the data.
    """
    from robust_cluster.stages.adopted import adopt  # late, as torch: `import robust_cluster` is quick

    radii = sorted(map(float, eps if isinstance(eps, Sequence) else [eps]))
    chosen = {"norm": norm, "eps": radii[-1], "curve": tuple(radii), "rows": rows, **(settings or {})}
    chosen |= {} if target is None else {"target": target}
    with tempfile.TemporaryDirectory() as folder:
        return Record(adopt(model, x, y, n_clusters, Path(folder), device).attacked(attack, chosen, profile, seed))
