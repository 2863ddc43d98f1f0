"""Adversarially constrained interpolation (ACAI; Berthelot et al., ICLR 2019) as ADEC (2019, Eqs. 8-9) pretrains with.

A critic C sees an image and says how much of another one is mixed into its code; the autoencoder wants it to say 0.
"""

import torch
from torch import Tensor


def draw_alpha(n: int, *, is_folded: bool, device: torch.device) -> Tensor:
    """Shares (n, 1) for `interpolate`: uniform in [0, 1], or folded to [0, 1/2].

    A mix of (a, b, alpha) is one of (b, a, 1 - alpha) too, so unless they are folded a critic learns their mean alone.
    """
    alpha = torch.rand(n, 1, device=device)
    return 0.5 - (alpha - 0.5).abs() if is_folded else alpha


def interpolate(z: Tensor, alpha: Tensor) -> Tensor:
    """alpha * z_i + (1 - alpha) * z_(n-i): each code mixed with one from the batch's other end; (n, d) and (n, 1)."""
    return alpha * z + (1 - alpha) * z.flip(0)


def scores(outputs: Tensor) -> Tensor:
    """C(x), (n,): the mean of the critic's outputs (n, d)."""
    return outputs.mean(dim=1)


def interpolation_penalty(mixed: Tensor) -> Tensor:
    """E C(x_alpha)^2, what the autoencoder pays (Eq. 8, second term, without lambda). Shape: scores (n,)."""
    return mixed.square().mean()


def critic_loss(mixed: Tensor, alpha: Tensor, blended: Tensor) -> Tensor:
    """E (C(x_alpha) - alpha)^2 + E C(gamma x + (1 - gamma) x_hat)^2 (Eq. 9). Shapes: scores (n,), alpha (n, 1)."""
    return (mixed - alpha.squeeze(1)).square().mean() + blended.square().mean()
