"""What every method file of every kind is made of."""

import re
from dataclasses import is_dataclass
from functools import partial
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

from robust_cluster import discover
from robust_cluster.audit import contracts
from robust_cluster.discover import Kind
from robust_cluster.stages import methods, settings
from robust_cluster.stages.profiles import PROFILES

KINDS: tuple[Kind, ...] = ("models", "attacks", "defenses")
METHODS = [(kind, name) for kind in KINDS for name in sorted(discover.modules(kind))]


@pytest.fixture(params=METHODS, ids=lambda pair: f"{pair[0]}/{pair[1]}")
def module(request: pytest.FixtureRequest) -> ModuleType:
    return discover.load(*request.param)


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """{"cluster": {"epochs": 3}} as {"cluster.epochs": 3}, tuples as lists."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}


def test_a_file_opens_with_its_source_and_the_year(module: ModuleType) -> None:
    assert re.search(r"\b(19|20)\d\d\b", module.__doc__ or ""), f"{module.__name__}: cite paper and year"


def test_a_file_holds_a_config_and_one_class_with_a_version(module: ModuleType) -> None:
    method = methods.method_class(module)
    assert method.version >= 1
    assert method.__doc__


def test_a_config_is_frozen_documented_and_whole_by_default(module: ModuleType) -> None:
    assert is_dataclass(module.Config())
    assert "Config(" not in (module.Config.__doc__ or "Config("), "the docstring is the one dataclass makes up"
    build = partial(settings.build, module.Config, methods.plain(module.Config()), "x")
    contracts.settings_are_whole(module.Config, build)


def test_profiles_and_modes_set_fields_that_exist(module: ModuleType) -> None:
    profiles, modes = getattr(module, "PROFILES", {}), getattr(module, "MODES", {})
    assert set(profiles) <= set(PROFILES)
    if modes:
        assert set(modes) <= set(get_args(get_type_hints(module.Config)["mode"]))
    for values in [*profiles.values(), *modes.values()]:
        built = leaves(methods.plain(settings.build(module.Config, values, "x")))
        wanted = leaves(values)
        assert {name: built[name] for name in wanted} == wanted


def test_no_method_takes_labels(module: ModuleType) -> None:
    method = methods.method_class(module)
    verbs = [getattr(method, name) for name in contracts.VERBS if hasattr(method, name)]
    assert len(verbs) >= 2
    assert [contracts.hints(verb) for verb in verbs] == [get_type_hints(verb) for verb in verbs], "all can be told"
    contracts.takes_no_labels(method)
    contracts.reads_no_labels(module)
