"""Networks that several methods share: perceptrons, the ALRDC image encoder and decoder, the Gaussian autoencoder."""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormMode = Literal["eval", "batch"]


def glorot(module: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases in every linear and convolution layer below `module` (ALRDC's code)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def perceptron(widths: Sequence[int], activation: type[nn.Module] | None = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given widths with `activation` between them, none after the last: (n, w0) -> (n, w_last)."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs)]
        layers += [activation()] if activation else []
    return nn.Sequential(*layers[:-1] if activation else layers)


class ImageEncoder(nn.Sequential):
    """Features (n, 64 * ceil(H/4) * ceil(W/4)) of images (n, C, H, W): four 3x3 convolutions, LeakyReLU 0.2.

    Source: ALRDC's released code (32 stride 2, 32, 64 stride 2, 64). "Same" padding is symmetric here.
    """

    def __init__(self, channels: int) -> None:
        widths = [(channels, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
        layers: list[nn.Module] = []
        for inputs, outputs, stride in widths:
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Flatten())


class ImageDecoder(nn.Module):
    """Images (n, C, H, W) in [0, 1] of latents (n, d): linear to 64 maps, five 3x3 transposed convolutions, sigmoid.

    Source: ALRDC's released code: 64 s1, 64 s2, 32 s1, 32 s2 with LeakyReLU 0.2, then C s1 with a sigmoid.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, *size = shape
        half = [math.ceil(side / 2) for side in size]
        self.start = (64, *(math.ceil(side / 2) for side in half))
        self.dense = nn.Linear(latent_dim, math.prod(self.start))
        layers: list[nn.Module] = []
        for inputs, outputs, target in [(64, 64, None), (64, 64, half), (64, 32, None), (32, 32, size)]:
            stride = 2 if target else 1
            extra = [1 - side % 2 for side in target] if target else [0, 0]  # reaches even and odd sides alike
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=(extra[0], extra[1])),
                nn.LeakyReLU(0.2),
            ]
        self.maps = nn.Sequential(*layers, nn.ConvTranspose2d(32, channels, 3, 1, padding=1), nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, C, H, W) of z (n, d)."""
        maps: Tensor = self.maps(self.dense(z).unflatten(1, self.start))
        return maps


class GaussianAutoencoder(nn.Module):
    """An encoder with a mean and a log-variance head, both linear, and its decoder, for images or vectors.

    Images take the convolutional networks above, vectors the perceptron D-500-500-2000-d and its mirror with a linear
    output (VaDE's network, which the ALRDC supplement follows for features). Initialization: `glorot`.
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        if len(shape) == 3:
            channels, height, width = shape
            self.body: nn.Module = ImageEncoder(channels)
            features = 64 * math.ceil(height / 4) * math.ceil(width / 4)
            self.decoder: nn.Module = ImageDecoder(latent_dim, (channels, height, width))
        else:
            widths = [math.prod(shape), *hidden]
            self.body = nn.Sequential(perceptron(widths), nn.ReLU())
            features = widths[-1]
            self.decoder = perceptron([latent_dim, *reversed(widths)])
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)
        glorot(self)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (n, d)."""
        features = self.body(x)
        return self.mean(features), self.log_var(features)

    def decode(self, z: Tensor) -> Tensor:
        """Reconstruction (n, *shape) of z (n, d)."""
        x: Tensor = self.decoder(z)
        return x


def device_of(module: nn.Module) -> torch.device:
    """Where its parameters and buffers are; the CPU for a module without any."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def flat(views: Sequence[Tensor]) -> Tensor:
    """All views of each sample side by side in one row, (n, sum of sizes)."""
    return torch.cat([view.flatten(1) for view in views], dim=1)


@contextmanager
def batch_norm_mode(module: nn.Module, mode: BatchNormMode) -> Iterator[None]:
    """A block in which batch norm takes the statistics of the batch ("batch") and changes no buffer.

    "eval" leaves every layer as it is. Statistics depend on what is in a batch, so score in fixed batches.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)] if mode == "batch" else []
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False  # both: the batch's statistics, and no buffer moves
    try:
        yield
    finally:
        for layer, (training, tracking) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, tracking
