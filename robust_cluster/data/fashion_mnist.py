"""Fashion-MNIST: clothes in the format of MNIST."""

from robust_cluster.data.mnist import Family, idx_files

DESCRIPTION = "Fashion-MNIST, 70,000 images of clothes (train, then test), 28x28, 10 classes"
CITATION = "Xiao, Rasul, Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking, arXiv:1708.07747, 2017"
LICENSE = "MIT"  # Debian's copyright file calls it Expat

FAMILY = Family(
    "fashion-mnist",
    "FashionMNIST",
    first_labels=(9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
    files=idx_files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (26_421_880, 29_515, 4_422_102, 5_148),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    install="`apt-get install dataset-fashion-mnist`",
)
COLLECTION, find, read = FAMILY.collection, FAMILY.find, FAMILY.read
