"""DC-GMM: an autoencoder and a Gaussian mixture, tied by ADMM (Tian, Zhou and Guan, ECML PKDD 2017, "DeepCluster").

Auxiliary codes y_i with scaled duals u_i stand between the encoder f and the mixture. A round (= an epoch):
W    f and decoder descend 1/2 E||x - x_hat||^2 + code_weight * rho/2 E||y - f(x) + u||^2, y and u constant
gamma_ik proportional to pi_k N(y_i; mu_k, Sigma_k)
y_i = (rho I + sum_k gamma_ik Sigma_k^-1)^-1 (rho (f(x_i) - u_i) + sum_k gamma_ik Sigma_k^-1 mu_k)
M    pi, mu, Sigma of y under gamma, Sigma + 1e-5 I;  then  u_i += (y_i - f(x_i)) / 2
Constants and AdaDelta are those of the authors' MATLAB script, whose networks are inside its weight files: here
D-500-500-2000-d with a sigmoid at the code, pretrained without noise. The script keeps the round of the best ACC, which
takes labels; here the last one counts. Labels are the mixture's at f(x), so that any point has one, as attacks need.
The method's own are those at y, which only training rows have: they are scored beside (ACC_training), and `health`
tells how many agree.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adadelta, Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.layers import flat, glorot, perceptron
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.mixture import Codes, GaussianMixture
from robust_cluster.nn.optim import adam
from robust_cluster.nn.precision import precision

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": (128, 128), "pretrain": {"epochs": 20, "batch_size": 128}, "cluster": {"epochs": 10}},
    "cpu": {"hidden": (256, 256), "pretrain": {"epochs": 50}, "cluster": {"epochs": 60, "batch_size": 300}},
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of DC-GMM; `--dim 10` for the network of the DEC family."""

    hidden: tuple[int, ...] = (500, 500, 2000)  # widths of the encoder, mirrored in the decoder
    rho: float = 1000.0  # the authors' script; 1 in its variant with k-means
    code_weight: float = 0.01  # R_c of the script
    ridge: float = 1e-5  # added to every covariance
    n_init: int = 20  # k-means restarts
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch_size=256))
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=300, batch_size=100, lr=1.0))  # AdaDelta's factor

    def __post_init__(self) -> None:
        check_at_least(1, self, "hidden", "n_init")
        check_at_least(0, self, "code_weight")
        for name in ("rho", "ridge"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name)}", hint=f"--set model.{name}=...")


class DCGMM(ClusterModel):
    """z is the encoder's code f(x) (n, d) in (0, 1)."""

    pretrained_by: ClassVar[str | None] = "dc_gmm"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("hidden", "pretrain")

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.config: Config = config
        check_at_least(2, info, "n_clusters")
        self.shape = single_view(info)
        widths = [math.prod(self.shape), *config.hidden, latent_dim]
        self.encoder = nn.Sequential(perceptron(widths), nn.Sigmoid())
        self.decoder = perceptron(widths[::-1])
        glorot(self)
        self.mixture = GaussianMixture(info.n_clusters, latent_dim, config.ridge)
        self.residual = nn.Buffer(torch.zeros(()))
        self.agreement = nn.Buffer(torch.ones(()))
        self.fit.parts["codes"] = Codes(info.n_samples, latent_dim)

    def pretrained(self) -> nn.Module:
        """Encoder and decoder."""
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})

    def encode(self, views: Views) -> Embedding:
        """f(x) (n, d)."""
        z = self.encoder(flat(views))
        return Embedding(z, (z,))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape)."""
        return (self.decoder(z).unflatten(1, self.shape),)

    @property
    def codes(self) -> Codes:
        """y and u of every sample, on the model's device."""
        kept: Codes = self.fit.parts["codes"]
        return kept.to(self.mixture.means.device)

    def assign(self, z: Tensor) -> Tensor:
        """gamma (n, K) at z."""
        return self.mixture.log_joint(z).softmax(dim=1)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return self.mixture.log_joint(z).log_softmax(dim=1)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction; while clustering half of it, and the distance to the auxiliary codes."""
        z = self.encode(batch.views).z if outputs is None else outputs.embedding.z
        reconstruction = squared_error(self.decoder(z), flat(batch.views))
        if phase == "pretrain":
            return {"reconstruction": reconstruction}
        weight = 0.5 * self.config.code_weight * self.config.rho
        return {"reconstruction": 0.5 * reconstruction, "codes": weight * squared_error(z, self.targets(z, batch))}

    def targets(self, z: Tensor, batch: Batch) -> Tensor:
        """y + u (n, d) of the batch; where there is no round to take them from (a defense), y of z itself and u = 0."""
        if self.codes.is_begun:
            return self.codes.y[batch.index] + self.codes.u[batch.index]
        with torch.no_grad(), precision("highest"):
            return self.mixture.pull(z, self.assign(z), self.config.rho)

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """Adam while pretraining, then AdaDelta (0.9, 1e-7)."""
        parameters, lr = self.pretrained().parameters(), self.schedule(phase).lr
        return {"model": adam(parameters, lr) if phase == "pretrain" else Adadelta(parameters, lr, rho=0.9, eps=1e-7)}

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """The mixture from k-means' clusters, y = f(x), u = 0."""
        if phase != "cluster":
            return
        z = embed().z
        _, labels, _ = kmeans(z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)
        self.mixture.fit(z, F.one_hot(labels, self.info.n_clusters).to(z.dtype))
        self.codes.begin(z)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """The rest of the round: gamma, y, the mixture, u."""
        z, y, u = embed().z, self.codes.y, self.codes.u
        gamma = self.assign(y)
        y.copy_(self.mixture.pull(z - u, gamma, self.config.rho))
        self.mixture.fit(y, gamma)
        u.add_(y - z, alpha=0.5)
        agreement = (self.labels(y) == self.labels(z)).to(z.dtype).mean()
        self.agreement.copy_(agreement)
        self.residual.copy_((y - z).norm(dim=1).mean())

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """The method's own labels: the mixture's at y."""
        if self.codes.is_begun:
            self.fit.labels = self.labels(self.codes.y)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Of the last round mean ||y - f(x)|| and the share of samples labeled alike at both; least weight."""
        variances = self.mixture.covariances.diagonal(dim1=1, dim2=2).mean(dim=1)
        return {
            "residual": float(self.residual),
            "label_agreement": float(self.agreement),
            "smallest_variance": float(variances.min()),
            "smallest_weight": float(self.mixture.weights.min()),
        }
