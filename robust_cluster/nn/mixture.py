"""Gaussian mixtures on an embedding: hard EM, diagonal precisions (DCAN); soft EM, full covariances (DC-GMM)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rule = Literal["nearest", "eq22", "full"]
VARIANCE_FLOOR = 1e-4  # of a component along one dimension: a single code has none
PATIENCE = 20  # passes that a component may stay empty
PORTION = 4096  # rows whose (d, d) systems are solved at once


class HardMixture(nn.Module):
    """K components with means eta and diagonal precisions tau (K, d) and weights psi (K,); every code belongs to one.

    A code z goes to the component of the largest score (`rule`):
    "nearest": -||z - eta||^2 / 2; "eq22": ln psi - ||z - eta||^2 / 2 (DCAN, Eq. 22, whose variance is 1);
    "full": ln psi + 1/2 sum_j ln tau_j - 1/2 sum_j tau_j (z_j - eta_j)^2.
    """

    def __init__(self, n_clusters: int, dim: int, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.means = nn.Buffer(torch.zeros(n_clusters, dim))
        self.precisions = nn.Buffer(torch.ones(n_clusters, dim))
        self.weights = nn.Buffer(torch.full((n_clusters,), 1 / n_clusters))
        self.empty_passes = nn.Buffer(torch.zeros(n_clusters, dtype=torch.int64))

    def scores(self, z: Tensor) -> Tensor:
        """The rule's scores (n, K) of z (n, d), up to a constant of each row; finite for empty components too."""
        if self.rule == "full":
            return diagonal_log_joint(z, self.weights, self.means, self.precisions)
        scores = z @ self.means.T - 0.5 * self.means.square().sum(dim=1)
        return scores if self.rule == "nearest" else scores + log_weights(self.weights)

    def log_posterior(self, z: Tensor) -> Tensor:
        """Logarithms of soft labels (n, K) whose argmax is the component: the log-softmax of the scores.

        "nearest" models no density: its scores are divided by the mean variance within the components, as k-means' are
        (`center_posterior`); at Eq. 22's variance of 1, codes that lie close together would belong to all alike.
        """
        scores = self.scores(z)
        if self.rule == "nearest":
            scores = scores / (self.weights.unsqueeze(1) / self.precisions).sum(dim=0).mean()
        return scores.log_softmax(dim=1)

    def labels(self, z: Tensor) -> Tensor:
        """The component (n,) of each code."""
        return self.scores(z).argmax(dim=1)

    def draw(self, labels: Tensor, noise: Tensor) -> Tensor:
        """eta_k + noise / sqrt(tau_k), k the label: draws of the components for standard normal noise (n, d)."""
        return self.means[labels] + noise * self.precisions[labels].rsqrt()

    def divergence(self, z: Tensor, labels: Tensor) -> Tensor:
        """E D_KL(N(eta_k, 1/tau_k) || N(z, 1)), k the label, a scalar >= 0; a slope for z as ||z - eta_k||^2 / 2 has.

        What DCAN's Eq. 9 stands for, with an encoder of variance 1; its printed form is wrong unless tau = 1 (Lemma 1).
        Shapes: z (n, d), labels (n,).
        """
        precisions = self.precisions[labels]
        terms = (z - self.means[labels]).square() + 1 / precisions - 1 + precisions.log()
        return 0.5 * terms.sum(dim=1).mean()

    @torch.no_grad()
    def fit(self, z: Tensor, labels: Tensor) -> Tensor:
        """Take all parameters from labeled codes (DCAN, Eqs. 20, 21 and 23); returns squared distances (n,) to eta.

        A component without codes keeps mean and precision. Shapes: z (n, d), labels (n,).
        """
        counts = torch.bincount(labels, minlength=len(self.means))
        is_filled, sizes = (counts > 0).unsqueeze(1), counts.clamp_min(1).unsqueeze(1)
        self.means.copy_(torch.where(is_filled, sums_by(labels, z, len(counts)) / sizes, self.means))
        squares = (z - self.means[labels]).square()
        variances = (sums_by(labels, squares, len(counts)) / sizes).clamp_min(VARIANCE_FLOOR)
        self.precisions.copy_(torch.where(is_filled, 1 / variances, self.precisions))
        self.weights.copy_(counts / len(z))
        self.empty_passes.copy_(torch.where(counts > 0, 0, self.empty_passes + 1))
        return squares.sum(dim=1)

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """One hard EM pass on codes z (n, d): assign (Eq. 22), then `fit`.

        A component that was empty PATIENCE times in a row starts again at the code farthest from its own mean, with
        that code's precision and the weight of one code; several such components take the next farthest ones.
        """
        labels = self.labels(z)
        distances = self.fit(z, labels)
        is_stale = self.empty_passes >= PATIENCE
        farthest = distances.topk(min(len(z), len(is_stale))).indices
        source = farthest[(is_stale.cumsum(dim=0) - 1).clamp(0, len(farthest) - 1)]  # no branch: no wait for a GPU
        column = is_stale.unsqueeze(1)
        self.precisions.copy_(torch.where(column, self.precisions[labels[source]], self.precisions))
        self.means.copy_(torch.where(column, z[source], self.means))
        self.weights.copy_((self.weights * len(z) + is_stale) / (len(z) + is_stale.sum()))
        self.empty_passes.masked_fill_(is_stale, 0)


