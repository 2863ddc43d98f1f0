"""The methods of a report: what each is, its settings in each profile, its runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from robust_cluster.discover import Kind, modules
from robust_cluster.errors import RobustClusterError
from robust_cluster.report.answers import KINDS, Record
from robust_cluster.stages.declared import description, path_of
from robust_cluster.stages.settings import GROUP, typed


@dataclass(frozen=True)
class Setting:
    """One setting: its path, what it may be, its value in each profile, what it is."""

    path: str
    allowed: str
    values: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Method:
    """One method with runs; `runs`: how many of each stage. Without settings where it is no longer there."""

    kind: Kind
    name: str
    label: str
    what: str
    settings: tuple[Setting, ...]
    runs: tuple[tuple[str, int], ...]


def methods(
    records: Iterable[Record], profiles: tuple[str, ...], labels: Mapping[str, str]
) -> dict[Kind, list[Method]]:
    """The methods that the runs have, models first, each kind by name; `labels`: how tables write models."""
    counts: dict[tuple[Kind, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record in records:
        spec = record["spec"]
        for group, kind in KINDS.items():
            if spec[group] is not None:
                counts[kind, spec[group]][spec["stage"]] += 1
    found: dict[Kind, list[Method]] = {kind: [] for kind in KINDS.values() if any(kind == one for one, _ in counts)}
    for (kind, name), stages in sorted(counts.items()):
        module = modules(kind).get(name)
        found[kind].append(
            Method(
                kind=kind,
                name=name,
                label=labels.get(name, name),
                what=description(path_of(module)) if module else "a method of one's own, or one that is gone",
                settings=tuple(settings_of(kind, name, profiles)) if module else (),
                runs=tuple(sorted(stages.items())),
            )
        )
    return found


def settings_of(kind: Kind, name: str, profiles: tuple[str, ...]) -> list[Setting]:
    """A method's settings with their values in these profiles; none where they cannot be read."""
    from robust_cluster.stages.methods import described  # late: it loads torch

    try:
        rows: list[dict[str, Any]] = list(described(kind, name, profiles))
    except RobustClusterError:
        return []
    return [
        Setting(
            row["setting"],
            row["allowed"],
            tuple(typed(row[profile]) if profile in row else "" for profile in profiles),
            row["what"],
        )
        for row in rows
        if row["allowed"] != GROUP
    ]
