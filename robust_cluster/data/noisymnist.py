"""NoisyMNIST: each digit beside a noisy image of another digit of its class."""

from robust_cluster.data import mnist, multiview

DESCRIPTION = "MNIST in 2 views, 70,000 pairs of 28x28: a digit, a noisy one of its class (labels make the pairs)"
CITATION = f"Trosten et al., On the Effects of Self-supervision and Contrastive Alignment, CVPR 2023; {mnist.CITATION}"
LICENSE = mnist.LICENSE
COLLECTION = mnist.COLLECTION
find = mnist.find
read = mnist.read
construct = multiview.noisy
