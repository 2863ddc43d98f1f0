"""`rc certify`: its options, what they refuse, and which runs it takes."""

import json
from typing import Any

import pytest

from robust_cluster.cli import certify
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages import chain
from robust_cluster.stages.context import Context
from tests.cli.command import rc, refused
from tests.made import MADE

KMEANS = "certify --model kmeans --data digits --profile smoke"
REATTACK = "reattack --model convae --data digits --profile smoke --attack-seeds 0"
CONVAE = "certify --model convae --data digits --profile smoke"


def planned(words: str) -> list[str]:
    """The stages of a plan."""
    result = rc(f"{words} --dry-run --json --quiet")
    assert result.exit_code == 0, result.stderr
    return [run["directory"].split("/")[0] for run in json.loads(result.stdout)]


def test_its_own_options_lead_in_the_help() -> None:
    shown = rc("certify --help").stdout
    assert shown.index("--sigma <float>") < shown.index("-m, --model")


@pytest.mark.parametrize("example", [line for line in certify.VERB.examples.split("\n") if line])
def test_every_example_of_the_help_runs_as_typed(example: str) -> None:
    assert planned(example.removeprefix("rc "))[-1] == "certify"


def test_a_defense_is_planned_where_one_is_named() -> None:
    assert planned(CONVAE) == ["pretrain", "cluster", "certify"]
    assert planned(f"{CONVAE} --defense mutual_info --mode control") == [
        *("pretrain", "cluster", "attack", "defend", "certify")
    ]
    assert planned(f"{KMEANS} --sweep certify.sigma=0.1,0.2 --seed 0,1") == ["cluster", *["certify"] * 2] * 2


def test_options_become_settings_of_the_run_and_the_record_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    metrics = {"ACC": 0.8, "certified_share": 0.9, "abstained": 0.05, "ACC_certified": 0.75, "median_radius": 0.3}

    def stage(spec: RunSpec, run: Any, context: Context) -> dict[str, Any]:
        seen.append(spec)
        return {**MADE, "profile": context.profile, "metrics": metrics, "flags": [], "training": None}

    monkeypatch.setattr(chain, "STAGES", dict.fromkeys(chain.STAGES, stage))
    options = "--sigma 0.5 --samples 2000 --n0 50 --alpha 0.01 --space latent --rows 30"
    result = rc(f"{CONVAE} {options}")
    assert result.exit_code == 0, result.stderr
    given = {"sigma": 0.5, "samples": 2000, "n0": 50, "alpha": 0.01, "rows": 30}
    assert seen[-1].settings["certify"] == {"space": "latent", **given}
    head, numbers = result.stdout.splitlines()
    assert head.split()[5:] == ["ACC", "certified_share", "abstained", "ACC_certified", "median_radius"]
    assert numbers.split()[5:] == ["80.0", "90.0", "5.0", "75.0", "0.3"]
    assert result.stderr.splitlines()[-1] == "next: rc ls runs"
    assert json.loads(rc(f"{CONVAE} {options} --json --quiet").stdout)["metrics"] == metrics
    assert rc(REATTACK).stderr.splitlines()[-1] == "next: rc ls runs"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--sigma 0", "error: sigma must be > 0, got 0: without noise nothing can be certified (--sigma 0.25)"),
        ("--sigma -0.5", "error: sigma must be > 0, got -0.5"),
        ("--sigma nan", "error: certify.sigma must be a finite number, got nan"),
        ("--sigma much", "error: Invalid value for '--sigma'"),
        ("--samples 9", "error: samples must be >= 10 for alpha 0.001, got 9: every point would be abstained"),
        ("--alpha 0", "error: alpha, the chance that a certificate is wrong, must be in (0, 0.5], got 0"),
        ("--n0 0", "error: n0 must be >= 1, got 0"),
        ("--rows 0", "error: rows must be >= 1, got 0"),
        ("--space pixel", "error: Invalid value for '--space': 'pixel' is not one of 'input', 'latent'."),
        ("--mode control", "error: --mode is of a defended model, and no defense was given (--defense mutual_info)"),
        ("--attack latent_net", "error: --attack is of a defended model"),
        ("--defense mutual", "error: Unknown defense 'mutual'. Did you mean 'mutual_info'?"),
        ("--sigma 1 --set certify.sigma=2", "error: --sigma and certify.sigma are one setting (give one of them)"),
        ("--sigma 1 --sweep certify.sigma=2,3", "error: --sigma and certify.sigma are one setting"),
        ("--set certify.sgima=2", "error: Unknown setting 'certify.sgima'. Did you mean 'certify.sigma'?"),
        ("--attack-seeds 0,1", "error: No such option: --attack-seeds"),
        ("--defense mutual_info", "error: kmeans is not trained while clustering: no defense can train it on"),
    ],
)
def test_a_wrong_word_gets_one_sentence_and_exit_code_2(words: str, sentence: str) -> None:
    assert sentence in refused(f"{KMEANS} {words}")


def test_no_defense_is_a_word_of_certify_alone() -> None:
    assert "Unknown defense 'none'" in refused("defend --model convae --data digits --defense none")


def test_where_there_is_no_latent_space_the_exit_code_is_2() -> None:
    sentence = refused(f"{KMEANS} --space latent --quiet --rows 2 --set model.n_init=1 --limit 100")
    assert sentence.endswith("it has no latent space (--space input)\n")
