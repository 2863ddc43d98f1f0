"""Methods are found by file name: `--model graph` is the one `graph.py` under `models/`. Listing imports nothing."""

import importlib
import inspect
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from robust_cluster.errors import UnknownNameError

PACKAGE = Path(__file__).parent
Kind = Literal["models", "attacks", "defenses", "data"]
# the line by which a file says that it is a method or a data set, where others are abstractions and shared reading
METHOD, DATA_SET = "\nclass Config", "\nDESCRIPTION = "
NOISY = "noisy:"  # before a data set's name or path: its noisy two-view construction
ORACLE = "oracle:"  # the same: with the true classes as a second view, for oracles alone


def construction(name: str) -> str:
    """What stands before a data set's name to have it with a second view: "noisy:", "oracle:" or nothing."""
    return next((prefix for prefix in (NOISY, ORACLE) if name.startswith(prefix)), "")


def bare(name: str) -> str:
    """The name without its `construction`."""
    return name.removeprefix(construction(name))


@cache
def modules(kind: Kind) -> dict[str, str]:
    """Method name -> module path of every method file under the folder `kind`, e.g. modules("models")["graph"].

    `kind` is "models", "attacks", "defenses" or "data"; sub-folders (families) are searched. A file with a class
    `Config` is a method, one with a `DESCRIPTION` a data set: it is looked for in their text. Data sets are written
    with hyphens: fashion_mnist.py is `fashion-mnist`.
    """
    found: dict[str, str] = {}
    for path in sorted((PACKAGE / kind).rglob("*.py")):
        if (DATA_SET if kind == "data" else METHOD) in path.read_text(encoding="utf-8"):
            name = path.stem.replace("_", "-") if kind == "data" else path.stem
            found[name] = ".".join(("robust_cluster", *path.relative_to(PACKAGE).with_suffix("").parts))
    return found


def names(kind: Kind) -> list[str]:
    """Sorted method names of one kind, without importing any of them."""
    return sorted(modules(kind))


# methods of the user's own files, which this process knows by name; stages/own.py puts them here
own: dict[tuple[Kind, str], ModuleType] = {}


def load(kind: Kind, name: str) -> ModuleType:
    """The module of the method `name`, of the house or one's own. Raises: UnknownNameError with the nearest name."""
    if (kind, name) in own:
        return own[kind, name]
    known = modules(kind)
    if name not in known:
        raise UnknownNameError(
            "data set" if kind == "data" else kind.removesuffix("s"), name, known, listing=f"rc ls {kind}"
        )
    return importlib.import_module(known[name])


def method_class(module: ModuleType) -> Any:
    """The one class of a method's file besides its Config. Raises: LookupError when there is not exactly one.

    The file of one's own may have others: which is the method's stands in its `METHOD`.
    """
    if hasattr(module, "METHOD"):
        return module.METHOD
    classes = [
        member
        for name, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and name != "Config"
    ]
    if len(classes) != 1:
        raise LookupError(f"{module.__name__} must define Config and one class, found {classes}")
    return classes[0]
