"""The network, prior and terms of VaDE (Jiang et al., IJCAI 2017) and LPVDN (Luo et al., AAAI 2021; its equations).

Symbols: x (n, ...), z (n, J); mu~ and log s~^2 the encoder's heads (n, J); pi (K,), mu_c and log s_c^2 (K, J) the
prior; gamma_ic = q(c | z_i), (n, K). Sums over entries, means over the batch, as in the authors' code.
"""

import math
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from robust_cluster.errors import ShapeError
from robust_cluster.nn.layers import perceptron
from robust_cluster.nn.losses import squared_error

LOG_VARIANCE = (-10.0, 10.0)  # of posterior and prior; the paper has no bounds


class VariationalAutoencoder(nn.Module):
    """Perceptrons D-hidden-J with a mean and a log-variance head, and J-reversed hidden-D; PyTorch's initialization.

    `is_bounded`: the data are in [0, 1]; outputs pass a sigmoid and are scored by cross-entropy. Else they are linear
    and scored by squared error. Images are flattened here and given back in their shape.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, hidden: Sequence[int], *, is_bounded: bool) -> None:
        super().__init__()
        self.shape, self.is_bounded = tuple(shape), is_bounded
        widths = [math.prod(shape), *hidden]
        self.body = nn.Sequential(perceptron(widths), nn.ReLU())
        self.mean = nn.Linear(widths[-1], latent_dim)
        self.log_var = nn.Linear(widths[-1], latent_dim)
        self.decoder = perceptron([latent_dim, *reversed(widths)])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu~ and log s~^2, each (n, J)."""
        features = self.body(x.flatten(1))
        return self.mean(features), self.log_var(features).clamp(*LOG_VARIANCE)

    def decode(self, z: Tensor) -> Tensor:
        """x_hat (n, *shape) of z (n, J)."""
        outputs: Tensor = self.decoder(z)
        x_hat = outputs.sigmoid() if self.is_bounded else outputs
        return x_hat.reshape(-1, *self.shape)

    def reconstruction(self, z: Tensor, x: Tensor) -> Tensor:
        """E sum_d BCE(x_d, x_hat_d), or E ||x - x_hat||^2 for data without bounds: the first line of Eq. 4."""
        outputs, flat = self.decoder(z), x.flatten(1)
        if self.is_bounded:  # of logits: behind a saturated sigmoid an error has no gradient
            return F.binary_cross_entropy_with_logits(outputs, flat, reduction="sum") / len(flat)
        return squared_error(outputs, flat)


