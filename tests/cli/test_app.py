"""The command line: help, names, precedence of options, what goes to which stream, and exit codes."""

import errno
import importlib
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from rich.console import Console
from typer.main import get_command

from robust_cluster import discover
from robust_cluster.cli import app as entry
from robust_cluster.cli import audit, certify, console, figure, ls, table
from robust_cluster.cli import chain as verbs
from robust_cluster.cli.options import Profile, integers, sweeps, value
from robust_cluster.cli.session import mean_and_worst
from robust_cluster.cli.start import INTERRUPTED
from robust_cluster.discover import names
from robust_cluster.errors import ConfigError, NonFiniteError, StoreError
from robust_cluster.runs import environment
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import chain, methods
from robust_cluster.stages.context import Context
from robust_cluster.stages.profiles import PROFILES
from robust_cluster.stages.settings import nested, typed
from tests.cli.command import ROOT, check_help, printed_without, rc, refused
from tests.made import MADE

START = [sys.executable, "-c", "import sys; sys.argv[0] = 'rc'; from robust_cluster.cli.start import main; main()"]
VERBS = [*verbs.VERBS, table.VERB, ls.VERB]
EXAMPLES = [line.strip() for verb in VERBS for line in verb.examples.split("\n") if line.strip()]
GRAPH = "--model graph --data digits --profile smoke"
METRICS = {"ACC": 0.875, "NMI": 0.5, "ACC*": 0.25, "flip": 0.6, "noise_flip": 0.01, "D": 0.2}


def write_made_up(monkeypatch: pytest.MonkeyPatch, note: Callable[[RunSpec, Context], None]) -> None:
    """Let every stage write a made-up record at once, after it is noted."""

    def stage(spec: RunSpec, run: Any, context: Context) -> dict[str, Any]:
        note(spec, context)
        return {
            **MADE,
            "profile": context.profile,
            "overrides": dict(context.overrides),
            "metrics": METRICS,
            "flags": ["collapsed"],
            "training": {**MADE["training"], "loss": 1.5},
        }

    monkeypatch.setattr(chain, "STAGES", dict.fromkeys(chain.STAGES, stage))


