"""Mice Protein: the levels of 77 proteins in 1,080 samples of mice, eight groups of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.sources import NO_LICENSE, Collection, SourceFile
from robust_cluster.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = "Mice Protein, 1,080 samples of 77 protein levels, missing ones set to 0, 8 classes"
CITATION = "Higuera, Gardiner, Cios, Self-organizing feature maps identify proteins critical to learning, PLoS ONE 2015"
LICENSE = NO_LICENSE
N_PROTEINS = 77
SUFFIX = "_N"  # of the proteins' columns
CLASS = "class"  # c-CS-s and seven others; MouseID, Genotype, Treatment and Behavior are not used
URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/00342/Data_Cortex_Nuclear.xls"
CSV = Collection("mice-protein", (SourceFile("Data_Cortex_Nuclear.csv"),))
COLLECTION = Collection("mice-protein", (SourceFile("Data_Cortex_Nuclear.xls", URL),), instead=CSV)
find = COLLECTION.find


def read(folders: Folders) -> Raw:
    """Levels (1080, 77) and the names of the classes.

    Levels that were not measured become 0, as in DynAE, ADEC's forerunner.
    Raises: DataError for a sheet with other columns, or levels that are no numbers.
    """
    import pandas as pd  # half a second, and only this file needs it

    (path,) = COLLECTION.get(folders)
    table = _sheet(path)
    proteins = [column for column in table.columns if str(column).endswith(SUFFIX)]
    if len(proteins) != N_PROTEINS or CLASS not in table.columns:
        raise DataError(
            f"{path} must hold {N_PROTEINS} columns whose names end in {SUFFIX} and the column {CLASS}, "
            f"got {len(proteins)} and {', '.join(map(str, [c for c in table.columns if c not in proteins])) or 'none'}"
        )
    words = [column for column in proteins if not pd.api.types.is_numeric_dtype(table[column])]
    if words:
        raise DataError(f"{path}: the column {words[0]} is not numeric")
    if table[CLASS].isna().any():
        raise DataError(f"{path}: {table[CLASS].isna().sum()} labels are missing in the column {CLASS}")
    levels = table[proteins].to_numpy(np.float64, copy=True)
    missing = np.isnan(levels)
    levels[missing] = 0
    source = f"{path.name}, {int(missing.sum())} missing levels set to 0"
    return Raw((levels,), table[CLASS].to_numpy(dtype=np.str_), image=False, source=source)


def _sheet(path: Path) -> "pd.DataFrame":
    """The first sheet of an .xls, or a .csv. Raises: DataError."""
    import pandas as pd

    try:
        return pd.read_csv(path, na_values=["?"]) if path.suffix == ".csv" else pd.read_excel(path)
    except ImportError as error:  # pandas reads this old format with xlrd
        raise DataError(
            f"{path} is an Excel sheet, which needs the package xlrd",
            hint=f"pip install 'robust_cluster[xls]', or save it as {path.with_suffix('.csv').name} beside it",
        ) from error
    except Exception as error:  # pandas and xlrd raise a dozen kinds for a damaged sheet
        raise DataError(f"{path} cannot be read or is truncated: {error}") from error
