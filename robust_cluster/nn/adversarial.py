"""The two sides of an adversarial game on logits a, D = sigmoid(a): a discriminator and what tries to pass it.

Logarithms are softplus, ln(1 - D) = -softplus(a) and ln D = -softplus(-a), so a sure discriminator gives no infinity.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Game = Literal["saturating", "nonsaturating"]


def discriminator_loss(fake: Tensor, real: Tensor) -> Tensor:
    """-(E ln(1 - D(fake)) + E ln D(real)), a scalar: 2 ln 2 for D = 1/2 everywhere, 0 where all are told apart.

    At the best D this is 2 ln 2 - 2 JSD(real || fake). Shapes: logits (n, ...) and (m, ...). Source: Goodfellow et al.,
    NeurIPS 2014; minus Eq. 1 of DCAN and minus V_D of ADEC (Eq. 12).
    """
    return F.softplus(fake).mean() + F.softplus(-real).mean()


def generator_loss(fake: Tensor, game: Game) -> Tensor:
    """What the fakes' maker descends: E ln(1 - D(fake)) ("saturating") or -E ln D(fake) ("nonsaturating").

    The first, the encoder's second term in ADEC's Eq. 10, is unbounded below, and its gradient vanishes with D(fake).
    Shape: logits (n, ...).
    """
    return -F.softplus(fake).mean() if game == "saturating" else F.softplus(-fake).mean()


def frozen(network: nn.Module, x: Tensor) -> Tensor:
    """network(x), through which a gradient reaches x and none of the network's parameters."""
    constants = {name: parameter.detach() for name, parameter in network.named_parameters()}
    output: Tensor = functional_call(network, constants, (x,))
    return output


@torch.enable_grad()
def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """E (||grad D(x~)|| - 1)^2 at x~ = a real + (1 - a) fake, a uniform in [0, 1] for each sample; a scalar.

    A gradient reaches the critic's parameters. Shapes: both (n, ...). Source: Gulrajani et al., NeurIPS 2017.
    """
    alpha = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
