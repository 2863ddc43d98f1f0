"""`rc table claims`: the papers' claims in the terminal and as JSON, from the records that there are."""

import json
from pathlib import Path

import pytest

from robust_cluster.report.spec import load_spec, requests
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import RunStore
from tests.cli.command import rc, refused
from tests.made import MADE


@pytest.fixture
def store() -> RunStore:
    """Made-up runs of Table 1 on 10,000 images, three seeds: LPVDN 10 to 12 points above VaDE, VaDE and DEC alike."""
    store = RunStore(Path("runs"))
    for asked in requests(load_spec("lpvdn1"), "cpu"):
        accuracy = {"LPVDN": 0.9 + 0.01 * asked.seed, "VaDE": 0.8, "DEC": 0.8}.get(asked.place["method"])
        if accuracy is None or asked.seed > 2:
            continue
        given = {key.removeprefix("model."): value for key, value in asked.settings.items()}
        base = {name: getattr(asked, name) for name in ("data", "model", "latent_dim", "seed")}
        spec = RunSpec("cluster", data_sha256="0", settings={"model": given}, **base)
        with store.own(spec) as run:
            run.finish({**MADE, "metrics": {"ACC": accuracy}})
    return store


def test_claims_are_printed_with_what_was_compared_and_what_came_of_it(store: RunStore) -> None:
    result = rc("table claims --profile cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    table, legend = result.stdout.split("\n\n")
    assert legend.startswith("effect: the first method's value minus the second's")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["claim", "compares", "data", "outcome", "effect", "interval", "n", "p"]
    above = [line for line in lines if line[0] == "lpvdn-above-vade"]  # t = 11 sqrt(3); 0.11 +- 4.303 / (100 sqrt(3))
    assert [line[-7:] for line in above] == [["(10,000)", "holds", "0.11", "[0.0852,", "0.135]", "3", "0.001372"]] * 2
    none = [line[-8:] for line in lines if line[0] == "vade-above-dec"]
    assert none == [["does", "not", "hold", "0", "[0,", "0]", "3", "1"]] * 2
    few = [line[-7:] for line in lines if line[0] == "dec-above-ae-kmeans"]
    assert few == [["not", "enough", "runs", "–", "–", "0", "–"]] * 2
    notes = [line for line in legend.splitlines() if line.startswith("adec-faster-than-vade: ")]
    assert notes == [
        "adec-faster-than-vade: contradicts the paper's own Table 3: on REUTERS-10k ADEC has 669 s and VaDE 105, "
        "on Mice Protein 1,047 and 15"
    ]


@pytest.mark.parametrize("flag", ["--json", "--format json"])
def test_claims_can_be_read_by_scripts(store: RunStore, flag: str) -> None:
    Path("records").mkdir()
    Path("records/all.json").write_text(json.dumps(store.records()))
    result = rc(f"table claims --profile cpu --from records --runs-dir elsewhere {flag}")
    found = {(row["claim"], row["data"]): row for row in json.loads(result.stdout)}
    row = found["lpvdn-above-vade", "MNIST (10,000)"]
    assert (row["outcome"], row["n"], row["effect"], row["test"]) == ("holds", 3, 0.11, "t")
    assert (row["low"], row["high"]) == (0.085159, 0.134841)
    assert row["compares"] == "ACC: LPVDN (lpvdn1) > VaDE (lpvdn1)"
    assert found["adec-less-feature-drift", "MNIST (10,000)"]["p"] is None


def test_without_enough_runs_the_exit_code_is_3() -> None:
    result = rc("table claims --profile smoke --json")
    assert result.exit_code == 3
    assert {row["outcome"] for row in json.loads(result.stdout)} == {"not enough runs"}
    expected = "error: No claim has enough runs for the profile smoke (rc table NAME makes those of a table)\n"
    assert result.stderr == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--format latex", "claims are printed as terminal or json, not as latex (--json)"),
        ("--seed 0", "claims are judged by the runs that exist: it takes no --seed"),
        ("--set model.lr=1", "claims are judged by the runs that exist: it takes no --set"),
        ("--compare", "claims are judged by the runs that exist: it takes no --compare"),
    ],
)
def test_options_that_say_nothing_of_claims_are_refused(words: str, sentence: str) -> None:
    assert refused(f"table claims --profile smoke {words}") == f"error: {sentence}\n"


def test_json_is_a_format_of_every_table() -> None:
    result = rc("table table1 --profile smoke --no-run --json --quiet")
    assert json.loads(result.stdout)["table"] == "table1"


def test_the_help_tells_of_claims_and_figures() -> None:
    shown = " ".join(rc("table --help").stdout.split())
    assert "rc table claims --profile cpu" in shown
    assert "a figure, to run what it draws; or claims, the papers' claims tested on finished runs" in shown
