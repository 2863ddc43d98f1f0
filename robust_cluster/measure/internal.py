"""Scores of a clustering that need no classes, for data without labels and for a look at several K.

scikit-learn's: silhouette (in [-1, 1], higher is better), Calinski-Harabasz (>= 0, higher), Davies-Bouldin (>= 0,
lower). They reward round clusters apart from each other in the space in which they are taken. On the embedding, which
training has shaped for that, they are nearly always better than on the data: never compare the two.
"""

from typing import Any

import torch
from torch import Tensor

from robust_cluster.data.base import Stored
from robust_cluster.data.sparse import SparseView
from robust_cluster.measure.scores import Metrics, Predicted, spaced

ROWS = 1000  # evenly spaced, of which silhouette takes all pairs


def internal_scores(z: Tensor, views: Stored, labels: Predicted) -> dict[str, Any]:
    """The three scores of labels (n,) on the embedding z (n, d) and on the data, of at most ROWS rows.

    None where the rows are all in one cluster or each in its own, and of what is sparse, which is not made dense.
    """
    rows = spaced(len(labels), ROWS)
    there, chosen = rows.to(views[0].device), labels[rows.numpy()]
    is_sparse = any(isinstance(view, SparseView) for view in views)
    data = None if is_sparse else torch.cat([view[there].flatten(1) for view in views], dim=1)
    embedding = z[rows.to(z.device)] if z.layout == torch.strided else None
    return {"rows": len(rows), "embedding": _scores(embedding, chosen), "data": _scores(data, chosen)}


def _scores(x: Tensor | None, labels: Predicted) -> Metrics:
    from sklearn import metrics  # late: it takes a second

    n_used = len(set(labels.tolist()))
    if x is None or not 2 <= n_used < len(labels):
        return dict.fromkeys(("silhouette", "calinski_harabasz", "davies_bouldin"))
    points = x.detach().cpu().double().numpy()
    return {
        "silhouette": float(metrics.silhouette_score(points, labels)),
        "calinski_harabasz": float(metrics.calinski_harabasz_score(points, labels)),
        "davies_bouldin": float(metrics.davies_bouldin_score(points, labels)),
    }
