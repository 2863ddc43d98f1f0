"""Networks of the DeepMVC family: a small convolutional encoder and decoder, fusion by weights, the DDC cluster head.

Source: DeepMVC (Trosten et al., CVPR 2023). Layers start with PyTorch's default initialization, as there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robust_cluster.errors import ShapeError
from robust_cluster.nn.precision import reduced

SMALLEST = 16  # pixels a side: two halvings and four unpadded 3x3 convolutions leave 1
WIDTH = 64  # maps of every hidden convolution


def cnn_small_sizes(side: int) -> tuple[int, int, int]:
    """Pixels a side before the first and the second halving and after it: 28 -> (24, 8, 4), 128 -> (124, 58, 29)."""
    first = side - 4
    second = first // 2 - 4
    return first, second, second // 2


def cnn_small_features(shape: Sequence[int]) -> int:
    """How many features `CnnSmallEncoder` makes of images (C, H, W): 1024 for (1, 28, 28), 24128 for (3, 128, 64).

    Raises: ShapeError for what is no image of at least 16 x 16 pixels.
    """
    if len(shape) != 3 or min(shape[1:]) < SMALLEST:
        allowed = f"images (channels, height, width) of at least {SMALLEST} x {SMALLEST} pixels"
        raise ShapeError(f"the small convolutional encoder takes {allowed}, got {tuple(shape)}", hint="rc ls models")
    height, width = (cnn_small_sizes(side)[2] for side in shape[1:])
    return WIDTH * height * width


class CnnSmallEncoder(nn.Sequential):
    """Non-negative features (n, `cnn_small_features`) of images (n, C, H, W), H, W >= 16.

    Twice: convolution, ReLU, convolution, batch norm, ReLU, 2x2 max pooling; convolutions 3x3, 64 maps, unpadded.
    Source: DeepMVC, "cnn_small".
    """

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, WIDTH):
            layers += [nn.Conv2d(inputs, WIDTH, 3), nn.ReLU()]
            layers += [nn.Conv2d(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers, nn.Flatten())
        self.to(memory_format=torch.channels_last)  # 1.7 times as fast on a CPU, measured

    def forward(self, input: Tensor) -> Tensor:
        """Features (n, `cnn_small_features`) of images (n, C, H, W), in the type of the images."""
        with reduced(input):
            features: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return features.to(input.dtype)


class CnnSmallDecoder(nn.Module):
    """Images (n, C, H, W) in [0, 1] of the features (n, d) that `CnnSmallEncoder` makes of that shape.

    Nearest-neighbor upsampling, two 3x3 transposed convolutions, batch norm after the second; the same again with C
    maps and a sigmoid. Source: DeepMVC. Differs: upsampling goes to the size that the encoder pooled: twice as large at
    28 x 28, as there, but also right where a halving has rounded down.
    Raises: ShapeError for a shape that the encoder does not take.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        cnn_small_features(shape)
        channels, *size = shape
        first, second, last = zip(*(cnn_small_sizes(side) for side in size), strict=True)
        self.start = (WIDTH, *last)
        self.maps = nn.Sequential(
            nn.Upsample(second),
            nn.ConvTranspose2d(WIDTH, WIDTH, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, WIDTH, 3),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Upsample(first),
            nn.ConvTranspose2d(WIDTH, WIDTH, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, channels, 3),
            nn.Sigmoid(),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        """Images (n, C, H, W) of features (n, d)."""
        with reduced(features):
            logits = self.maps[:-1](features.unflatten(1, self.start))
        images: Tensor = self.maps[-1](logits.to(features.dtype))  # bfloat16 has no value between 255/256 and 1
        return images


class WeightedMean(nn.Module):
    """Fusion f = sum_v softmax(w)_v z^v of V representations (n, d); w (V,) is learned and starts at 1/V each.

    Source: DeepMVC (SiMVC, CVPR 2021).
    """

    def __init__(self, n_views: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((n_views,), 1 / n_views))

    def weights(self) -> Tensor:
        """softmax(w), (V,): positive, sum 1, all 1/V at the start."""
        return self.w.softmax(dim=0)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """The fused representation (n, d). Raises: ShapeError when the number or the shapes of the views differ."""
        shapes = [tuple(view.shape) for view in views]
        if len(views) != len(self.w) or len(set(shapes)) != 1:
            raise ShapeError(f"the fusion takes {len(self.w)} representations of one shape, got {shapes}")
        # no product over the views: it might be taken in bfloat16
        return torch.stack([weight * view for weight, view in zip(self.weights(), views, strict=True)]).sum(dim=0)


class ClusterHead(nn.Module):
    """The DDC clustering module: h = BatchNorm(ReLU(Linear(f))), then soft labels A = softmax(Linear(h)).

    The batch norm comes last, so h is not non-negative. Source: DeepMVC (`hidden` = 100 units).
    """

    def __init__(self, features: int, n_clusters: int, hidden: int = 100) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.BatchNorm1d(hidden))
        self.last = nn.Linear(hidden, n_clusters)

    def hidden(self, f: Tensor) -> Tensor:
        """h (n, hidden) of fused representations f (n, features)."""
        h: Tensor = self.body(f)
        return h

    def assign(self, h: Tensor) -> Tensor:
        """Soft labels A (n, K) of h (n, hidden); rows sum to 1."""
        return torch.softmax(self.last(h), dim=1)

    def forward(self, f: Tensor) -> Tensor:
        """A (n, K) of fused representations f (n, features)."""
        return self.assign(self.hidden(f))