@pytest.fixture
def carried_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that write made-up records at once; returns the stages and seeds that were carried out."""
    done: list[str] = []
    write_made_up(monkeypatch, lambda spec, context: done.append(f"{spec.stage} {spec.seed}"))
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a power cut is tested with the store
    return done


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException, when: Callable[[RunSpec], bool]) -> None:
    """Let the stages of some runs raise."""
    stages = dict(chain.STAGES)

    def stage(spec: RunSpec, run: Any, context: Context) -> dict[str, Any]:
        if when(spec):
            raise error
        return stages[spec.stage](spec, run, context)

    monkeypatch.setattr(chain, "STAGES", dict.fromkeys(stages, stage))


def directories(result: Any) -> list[str]:
    """The runs of a printed plan."""
    return [line.split()[-1] for line in result.stderr.splitlines() if line.startswith("  ")]


def settings_of(words: str) -> list[dict[str, Any]]:
    """The specs of the runs that a command carries out."""
    assert rc(f"{words} --runs-dir seen").exit_code == 0
    return [record["spec"] for record in RunStore(Path("seen")).records()]


@pytest.mark.parametrize("verb", [*VERBS, audit.VERB, certify.VERB, figure.VERB], ids=lambda verb: verb.name)
def test_the_help_of_a_verb_leads_with_its_examples(verb: Any) -> None:
    check_help(verb.name, verb)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_runs_as_typed(example: str) -> None:
    words = example.removeprefix("rc ").replace("tables/results", "results")
    Path("results").mkdir()
    dry = "" if words.startswith("ls") or "--from" in words else " --dry-run"
    result = rc(words + dry)
    assert (result.exit_code == 3) if "--from" in words else (result.exit_code == 0), result.stderr


def test_help_imports_neither_torch_nor_numpy_nor_pandas() -> None:
    """So that it answers at once; `make bench` measures how fast."""
    assert printed_without({"torch", "numpy", "pandas", "sklearn"}, "attack", "--help")


def test_the_version_is_printed() -> None:
    result = rc("--version")
    assert (result.exit_code, result.stdout) == (0, "rc 0.1.0\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("cluster --model grahp --data digits", "error: Unknown model 'grahp'. Did you mean 'graph'? (rc ls models)"),
        ("attack --model graph --data digits --attack latentnet", "Did you mean 'latent_net'? (rc ls attacks)"),
        ("defend --model graph --data digits --defense mutual", "Did you mean 'mutual_info'? (rc ls defenses)"),
        ("cluster --model graph --data digitz", "error: Unknown data set 'digitz'. Did you mean 'digits'?"),
        ("table tabel1", "error: Unknown table 'tabel1'. Did you mean 'table1'? (rc ls tables)"),
        ("clutser", "error: No such command 'clutser'. Did you mean 'cluster'?"),
        ("CLUSTER", "error: No such command 'CLUSTER'. Did you mean 'cluster'? (rc --help)"),
        ("data Info", "error: No such command 'Info'. Did you mean 'info'? (rc data --help)"),
        (
            f"cluster {GRAPH} --set model.neigbors=3",
            "error: Unknown setting 'model.neigbors'. Did you mean 'model.neighbors'? (rc ls models graph)",
        ),
        (f"cluster {GRAPH} --set model.gamma=3", "error: Unknown setting 'model.gamma'. Known: model.bandwidth, "),
        (f"cluster {GRAPH} --set modle.neighbors=3", "error: Unknown setting 'modle'. "),
        (f"cluster {GRAPH} --set neighbors", "error: --set takes key=value, got 'neighbors'"),
        (f"cluster {GRAPH} --dim 0", "error: --dim must be >= 1, got 0"),
        (f"cluster {GRAPH} --threads 0", "error: --threads must be >= 1, got 0"),
        (f"cluster {GRAPH} --seed 0,0", "error: --seed takes distinct whole numbers >= 0"),
        (
            f"cluster {GRAPH} --set model.neighbors=3 --set model.neighbors=4",
            "error: --set gives model.neighbors twice",
        ),
        (f"attack {GRAPH} --sweep attack.gamma=1,2,1.0", "error: --sweep attack.gamma takes distinct values, got 1.0"),
        (f"cluster {GRAPH} --set attack.gama=3", "error: Unknown setting 'attack.gama'. Did you mean 'attack.gamma'?"),
        (f"cluster {GRAPH} --set attack.schedule.epoch=3", "Did you mean 'attack.schedule.epochs'?"),
        (f"cluster {GRAPH} --set defense.schedule.epoch=3", "Did you mean 'defense.schedule.epochs'?"),
        (
            f"cluster {GRAPH} --set certify.alpa=3",
            "error: Unknown setting 'certify.alpa'. Did you mean 'certify.alpha'?",
        ),
        (f"cluster {GRAPH} --clusters 1800", "error: n_clusters must be in [2, n_samples] = [2, 1797], got 1800"),
        (f"cluster {GRAPH} --device gpu", "'gpu' is not one of 'auto', 'cpu', 'cuda', 'mps'. (rc cluster --help)"),
        ("cluster --data digits", "error: Missing option '--model' / '-m'. (rc cluster --help)"),
        (f"cluster {GRAPH} --attack latent_net", "error: No such option: --attack"),
        (
            f"defend {GRAPH} --mode frozen --set defense.mode=control",
            "error: --mode frozen and --set defense.mode=control disagree",
        ),
    ],
)
def test_a_wrong_word_gets_one_sentence_and_exit_code_2(words: str, sentence: str) -> None:
    assert sentence in refused(words)


FEW = {"cluster", "reattack", "audit", "table", "figure"}  # verbs that have the options of all between them
WEIGHED = [
    pytest.param(verb, id=verb.name, marks=() if verb.name in FEW else pytest.mark.slow)
    for verb in (*VERBS, audit.VERB, certify.VERB, figure.VERB)
]


@pytest.mark.parametrize("verb", WEIGHED)
def test_an_empty_value_of_any_option_is_refused(verb: Any) -> None:
    """A folder of '' is the one that one is in, and the seeds of '' were the default's."""
    command = get_command(entry.app).commands[verb.name]  # type: ignore[attr-defined]
    for parameter in command.params:
        if parameter.opts[0].startswith("--") and not parameter.is_flag:
            assert f"{parameter.opts[0]} needs a value, got ''" in refused(f"{verb.name} {parameter.opts[0]} ''")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("cluster --model ConvAE --data digits", "convae"),
        ("cluster --model graph --data Digits", "digits"),
        ("attack --model graph --data digits --attack Latent_NET", "latent_net"),
        ("attack --model graph --data digits --attack ensemble --set 'attack.members=[APGD]'", "apgd"),
        ("defend --model graph --data digits --defense MUTUAL-info", "mutual_info"),
        (f"cluster {GRAPH} --set model.Neighbors=3", "model.neighbors"),
        ("table TABLE1", "table1"),
        ("figure Lpvdn_Noise", "lpvdn_noise"),
        ("ls models ConvAE", "convae"),
        ("data features digits-28 --net ResNet50", "resnet50"),
    ],
)
def test_a_name_in_other_letters_is_guessed(words: str, near: str) -> None:
    assert f"Did you mean {near!r}?" in refused(words)


def test_threads_above_the_cores_are_capped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    seen: list[int | None] = []
    write_made_up(monkeypatch, lambda spec, context: seen.append(context.threads))
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    words = "cluster --model kmeans --data digits --profile smoke --threads"
    assert "--threads 10000: 3, as many as this machine has cores\n" in rc(f"{words} 10000").stderr
    assert rc(f"{words} 10000 --quiet --force").stderr == ""
    assert "as many as" not in rc(f"{words} 3 --force").stderr
    assert seen == [3, 3, 3]


def test_a_dry_run_can_be_read_by_scripts(tmp_path: Path) -> None:
    planned = json.loads(rc(f"cluster {GRAPH} --dry-run --json").stdout)
    assert [run["state"] for run in planned] == ["to run", "to run"]
    assert planned[1]["directory"].endswith(planned[1]["key"])
    assert planned[1]["directory"].startswith("cluster/graph-digits-d64-s0-")


def test_the_plan_of_a_table_can_be_read_by_scripts() -> None:
    result = rc("table table1 --profile smoke --dry-run --json --quiet")
    planned = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {run["state"] for run in planned} == {"to run"}
    assert {run["directory"].split("/")[0] for run in planned} == {"pretrain", "cluster", "attack"}


def test_records_that_are_only_shown_take_no_settings() -> None:
    for option in ("--set attack.gamma=40", "--seed 0", "--curve", "--dry-run", "--save-records x"):
        sentence = refused(f"table table1 --profile cpu --from {ROOT / 'tables/results'} {option}")
        assert f"it takes no {option.split()[0]}" in sentence


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    result = rc(f"reattack {GRAPH} --dry-run")
    assert result.exit_code == 0
    stages = [directory.split("/")[0] for directory in directories(result)]
    assert stages == ["pretrain", "cluster", "attack", "defend", "reattack", "reattack", "reattack"]
    assert result.stderr.startswith("digits: 1,797 rows x 64 columns")
    assert "\nplan: 7 runs, 0 done\n  to run  pretrain/" in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--dry-run", "--no-run"])
