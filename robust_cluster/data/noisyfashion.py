"""NoisyFashion: each piece of clothing beside a noisy image of another one of its class."""

from robust_cluster.data import fashion_mnist, multiview, noisymnist

DESCRIPTION = "Fashion-MNIST in 2 views, 70,000 pairs of 28x28: clothes, noisy ones of a class (labels make the pairs)"
CITATION = f"{noisymnist.CITATION.partition(';')[0]}; {fashion_mnist.CITATION}"
LICENSE = fashion_mnist.LICENSE
COLLECTION = fashion_mnist.COLLECTION
find = fashion_mnist.find
read = fashion_mnist.read
construct = multiview.noisy
