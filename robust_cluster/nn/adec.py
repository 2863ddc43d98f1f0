"""The game of ADEC's clustering phase (2019, Eqs. 10-12): its losses on logits, and whose turn a step is."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

Turn = Literal["discriminator", "decoder", "all"]


def fooling_loss(fake: Tensor, *, is_saturating: bool = True) -> Tensor:
    """E log(1 - D(x_hat)), what the encoder adds to KL (Eq. 10), or -E log D(x_hat) where it is not saturating.

    The first is unbounded below, and its gradient vanishes with D(x_hat). Shape: logits (n, 1).
    """
    return -softplus(fake).mean() if is_saturating else softplus(-fake).mean()


def telling_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(x_hat)) = -V_D (Eq. 12): 2 log 2 where D is 1/2 everywhere. Shapes: logits (n, 1)."""
    return softplus(-real).mean() + softplus(fake).mean()


class Turns(nn.Module):
    """Whose turn a step is: first the discriminator's alone; then M steps of the decoder, M of all networks, and so on.

    Its buffers are what a resumed run goes on with. It stays on the CPU, where asking costs nothing.
    """

    def __init__(self, decoder_steps: int, *, is_begun: bool) -> None:
        super().__init__()
        self.decoder_steps = decoder_steps
        self.register_buffer("alone", torch.zeros((), dtype=torch.int64))  # steps of the discriminator by itself
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))  # steps since
        self.register_buffer("is_begun", torch.tensor(is_begun))
        self.alone: Tensor
        self.taken: Tensor
        self.is_begun: Tensor

    def current(self) -> Turn:
        """The networks that the next step trains."""
        if not self.is_begun:
            return "discriminator"
        return "all" if int(self.taken) // self.decoder_steps % 2 else "decoder"

    def advance(self) -> None:
        """Count a step."""
        (self.taken if self.is_begun else self.alone).add_(1)
