"""CIFAR-10 as ResNet-50 features of all 60,000 images, as DCAN uses it: each column standardized.

DCAN does not say how its features are scaled; its tanh layers need columns of one size.
"""

from robust_cluster.data import cifar10_raw
from robust_cluster.data.resnet import HE_ET_AL, Features

DESCRIPTION = "CIFAR-10, ResNet-50 features of 60,000 images (train, then test), vectors of 2,048, 10 classes"
CITATION = f"{cifar10_raw.CITATION}; {HE_ET_AL}"
LICENSE = cifar10_raw.LICENSE
COLLECTION = None  # made of cifar10-raw
FEATURES = Features("cifar10", 60_000, is_standardized=True)
find, read = FEATURES.find, FEATURES.read
