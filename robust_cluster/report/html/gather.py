"""The records that a report is made of, read so that a damaged one is left out and named instead of ending it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from robust_cluster.errors import MissingResultError, StoreError
from robust_cluster.report.answers import Record
from robust_cluster.report.table import ELSEWHERE
from robust_cluster.runs.record import TEXT, checked, problems, read
from robust_cluster.runs.spec import STAGES
from robust_cluster.runs.store import RESULT, sentences

SPEC = {  # what a report needs of the spec of a run and of those before it
    "stage": str,
    "model": str,
    "latent_dim": int,
    "seed": int,
    "settings": dict,
    "data": {"name": str},
    "attack": TEXT,
    "defense": TEXT,
}


@dataclass(frozen=True)
class Gathered:
    """The records that can be used, by stage, model and key, and a sentence for each that cannot."""

    records: tuple[Record, ...]
    damaged: tuple[str, ...]


def from_folder(folder: Path) -> Gathered:
    """Of every JSON file in a folder of records. Raises: MissingResultError without the folder, StoreError."""
    if not folder.is_dir():
        raise MissingResultError(f"There is no folder of results {folder}")
    with sentences(folder):
        return _gathered(sorted(folder.glob("*.json")), folder)


def from_runs(root: Path) -> Gathered:
    """Of every finished run in a runs directory. Raises: StoreError for one that cannot be listed."""
    with sentences(root):
        return _gathered(sorted(root.glob(f"*/*/{RESULT}")), root)


def _gathered(paths: Iterable[Path], root: Path) -> Gathered:
    """What the files hold; they are named by their place below the root, so that the folder may be moved."""
    found: dict[str, Record] = {}
    damaged: list[str] = []
    for path in paths:
        name = path.relative_to(root)
        for record in _each(path, name):
            if isinstance(record, StoreError):
                damaged.append(record.message)
            elif record["key"] in found:
                damaged.append(f"Run {record['key']} is there twice, the second time in {name}")
            else:
                found[record["key"]] = record
    order = sorted(
        found.values(), key=lambda one: (STAGES.index(one["spec"]["stage"]), one["spec"]["model"], one["key"])
    )
    return Gathered(tuple(order), tuple(damaged))


def _each(path: Path, name: Path) -> Iterator[Record | StoreError]:
    """The records of a file, and for each that is none the error that says why."""
    try:
        content = read(path.read_bytes(), name, hint=ELSEWHERE)
    except StoreError as error:
        yield error
        return
    except OSError as error:
        yield StoreError(f"{name} cannot be read: {error.strerror}")
        return
    for record in content if isinstance(content, list) else [content]:
        try:
            whole = checked(record, name, hint=ELSEWHERE)
        except StoreError as error:
            yield error
            continue
        wrong = [one for run in _lineage(whole["spec"]) for one in problems(run, SPEC, "spec")]
        yield StoreError(f"The record {name} is damaged: {wrong[0]}") if wrong else whole


def _lineage(spec: Record | None) -> Iterator[Record]:
    while spec is not None:
        yield spec
        spec = spec["parent"]
