"""One word for an audit: what was not run is never a pass."""

import subprocess
import sys
from typing import Any

import pytest

from robust_cluster.audit.marks import ALL, QUICK, count, mark


def findings(**statuses: str) -> list[dict[str, Any]]:
    """Findings by number, all others pass: findings(_3="fail")."""
    given = {int(name.removeprefix("_")): status for name, status in statuses.items()}
    return [{"id": number, "status": given.get(number, "pass")} for number in ALL]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({}, "pass"),
        ({"_26": "note"}, "pass"),
        ({"_3": "not run"}, "not run"),
        ({"_3": "not run", "_4": "warn"}, "warn"),
        ({"_3": "not run", "_4": "warn", "_5": "fail"}, "fail"),
    ],
)
def test_the_mark_is_the_worst_status(statuses: dict[str, str], expected: str) -> None:
    assert mark(findings(**statuses)) == expected


def test_what_the_claim_does_not_need_may_be_left_out() -> None:
    some = findings(_24="not run")
    assert mark(some) == "not run"
    some[23]["needed"] = False
    assert mark(some) == "pass"


def test_a_finding_that_is_not_there_was_not_run() -> None:
    assert mark([]) == "not run"
    assert mark(findings(), ()) == "not run"
    assert mark(findings()[:8]) == "not run"
    assert mark(findings()[:8], QUICK) == "pass"
    assert mark(findings()[:7], QUICK) == "not run"


def test_statuses_are_counted_with_the_worst_first() -> None:
    assert count(findings(_1="warn", _2="not run")[:20]) == {"warn": 1, "not run": 7, "pass": 18}
    assert list(count(findings(_9="fail", _8="warn"))) == ["fail", "warn", "pass"]


def test_marks_are_read_without_torch() -> None:
    script = "import sys, robust_cluster.audit.marks; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
