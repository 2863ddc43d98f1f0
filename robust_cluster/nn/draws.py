"""Random numbers that are functions of (seed, row, draw) alone, so that no batch, order or restart changes them.

A counter is hashed by the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): 64-bit integer operations, the
same on every device.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Stream = int | Sequence[int]  # names one of a seed's independent draws, by a number or several

AHEAD = 50  # steps whose draws are made at once, which costs little more than one step's
BITS = 24  # of a draw: all that a float32 in [0, 1) can hold


def _signed(value: int) -> int:
    """The 64 bits of an unsigned number as torch's int64 has them."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


GOLDEN = _signed(0x9E3779B97F4A7C15)
FACTORS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))


def uniform(seed: int, rows: Tensor, shape: Sequence[int], stream: Stream = 0) -> Tensor:
    """Draws from [0, 1), (n, *shape) float32 on the rows' device; a row gets the same numbers in every batch.

    `seed`: any whole number. `rows` (n,) int64. `stream`: draws of different streams are independent.
    """
    return uniforms(seed, rows, shape, [stream])[0]


def uniforms(seed: int, rows: Tensor, shape: Sequence[int], streams: Sequence[Stream]) -> Tensor:
    """The draws of `uniform` for several streams, (s, n, *shape): many small draws cost about what one does."""
    keys = torch.tensor([_key(seed, stream) for stream in streams], device=rows.device)
    size = math.prod(shape)
    own = _mix(keys[:, None] ^ _mix(rows + 1))[:, :, None]  # (s, n, 1)
    counter = torch.arange(1, size + 1, device=rows.device) * GOLDEN
    bits = _mix(own + counter)
    return (_shifted(bits, 64 - BITS).to(torch.float32) * 2.0**-BITS).view(len(streams), len(rows), *shape)


class Ahead:
    """The draws of `uniform`, (n, *shape), for step 0, 1, ..., made `AHEAD` steps at a time; `stream` names each."""

    def __init__(self, seed: int, rows: Tensor, shape: Sequence[int], stream: Callable[[int], Stream]) -> None:
        self.seed, self.rows, self.shape, self.stream = seed, rows, shape, stream
        self.steps, self.made = range(0), torch.empty(0, len(rows), *shape, device=rows.device)

    def at(self, step: int) -> Tensor:
        """The draws of one step."""
        if step not in self.steps:
            self.steps = range(step, step + AHEAD)
            self.made = uniforms(self.seed, self.rows, self.shape, [self.stream(number) for number in self.steps])
        return self.made[step - self.steps.start]

    def cut(self, rows: Tensor) -> None:
        """Keep some of the n rows, by their numbers here."""
        self.rows, self.made = self.rows[rows], self.made[:, rows]


def normal(seed: int, rows: Tensor, shape: Sequence[int], stream: Stream = 0) -> Tensor:
    """Draws from N(0, 1), (n, *shape) float32, by Box and Muller (1958); arguments as of `uniform`.

    Made on the CPU in float64: logarithms and cosines differ between devices in their last bits.
    """
    numbers = (stream,) if isinstance(stream, int) else tuple(stream)
    radius, angle = (uniform(seed, rows.cpu(), shape, (*numbers, part)).double() for part in range(2))
    drawn = (-2 * torch.log1p(-radius)).sqrt() * (2 * math.pi * angle).cos()
    return drawn.float().to(rows.device)


def signs(seed: int, rows: Tensor, shape: Sequence[int], stream: Stream = 0) -> Tensor:
    """-1 or 1 with equal chances, (n, *shape) float32; arguments as of `uniform`."""
    return 1 - 2 * (uniform(seed, rows, shape, stream) < 0.5).float()


def _key(seed: int, stream: Stream) -> int:
    """What a seed's stream is hashed to."""
    key = _mixed(seed ^ GOLDEN)
    for number in (stream,) if isinstance(stream, int) else stream:
        key = _mixed(key + (number + 1) * GOLDEN)
    return _signed(key)


def _mixed(x: int) -> int:
    """`_mix` of one number, of which the 64 lowest bits count: nothing is left to torch but the rows."""
    x &= 2**64 - 1
    x = (x ^ x >> 30) * FACTORS[0] & 2**64 - 1
    x = (x ^ x >> 27) * FACTORS[1] & 2**64 - 1
    return x ^ x >> 31


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer: a bijection of 64 bits in which every bit of x changes half of them."""
    x = (x ^ _shifted(x, 30)) * FACTORS[0]
    x = (x ^ _shifted(x, 27)) * FACTORS[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x >> bits with zeros from the left, where torch copies the sign."""
    shifted: Tensor = (x >> bits) & (2 ** (64 - bits) - 1)
    return shifted