class MixturePrior(nn.Module):
    """p(c) p(z | c) = pi_c N(z; mu_c, s_c^2), all trained; it starts at pi = 1/K, mu_c = 0, s_c^2 = 1.

    pi is a softmax, so that it sums to 1. In the authors' code it is free, and its sum grows without end.
    """

    def __init__(self, n_clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.means = nn.Parameter(torch.zeros(n_clusters, latent_dim))
        self.log_vars = nn.Parameter(torch.zeros(n_clusters, latent_dim))

    def log_weights(self) -> Tensor:
        """log pi (K,)."""
        return self.logits.log_softmax(dim=0)

    def log_variances(self) -> Tensor:
        """log s_c^2 (K, J)."""
        return self.log_vars.clamp(*LOG_VARIANCE)

    def log_responsibilities(self, z: Tensor) -> Tensor:
        """log gamma (n, K) = log_softmax_c [log pi_c + log N(z; mu_c, s_c^2)]; the gradient reaches z and the prior."""
        log_vars = self.log_variances()
        squares = (z.unsqueeze(1) - self.means).square() * (-log_vars).exp()  # (n, K, J), exact at any precision
        # but for a constant, which cancels in the softmax
        joint = self.log_weights() - 0.5 * (squares + log_vars).sum(dim=2)
        return joint.log_softmax(dim=1)

    @torch.no_grad()
    def fit(self, z: Tensor, seed: int, n_init: int = 1) -> None:
        """Take the likeliest of scikit-learn's diagonal mixtures of z (n, J) from `n_init` k-means starts."""
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a start: training goes on from there
            mixture = GaussianMixture(len(self.means), covariance_type="diag", n_init=n_init, random_state=seed)
            mixture.fit(z.detach().cpu().double().numpy())
        weights, means, variances = (
            torch.as_tensor(values, dtype=self.means.dtype)
            for values in (mixture.weights_, mixture.means_, mixture.covariances_)
        )
        self.logits.copy_(weights.clamp_min(torch.finfo(weights.dtype).tiny).log())
        self.means.copy_(means)
        self.log_vars.copy_(variances.log())

    @torch.no_grad()
    def widen(self, variance: Tensor) -> None:
        """Add a variance (J,) to every s_c^2: of a mixture of means, the mixture of what is drawn around them."""
        self.log_vars.copy_((self.log_variances().exp() + variance).log())


def prior_kl(gamma: Tensor, mean: Tensor, log_var: Tensor, prior: MixturePrior) -> Tensor:
    """E sum_c gamma_c KL(N(mu~, s~^2) || N(mu_c, s_c^2)) >= 0: Eq. 4's second line, and the entropy at its end.

    Shapes: gamma (n, K), rows sum to 1; mean and log_var (n, J). Differs from the paper: Eq. 4 lacks the 1/2 of its
    second line, without which this is no divergence; the authors' code has it.
    """
    log_vars, means = prior.log_variances(), prior.means
    squares = (mean.unsqueeze(1) - means).square() + log_var.exp().unsqueeze(1)  # (n, K, J)
    divergences = 0.5 * (log_vars - log_var.unsqueeze(1) + squares * (-log_vars).exp() - 1).sum(dim=2)
    return (gamma * divergences).sum(dim=1).mean()


def component_kl(log_gamma: Tensor, log_weights: Tensor) -> Tensor:
    """E KL(gamma || pi) = E sum_c gamma_c log(gamma_c / pi_c) >= 0, Eq. 4's third line. Shapes: (n, K) and (K,)."""
    return (log_gamma.exp() * (log_gamma - log_weights)).sum(dim=1).mean()


class PairDiscriminator(nn.Module):
    """Logits d(x, z): whether z was drawn for x. A perceptron (J + D)-hidden-1 on [z, x]; PyTorch's initialization."""

    def __init__(self, latent_dim: int, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [latent_dim, inputs]
        self.first = nn.Linear(latent_dim + inputs, hidden[0])
        self.rest = nn.Sequential(nn.ReLU(), perceptron([*hidden, 1]))

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """d(x_i, z_i) and d(x_{i-1}, z_i), each (n,), with x_{-1} the batch's last. Shapes: z (n, J), x (n, D).

        The first layer is linear, so its share of x is computed once and shifted for the second pairing.
        """
        of_z, of_x = self.first.weight.split(self.sizes, dim=1)
        left, right = F.linear(z, of_z, self.first.bias), F.linear(x, of_x)
        logits: Tensor = self.rest(torch.cat([left + right, left + right.roll(1, dims=0)]))
        own, other = logits.squeeze(1).chunk(2)
        return own, other


def pair_information(discriminator: PairDiscriminator, z: Tensor, x: Tensor) -> Tensor:
    """L_MI = E softplus(-d(x, z)) + E softplus(d(x', z)), 2 log 2 where d tells nothing apart, 0 at best (Eq. 11).

    x' is the sample before in the batch: batches come in random order, so it is a random other one without a draw.
    Encoder and discriminator both descend. Shapes: z (n, J), x (n, ...). Raises: ShapeError for n < 2.
    """
    if len(z) < 2:
        raise ShapeError(f"another sample of the batch is needed for each, got {len(z)} in all")
    own, other = discriminator(z, x.flatten(1))
    return F.softplus(-own).mean() + F.softplus(other).mean()
