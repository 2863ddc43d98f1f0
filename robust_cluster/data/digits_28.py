"""scikit-learn's digits as images of MNIST's size, so that the image path runs without a download."""

import torch
from torch.nn.functional import interpolate

from robust_cluster.data import digits
from robust_cluster.data.base import Folders, Raw

DESCRIPTION = "scikit-learn's 1,797 digits as 28x28 images, 10 classes"
CITATION = digits.CITATION
LICENSE = digits.LICENSE
COLLECTION = None
find = digits.find


def read(folders: Folders) -> Raw:
    """Images (1797, 28, 28) uint8, resized bilinearly from 8x8, and labels."""
    from sklearn.datasets import load_digits  # late: `rc data ls` needs no scikit-learn

    source = load_digits()
    small = torch.from_numpy(source.images).unsqueeze(1) * (255 / 16)  # counts 0..16 -> pixels
    images = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False).squeeze(1)
    return Raw((images.round().to(torch.uint8).numpy(),), source.target, image=True, source="scikit-learn")