def test_nothing_is_downloaded_where_nothing_is_to_run(flag: str) -> None:
    result = rc(f"cluster --model kmeans --data usps {flag}", RC_CACHE="cache")
    assert result.exit_code == 1
    assert "usps is not there and is downloaded for a run only: it needs usps.bz2" in result.stderr
    assert not Path("cache").exists()


def test_a_value_comes_from_flag_then_environment_then_config_then_default() -> None:
    Path("config.toml").write_text('model = "graph"\ndata = "digits"\nprofile = "smoke"\nseed = 3\n')
    without = rc(f"cluster {GRAPH} --dry-run")
    config = rc("cluster --config config.toml --dry-run")
    environment = rc("cluster --config config.toml --dry-run", RC_SEED="5")
    flag = rc("cluster --config config.toml --dry-run --seed 7", RC_SEED="5")
    for result, seed in ((without, 0), (config, 3), (environment, 5), (flag, 7)):
        assert f"-s{seed}-" in directories(result)[-1]
    assert directories(rc("cluster --dry-run", RC_CONFIG="config.toml")) == directories(config)


def test_settings_beside_the_set_table_of_a_config_file_are_refused() -> None:
    Path("config.toml").write_text("[model]\nalpha0 = 2\n")
    sentence = refused("cluster --model lpvdn --data digits --config config.toml --dry-run")
    assert sentence == "error: [model] in config.toml is no option; settings belong under [set.model]\n"


def test_settings_of_the_config_file_are_replaced_key_by_key(carried_out: list[str]) -> None:
    Path("config.toml").write_text("seed = [0, 1]\n[set]\n'model.neighbors' = 7\n[set.model.cluster]\nepochs = 4\n")
    specs = settings_of(f"cluster {GRAPH} --config config.toml --set model.neighbors=5")
    models = [spec["settings"]["model"] for spec in specs if spec["stage"] == "cluster"]
    assert [(model["neighbors"], model["cluster"]["epochs"]) for model in models] == [(5, 4), (5, 4)]


def test_one_config_file_serves_a_table_and_a_stage(carried_out: list[str]) -> None:
    lines = ["profile = 'smoke'", "model = 'graph'", "data = 'digits'", "format = 'csv'", "save-records = 'kept'"]
    Path("all.toml").write_text("\n".join(lines))
    assert rc("attack --config all.toml --quiet").exit_code == 0
    assert rc("table table1 --config all.toml --quiet").stdout.startswith("data,method,")
    Path("all.toml").write_text("profile = 'smoke'\nfrom = 'kept'\nformat = 'csv'")
    shown = rc("table table1 --config all.toml --runs-dir elsewhere")
    assert (shown.exit_code, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("seeed = 1", "Unknown field of bad.toml 'seeed'. Did you mean 'seed'?"),
        ("seed = ", "--config needs a readable TOML file, got bad.toml: Invalid value"),
        ("set = 3", "[set] in bad.toml must be a table"),
        ('dim = "many"', "Invalid value for '--dim'"),
        ("dim = true", "Invalid value for '--dim'"),
        ("dim = 2.5", "Invalid value for '--dim'"),
        ("seed = [true, 2]", "--seed takes distinct whole numbers"),
        ('runs-dir = ""', "runs_dir in bad.toml needs a value"),
        ("attack-seeds = 1\nattack_seeds = 2", "bad.toml gives one option twice"),
        ("[set]\n'model.n_init' = 3\n[set.model]\nn_init = 4", "model.n_init is set twice"),
    ],
)
def test_a_wrong_config_file_gets_one_sentence_and_exit_code_2(content: str, sentence: str) -> None:
    Path("bad.toml").write_text(content)
    assert sentence in refused(f"cluster {GRAPH} --config bad.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", 3), ("1e-3", 1e-3), ("true", True), ("[256, 128]", [256, 128]), ("control", "control"), ('"a b"', "a b")],
)
def test_a_setting_is_toml_or_a_bare_word(text: str, expected: object) -> None:
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize("text", ["[1", "1\nother = 2", "a b"])
def test_a_setting_that_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="A setting is"):
        value(text)


def test_sweeps_and_lists_of_numbers_are_read_with_commas() -> None:
    assert sweeps(["attack.gamma=20,40.5", "model.head=[4],[8, 2]", "defense.mode=frozen,control"]) == {
        "attack.gamma": [20, 40.5],
        "model.head": [[4], [8, 2]],
        "defense.mode": ["frozen", "control"],
    }
    assert integers("0, 2,10", "--seed") == [0, 2, 10]
    for wrong in ("", "1,", "-1", "a", "1,1"):
        with pytest.raises(ConfigError, match="distinct whole numbers"):
            integers(wrong, "--seed")


def test_json_is_one_document_on_a_clean_stdout(carried_out: list[str]) -> None:
    one = rc(f"attack {GRAPH} --json")
    record = json.loads(one.stdout)
    assert record["spec"]["stage"] == "attack"
    assert record["metrics"] == METRICS
    assert "plan: 3 runs, 0 done" in one.stderr
    both = rc(f"attack {GRAPH} --json --seed 0,1 --quiet")
    assert [record["spec"]["seed"] for record in json.loads(both.stdout)] == [0, 1]
    assert both.stderr == ""


