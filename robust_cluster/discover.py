"""Methods are found by file name: `--model graph` is the one `graph.py` under `models/`. Listing imports nothing."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from robust_cluster.errors import UnknownNameError

PACKAGE = Path(__file__).parent
Kind = Literal["models", "attacks", "defenses", "data"]
# no method and no data set: an abstraction or shared reading
RESERVED = {"base", "bounded", "prepare", "files", "multiview", "sparse", "text", "features"}
RESERVED |= {"sources", "split", "cache", "archive", "resnet", "rcv1"}
FORMATS = "robust_cluster.data.formats"  # a folder of file formats, which are no data sets either
NOISY = "noisy:"  # before a data set's name or path: its noisy two-view construction


@cache
def modules(kind: Kind) -> dict[str, str]:
    """Method name -> module path of every method file under the folder `kind`, e.g. modules("models")["graph"].

    `kind` is "models", "attacks", "defenses" or "data"; sub-folders (families) are searched; base.py is no method.
    Data sets are written with hyphens: fashion_mnist.py is `fashion-mnist`.
    """
    found: dict[str, str] = {}
    for info in pkgutil.walk_packages([str(PACKAGE / kind)], prefix=f"robust_cluster.{kind}."):
        name = info.name.rpartition(".")[2]
        if not info.ispkg and name not in RESERVED and not info.name.startswith(FORMATS):
            found[name.replace("_", "-") if kind == "data" else name] = info.name
    return found


def names(kind: Kind) -> list[str]:
    """Sorted method names of one kind, without importing any of them."""
    return sorted(modules(kind))


def load(kind: Kind, name: str) -> ModuleType:
    """The module of the method `name`. Raises: UnknownNameError with the nearest name."""
    known = modules(kind)
    if name not in known:
        raise UnknownNameError(
            "data set" if kind == "data" else kind.removesuffix("s"), name, known, listing=f"rc ls {kind}"
        )
    return importlib.import_module(known[name])
