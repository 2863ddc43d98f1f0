"""What a run's record is made of, checked wherever one is read: a damaged one is named, not met as a KeyError later.

A field whose name ends in "?" may be missing: records from before it was written stay readable.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robust_cluster.errors import StoreError
from robust_cluster.runs.spec import STAGES, RunSpec

AGAIN = "delete it and give the command again"
Record = dict[str, Any]  # a run's result.json
OUT_OF_MEMORY = "out of memory"  # flag of a clustering that would take more than there is: "memory" says how much
NUMBER = (float, int)
MAYBE = (float, int, type(None))
TEXT = (str, type(None))
NUMBERS = {"*": MAYBE}  # any names
SCHEMA: dict[str, Any] = {
    "key": str,
    "spec": dict,
    "profile": str,
    "overrides?": dict,
    "own_files?": {"*": str},
    "weights?": {"file": str, "sha256": str},
    "parent_checkpoint?": TEXT,
    "checkpoint?": {"file": str, "sha256": str, "bytes": int},
    "data": {"name": str, "n_samples": int, "n_clusters": int, "shapes": [list], "scale": NUMBER, "labels": bool},
    "training?": {
        "epochs": int, "steps": int, "seconds": NUMBER, "stop_reason": str, "loss": MAYBE, "losses": NUMBERS,
        "total_seconds?": MAYBE,
    },
    "environment?": {"accelerator": TEXT, "cpu": str, "threads": int, "commit": TEXT, "dirty": (bool, type(None))},
    "metrics": NUMBERS,
    "internal?": {"rows": int, "embedding": NUMBERS, "data": NUMBERS},
    "health?": dict,
    "flags": [str],
    "memory?": {"needed": int, "available": int},
    "threat?": {
        "space": str, "norm": TEXT, "eps_model": MAYBE, "eps_pixels": MAYBE, "knowledge": str, "stage": str, "bn": str,
        "queries": MAYBE,
    },
    "radii?": [{"eps": NUMBER, "attack": str, "flip": NUMBER, "gain?": MAYBE}],
    "samples?": {"rows": int, "truth": TEXT, "clean": str, "moved?": str, "smoothed?": str, "radius?": [NUMBER]},
    "certified?": {"sigma": NUMBER, "n": int, "alpha": NUMBER, "space": str, "radii": [NUMBER], "share": [NUMBER]},
    "adaptive?": NUMBERS,
    "audit?": [{"id": int, "name": str, "status": str, "value": MAYBE, "note": str}],
    "drift?": {"mean?": NUMBERS, "steps": [NUMBER]},
    "curve?": [NUMBERS],
}  # fmt: skip


def read(content: bytes, path: Path, *, hint: str = AGAIN) -> Any:
    """The JSON in a file. Raises: StoreError naming it, also for NaN and infinity, which no record has."""

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not valid JSON: {error}", hint=hint) from error


def checked(record: Any, path: Path, *, hint: str = AGAIN) -> Record:
    """The record, when it has what a run's record has. Raises: StoreError naming file, field and what is wrong."""
    for wrong in problems(record, SCHEMA, ""):
        raise StoreError(f"The record {path} is damaged: {wrong}", hint=hint)
    spec_of(record["spec"], path, hint=hint)
    return dict(record)


def spec_of(content: Any, path: Path, *, hint: str = AGAIN) -> RunSpec:
    """The spec that stands in a file. Raises: StoreError naming it."""
    try:
        spec = RunSpec.from_json(content)
        if spec.stage not in STAGES:
            raise ValueError(f"there is no stage {spec.stage!r}")
        return spec
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise StoreError(f"The spec in {path} is not that of a run: {error}", hint=hint) from error


def problems(value: Any, wanted: Any, place: str) -> Iterator[str]:
    """What is wrong with a value and where, a sentence each: "metrics.ACC is 'high', must be a number or null"."""
    if isinstance(wanted, dict | list) and not isinstance(value, type(wanted)):
        yield f"{place or 'it'} is {short(value)}, must be {WORDS[type(wanted)]}"
    elif isinstance(wanted, list):
        for number, one in enumerate(value):
            yield from problems(one, wanted[0], f"{place}[{number}]")
    elif isinstance(wanted, dict):
        for name, inner in wanted.items():
            key = name.removesuffix("?")
            for each in value if key == "*" else (key,):
                where = f"{place}.{each}".removeprefix(".")
                if each not in value:
                    yield from () if name.endswith("?") else (f"{where} is missing",)
                elif value[each] is not None or not name.endswith("?"):  # what a run has not may be null
                    yield from problems(value[each], inner, where)
    elif not isinstance(value, wanted) or (isinstance(value, bool) and bool not in kinds(wanted)):
        yield f"{place} is {short(value)}, must be {' or '.join(WORDS[kind] for kind in kinds(wanted))}"


WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def kinds(wanted: Any) -> tuple[type, ...]:
    """The types that a value may have; a number's whole numbers are not named apart."""
    found = wanted if isinstance(wanted, tuple) else (wanted,)
    return tuple(kind for kind in found if kind is not int or float not in found)


def short(value: Any) -> str:
    """A value in a sentence, cut after 40 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