def test_a_verb_ends_with_numbers_place_and_next_command(carried_out: list[str]) -> None:
    result = rc(f"cluster {GRAPH} --seed 1 --set model.neighbors=5 --quiet --no-run", RC_RUNS_DIR="here")
    assert result.exit_code == 3
    result = rc(f"cluster {GRAPH} --seed 1 --set model.neighbors=5", RC_RUNS_DIR="here")
    head, numbers = result.stdout.splitlines()
    assert head.split() == ["stage", "model", "data", "d", "seed", *METRICS, "flags"]
    shown = "cluster graph digits 64 1 87.5 50.0 25.0 60.0 1.0 0.2 collapsed"
    assert numbers.split() == shown.split()
    place, following = result.stderr.splitlines()[-2:]
    assert place.startswith("result in here/cluster/graph-digits-d64-s1-")
    assert Path(place.removeprefix("result in ")).is_dir()
    assert following == f"next: rc attack {GRAPH.replace(' --profile smoke', '')} --seed 1 --profile smoke " + (
        "--set model.neighbors=5"
    )


@pytest.mark.parametrize(
    ("asked", "following"),
    [
        ("attack --model convae --data digits", "rc defend --model convae"),
        ("attack --model kmeans --data digits", "rc ls runs"),
        ("attack --model convae --data digits --attack gaussian_pollution", "rc ls runs"),
        ("cluster --model simvc --data noisy:digits-28", "rc ls attacks"),
    ],
)
def test_what_is_next_can_be_run(carried_out: list[str], asked: str, following: str) -> None:
    result = rc(f"{asked} --profile smoke")
    assert result.stderr.splitlines()[-1].startswith(f"next: {following}")


def test_what_exists_is_not_run_again_unless_forced(carried_out: list[str]) -> None:
    rc(f"cluster {GRAPH}")
    rc(f"cluster {GRAPH}")
    assert carried_out == ["pretrain 0", "cluster 0"]
    forced = rc(f"cluster {GRAPH} --force")
    assert carried_out == ["pretrain 0", "cluster 0", "cluster 0"]
    assert "  done    pretrain/" in forced.stderr
    assert "  to run  cluster/" in forced.stderr


def test_no_run_shows_what_exists_and_exits_with_3_for_the_rest(carried_out: list[str]) -> None:
    rc(f"cluster {GRAPH} --seed 1")
    carried_out.clear()
    result = rc(f"cluster {GRAPH} --seed 0,1 --no-run --json")
    assert result.exit_code == 3
    assert [record["spec"]["seed"] for record in json.loads(result.stdout)] == [1]
    assert "error: 1 of 2 results do not exist in runs, the first is cluster/graph-digits-d64-s0-" in result.stderr
    assert rc(f"cluster {GRAPH} --seed 1 --no-run").exit_code == 0
    assert carried_out == []


def test_a_setting_is_not_both_set_and_swept() -> None:
    sentence = refused("attack --model idec --data digits --set model.gamma=5 --sweep model.gamma=0.1,1 --dry-run")
    assert sentence == "error: --set and --sweep both give model.gamma (leave one of them out)\n"


def test_a_setting_is_swept_once() -> None:
    with pytest.raises(ConfigError, match=r"--sweep gives attack.sigma twice \(--sweep attack.sigma=A,B"):
        sweeps(["attack.sigma=0.1", "attack.sigma=0.2"])


def test_a_reattack_has_three_fresh_attackers_and_sweeps_only_its_own_attack(carried_out: list[str]) -> None:
    specs = settings_of(f"reattack {GRAPH} --mode control --set attack.gamma=40 --sweep attack.gamma=20,80")
    again = [spec for spec in specs if spec["stage"] == "reattack"]
    assert sorted(spec["settings"]["attack"]["gamma"] for spec in again) == [20.0] * 3 + [80.0] * 3
    assert len({spec["attack_seed"] for spec in again}) == 3
    assert [s["settings"]["attack"]["gamma"] for s in specs if s["stage"] == "attack"] == [40.0]
    assert {spec["parent"]["settings"]["defense"]["mode"] for spec in again} == {"control"}
    swept = settings_of(f"attack {GRAPH} --sweep attack.gamma=20,80 --attack-seeds 4")
    assert {(s["settings"]["attack"]["gamma"], s["attack_seed"]) for s in swept if s["stage"] == "attack"} >= {
        (20.0, 4),
        (80.0, 4),
    }


def test_the_mean_over_attackers_carries_the_flags_of_any_of_them() -> None:
    spec = {"stage": "reattack", "model": "graph", "data": {"name": "digits"}, "latent_dim": 64, "seed": 0}
    flags = [["masked"], [], ["unconverged", "masked"]]
    records = [
        {"spec": {**spec, "attack_seed": seed}, "metrics": METRICS, "flags": found} for seed, found in enumerate(flags)
    ]
    mean, worst = mean_and_worst(records, [])
    assert (mean["attacker"], mean["flags"]) == ("mean", "masked, unconverged")
    assert (worst["attacker"], worst["flags"]) == ("worst: 0", "masked")