class GaussianMixture(nn.Module):
    """K components with weights pi (K,), means mu (K, d) and covariances Sigma (K, d, d); soft assignments gamma."""

    def __init__(self, n_clusters: int, dim: int, ridge: float) -> None:
        super().__init__()
        self.ridge = ridge
        self.weights = nn.Buffer(torch.full((n_clusters,), 1 / n_clusters))
        self.means = nn.Buffer(torch.zeros(n_clusters, dim))
        self.covariances = nn.Buffer(torch.eye(dim).repeat(n_clusters, 1, 1))

    def log_joint(self, z: Tensor) -> Tensor:
        """ln pi_k + ln N(z_i; mu_k, Sigma_k) up to a constant, (n, K); its softmax over k is gamma."""
        return full_log_joint(z, self.weights, self.means, self.covariances)

    @torch.no_grad()
    def fit(self, y: Tensor, gamma: Tensor) -> None:
        """The M-step: weighted shares, means and covariances + ridge * I. Shapes: y (n, d), gamma (n, K).

        A component that holds less than a millionth of a sample keeps its mean and covariance.
        """
        masses = gamma.sum(dim=0)
        self.weights.copy_(masses / len(y))
        ridge = self.ridge * torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        for k, mass in enumerate(masses):
            shares = (gamma[:, k] / mass.clamp_min(1e-6)).unsqueeze(1)
            mean = (shares * y).sum(dim=0)
            deviations = y - mean
            covariance = (shares * deviations).T @ deviations + ridge
            self.means[k] = torch.where(mass > 1e-6, mean, self.means[k])
            self.covariances[k] = torch.where(mass > 1e-6, covariance, self.covariances[k])

    @torch.no_grad()
    def pull(self, point: Tensor, gamma: Tensor, rho: float) -> Tensor:
        """y (n, d) of least 1/2 sum_k gamma_ik (y - mu_k)' Sigma_k^-1 (y - mu_k) + rho/2 ||y - point_i||^2.

        y = (rho I + sum_k gamma_ik Sigma_k^-1)^-1 (rho point_i + sum_k gamma_ik Sigma_k^-1 mu_k), the y-step of DC-GMM.
        Shapes: point (n, d), gamma (n, K); rho > 0.
        """
        d = point.shape[1]
        precisions = torch.cholesky_inverse(torch.linalg.cholesky(self.covariances))
        pulls = (precisions @ self.means.unsqueeze(2)).squeeze(2)  # Sigma_k^-1 mu_k, (K, d)
        ridge = rho * torch.eye(d, dtype=point.dtype, device=point.device)
        parts = []
        for part, weights in zip(point.split(PORTION), gamma.split(PORTION), strict=True):
            matrices = ridge + (weights @ precisions.flatten(1)).unflatten(1, (d, d))
            parts.append(torch.linalg.solve(matrices, rho * part + weights @ pulls))
        return torch.cat(parts)


def diagonal_log_joint(z: Tensor, weights: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """ln w_k + ln N(z_i; m_k, diag(1/t_k)) + d/2 ln 2 pi, (n, K).

    It squares differences, a component at a time: expanded squares lose digits that a large precision multiplies.
    Shapes: z (n, d), weights (K,), means and precisions (K, d).
    """
    squares = [(t * (z - m).square()).sum(dim=1) for m, t in zip(means, precisions, strict=True)]
    return log_weights(weights) + 0.5 * precisions.log().sum(dim=1) - 0.5 * torch.stack(squares, dim=1)


def full_log_joint(z: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """ln w_k + ln N(z_i; m_k, S_k) + d/2 ln 2 pi, (n, K). Shapes: z (n, d), means (K, d), covariances (K, d, d)."""
    roots = torch.linalg.cholesky(covariances)
    log_determinants = 2 * roots.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    whitened = [torch.linalg.solve_triangular(r, (z - m).T, upper=False) for m, r in zip(means, roots, strict=True)]
    squares = torch.stack([white.square().sum(dim=0) for white in whitened], dim=1)
    joint: Tensor = log_weights(weights) - 0.5 * log_determinants - 0.5 * squares
    return joint


def log_weights(weights: Tensor) -> Tensor:
    """ln w; for 0 the logarithm of float32's smallest normal number, -87."""
    return weights.clamp_min(torch.finfo(torch.float32).tiny).log()


def sums_by(labels: Tensor, rows: Tensor, n_clusters: int) -> Tensor:
    """The sum of the rows of each label, (K, d); the same at every `precision`. Shapes: labels (n,), rows (n, d)."""
    return rows.new_zeros(n_clusters, rows.shape[1]).index_add_(0, labels, rows)


def lloyd_pass(z: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Means (K, d) of the rows nearest to each center, and the mean squared distance to them per dimension, > 0.

    A center without rows stays. Shapes: z (n, d), centers (K, d).
    """
    labels = (z @ centers.T - 0.5 * centers.square().sum(dim=1)).argmax(dim=1)
    counts = F.one_hot(labels, len(centers)).sum(dim=0).unsqueeze(1)
    means = torch.where(counts > 0, sums_by(labels, z, len(centers)) / counts.clamp_min(1), centers)
    return means, (z - means[labels]).square().mean().clamp_min(1e-12)


class Codes(nn.Module):
    """DC-GMM's auxiliary codes y (n, d) and scaled duals u (n, d) of every sample."""

    def __init__(self, n_samples: int, latent_dim: int) -> None:
        super().__init__()
        self.y = nn.Buffer(torch.zeros(n_samples, latent_dim))
        self.u = nn.Buffer(torch.zeros(n_samples, latent_dim))
        self.is_begun = nn.Buffer(torch.zeros((), dtype=torch.bool))

    def begin(self, z: Tensor) -> None:
        """Put y on z (n, d) and u on 0."""
        self.y.copy_(z)
        self.u.zero_()
        self.is_begun.fill_(True)
