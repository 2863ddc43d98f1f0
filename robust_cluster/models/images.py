"""What methods share that need to know how the pixels of a sample lie, and what their range is."""

import math

from torch import Tensor

from robust_cluster.data.base import DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.models.autoencoder.ae_kmeans import single_view

HINT = "--set model.image_shape=[1,28,28] for vectors of 784"


def image_shape(given: tuple[int, ...], info: DataInfo) -> tuple[int, ...]:
    """(channels, height, width) of the samples, which the user may have given; () for vectors that are no images.

    Raises: ConfigError for a shape that the samples cannot have.
    """
    shape = single_view(info)
    if len(shape) == 3 and given in ((), shape):
        return shape
    if given and (len(given) != 3 or min(given) < 1 or math.prod(given) != shape[0]):
        raise ConfigError(
            f"image_shape must be (channels, height, width) of {info.name}'s samples {list(shape)}, got {list(given)}",
            hint=HINT,
        )
    return given


def needed_image_shape(method: str, given: tuple[int, ...], info: DataInfo, *, smallest: int) -> tuple[int, int, int]:
    """(channels, height, width), for methods whose layers are convolutions.

    Raises: ConfigError for vectors that are no images, and for images of fewer than `smallest` pixels a side.
    """
    shape = image_shape(given, info)
    if not shape:
        raise ConfigError(f"{method} clusters images, {info.name} has vectors of {info.shapes[0][0]}", hint=HINT)
    check_size(method, shape, info, smallest=smallest)
    channels, height, width = shape
    return channels, height, width


def check_size(method: str, shape: tuple[int, ...], info: DataInfo, *, smallest: int) -> None:
    """Raises ConfigError for images (channels, height, width) of fewer than `smallest` pixels a side."""
    height, width = shape[1:]
    if min(height, width) < smallest:
        size = f"{height} x {width}"
        raise ConfigError(f"{method} needs images of at least {smallest} x {smallest} pixels, {info.name} has {size}")


def ranged(x: Tensor, info: DataInfo, low: float, high: float) -> Tensor:
    """Values of the data in the range [low, high] that a network wants; as they are where the data have no range."""
    return x if info.box is None else low + (high - low) * (x - info.box[0]) / (info.box[1] - info.box[0])


def unranged(x: Tensor, info: DataInfo, low: float, high: float) -> Tensor:
    """A network's values, in [low, high], in the data's own units: `ranged` back."""
    return x if info.box is None else info.box[0] + (info.box[1] - info.box[0]) * (x - low) / (high - low)
