"""From layers of plain values to a checked, frozen Config."""

import math
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.models.autoencoder import convae, graph
from robust_cluster.stages import methods
from robust_cluster.stages.settings import build, merge, nested, resolve


@dataclass(frozen=True)
class Group:
    lr: float = 1e-3
    epochs: int = 50


@dataclass(frozen=True)
class Config:
    mode: Literal["clean", "paper"] = "clean"
    weight: float = 1.0
    neighbors: int = 3
    flag: bool = False
    hidden: tuple[int, ...] = (500, 2000)
    bandwidth: float | None = None
    schedule: Group = field(default_factory=Group)


def test_a_whole_number_passes_as_a_float() -> None:
    weight = build(Config, {"weight": 2}, "model").weight
    assert (weight, type(weight)) == (2.0, float)


def test_a_list_becomes_a_tuple() -> None:
    assert build(Config, {"hidden": [64, 32]}, "model").hidden == (64, 32)


@pytest.mark.parametrize(("given", "kept"), [("none", None), (None, None), (2, 2.0)])
def test_an_optional_number_takes_none_or_the_number(given: Any, kept: float | None) -> None:
    assert build(Config, {"bandwidth": given}, "model").bandwidth == kept


def test_a_group_keeps_the_fields_that_are_not_given() -> None:
    assert build(Config, {"schedule": {"epochs": 3}}, "model").schedule == Group(lr=1e-3, epochs=3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"neighbors": True}, "model.neighbors must be int, got True"),
        ({"neighbors": 2.5}, "model.neighbors must be int, got 2.5"),
        ({"neighbors": "3"}, "model.neighbors must be int, got '3'"),
        ({"weight": True}, "model.weight must be float, got True"),
        ({"weight": "heavy"}, "model.weight must be float, got 'heavy'"),
        ({"weight": math.nan}, "model.weight must be a finite number, got nan"),
        ({"bandwidth": math.inf}, "model.bandwidth must be a finite number, got inf"),
        ({"weight": None}, "model.weight must be float, got None"),
        ({"flag": 1}, "model.flag must be bool, got 1"),
        ({"hidden": 64}, "model.hidden must be a list such as [256, 128], got 64"),
        ({"hidden": [64, "x"]}, "model.hidden must be int, got 'x'"),
        ({"hidden": [True]}, "model.hidden must be int, got True"),
        ({"mode": "papre"}, "model.mode must be one of 'clean', 'paper', got 'papre'"),
        ({"schedule": 3}, "model.schedule is a group of settings (lr, epochs), got 3"),
        ({"schedule": {"lr": "fast"}}, "model.schedule.lr must be float, got 'fast'"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Config, values, "model")
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("values", "near"),
    [({"neighbours": 3}, "model.neighbors"), ({"schedule": {"epoch": 3}}, "model.schedule.epochs")],
)
def test_an_unknown_field_suggests_the_nearest(values: dict[str, Any], near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        build(Config, values, "model")


def test_dotted_paths_become_groups() -> None:
    dotted = {"model.cluster.epochs": 3, "model.cluster.lr": 0.1, "attack.gamma": 40}
    assert nested(dotted) == {"model": {"cluster": {"epochs": 3, "lr": 0.1}}, "attack": {"gamma": 40}}


def test_a_path_cannot_be_a_value_and_a_group() -> None:
    with pytest.raises(ConfigError, match="set both as a value and as a group"):
        nested({"model.cluster": 3, "model.cluster.epochs": 3})


def test_merging_goes_into_groups_and_leaves_both_sides_alone() -> None:
    base: dict[str, Any] = {"a": 1, "group": {"b": 2, "c": 3}}
    over = {"group": {"c": 4}, "d": 5}
    assert merge(base, over) == {"a": 1, "group": {"b": 2, "c": 4}, "d": 5}
    assert base == {"a": 1, "group": {"b": 2, "c": 3}}


def test_values_come_from_the_default_then_the_mode_then_the_profile_then_the_user() -> None:
    overrides = {"mode": "paper", "cluster": {"lr": 0.5}}
    config = methods.resolve("models", "graph", "smoke", overrides)
    profile = graph.PROFILES["smoke"]["cluster"]
    assert config.n_init == graph.Config().n_init  # the default, which no layer touches
    assert config.cluster.window == 0 != graph.Config().cluster.window  # the mode's over the default
    assert (config.count_self, config.bandwidth, config.ridge) == (True, 1.97, 1e-7)  # the mode's
    assert convae.MODES["paper"]["cluster"]["epochs"] != profile["epochs"]
    assert config.cluster.epochs == profile["epochs"]  # the profile's over the mode's
    assert config.cluster.lr == 0.5  # the user's over all
    assert methods.resolve("models", "graph", "smoke", {**overrides, "bandwidth": 2.62}).bandwidth == 2.62


def test_whatever_has_a_config_and_layers_of_values_is_resolved() -> None:
    layers = {"MODES": {"paper": {"weight": 2, "neighbors": 4}}, "PROFILES": {"smoke": {"neighbors": 5}}}
    method = SimpleNamespace(Config=Config, **layers)
    assert resolve(method, "smoke", {"mode": "paper"}, "model") == Config(mode="paper", weight=2.0, neighbors=5)
    assert resolve(SimpleNamespace(Config=Config), "smoke", {"flag": True}, "model") == Config(flag=True)


def test_settings_are_resolved_without_torch() -> None:
    code = "import sys, robust_cluster.stages.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_paper_profile_is_the_defaults() -> None:
    assert methods.resolve("models", "convae", "paper", {}) == convae.Config()


def test_a_config_as_plain_json_builds_the_same_config() -> None:
    config = convae.Config(hidden=(7, 5), mode="paper")
    content = methods.plain(config)
    assert content["hidden"] == [7, 5]
    assert content["cluster"]["steps_per_epoch"] == 50
    assert build(convae.Config, content, "model") == config
