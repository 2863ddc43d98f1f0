"""A method, or a trained model, in a file of the user's own: `--model ./mine.py`.

A file with a frozen dataclass `Config` and one class of the kind is a method, as one of the house is (README: a method
is one file). A file with `load()` gives a model that was trained elsewhere: a torch module or an estimator, as
`models/adopted.py` takes it. Its name is that of the file with the first digits of its SHA-256, so that another file
has another key.
"""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from robust_cluster import discover
from robust_cluster.data.base import DataInfo
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError
from robust_cluster.models.adopted import Adopted
from robust_cluster.models.shallow.base import ShallowConfig
from robust_cluster.runs.spec import RunSpec

DIGITS = 8  # of the SHA-256 in a name
KINDS: tuple[Kind, ...] = ("models", "attacks", "defenses")
MEMBERS = "attack.members"  # the setting of an ensemble that names other attacks
paths: dict[str, Path] = {}  # name -> file, of what this process has adopted


def adopt(kind: Kind, path: Path) -> str:
    """The name by which this process knows the method in a file from now on. Raises: as `find`."""
    return find(path, kind)[1]


def find(path: Path, kind: Kind | None = None) -> tuple[Kind, str]:
    """The kind of the method in a file, told by what it defines, and the name by which this process knows it now.

    Raises: ConfigError for a file that is not there, fails when it is imported, or holds no method or several.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="--model FILE.py") from error
    name = f"{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}-{hashlib.sha256(content).hexdigest()[:DIGITS]}"
    if kind is None or (kind, name) not in discover.own:
        module = _imported(name, path)
        kind = kind or kind_of(module, path)
        if kind == "models" and is_loader(module):
            vars(module).update(Config=AdoptedConfig, METHOD=_loaded(module, path))
        else:
            otherwise = " (or load(), which gives a trained model)" if kind == "models" else ""
            method: Any = discover.method_class(discover.marked(kind, module, str(path), otherwise=otherwise))
            if getattr(method, "pretrained_by", None) == path.stem:  # a pretraining of its own
                method.pretrained_by = name
        discover.own[kind, name] = module
        paths[name] = path.absolute()
    return kind, name


def adopt_members(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[Kind, Path], ...]]:
    """Dotted settings with names in place of files of attacks in attack.members, and these files.

    A setting that is swept has a list of such lists. Raises: ConfigError, as `adopt`.
    """
    found: dict[Path, str] = {}

    def known(value: Any) -> Any:
        if isinstance(value, list):
            return [known(one) for one in value]
        file, colon, option = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not file.endswith(".py"):
            return value
        return found.setdefault(Path(file), adopt("attacks", Path(file))) + colon + option

    chosen = {key: known(value) if key == MEMBERS else value for key, value in settings.items()}
    return chosen, tuple(("attacks", path) for path in found)


def again(files: Mapping[str, str]) -> None:
    """Know the methods of a finished run again, from the name and the path of each that its record has.

    Raises: ConfigError for a file that is gone or is another by now.
    """
    for key, path in files.items():
        kind, _, name = key.partition("/")
        if adopt(kind, Path(path)) != name:  # type: ignore[arg-type]
            raise ConfigError(f"{path} is not the file that the run was made with: its SHA-256 is another")


def check_packages(spec: RunSpec) -> None:
    """Refuse a run that was made with other installed methods than there are now. Raises: ConfigError."""
    for one in spec.lineage():
        for key, identity in one.packages.items():
            kind, _, name = key.partition("/")
            now = discover.packages(kind, [name]).get(key)  # type: ignore[arg-type]
            if now != identity:
                made, there = (text.rpartition(" ")[0] for text in (identity, now or "no package "))
                which = " whose file is another" if made == there else ""
                raise ConfigError(
                    f"{spec.directory} was made with {made}, there is {there}{which} for the method {name}"
                )


def files_of(*named: tuple[Kind, str | None]) -> dict[str, str]:
    """What a record keeps of a run's methods: "models/mine-0123abcd" -> the path of the file."""
    return {f"{kind}/{name}": str(paths[name]) for kind, name in named if name in paths}


def _imported(name: str, path: Path) -> ModuleType:
    """The file as a module. Raises: ConfigError."""
    spec = importlib.util.spec_from_file_location(f"robust_cluster_own.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up while it is made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def kind_of(module: ModuleType, path: Path) -> Kind:
    """What a file holds. Raises: ConfigError where it is nothing, or of several kinds."""
    if is_loader(module):
        return "models"
    found: list[Kind] = [kind for kind in KINDS if discover.classes(kind, module)]
    if len(found) != 1:
        what = " and ".join(kind.removesuffix("s") for kind in found) or "none"
        raise ConfigError(f"{path} must define one model, attack or defense, or load(), got {what}")
    return found[0]


def is_loader(module: ModuleType) -> bool:
    """Whether a file gives a trained model."""
    return hasattr(module, "load") and not hasattr(module, "Config")


@dataclass(frozen=True)
class AdoptedConfig(ShallowConfig):
    """A trained model has no settings of ours."""


def _loaded(module: ModuleType, path: Path) -> type[Adopted]:
    """The class of the model that a file's `load` gives. Its parameters are in a run's checkpoint."""

    class Loaded(Adopted):
        def __init__(self, config: AdoptedConfig, info: DataInfo, latent_dim: int) -> None:
            try:
                given = module.load()
            except Exception as error:
                raise ConfigError(f"load() of {path} fails: {type(error).__name__}: {error}") from error
            super().__init__(given, info)

    return Loaded
