"""Whose turn a step of ADEC's clustering phase is (2019, Algorithm 1)."""

from typing import Literal

import torch
from torch import nn

Turn = Literal["discriminator", "decoder", "all"]


class Turns(nn.Module):
    """Counts steps to tell whose turn it is: first the discriminator's; then M of the decoder, M of all, and so on.

    The counts are buffers, so that a resumed run goes on with them. It stays on the CPU, where asking costs nothing.
    """

    def __init__(self, decoder_steps: int, *, is_begun: bool) -> None:
        super().__init__()
        self.decoder_steps = decoder_steps
        self.alone = nn.Buffer(torch.zeros((), dtype=torch.int64))  # steps of the discriminator by itself
        self.taken = nn.Buffer(torch.zeros((), dtype=torch.int64))  # steps since
        self.is_begun = nn.Buffer(torch.tensor(is_begun))

    def current(self) -> Turn:
        """The networks that the next step trains."""
        if not self.is_begun:
            return "discriminator"
        return "all" if int(self.taken) // self.decoder_steps % 2 else "decoder"

    def advance(self) -> None:
        """Count a step."""
        (self.taken if self.is_begun else self.alone).add_(1)
