"""Methods are found by file name: `--model graph` is the one `graph.py` under `models/`. Listing imports nothing.

Installed packages add to them by entry points: a line `mine = "my_package.mine"` in the group `robust_cluster.models`,
`.attacks` or `.defenses` makes that module the method `mine`.
"""

import dataclasses
import hashlib
import importlib.util
import inspect
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from robust_cluster.errors import ConfigError, UnknownNameError

PACKAGE = Path(__file__).parent
Kind = Literal["models", "attacks", "defenses", "data"]
# the line by which a file says that it is a method or a data set, where others are abstractions and shared reading
METHOD, DATA_SET = "\nclass Config", "\nDESCRIPTION = "
NOISY = "noisy:"  # before a data set's name or path: its noisy two-view construction
ORACLE = "oracle:"  # the same: with the true classes as a second view, for oracles alone
MODEL = ("robust_cluster.models.base", "ClusterModel")  # the base of all models, which is not loaded here


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


@dataclasses.dataclass(frozen=True)
class Installed:
    """A method that an installed package has: its name, its module, the package and the package's version."""

    name: str
    module: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    @property
    def file(self) -> Path | None:
        """The file of its module, found without importing it; None where there is none."""
        top, *rest = self.module.split(".")
        spec = importlib.util.find_spec(top)
        if spec is None or not rest:
            return Path(spec.origin) if spec and spec.origin else None
        for folder in spec.submodule_search_locations or ():
            path = Path(folder, *rest)
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.exists():
                    return file
        return None

    @property
    def identity(self) -> str:
        """What a run's key has of it: "my-package 1.2 SHA-256", of its file."""
        content = self.file.read_bytes() if self.file else b""
        return f"{self} {hashlib.sha256(content).hexdigest()}"


@cache
def offers(kind: Kind) -> tuple[dict[str, Installed], dict[str, str]]:
    """What installed packages offer of a kind: name -> method, and name -> why one is left out, a sentence.

    The house's own names stay the house's, and a name that two packages have is nobody's.
    """
    from importlib.metadata import entry_points  # late: `--help` needs none of it

    found: dict[str, Installed] = {}
    refused: dict[str, str] = {}
    what = kind.removesuffix("s")
    for point in entry_points(group=f"robust_cluster.{kind}"):
        assert point.dist is not None  # they are those of distributions
        name, one = point.name, Installed(point.name, point.module, point.dist.name, point.dist.version)
        if name in modules(kind):
            refused[name] = f"{one} offers the {what} {name!r}, a name that robust_cluster has: it is left out"
        elif not re.fullmatch(r"\w+", name):
            refused[name] = f"{one} offers the {what} {name!r}, and a name is letters, digits and _: it is left out"
        elif name in found or name in refused:
            first, second = sorted(map(str, (found.pop(name, "another package"), one)))
            refused[name] = f"{first} and {second} both offer the {what} {name!r}: remove one of them"
        else:
            found[name] = one
    return found, refused


def installed(kind: Kind) -> dict[str, Installed]:
    """The methods of installed packages by name."""
    return offers(kind)[0]


def packages(kind: Kind, chosen: Iterable[str]) -> dict[str, str]:
    """What a run's key has of the installed methods among those chosen: "models/mine" -> its `identity`."""
    return {f"{kind}/{name}": installed(kind)[name].identity for name in chosen if name in installed(kind)}


def names(kind: Kind) -> list[str]:
    """Sorted method names of one kind, without importing any of them."""
    return sorted({*modules(kind), *installed(kind)})


# methods of the user's own files, which this process knows by name; stages/own.py puts them here
own: dict[tuple[Kind, str], ModuleType] = {}


def load(kind: Kind, name: str) -> ModuleType:
    """The module of the method `name`, of the house, of an installed package or one's own.

    Raises: UnknownNameError with the nearest name, ConfigError for an installed one that holds no method.
    """
    if (kind, name) in own:
        return own[kind, name]
    known = modules(kind)
    if name in known:
        return importlib.import_module(known[name])
    found, refused = offers(kind)
    if name in found:
        return _imported(kind, found[name])
    if name in refused:
        raise ConfigError(refused[name])
    raise UnknownNameError(
        "data set" if kind == "data" else kind.removesuffix("s"), name, names(kind), listing=f"rc ls {kind}"
    )


def loadable(kind: Kind) -> dict[str, ModuleType]:
    """The modules of all methods of a kind by name, without those of installed packages that cannot be loaded."""
    found = {name: load(kind, name) for name in modules(kind)}
    for name in installed(kind):
        try:
            found[name] = load(kind, name)
        except ConfigError:
            continue
    return found


def _imported(kind: Kind, method: Installed) -> ModuleType:
    """The module of an installed method. Raises: ConfigError."""
    where = f"the {kind.removesuffix('s')} {method.name} of {method}"
    try:
        module = importlib.import_module(method.module)
    except Exception as error:
        raise ConfigError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    return marked(kind, module, where)


def marked(kind: Kind, module: ModuleType, where: str, *, otherwise: str = "") -> ModuleType:
    """A module that is not of the house, whose `METHOD` is the class of its method from now on.

    `where` begins the sentence, which says what may be there `otherwise`.
    Raises: ConfigError where it has no method or several, or no frozen `Config`.
    """
    is_kind = classes(kind, module)
    if len(is_kind) != 1:
        what = "none" if not is_kind else f"several: {', '.join(one.__name__ for one in is_kind)}"
        raise ConfigError(f"{where} must define one {kind.removesuffix('s')}{otherwise}, got {what}")
    config = getattr(module, "Config", None)
    if not dataclasses.is_dataclass(config) or not vars(config)["__dataclass_params__"].frozen:
        raise ConfigError(f"{where} must define its settings as a class Config", hint="@dataclass(frozen=True)")
    vars(module)["METHOD"] = is_kind[0]
    return module


def classes(kind: Kind, module: ModuleType) -> list[type[Any]]:
    """The classes of a module that are methods of a kind: models by their base, others by what they can do."""
    defined = (one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__)
    found = list(dict.fromkeys(defined))  # a class may have two names
    if kind == "models":
        return [one for one in found if is_model(one)]
    others = [one for one in found if not is_model(one) and not dataclasses.is_dataclass(one)]
    if kind == "attacks":
        return [one for one in others if hasattr(one, "perturb")]
    return [one for one in others if hasattr(one, "step") and not hasattr(one, "perturb")]


def is_model(one: type[Any]) -> bool:
    """Whether a class is a model of ours."""
    return MODEL in [(base.__module__, base.__name__) for base in one.__mro__]


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
