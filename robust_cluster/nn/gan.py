"""Generator and discriminator of AR-DMVC's attack (ICML 2024): one perturbs images, the other tells moved from clean.

At the end the networks of ClusterGAN, which makes images of codes.

Layers as in AR-DMVC's released code, which takes 1 x 28 x 28 pixels: the generator there is that of the single-view
attack on deep clustering (Chhabra et al., NeurIPS 2022). Its networks for RegDB are not released; other sizes and
colors here are our choice. Layers start with PyTorch's default initialization unless `normal_init` is called.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robust_cluster.errors import ShapeError

SMALLEST = 16  # pixels a side: the generator's narrowest maps are then 2 x 2, and instance norm needs more than 1 value
WIDTHS = (8, 16, 32)  # maps of the generator for one channel; twice as many for more
FIRST = 8  # maps of the discriminator's first stage


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape as (channels, height, width). Raises: ShapeError for vectors and for fewer than 16 x 16 pixels."""
    if len(shape) != 3 or min(shape[1:]) < SMALLEST:
        allowed = f"images (channels, height, width) of at least {SMALLEST} x {SMALLEST} pixels"
        raise ShapeError(f"the attack's generator and discriminator take {allowed}, got {tuple(shape)}")
    channels, height, width = shape
    return channels, height, width


class Generator(nn.Module):
    """u (n, C, H, W), not bounded, of images (n, C, H, W); the attack makes perturbations of tanh(u).

    Three 3x3 convolutions (stride 1, 2, 2), then transposed ones of 3x3, 3x3 (stride 2) and 6x6 without biases; no
    padding; instance norm and ReLU after all but the last. A side of s pixels comes out with
    4 floor((s - 5) / 4) + 8 >= s, of which the central s are kept: all of them at 28.
    Raises: ShapeError for what is no image of at least 16 x 16 pixels.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = image_shape(shape)
        a, b, c = (maps if channels == 1 else 2 * maps for maps in WIDTHS)
        self.size = (height, width)
        self.maps = nn.Sequential(
            *(nn.Conv2d(channels, a, 3), nn.InstanceNorm2d(a), nn.ReLU()),
            *(nn.Conv2d(a, b, 3, 2), nn.InstanceNorm2d(b), nn.ReLU()),
            *(nn.Conv2d(b, c, 3, 2), nn.InstanceNorm2d(c), nn.ReLU()),
            *(nn.ConvTranspose2d(c, b, 3, 2, bias=False), nn.InstanceNorm2d(b), nn.ReLU()),
            *(nn.ConvTranspose2d(b, a, 3, 2, bias=False), nn.InstanceNorm2d(a), nn.ReLU()),
            nn.ConvTranspose2d(a, channels, 6, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """u (n, C, H, W) of images (n, C, H, W)."""
        u: Tensor = self.maps(images)
        top, left = ((found - wanted) // 2 for found, wanted in zip(u.shape[2:], self.size, strict=True))
        return u[:, :, top : top + self.size[0], left : left + self.size[1]]


class Discriminator(nn.Module):
    """Logits (n,) of images (n, C, H, W): high for clean ones, low for moved ones.

    4x4 convolutions of stride 2 with LeakyReLU 0.2, batch norm before it from the second on, 8, 16, 32 ... maps, for as
    long as the maps are at least 4 pixels on the narrower side (three at 28 x 28, four at 128 x 64); a 1x1 convolution
    to one map, whose mean is the logit. Raises: ShapeError for what is no image of at least 16 x 16 pixels.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        inputs, height, width = image_shape(shape)
        side, outputs, layers = min(height, width), FIRST, list[nn.Module]()
        while side >= 4:
            layers.append(nn.Conv2d(inputs, outputs, 4, 2))
            layers += [nn.BatchNorm2d(outputs)] if len(layers) > 1 else []
            layers.append(nn.LeakyReLU(0.2))
            side, inputs, outputs = side // 2 - 1, outputs, 2 * outputs
        self.maps = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n,) of images (n, C, H, W)."""
        return torch.mean(self.maps(images), dim=(1, 2, 3))


class ImageCritic(nn.Sequential):
    """Outputs (n, size) of images (n, C, H, W): two 4x4 convolutions of stride 2 and a dense layer, LeakyReLU 0.2.

    Critic (size 1) and encoder of ClusterGAN's code (Mukherjee et al., AAAI 2019).
    """

    def __init__(self, shape: Sequence[int], size: int, *, maps: Sequence[int], dense: int) -> None:
        channels, height, width = shape
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((channels, *maps)):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        features = maps[-1] * (height // 4) * (width // 4)
        super().__init__(*layers, nn.Flatten(), nn.Linear(features, dense), nn.LeakyReLU(0.2), nn.Linear(dense, size))


class ImageMaker(nn.Module):
    """Images (n, C, H, W), not bounded, of codes (n, d): two dense layers, two transposed 4x4 convolutions of stride 2.

    ReLU and batch norm after all but the last: the generator of ClusterGAN's code. Sides not divisible by 4 are cut.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, *, maps: Sequence[int], dense: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.size = (height, width)
        start = (maps[0], math.ceil(height / 4), math.ceil(width / 4))
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, dense), nn.BatchNorm1d(dense), nn.ReLU()),
            *(nn.Linear(dense, math.prod(start)), nn.BatchNorm1d(math.prod(start)), nn.ReLU()),
            nn.Unflatten(1, start),
            *(nn.ConvTranspose2d(maps[0], maps[1], 4, 2, padding=1), nn.BatchNorm2d(maps[1]), nn.ReLU()),
            nn.ConvTranspose2d(maps[1], channels, 4, 2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images of codes z (n, d)."""
        x: Tensor = self.layers(z)
        return x[:, :, : self.size[0], : self.size[1]]


@torch.no_grad()
def normal_init(module: nn.Module, std: float) -> None:
    """Convolution weights from N(0, std^2), batch norm scales from N(1, 0.02^2) and shifts 0; biases stay.

    DCGAN's initialization has std 0.02, AR-DMVC's released code 1.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
