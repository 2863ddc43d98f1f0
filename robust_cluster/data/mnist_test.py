"""MNIST's 10,000 test images: what the released ALRDC code trains and evaluates on."""

from dataclasses import replace

from robust_cluster.data import mnist

DESCRIPTION = "MNIST's 10,000 test images, 28x28, 10 classes"
CITATION = mnist.CITATION
LICENSE = mnist.LICENSE
FAMILY = replace(mnist.FAMILY, parts=("t10k",))
COLLECTION, find, read = FAMILY.collection, FAMILY.find, FAMILY.read
