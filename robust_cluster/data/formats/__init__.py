"""The formats of a user's own data, a module each; their suffixes stand here, where no torch is needed to ask them."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

TABLES = (".csv", ".tsv", ".parquet")
CORPORA = (".jsonl",)
SVMLIGHT = (".libsvm", ".svmlight", ".svm")
SUFFIXES = (".npz", ".npy", *TABLES, *CORPORA, ".mat", *SVMLIGHT)
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")  # can run code when they are read: refused with a sentence
NUMBERS, TABLE = "save the numbers: np.savez('data.npz', x=x, y=y)", "save it, or call it, .csv"
FOREIGN = {
    **dict.fromkeys((".h5", ".hdf5", ".nc", ".zarr", ".tfrecord", ".zip"), NUMBERS),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".arff", ".feather", ".rds", ".dat", ".data", ".txt", ".json"), TABLE),
    ".h5ad": "save its matrix: scipy.sparse.save_npz('data.npz', adata.X), or np.savez('data.npz', x=adata.X)",
}  # suffix -> what to do with a file that is not read
PACKED = (".gz", ".bz2", ".xz", ".zst")  # of a .csv or .tsv
PAIRED = ".labels"  # name.labels.npy holds the labels of name.npy or name.npz


@dataclass(frozen=True)
class Reading:
    """What a user says about a file that the file does not say itself.

    `label_column`, `text_column`: of a table or a corpus of texts. `size`: pixels a side of a folder's images.
    `id_column`, `drop` (names with commas between): columns of a table that are left out. `no_header`: its first line
    is a sample, and columns are called 0, 1, ...
    """

    label_column: str | None = None
    text_column: str | None = None
    size: int | None = None
    id_column: str | None = None
    drop: str | None = None
    no_header: bool = False

    @classmethod
    def of(cls, choices: Any) -> "Reading":
        """What the fields of the same names of a DataRef or of a verb's options say."""
        return cls(**{field.name: getattr(choices, field.name) for field in fields(cls)})

    def flags(self, *beside: str) -> str:
        """The flags that were given and are about columns, with commas between, but those of the fields `beside`."""
        given = (field.name for field in fields(self) if getattr(self, field.name) and field.name != "size")
        return ", ".join(f"--{name.replace('_', '-')}" for name in given if name not in beside)


def name_and_suffix(path: Path) -> tuple[str, str]:
    """The name of a file without its suffix, and the suffix in lower case: ("t", ".csv") of t.CSV and of t.csv.gz."""
    inner = Path(path.stem)
    if path.suffix.lower() in PACKED and inner.suffix.lower() in (".csv", ".tsv"):
        return inner.stem, inner.suffix.lower()
    return path.stem, path.suffix.lower()
