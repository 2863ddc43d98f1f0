"""`rc audit` and the budget of `rc attack`, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.audit import checks
from tests.cli.command import rc, refused

KMEANS = "--model kmeans --data digits --limit 200 --profile smoke --threads 1 --quiet --set model.n_init=1"
LINF = "--attack apgd --norm linf"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (f"{LINF} --eps -0.1", "--eps takes distinct numbers >= 0 with commas between, got '-0.1'"),
        (f"{LINF} --eps 0.1,0.1", "--eps takes distinct numbers >= 0 with commas between, got '0.1,0.1'"),
        ("--attack apgd --eps 0.1", "eps 0.1 means nothing without a norm (--norm linf or --norm l2)"),
        (LINF, "the norm linf needs a radius (--eps 0.1)"),
        (f"{LINF} --eps 0.1 --set attack.objective=loss", "attack.objective must be one of 'margin', 'kl',"),
        ("--attack latent_net --norm l2 --eps 1", "attack.norm is for standard attacks: latent_net is none"),
        ("--attack view_gan --norm l2 --eps 1", "attack.norm is for standard attacks: view_gan has its own norm"),
        ("--attack transfer --norm linf --eps 0.1", "transfer needs the attack run whose points it takes"),
        ("--attack ensemble --norm linf --eps 0.1 --set 'attack.members=[\"foo\"]'", "Unknown member 'foo'."),
        (f"{LINF} --eps 0.1 --set attack.views=[3]", "views must be in 0 to 0, got 3"),
        (f"{LINF} --eps 0.1 --set attack.eps=0.2", "--eps and attack.eps are one setting (give one of them)"),
        (f"{LINF} --eps 0.1 --sweep attack.eps=0.2,0.3", "--eps and attack.eps are one setting (give one of them)"),
        (f"{LINF} --eps 0,0.1 --set attack.view_eps=[0.1]", "view_eps gives each view its radius in place of eps, so"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_one_sentence(words: str, sentence: str) -> None:
    assert sentence in refused(f"attack {KMEANS} {words}")


def test_a_run_to_transfer_from_must_be_there() -> None:
    sentence = refused(
        f"attack {KMEANS} --attack transfer --norm linf --eps 0.1 --source runs/attack/x-123456789abc", 3
    )
    assert "There is no finished attack run with the key '123456789abc'" in sentence


@pytest.mark.slow
def test_a_curve_an_audit_and_a_transfer_as_typed() -> None:
    done = rc(f"attack {KMEANS} {LINF} --eps 0,0.1,0.2 --rows 60")
    assert done.exit_code == 0
    assert {"ACC*", "ACC*_clean_map", "flip", "audit"} <= set(done.stdout.splitlines()[0].split())
    assert done.stdout.splitlines()[1].endswith("8 pass, 19 not run")
    (run,) = Path("runs/attack").iterdir()
    record = json.loads((run / "result.json").read_text())
    assert [line["eps"] for line in record["radii"]] == [0.0, 0.1, 0.2]
    assert [finding["status"] for finding in record["audit"]][8:] == ["not run"] * 19
    assert [finding["status"] for finding in record["audit"]][:8] == ["pass"] * 8

    result = rc(f"audit {run} --rows 40 --json --threads 1")
    assert result.stderr.startswith("digits: 200 rows x 64 columns, 10 clusters from its labels, ")
    result = rc(f"audit {run} --rows 40 --json --quiet --threads 1")
    findings = json.loads(result.stdout)
    failed = [finding["name"] for finding in findings if finding["status"] == "fail"]
    assert result.exit_code == (4 if failed else 0), result.stderr
    assert len(findings) == 27
    assert sum(finding["status"] == "pass" for finding in findings) > 15
    assert json.loads((run / "result.json").read_text())["audit"] == findings
    assert json.loads((run / "result.json").read_text())["metrics"] == record["metrics"]

    assert rc(f"figure curve {run} --format csv --output curve.svg").stdout == "curve.svg\ncurve.csv\n"
    lines = Path("curve.csv").read_text().splitlines()
    assert lines[0].startswith("eps,attack,")
    assert len(lines) == 4

    other = rc(f"attack {KMEANS} --seed 1 --attack transfer --norm linf --eps 0.2 --rows 60 --source {run} --json")
    moved = json.loads(other.stdout)
    assert (moved["threat"]["knowledge"], moved["threat"]["queries"]) == ("transfer", 0)
    assert 0 < moved["metrics"]["flip"] <= 1


def test_a_failed_check_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    done = rc(f"attack {KMEANS.replace(' --quiet', '')} {LINF} --eps 0.1 --rows 20")
    (run,) = Path("runs/attack").iterdir()
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1] == f"next: rc audit {run}"
    plain = checks.finding

    def failing(check: Any, verdict: Any, seconds: float) -> Any:
        return plain(check, verdict.__class__("fail", note="planted") if check.id == 9 else verdict, seconds)

    monkeypatch.setattr(checks, "finding", failing)
    monkeypatch.setattr(checks, "CHECKS", checks.CHECKS[:9])
    result = rc(f"audit {run} --rows 20")
    assert result.exit_code == 4
    assert f"1 fail (iterative beats one step), 8 pass; written into {run}" in result.stderr
    assert "1 of 27 checks fail: iterative beats one step" in result.stderr


def test_only_an_attack_is_audited() -> None:
    assert rc(f"cluster {KMEANS}").exit_code == 0
    (run,) = Path("runs/cluster").iterdir()
    assert "an audit is of an attack or reattack run" in refused(f"audit {run}")
    assert rc("audit runs/attack/nothing").exit_code == 3
