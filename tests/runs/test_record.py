"""A record is checked where it is read: every field that is missing or of another type is named with its file."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.errors import StoreError
from robust_cluster.runs.record import SCHEMA, checked, problems, read
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.made import MADE

RESULTS = Path(__file__).parents[2] / "tables" / "results"
FILE = Path("runs/result.json")
SPEC = RunSpec("cluster", DataRef("digits"), "ab" * 32, "kmeans", latent_dim=64, seed=0)


@pytest.fixture
def record() -> dict[str, Any]:
    return copy.deepcopy({**MADE, "key": SPEC.key, "spec": SPEC.to_json(), "metrics": {"ACC": 0.5, "NMI": None}})


def test_every_record_of_the_repository_is_whole() -> None:
    records = [one for path in sorted(RESULTS.glob("*.json")) for one in json.loads(path.read_bytes())]
    assert len(records) > 800
    assert [wrong for one in records for wrong in problems(one, SCHEMA, "")] == []


def places(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every named field that a record must have, and what it must be."""
    for name, wanted in schema.items():
        if name != "*" and not name.endswith("?"):
            yield (*path, name), wanted
            if isinstance(wanted, dict):
                yield from places(wanted, (*path, name))


NEEDED = list(places(SCHEMA))


@pytest.mark.parametrize(("path", "wanted"), NEEDED, ids=[".".join(path) for path, _ in NEEDED])
def test_a_field_that_is_missing_or_of_another_type_is_named(
    record: dict[str, Any], path: tuple[str, ...], wanted: Any
) -> None:
    assert checked(record, FILE) == record
    *groups, last = path
    for damage in ("gone", object()):
        broken = copy.deepcopy(record)
        part = broken
        for group in groups:
            part = part[group]
        if damage == "gone":
            del part[last]
        else:
            part[last] = {"another": "type"} if not isinstance(wanted, dict | type(dict)) else [1]
        with pytest.raises(StoreError, match=rf"The record {FILE} is damaged: {'.'.join(path)}") as caught:
            checked(broken, FILE)
        assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"metrics": {"ACC": "high"}}, 'metrics.ACC is "high", must be a number or null'),
        ({"metrics": {"ACC": True}}, "metrics.ACC is true, must be a number or null"),
        ({"radii": [{"eps": 0.1, "attack": "all"}]}, r"radii\[0\].flip is missing"),
        ({"data": {**MADE["data"], "n_samples": 1.5}}, "data.n_samples is 1.5, must be a whole number"),
        ({"training": {"loss": 1.0}}, "training.epochs is missing"),
        ({"flags": [3]}, r"flags\[0\] is 3, must be text"),
        ({"spec": {"stage": "cluster"}}, "The spec in .* is not that of a run"),
        ({"spec": {**SPEC.to_json(), "stage": "bake"}}, "there is no stage 'bake'"),
    ],
)
def test_damage_is_told_in_one_sentence(record: dict[str, Any], damage: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence):
        checked(record | damage, FILE)


def test_parts_that_a_run_has_not_may_be_missing_or_null(record: dict[str, Any]) -> None:
    assert checked(record | {"training": None, "parent_checkpoint": None}, FILE)["training"] is None
    del record["training"]
    assert checked(record, FILE)["key"] == SPEC.key


@pytest.mark.parametrize("text", ["{", '{"a": NaN}', "[" * 100_000, "\xff"])
def test_what_is_no_json_is_named_with_its_file(text: str) -> None:
    with pytest.raises(StoreError, match=f"{FILE} is not valid JSON"):
        read(text.encode("latin-1"), FILE)
