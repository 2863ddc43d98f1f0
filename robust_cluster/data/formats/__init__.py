"""The formats of a user's own data, a module each; their suffixes stand here, where no torch is needed to ask them."""

from dataclasses import dataclass

TABLES = (".csv", ".tsv", ".parquet")
CORPORA = (".jsonl",)
SVMLIGHT = (".libsvm", ".svmlight", ".svm")
SUFFIXES = (".npz", ".npy", *TABLES, *CORPORA, ".mat", *SVMLIGHT)
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")  # can run code when they are read: refused with a sentence
PAIRED = ".labels"  # name.labels.npy holds the labels of name.npy or name.npz


@dataclass(frozen=True)
class Reading:
    """What a user says about a file that the file does not say itself.

    `label_column`, `text_column`: of a table or a corpus of texts. `size`: pixels a side of a folder's images.
    """

    label_column: str | None = None
    text_column: str | None = None
    size: int | None = None
