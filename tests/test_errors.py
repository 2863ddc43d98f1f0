"""Each error's exit code and the text that the user reads."""

import pickle
from typing import Any

import pytest

from robust_cluster import errors

EXIT_CODES = {
    "RobustClusterError": 1,
    "ConfigError": 2,
    "UnknownNameError": 2,
    "DataError": 1,
    "OutOfMemory": 1,
    "ShapeError": 1,
    "CheckpointError": 1,
    "StoreError": 1,
    "NonFiniteError": 1,
    "MissingResultError": 3,
    "StoppedError": 130,
}


def error_classes() -> dict[str, type[errors.RobustClusterError]]:
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, errors.RobustClusterError)}


def test_every_error_class_has_the_exit_code_of_its_kind() -> None:
    assert {name: kind.exit_code for name, kind in error_classes().items()} == EXIT_CODES


@pytest.mark.parametrize("name", sorted(EXIT_CODES.keys() - {"UnknownNameError", "OutOfMemory"}))
def test_the_hint_follows_the_message_in_brackets(name: str) -> None:
    kind = error_classes()[name]
    assert str(kind("dim must be at least 1, got 0", hint="--dim 64")) == "dim must be at least 1, got 0 (--dim 64)"
    assert str(kind("dim must be at least 1, got 0")) == "dim must be at least 1, got 0"


def test_message_and_hint_can_be_read_apart() -> None:
    error = errors.StoreError("The disk is full", hint="make room")
    assert (error.message, error.hint) == ("The disk is full", "make room")


def test_an_unknown_name_is_answered_with_the_nearest_known_one() -> None:
    error = errors.UnknownNameError("model", "grahp", ["mie", "graph", "convae"], listing="rc ls models")
    assert str(error) == "Unknown model 'grahp'. Did you mean 'graph'? (rc ls models)"


def test_an_unknown_name_that_is_near_to_none_is_answered_with_all_of_them_sorted() -> None:
    error = errors.UnknownNameError("table", "zzz", iter(["table2", "table1"]))
    assert str(error) == "Unknown table 'zzz'. Known: table1, table2."


@pytest.mark.parametrize("name", list(EXIT_CODES))
def test_an_error_arrives_in_another_process_as_it_was(name: str) -> None:
    kind = error_classes()[name]
    words: dict[str, tuple[Any, ...]] = {"UnknownNameError": ("model", "grph", ["graph"]), "OutOfMemory": ("x", 2, 1)}
    error = kind(*words.get(name, ("x",)))
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), found.hint) == (kind, str(error), error.hint)
