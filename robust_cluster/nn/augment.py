"""Random rotations and shifts of images as tensor operations: the augmentation of ADEC's pretraining (2019, sec. 4.1).

Sizes as in the first author's DynAE code: up to 10 degrees, up to 10 % of the width and of the height.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

DEGREES = 10.0  # largest rotation, either way
SHIFT = 0.1  # largest shift, either way, as a share of the width or height


def random_affine(images: Tensor, *, degrees: float = DEGREES, shift: float = SHIFT) -> Tensor:
    """Each image (n, C, H, W) with a rotation and a shift of its own, uniform up to `degrees` and `shift`."""
    n, device = len(images), images.device
    angles = (2 * torch.rand(n, device=device) - 1) * math.radians(degrees)
    return affine(images, angles, (2 * torch.rand(n, 2, device=device) - 1) * shift)


def affine(images: Tensor, angles: Tensor, shifts: Tensor) -> Tensor:
    """Each image turned clockwise about its center, then shifted right and down; bilinear, values stay in their range.

    What comes from outside the image is its nearest pixel.
    Shapes: images (n, C, H, W); angles (n,) in radians; shifts (n, 2), shares of the width and of the height.
    """
    height, width = images.shape[2:]
    cos, sin = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    right, down = (2 * shifts).view(-1, 2, 1, 1).unbind(dim=1)  # in units of half the width and height, as the grid
    # elementwise, where affine_grid has a product that might be taken in bfloat16
    x = pixel_centers(width, images).view(1, 1, -1) - right
    y = pixel_centers(height, images).view(1, -1, 1) - down
    ratio = height / width  # the grid's units differ where an image is not square
    source = torch.stack([cos * x + sin * ratio * y, cos * y - sin / ratio * x], dim=3)  # (n, H, W, 2)
    return grid_sample(images, source, mode="bilinear", padding_mode="border", align_corners=False)


def pixel_centers(side: int, like: Tensor) -> Tensor:
    """Coordinates (side,) of the pixels' centers in an image that reaches from -1 to 1."""
    return (2 * torch.arange(side, dtype=like.dtype, device=like.device) + 1) / side - 1
