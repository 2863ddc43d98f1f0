"""The command that makes a run anew: as it would be typed, and, typed, the same run."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from robust_cluster.cli import app as entry
from robust_cluster.cli import certify, chain, session
from robust_cluster.cli.options import sweeps
from robust_cluster.data.base import DataInfo
from robust_cluster.errors import ConfigError
from robust_cluster.report.command import command, differing
from robust_cluster.report.table import load_results
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.stages.chain import Plan
from tests.report.toy import record

ROOT = Path(__file__).parents[2]
VERBS = {verb.name: verb for verb in (*chain.VERBS, certify.VERB)}


LR = " --set model.lr=0.001"  # of the toy's clustering, which ConvAE does not have


def words(of: Mapping[str, Any]) -> str:
    """The command without what every toy run has."""
    found = command(of)
    begin = f"rc {of['spec']['stage']} --model convae --data stl10 --dim 64 --seed 0 "
    assert found.startswith(begin), found
    assert found.count(LR) == 1
    return found.removeprefix(begin).replace(LR, "")


def test_an_attack_is_made_with_its_seed_and_the_settings_that_are_not_the_profiles() -> None:
    assert words(record("attack")) == "--attack latent_net --attack-seeds 0 --profile smoke"
    assert words(record("reattack", attack_seed=2)).startswith("--attack latent_net --attack-seeds 2 --defense")
    assert words(record("attack", gamma=20.0)).endswith("--profile smoke --set attack.gamma=20.0")


def test_a_reattack_sweeps_what_the_attack_that_the_defense_met_did_not_have() -> None:
    told = words(record("reattack", mode="control", gamma=20.0, met_gamma=40.0))
    assert told == (
        "--attack latent_net --attack-seeds 0 --defense mutual_info --profile smoke --set defense.mode=control "
        "--sweep attack.gamma=20.0"
    )
    assert words(record("reattack", gamma=40.0, met_gamma=20.0)).endswith(
        "--set attack.gamma=20.0 --sweep attack.gamma=40.0"
    )


def test_data_keep_their_choices_and_words_are_quoted() -> None:
    data = DataRef("my data", limit=50, flatten=True, n_clusters=3, no_header=True, subset="a;b")
    spec = RunSpec("cluster", data, "0", "kmeans", 64, 1, precision="bf16")
    told = command({"spec": spec.to_json(), "profile": "cpu"})
    assert told == (
        "rc cluster --model kmeans --data 'my data' --limit 50 --flatten --clusters 3 --subset 'a;b' --no-header "
        "--dim 64 --seed 1 --precision bf16 --profile cpu"
    )


def test_methods_and_weights_of_ones_own_are_called_by_their_files() -> None:
    weights = RunSpec("pretrain", DataRef("digits"), "0", "mine-01234567", 64, 1, weights="ab" * 32)
    spec = RunSpec("cluster", DataRef("digits"), "0", "mine-01234567", 64, 1, parent=weights)
    told = command({"spec": spec.to_json(), "profile": "cpu", "own_files": {"models/mine-01234567": "/a b/mine.py"}})
    assert told == ("rc cluster --model '/a b/mine.py' --data digits --dim 64 --seed 1 --profile cpu --weights FILE")


def test_a_member_of_ones_own_is_called_by_its_file() -> None:
    of = record("attack")
    of["spec"]["settings"]["attack"]["members"] = ["apgd", "mine-01234567:sign"]
    told = command({**of, "own_files": {"attacks/mine-01234567": "/a/mine.py"}})
    assert told.endswith("""--set 'attack.members=["apgd","/a/mine.py:sign"]'""")


def test_a_method_that_is_no_longer_there_has_no_settings_of_its_profile() -> None:
    spec = RunSpec("cluster", DataRef("digits"), "0", "gone", 64, 0, settings={"model": {"lr": 0.1}})
    (one,) = differing(spec, "cpu")
    assert (one.path, one.value, one.usual) == ("model.lr", 0.1, "not known now")


def test_in_its_own_mode_a_run_differs_in_the_mode_and_no_setting_that_this_brings() -> None:
    spec = RunSpec("cluster", DataRef("digits"), "0", "dcan", 64, 0, settings={"model": {"mode": "paper"}})
    assert [one.path for one in differing(spec, "cpu", in_mode=True)] == ["model.mode"]


def planned(told: str, data: Mapping[str, Any]) -> RunSpec:
    """The run that a command asks for, of data such as these."""
    name, *rest = shlex.split(told)[1:]
    root: Any = get_command(entry.app)
    context = root.commands[name].make_context(name, rest)
    options = VERBS[name].options(**context.params)
    fixed, swept = session.chosen(name, context, options), sweeps(options.sweep or [])  # type: ignore[arg-type]
    (request,) = session.stage_requests(name, options, options.ref, fixed, swept)  # type: ignore[arg-type]
    n = data["n_samples"] * (2 if options.split == "halves" else 1)
    shapes = tuple(map(tuple, data["shapes"]))
    info = DataInfo(data["name"], shapes, n, data["n_clusters"], (0.0, 1.0), data["scale"], data["sha256"])
    return Plan(request, info).asked


def without_versions(spec: Mapping[str, Any]) -> dict[str, Any]:
    parent = spec["parent"] and without_versions(spec["parent"])
    return {**spec, "versions": {}, "parent": parent}


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif one != other:
        yield path


@pytest.mark.slow
def test_the_commands_of_the_committed_runs_ask_for_these_very_runs() -> None:
    """One of each kind. What the methods refuse or name otherwise since the run was made is all that may differ."""
    each = {}
    for one in load_results(ROOT / "tables" / "results"):
        spec = one["spec"]
        each.setdefault((spec["stage"], spec["model"], spec["attack"], tuple(one.get("overrides", ()))), one)
    same, refusals = 0, []
    for one in each.values():
        try:
            found = planned(command(one), one["data"])
        except ConfigError as error:
            refusals.append(str(error))
            continue
        made = without_versions(json.loads(json.dumps(found.to_json())))
        paths = set(differences(without_versions(one["spec"]), made))
        assert paths <= {".settings.attack.rounds", ".settings.model.adversarial_weight"}, command(one)
        same += not paths
    assert all("defense.schedule.window must be 0 or at least half of the epochs" in text for text in refusals)
    assert same > 0.8 * len(each)