def test_a_users_own_file_is_data(carried_out: list[str]) -> None:
    np.save("mine.npy", np.random.default_rng(0).normal(size=(60, 5)))
    result = rc("cluster --model graph --data mine.npy --clusters 3 --profile smoke --json")
    assert json.loads(result.stdout)["spec"]["data"]["name"] == "mine"
    missing = rc("cluster --model graph --data other.npy --clusters 3")
    assert missing.exit_code == 1
    assert "other.npy" in missing.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (NonFiniteError("the loss became nan in epoch 2", hint="smaller lr"), 1, "became nan in epoch 2 (smaller lr)"),
        (ConfigError("eps must be >= 0"), 2, "error: eps must be >= 0"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on the device; what is finished"),
        (MemoryError(), 1, "error: Not enough memory; try --limit"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: Not enough memory"),
        (ZeroDivisionError("by\nzero"), 1, "error: ZeroDivisionError: by zero (--debug shows the traceback)"),
        (KeyboardInterrupt(), 130, "error: interrupted; finished runs and saved epochs are kept, and the same command"),
        (entry.Terminated(), 143, "error: interrupted"),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, BaseException) else "",
)
def test_an_error_is_one_sentence_with_its_exit_code(
    carried_out: list[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    fail_with(monkeypatch, error, lambda spec: spec.stage == "cluster")
    assert sentence in refused(f"cluster {GRAPH} --quiet", code)


def test_debug_shows_the_traceback(carried_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("here"), lambda spec: True)
    result = rc(f"cluster {GRAPH} --debug")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "ZeroDivisionError: here" in result.stderr


def test_when_one_seed_fails_the_others_go_on(carried_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, NonFiniteError("nan"), lambda spec: spec.seed == 1 and spec.stage == "cluster")
    result = rc(f"attack {GRAPH} --seed 0,1,2 --attack-seeds 0,1 --json")
    assert result.exit_code == 1
    assert [r["spec"]["seed"] for r in json.loads(result.stdout)] == [0, 0, 2, 2]
    failures = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(failures) == 1, "a broken ancestor is tried once, not for each run that needs it"
    assert failures[0].startswith("error: cluster/graph-digits-d64-s1-")
    assert failures[0].endswith(": nan")


def test_a_store_that_cannot_be_written_ends_the_command(
    carried_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, StoreError("no room"), lambda spec: True)
    result = rc(f"cluster {GRAPH} --seed 0,1 --quiet")
    assert (result.exit_code, result.stderr) == (1, "error: no room\n")


def test_a_runs_directory_that_is_a_file_is_named(carried_out: list[str]) -> None:
    Path("file").write_text("")
    assert "--runs-dir" in refused(f"cluster {GRAPH} --runs-dir file --quiet", 1)


def test_a_table_is_run_and_printed(carried_out: list[str]) -> None:
    result = rc("table table1 --profile smoke --format json")
    assert result.exit_code == 0
    cells = json.loads(result.stdout)["cells"]
    accuracies = [cell["mean"] for cell in cells if cell["metric"] == "ACC"]
    assert len(accuracies) == 5
    assert set(accuracies) == {87.5}
    assert carried_out.count("pretrain 0") == 1, "methods that share a pretrained network share its run"
    again = rc("table table1 --profile smoke --format markdown --no-run")
    assert "87.5±0.0" in again.stdout
    assert again.stderr.splitlines()[1:] == ["plan: 22 runs, 22 done"]
    assert again.stderr.startswith("digits: 1,797 rows x 64 columns")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("table1 --set attack.gamma=20", "attack.gamma"),
        ("gamma --set attack.gamma=20", "attack.gamma"),
        ("table3 --set defense.mode=control", "defense.mode"),
    ],
)
def test_what_a_table_decides_cannot_be_set(carried_out: list[str], words: str, key: str) -> None:
    """The runs would be made, and no cell would show them."""
    name = words.split()[0]
    sentence = f"error: {name} itself decides {key} (rc attack, defend and reattack take any value)\n"
    assert refused(f"table {words} --profile smoke") == sentence
    assert carried_out == []
    assert rc("table table1 --profile smoke --set attack.gamma=40 --dry-run").exit_code == 0


def test_a_seed_that_a_table_lacks_is_named() -> None:
    sentence = refused("table table1 --profile smoke --seed 0,7 --dry-run")
    assert sentence == "error: table1 has no seed 7 in profile smoke: its seeds are 0, 1\n"


def test_the_plan_of_a_table_says_once_what_cannot_be_planned() -> None:
    result = rc("table table1 --profile smoke --set model.neighbors=5 --dry-run")
    assert result.exit_code == 1
    refused = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert [line.partition(":")[2].split()[1] for line in refused] == [
        "kmeans",
        "ae_kmeans",
        "convae",
        "mie",
    ]  # two seeds each


