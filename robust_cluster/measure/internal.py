"""Scores of a clustering that need no classes, for data without labels and for a look at several K.

scikit-learn's: silhouette (in [-1, 1], higher is better), Calinski-Harabasz (>= 0, higher), Davies-Bouldin (>= 0,
lower). They reward round clusters apart from each other in the space in which they are taken. On the embedding, which
training has shaped for that, they are nearly always better than on the data: never compare the two.
"""

from typing import Any

import torch
from torch import Tensor

from robust_cluster.data.base import Stored
from robust_cluster.measure.scores import Metrics, Predicted, spaced

ROWS = 1000  # evenly spaced, of which silhouette takes all pairs


def internal_scores(z: Tensor, views: Stored, labels: Predicted) -> dict[str, Any]:
    """The three scores of labels (n,) on the embedding z (n, d) and on the data, of at most ROWS rows.

    None where the rows are all in one cluster or each in its own.
    """
    rows = spaced(len(labels), ROWS)
    there = rows.to(views[0].device)
    data = torch.cat([view[there].flatten(1) for view in views], dim=1)
    embedding = (z if z.layout == torch.strided else z.to_dense())[rows.to(z.device)]
    chosen = labels[rows.numpy()]
    return {"rows": len(rows), "embedding": _scores(embedding, chosen), "data": _scores(data, chosen)}


def _scores(x: Tensor, labels: Predicted) -> Metrics:
    from sklearn import metrics  # late: it takes a second

    points = x.detach().cpu().double().numpy()
    n_used = len(set(labels.tolist()))
    if not 2 <= n_used < len(labels):
        return dict.fromkeys(("silhouette", "calinski_harabasz", "davies_bouldin"))
    return {
        "silhouette": float(metrics.silhouette_score(points, labels)),
        "calinski_harabasz": float(metrics.calinski_harabasz_score(points, labels)),
        "davies_bouldin": float(metrics.davies_bouldin_score(points, labels)),
    }
