"""What a table shows of an audit: one word for a list of findings. No torch: tables are rendered without it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

Mark = Literal["pass", "warn", "fail", "not run"]
QUICK = tuple(range(1, 9))  # the checks inside every attack
ALL = tuple(range(1, 28))
FIRST = 26  # checks of audits from before there were more


def every(findings: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The checks that there were when the findings were made."""
    return tuple(range(1, max(FIRST, *(int(finding["id"]) for finding in findings)) + 1)) if findings else ALL


def mark(findings: Sequence[Mapping[str, Any]], ids: Collection[int] | None = None) -> Mark:
    """The worst of the findings with these ids: fail, then warn, then "not run", then pass.

    A check that was not run, or has no finding, makes the mark "not run", unless its finding says `needed: false`: the
    claim does not need it, as the check of certificates where nothing is certified. Notes lower no mark.
    """
    of = {int(finding["id"]): finding for finding in findings}
    asked = [of.get(number) for number in (every(findings) if ids is None else ids)]
    statuses = {"not run" if finding is None else finding["status"] for finding in asked}
    missing = any(f is None or (f["status"] == "not run" and f.get("needed", True)) for f in asked)
    if "fail" in statuses:
        return "fail"
    if "warn" in statuses:
        return "warn"
    return "not run" if missing or not asked else "pass"


def count(findings: Sequence[Mapping[str, Any]], ids: Collection[int] | None = None) -> dict[str, int]:
    """How many checks of these ids have each status, the worst first: {"not run": 1, "pass": 7}; none that is 0."""
    of = {int(finding["id"]): str(finding["status"]) for finding in findings}
    each = [of.get(number, "not run") for number in (every(findings) if ids is None else ids)]
    order = ("fail", "warn", "not run", "note", "pass")
    return {status: each.count(status) for status in order if status in each}