def test_saved_records_stay_where_the_runs_are_others_of_the_same_settings(
    carried_out: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A record that was measured again, of the same checkpoint, takes the place of the one before."""
    rc("table table1 --profile smoke --quiet --only method=k-means --save-records kept")
    path = Path("kept/smoke.json")
    plain = json.loads(path.read_text())
    ours = [
        {**record, "checkpoint": {"file": "model.pt", "bytes": 1, "sha256": record["key"] * 5 + "0" * 4}}
        for record in plain
    ]
    theirs = [{**record, "metrics": {"ACC": 0.25}} for record in ours]
    theirs[0]["checkpoint"] = {"file": "model.pt", "bytes": 1, "sha256": "f" * 64}
    path.write_text(json.dumps(theirs))
    table.save(ours, path)
    assert json.loads(path.read_text()) == [theirs[0], *ours[1:]]
    assert len(ours) > 1
    assert " ".join(capsys.readouterr().err.split()) == (
        f"note: kept/smoke.json has other runs of the same settings in place of 1 of these {len(ours)}, and keeps them"
    )
    table.save(plain, path)
    assert json.loads(path.read_text()) == plain, "records of before checkpoints had sums are replaced"


def test_a_plan_keeps_no_records(carried_out: list[str]) -> None:
    rc("table table1 --profile smoke --quiet")
    assert rc("table table1 --profile smoke --dry-run --save-records kept").exit_code == 0
    assert not Path("kept").exists()


def test_a_damaged_file_of_records_is_found_before_anything_is_run(carried_out: list[str]) -> None:
    Path("kept").mkdir()
    Path("kept/smoke.json").write_text('[{"key": ')
    result = rc("table table1 --profile smoke --quiet --save-records kept")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: kept/smoke.json is not valid JSON")
    assert Path("kept/smoke.json").read_text() == '[{"key": '
    assert carried_out == []


def test_a_table_without_any_run_is_printed_with_dashes_and_exit_code_3() -> None:
    result = rc("table table1 --profile smoke --no-run --format markdown")
    assert result.exit_code == 3
    assert "| – |" in result.stdout
    assert "error: No run of table1 exists for the profile smoke" in result.stderr


def test_a_table_goes_on_without_data_that_cannot_be_had(carried_out: list[str]) -> None:
    result = rc("table table1 --profile paper --only data=stl10,reuters10k --format json --quiet")
    assert result.exit_code == 3
    assert [line.split(":")[1] for line in result.stderr.splitlines()[:2]] == [
        " reuters10k is left out",
        " stl10 is left out",
    ]
    assert {cell["mean"] for cell in json.loads(result.stdout)["cells"]} == {None}


def test_when_one_run_of_a_table_fails_it_is_listed_at_the_end(
    carried_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, NonFiniteError("nan"), lambda spec: spec.model == "mie")
    result = rc("table table1 --profile smoke --format json --quiet")
    assert result.exit_code == 1
    failures = result.stderr.splitlines()
    assert [failure.split("-s")[0] for failure in failures] == ["error: cluster/mie-digits-d64"] * 2
    means = {cell["method"]: cell["mean"] for cell in json.loads(result.stdout)["cells"] if cell["metric"] == "ACC"}
    assert [method for method, mean in means.items() if mean is None] == ["MIE"]


def test_a_table_is_rendered_from_a_folder_of_records(carried_out: list[str]) -> None:
    rc("table table1 --profile smoke --quiet")
    Path("records").mkdir()
    Path("records/all.json").write_text(json.dumps(RunStore(Path("runs")).records()))
    result = rc("table table1 --profile smoke --from records --format markdown --runs-dir elsewhere")
    assert result.exit_code == 0
    assert result.stdout == rc("table table1 --profile smoke --no-run --format markdown").stdout
    assert rc("table table1 --from nowhere").exit_code == 3


def test_ls_lists_every_name_with_what_it_is() -> None:
    found = json.loads(rc("ls --json").stdout)
    for kind in ("models", "data", "attacks", "defenses"):
        assert [row["name"] for row in found if row["kind"] == kind] == names(kind)
    assert all(row["what"] for row in found)
    assert {"table1", "table2", "table3"} <= {row["name"] for row in found if row["kind"] == "tables"}
    drawn = {row["name"] for row in found if row["kind"] == "figures"}
    assert "lpvdn_noise" in drawn
    assert drawn.isdisjoint(row["name"] for row in found if row["kind"] == "tables")
    assert {row["name"]: row["state"] for row in json.loads(rc("ls data --json").stdout)}["digits"] == "ready"
    assert "'modells' is not one of 'models', 'data'" in rc("ls modells").stderr


def test_ls_lists_the_settings_of_a_method_with_their_comments() -> None:
    rows = {row["setting"]: row for row in json.loads(rc("ls models lpvdn --json").stdout)}
    assert rows["model.alpha0"]["what"] == "weight of L_MI; Table 4"
    assert rows["model.pretrain.batch_size"]["what"] == "samples"  # of the group's class
    assert "model.cluster.lr_decay" in rows  # of the class of this group
    assert rows["model.pretrain"] == {"setting": "model.pretrain", "allowed": "group", "what": "LPVDN's code"}
    assert "reuters10k sets " in rows["model.mode"]["what"]
    assert "alpha0=0.01, alpha1=0.001" in rows["model.mode"]["what"]
    hidden = rows["model.hidden"]
    assert (hidden["allowed"], hidden["paper"], hidden["smoke"]) == ("[integer, ...]", [500, 500, 2000], [128, 128])
    assert hidden["what"].startswith("widths of the encoder")  # inherited from VaDE
    table, legend = rc("ls models lpvdn").stdout.split("\n\n")
    assert legend.startswith("–: as in profile paper.")
    heads, *lines = table.splitlines()
    assert heads.split()[2:] == ["profile", "paper", "profile", "cpu", "profile", "short", "profile", "smoke", "what"]
    assert any(line.split()[:6] == ["model.pretrain.epochs", "integer", "50", "100", "100", "20"] for line in lines)
    assert any(line.split()[:6] == ["model.alpha0", "number", "1.0", "–", "–", "–"] for line in lines)


def test_ls_leaves_out_the_phases_that_a_model_does_not_have() -> None:
    assert [row["setting"] for row in json.loads(rc("ls models kmeans --json").stdout)] == ["model.n_init"]
    listed = {row["setting"] for row in json.loads(rc("ls models infoddc --json").stdout)}
    assert {"model.pretrain_first", "model.pretrain.epochs"} <= listed, "a setting switches its pretraining on"


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("models", "attacks", "defenses") for name in names(kind)]
)
def test_every_setting_is_listed_says_what_it_is_and_can_be_set_to_what_is_shown(
    kind: discover.Kind, name: str
) -> None:
    usual = methods.resolve(kind, name, "paper", {})
    rows = [row for row in methods.described(kind, name, ["paper"]) if row["allowed"] != "group"]
    assert all(row["what"] for row in rows), [row["setting"] for row in rows if not row["what"]]
    given = nested({row["setting"]: value(typed(row["paper"])) for row in rows}).get(kind.removesuffix("s"), {})
    assert methods.resolve(kind, name, "paper", given) == usual
    lacks = methods.missing_phases(methods.method_class(discover.load(kind, name)), usual) if kind == "models" else ()
    known = {name: value for name, value in methods.plain(usual).items() if name not in lacks}
    shown = {row["setting"]: json.loads(json.dumps(row["paper"])) for row in rows}
    assert nested(shown).get(kind.removesuffix("s"), {}) == known
    for row in rows:
        word = {bool: "true|false", int: "integer", float: "number", str: "text"}.get(type(row["paper"]))
        words = row["allowed"].removesuffix("|none")
        assert words == word or row["paper"] is None or row["paper"] in words.split("|") or words.startswith("[")


def test_rows_are_blocks_on_a_terminal_without_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"name": "first", "size": "1", "what": "long " * 20}, {"name": "second", "size": "", "what": "short"}]
    shown = {}
    for width in (120, 60, 20):
        terminal = partial(Console, width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
        monkeypatch.setattr(console, "stdout", lambda least=0, terminal=terminal: terminal())
        console.show_rows(rows)
        shown[width] = capsys.readouterr().out.splitlines()
    assert len(shown[120]) == 3
    assert [line.split()[:2] for line in shown[60]][:2] == [["name", "size"], ["first", "1"]]
    assert len(shown[60]) > 3, "the widest column is wrapped"
    assert shown[20] == ["first", "  size: 1  what: " + rows[0]["what"], "second", "  what: short"]


def test_nothing_is_cut_off_where_the_result_is_piped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {f"column {i}": f"{i}".zfill(30) for i in range(12)} | {"what": "word " * 20}
    console.show_rows([row])
    shown = capsys.readouterr().out
    assert all(text in shown for name, text in row.items() if name != "what")
    assert shown.count("word") == 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("ls tables table1", "error: tables have no settings: rc ls tables takes no name (rc ls models NAME)"),
        ("ls data digits", "error: data have no settings: rc ls data takes no name (rc ls models NAME)"),
        ("ls models lpdvn", "error: Unknown model 'lpdvn'. Did you mean 'lpvdn'? (rc ls models)"),
    ],
)
def test_what_has_no_settings_is_said(words: str, sentence: str) -> None:
    assert sentence in refused(words)


def test_ls_runs_tells_what_a_run_was_made_with(carried_out: list[str]) -> None:
    rc(f"reattack {GRAPH} --limit 500 --attack-seeds 0 --set model.neighbors=5 --set attack.attacker_activation=relu")
    rows = {row["stage"]: row for row in json.loads(rc("ls runs --json").stdout)}
    shown = {stage: (row["data"], row["attack"], row["defense"], row["profile"]) for stage, row in rows.items()}
    assert shown["cluster"] == ("digits-500", "", "", "smoke")
    assert shown["attack"] == ("digits-500", "latent_net", "", "smoke")
    assert shown["defend"] == ("digits-500", "", "mutual_info", "smoke")
    assert shown["reattack"] == ("digits-500", "latent_net", "mutual_info", "smoke")
    assert {(row["K"], row["normalize"]) for row in rows.values()} == {("10", "alrdc")}
    assert rows["reattack"]["set"] == "attack.attacker_activation=relu model.neighbors=5"


def test_ls_runs_tells_finished_from_unfinished(carried_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert rc("ls runs").stdout == ""
    rc(f"cluster {GRAPH}")
    fail_with(monkeypatch, NonFiniteError("nan"), lambda spec: True)
    rc(f"cluster {GRAPH} --seed 1")
    rows = json.loads(rc("ls runs --json").stdout)
    assert [(row["stage"], row["seed"], row["flags"]) for row in rows] == [
        ("cluster", "0", "collapsed"),
        ("pretrain", "0", "collapsed"),
        ("pretrain", "1", "unfinished, 0 epochs"),
    ]
    assert rows[0]["ACC"] == "87.5"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("attack --model gr", ["graph"]),
        ("attack --data fashion", ["fashion-mnist"]),
        ("attack --attack latent_n", ["latent_net"]),
        ("defend --defense mut", ["mutual_info"]),
        ("table table", ["table1", "table2", "table3"]),
        ("figure lpvdn_n", ["lpvdn_neighbors", "lpvdn_noise"]),
        ("attack --profile pa", ["paper"]),
    ],
)
def test_the_shell_completes_names(words: str, offered: list[str]) -> None:
    env = {"_RC_COMPLETE": "complete_bash", "COMP_WORDS": f"rc {words}", "COMP_CWORD": str(len(words.split()))}
    assert rc("", **env).stdout.split() == offered


@pytest.mark.parametrize(
    "words", [["ls", "--json"], ["ls"], pytest.param(["ls", "models", "lpvdn"], marks=pytest.mark.slow)]
)
def test_a_reader_that_leaves_early_is_met_quietly(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*START, *words], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_closed_stdout_is_no_error() -> None:
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *START, "ls"], capture_output=True, cwd=ROOT, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("when", ["import", "typer", "torch"])
def test_an_interrupt_while_the_program_loads_is_one_sentence(when: str) -> None:
    """A module that sends the process SIGINT as soon as `when` is imported, in place of Ctrl-C."""
    code = (
        "import sys, os, signal; sys.argv[0] = 'rc'\n"
        "class Finder:\n"
        f"    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {when!r} or {when!r} == 'import': os.kill(os.getpid(), signal.SIGINT)\n"
        "from robust_cluster.cli.start import main\n"
        "sys.meta_path.insert(0, Finder()); main()"
    )
    words = ["cluster", "--model", "kmeans", "--data", "digits", "--dry-run"]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == f"error: {INTERRUPTED}\n"


def test_quiet_silences_what_libraries_warn_of(carried_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(spec: RunSpec, context: Context) -> None:
        warnings.warn("of a library", UserWarning, stacklevel=1)
        logging.getLogger("library").warning("of a library")

    write_made_up(monkeypatch, warn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet = rc("cluster --model kmeans --data digits --profile smoke -q")
        assert (quiet.exit_code, quiet.stderr, caught) == (0, "", [])
        rc("cluster --model kmeans --data digits --profile smoke --force")
        assert [str(one.message) for one in caught] == ["of a library"]
    assert logging.root.manager.disable == logging.NOTSET


def test_plain_progress_is_one_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    lines = console.Lines(console.stderr())
    lines.start("cluster graph", 100, 3)
    for epoch in range(4, 21):
        now += 1.0
        lines.epoch(epoch, {"loss": 1 / epoch})
    lines.stop()
    assert capsys.readouterr().err.splitlines() == [
        "cluster graph: 100 epochs, 3 done before",
        "cluster graph: epoch 8/100  loss 0.125",
        "cluster graph: epoch 13/100  loss 0.07692",
        "cluster graph: epoch 18/100  loss 0.05556",
        "cluster graph: epoch 20/100  loss 0.05",
    ]


def test_the_bar_shows_stage_epoch_and_losses() -> None:
    screen = StringIO()
    assert isinstance(console.progress(Console(file=screen, force_terminal=True, quiet=True)), console.Lines)
    bar = console.progress(Console(file=screen, force_terminal=True, width=100, color_system=None))
    bar.start("cluster graph", 20, 0)
    bar.epoch(7, {"entropy": -0.5})
    bar.stop()
    last = screen.getvalue().split("\r")[-1]
    assert re.search(r"cluster graph +7/20 .*entropy -0.5 ", last)


def test_the_profiles_of_the_command_line_are_those_of_the_stages() -> None:
    assert get_args(Profile) == PROFILES


def test_threads_sleep_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    importlib.reload(entry)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_the_curve_of_a_clustering_is_asked_for_by_a_flag_and_not_repeated_for_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    write_made_up(monkeypatch, lambda spec, context: asked.append(context.curve))
    result = rc("cluster --model kmeans --data digits --profile smoke --curve --runs-dir one")
    assert rc("cluster --model kmeans --data digits --profile smoke --runs-dir two").exit_code == 0
    assert asked == [True, False]
    assert "next: rc attack" in result.stderr
    assert "--curve" not in result.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (f"cluster {GRAPH} --dim 1000000000", "the embedding of 1797 samples in 1000000000 dimensions needs"),
        (f"cluster {GRAPH} --dim {10**22}", "the embedding of 1797 samples"),
        (f"cluster {GRAPH} --set model.hidden=[1000000000]", "graph with its 64000000000 or more parameters needs"),
        (f"cluster {GRAPH} --set model.hidden=[{10**20}]", "graph has more parameters than can be counted"),
        ("cluster --model lpvdn --data digits --set model.hidden=[1000000000]", "lpvdn with its 64000000000 or more"),
        (f"attack {GRAPH} --set attack.hidden=[1000000000]", "latent_net with its 64000000000 or more parameters"),
    ],
)
def test_what_no_memory_holds_is_refused_before_anything_is_made(words: str, what: str) -> None:
    assert what in refused(words)
    assert not Path("runs").exists()


def test_a_batch_of_more_samples_than_there_are_is_all_of_them(carried_out: list[str]) -> None:
    assert rc(f"cluster {GRAPH} --set model.cluster.batch_size=1000000000").exit_code == 0


@pytest.mark.usefixtures("carried_out")
@pytest.mark.parametrize(
    ("words", "levels"),
    [
        ("", ["medium", "medium"]),
        ("--precision medium", ["medium", "medium"]),
        ("--exact", ["highest", "highest"]),
        ("--precision highest", ["highest", "highest"]),
        ("--exact --precision highest", ["highest", "highest"]),
        ("--precision bf16", ["bf16", "bf16"]),
    ],
)
def test_the_precision_is_that_of_the_runs_and_exact_a_name_of_the_highest(words: str, levels: list[str]) -> None:
    specs = settings_of(f"cluster {GRAPH} {words}")
    assert [spec["precision"] for spec in specs] == levels


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--precision bf61", "'bf61' is not one of 'highest', 'medium', 'bf16'. (rc cluster --help)"),
        ("--exact --precision bf16", "error: --exact and --precision bf16 disagree"),
        ("--exact --precision medium", "error: --exact and --precision medium disagree"),
    ],
)
def test_an_unknown_precision_and_two_at_once_are_refused(words: str, sentence: str) -> None:
    assert sentence in refused(f"cluster {GRAPH} {words}")


@pytest.mark.usefixtures("carried_out")
@pytest.mark.parametrize(
    ("level", "has_products", "is_said"), [("bf16", False, 1), ("bf16", True, 0), ("medium", False, 0)]
)
def test_a_processor_without_bfloat16_products_is_told_once(
    level: str, has_products: bool, is_said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "has_bfloat16", lambda device: has_products)
    result = rc(f"cluster {GRAPH} --seed 0,1 --precision {level}")
    assert result.exit_code == 0
    assert result.stderr.count("this processor has no bfloat16 products") == is_said
