"""A method, or a trained model, in a file of the user's own: `--model ./mine.py`.

A file with a frozen dataclass `Config` and one class of the kind is a method, as one of the house is (README: a method
is one file). A file with `load()` gives a model that was trained elsewhere: a torch module or an estimator, as
`models/adopted.py` takes it. Its name is that of the file with the first digits of its SHA-256, so that another file
has another key.
"""

import dataclasses
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from robust_cluster import discover
from robust_cluster.attacks.base import Attack
from robust_cluster.data.base import DataInfo
from robust_cluster.defenses.base import Defense
from robust_cluster.discover import Kind
from robust_cluster.errors import ConfigError
from robust_cluster.models.adopted import Adopted
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.shallow.base import ShallowConfig

DIGITS = 8  # of the SHA-256 in a name
BASES: dict[Kind, type[Any]] = {"models": ClusterModel, "attacks": Attack, "defenses": Defense}
MEMBERS = "attack.members"  # the setting of an ensemble that names other attacks
paths: dict[str, Path] = {}  # name -> file, of what this process has adopted


def adopt(kind: Kind, path: Path) -> str:
    """The name by which this process knows the method in a file from now on.

    Raises: ConfigError for a file that is not there, fails when it is imported, or holds no method or several.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="--model FILE.py") from error
    name = f"{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}-{hashlib.sha256(content).hexdigest()[:DIGITS]}"
    if (kind, name) not in discover.own:
        discover.own[kind, name] = _module(kind, name, path)
        paths[name] = path.absolute()
    return name


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


def again(files: dict[str, str]) -> None:
    """Know the methods of a finished run again, from the name and the path of each that its record has.

    Raises: ConfigError for a file that is gone or is another by now.
    """
    for key, path in files.items():
        kind, _, name = key.partition("/")
        if adopt(kind, Path(path)) != name:  # type: ignore[arg-type]
            raise ConfigError(f"{path} is not the file that the run was made with: its SHA-256 is another")


def files_of(*named: tuple[Kind, str | None]) -> dict[str, str]:
    """What a record keeps of a run's methods: "models/mine-0123abcd" -> the path of the file."""
    return {f"{kind}/{name}": str(paths[name]) for kind, name in named if name in paths}


def _module(kind: Kind, name: str, path: Path) -> ModuleType:
    """The file as a module whose `METHOD` is the class of its method. Raises: ConfigError."""
    spec = importlib.util.spec_from_file_location(f"robust_cluster_own.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up while it is made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if kind == "models" and hasattr(module, "load") and not hasattr(module, "Config"):
        vars(module).update(Config=AdoptedConfig, METHOD=_adopted(module, path))
        return module
    found = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
    is_kind = [one for one in found if _is_a(one, kind)]
    config = getattr(module, "Config", None)
    if len(is_kind) != 1:
        what = "none" if not is_kind else f"several: {', '.join(one.__name__ for one in is_kind)}"
        or_load = " (or load(), which gives a trained model)" if kind == "models" else ""
        raise ConfigError(f"{path} must define one {kind.removesuffix('s')}{or_load}, got {what}")
    if not dataclasses.is_dataclass(config) or not vars(config)["__dataclass_params__"].frozen:
        raise ConfigError(f"{path} must define its settings as a class Config", hint="@dataclass(frozen=True)")
    vars(module)["METHOD"] = is_kind[0]
    return module


def _is_a(one: type[Any], kind: Kind) -> bool:
    """Whether a class of the user's file is a method of a kind: a model by its base, others by what they can do."""
    if kind == "models":
        return issubclass(one, ClusterModel)
    needed = "perturb" if kind == "attacks" else "step"
    return callable(getattr(one, needed, None)) and not dataclasses.is_dataclass(one)


@dataclass(frozen=True)
class AdoptedConfig(ShallowConfig):
    """A trained model has no settings of ours."""


def _adopted(module: ModuleType, path: Path) -> type[Adopted]:
    """The class of the model that a file's `load` gives. Its parameters are in a run's checkpoint."""

    class Loaded(Adopted):
        def __init__(self, config: AdoptedConfig, info: DataInfo, latent_dim: int) -> None:
            try:
                given = module.load()
            except Exception as error:
                raise ConfigError(f"load() of {path} fails: {type(error).__name__}: {error}") from error
            super().__init__(given, info)

    return Loaded
