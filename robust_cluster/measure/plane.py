"""An embedding, and where an attack takes it, in two dimensions."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Plane = Literal["pca", "tsne"]
ROWS: dict[Plane, int] = {"pca": 2000, "tsne": 1000}  # most samples that are drawn
Floats = npt.NDArray[np.floating[Any]]


def flattened(z: Floats, moved: Floats | None, how: Plane, seed: int = 0) -> tuple[Floats, Floats | None]:
    """z (n, d), and the moved z (n, d) or None, as points (n, 2) of one plane.

    "pca": the two main axes of z, in which the moved ones are placed too; "tsne": scikit-learn's t-SNE of both at once,
    of which distances between groups say nothing.
    """
    z = z[:, None] if z.ndim == 1 else z
    if z.shape[1] <= 2:
        padded = [None if one is None else np.pad(one, ((0, 0), (0, 2 - one.shape[1]))) for one in (z, moved)]
        return padded[0], padded[1]  # type: ignore[return-value]
    if how == "pca":
        from sklearn.decomposition import PCA  # late: it takes a second

        axes = PCA(2, random_state=seed).fit(z)
        return axes.transform(z), None if moved is None else axes.transform(moved)
    from sklearn.manifold import TSNE

    whole = z if moved is None else np.concatenate([z, moved])
    points = TSNE(2, random_state=seed, perplexity=min(30, (len(whole) - 1) / 3), init="pca").fit_transform(whole)
    return points[: len(z)], None if moved is None else points[len(z) :]
