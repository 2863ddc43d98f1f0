"""How checks are run: all 27 in order, on few rows or many, without a trace."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from robust_cluster.audit import checks
from robust_cluster.audit.base import Check, Evidence, Finding, Verdict
from robust_cluster.audit.marks import ALL, QUICK
from robust_cluster.errors import ConfigError

Make = Callable[..., Evidence]


def test_the_27_checks_stand_in_order_and_the_first_eight_are_quick() -> None:
    assert tuple(check.id for check in checks.CHECKS) == ALL
    assert tuple(check.id for check in checks.CHECKS if check.when == "quick") == QUICK
    assert len({check.name for check in checks.CHECKS}) == 27
    assert all(check.run.__doc__ for check in checks.CHECKS)


@pytest.fixture(scope="module")
def quick(make: Make) -> tuple[list[Finding], list[str], Evidence]:
    """The findings of a quick run, the names of the checks that were told of, and what was looked at."""
    evidence = make(network=True)
    asked: list[str] = []
    return checks.run(evidence, "quick", lambda check: asked.append(check.name)), asked, evidence


def test_a_quick_run_says_of_the_others_that_they_were_not_run(quick: Any) -> None:
    findings, asked, _ = quick
    assert [finding.id for finding in findings] == list(ALL)
    assert {finding.status for finding in findings[8:]} == {"not run"}
    assert {finding.note for finding in findings[8:]} == {"rc audit runs it"}
    assert asked == [check.name for check in checks.CHECKS[:8]]


def test_findings_are_json(quick: Any) -> None:
    findings = [asdict(finding) for finding in quick[0]]
    again = json.loads(json.dumps(findings, allow_nan=False))
    assert again == findings
    keys = ["id", "name", "value", "threshold", "n", "status", "seconds", "note", "needed"]
    assert list(findings[0]) == keys


def test_an_audit_leaves_no_trace(make: Make, quick: Any) -> None:
    evidence, fresh = quick[2], make(network=True)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    checks.run(evidence.probe(2), "quick")
    assert torch.rand(3).equal(expected)
    state = fresh.surface.model.state_dict()
    assert all(value.equal(state[name]) for name, value in evidence.surface.model.state_dict().items())
    assert evidence.attacker.queries == 0


def of(run: Callable[[Evidence], Verdict]) -> Check:
    return Check(1, "a check", "quick", run)


def test_a_setting_that_the_attack_refuses_is_not_run_with_its_sentence(make: Make) -> None:
    def refused(overrides: Mapping[str, Any]) -> Any:
        raise ConfigError("eps must be 1", hint="--eps 1")

    verdict = checks.judged(checks.CHECKS[0], replace(make(), build=refused))
    assert (verdict.status, verdict.note, verdict.needed) == ("not run", "eps must be 1 (--eps 1)", True)


def test_a_value_that_json_has_no_number_for_is_none() -> None:
    values = [checks.finding(checks.CHECKS[0], Verdict("fail", value), 0.0).value for value in (np.inf, np.nan, 0.5)]
    assert values == [None, None, 0.5]


def test_rows_are_taken_evenly_with_all_that_belongs_to_them(make: Make) -> None:
    evidence = make()
    few = replace(evidence, moved=evidence.clean).probe(4)
    assert few.batch.index.tolist() == [0, 19, 39, 59]
    assert len(few) == 4
    assert few.labels is not None
    assert evidence.labels is not None
    assert few.labels.tolist() == evidence.labels[[0, 19, 39, 59]].tolist()
    assert few.clean_labels.tolist() == evidence.clean_labels[[0, 19, 39, 59]].tolist()
    assert few.moved is not None
    assert few.moved[0].equal(evidence.batch.views[0][[0, 19, 39, 59]])
    assert evidence.probe(100) is evidence


@pytest.mark.parametrize(("n", "expected"), [(60, [60]), (101, [101]), (102, [100, 2]), (250, [100, 100, 50])])
def test_portions_leave_no_row_alone(make: Make, n: int, expected: list[int]) -> None:
    evidence = make(bn="batch")
    rows = torch.arange(n) % 60
    portions = list(evidence.take(rows).portions())
    assert [portion.stop - portion.start for portion in portions] == expected
    assert np.concatenate([np.arange(n)[portion] for portion in portions]).tolist() == list(range(n))
