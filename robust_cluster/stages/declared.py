"""What a method's file declares, its `Config`, `MODES` and `PROFILES`, read without all else that the file imports.

A table compares the settings of runs with those of methods, and has no use for torch, which takes two seconds to load.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from robust_cluster import discover
from robust_cluster.discover import PACKAGE, Kind


def settings_of(kind: Kind, name: str) -> Any:
    """What has the method's `Config`, `MODES` and `PROFILES`: its module, or a `Declared` while torch is not loaded.

    The latter's Config has the fields, their types and defaults, and does not check values against each other.
    Raises: UnknownNameError with the nearest name.
    """
    if "torch" in sys.modules or name not in discover.modules(kind):
        return discover.load(kind, name)
    found = read(discover.modules(kind)[name])
    try:
        found.Config(), getattr(found, "MODES", None), getattr(found, "PROFILES", None)
    except (ImportError, NameError, AttributeError):  # they are made with torch
        return discover.load(kind, name)
    return found


class Declared:
    """A module of this package by parts: `.Config` runs the statements that make Config, and none that it does not use.

    Other modules of the package are read in the same way, and classes have no functions. Raises: ImportError for a part
    that uses torch.
    """

    def __init__(self, module: str) -> None:
        self._known: dict[str, Any] = {"__name__": module}
        self._statements: dict[str, list[ast.stmt]] = {}
        for node in ast.parse(path_of(module).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                node.body = [one for one in node.body if not isinstance(one, ast.FunctionDef)]
            for name in bound(node):
                self._statements.setdefault(name, []).append(node)

    def __getattr__(self, name: str) -> Any:
        self._run(name)
        if name not in self._known:
            raise AttributeError(f"{self._known['__name__']} has no {name}")
        return self._known[name]

    def _run(self, name: str) -> None:
        """Run what gives a name its value, after what that uses; once, and nothing for a builtin."""
        for node in self._statements.pop(name, ()):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE.name):
                (taken,) = (alias.name for alias in node.names if name == (alias.asname or alias.name))
                inner = f"{node.module}.{taken}"
                self._known[name] = read(inner) if path_of(inner).exists() else getattr(read(str(node.module)), taken)
                continue
            if isinstance(node, ast.Import | ast.ImportFrom) and "torch" in ast.unparse(node):
                raise ImportError(f"{name} of {self._known['__name__']} is torch's")
            for used in ast.walk(node):
                if isinstance(used, ast.Name) and isinstance(used.ctx, ast.Load):
                    self._run(used.id)
            exec(compile(ast.Module([node], []), self._known["__name__"], "exec"), self._known)


@cache
def read(module: str) -> Any:
    """A module of this package if it is loaded, else what it declares."""
    return sys.modules.get(module) or Declared(module)


def path_of(module: str) -> Path:
    """The file of a module of this package, whether or not there is one."""
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement gives a value."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def descriptions(kind: Kind) -> Iterator[tuple[str, str]]:
    """Name and description of every method of a kind, those of installed packages too; no file is imported."""
    found = {name: description(path_of(module)) for name, module in discover.modules(kind).items()}
    found |= {name: of_package(one) for name, one in discover.installed(kind).items()}
    yield from sorted(found.items())


def of_package(method: discover.Installed) -> str:
    """The description of an installed method, and its package."""
    try:
        what = description(method.file) if method.file else f"no file {method.module} is there"
    except (OSError, SyntaxError, ValueError) as error:
        what = f"its file cannot be read: {error}"
    return f"{what} [{method}]"


def description(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
