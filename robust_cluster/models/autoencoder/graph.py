"""Graph: ConvAE whose assignments are smooth on a kNN graph (ALRDC, NeurIPS 2020, supplement Eq. 5, last term).

L_G = w sum_ij W_ij ||y~_i - y~_j||^2 over the batch's graph of mu, y~ the batch-orthonormalized soft labels: with plain
y the term would be least when all samples share one cluster. Mode "clean": 3 true neighbors, sigma the batch's median
distance to the third; mode "paper" (the released code): the point counts as one of its 3 neighbors, sigma 1.97.
W is a constant in both, where the code's gradient through W rewards pushing neighbors apart. The weight is 1/batch in
both, as in the code's ancestor: 1/n^2 of the text is next to nothing. Mode "clean" leaves the term out of the first two
epochs: clusters come and go until the optimizer has settled, and the term would keep those that are empty empty.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import check_at_least, check_positive
from robust_cluster.models.autoencoder import convae
from robust_cluster.models.base import Embedding, Losses, Outputs, Phase
from robust_cluster.nn.graph import neighbor_weights, orthonormal, smoothness

PROFILES = convae.PROFILES
MODES = {"paper": {**convae.MODES["paper"], "count_self": True, "bandwidth": 1.97, "graph_delay": 0}}


@dataclass(frozen=True)
class Config(convae.Config):
    """Hyper-parameters of Graph."""

    neighbors: int = 3  # supplement, section 1
    count_self: bool = False  # True in the code
    bandwidth: float | None = None  # sigma; None: median distance to the last neighbor; 1.97 in the code
    ridge: float = 1e-7  # added to Y^T Y before its Cholesky factor; the code's value
    graph_weight: float = 1.0  # times 1/batch
    graph_delay: int = 2  # epochs of the clustering without the term; 0 in the code

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "neighbors")
        check_at_least(0, self, "ridge", "graph_weight", "graph_delay")
        check_positive(self, "bandwidth")


class Graph(convae.ConvAE):
    """ConvAE with a graph term while clustering and in the defense."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.epochs_done = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Count the epochs of the clustering; a defense goes on from there."""
        if phase == "cluster":
            self.epochs_done.fill_(epoch)

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """ConvAE's terms and, after `graph_delay` epochs, the weighted L_G."""
        config, terms = self.config, super().cluster_losses(batch, outputs)
        if self.epochs_done < config.graph_delay:
            return terms
        z = outputs.embedding.z
        weights = neighbor_weights(z, config.neighbors, bandwidth=config.bandwidth, count_self=config.count_self)
        graph = smoothness(weights, orthonormal(outputs.soft_labels, config.ridge)) / len(batch)
        return terms | {"graph": config.graph_weight * graph}
