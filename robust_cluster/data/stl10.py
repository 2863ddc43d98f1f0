"""STL-10 as ResNet-50 features of its 13,000 labeled images, not standardized, as ALRDC uses it."""

from robust_cluster.data import stl10_raw
from robust_cluster.data.resnet import HE_ET_AL, Features

DESCRIPTION = "STL-10, ResNet-50 features of 13,000 labeled images (train, then test), vectors of 2,048, 10 classes"
CITATION = f"{stl10_raw.CITATION}; {HE_ET_AL}"
LICENSE = stl10_raw.LICENSE
COLLECTION = None  # made of stl10-raw
FEATURES = Features("stl10", 13_000)
find, read = FEATURES.find, FEATURES.read
