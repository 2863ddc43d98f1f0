"""Every command that a hint of the source tells to type is one that the command line accepts."""

import ast
import re
import shlex
from collections.abc import Iterator

import pytest
from typer.main import get_command

from robust_cluster.cli import app as entry
from robust_cluster.cli.options import value
from robust_cluster.discover import PACKAGE, load, modules
from robust_cluster.stages.chain import field_names

ROOT = get_command(entry.app)
GROUPS = ("data", "runs")  # verbs that have verbs of their own
FLAGS = {
    flag
    for command in (*ROOT.commands.values(), *(one for name in GROUPS for one in ROOT.commands[name].commands.values()))  # type: ignore[attr-defined]
    for parameter in command.params
    for flag in (*parameter.opts, *parameter.secondary_opts)
}
KNOWN = {"model": "models", "attack": "attacks", "defense": "defenses"}
PART = "1"  # for what an f-string puts in


def text_of(node: ast.AST) -> str:
    """The text of a constant or of an f-string, its parts replaced."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else PART for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def hints() -> Iterator[tuple[str, str]]:
    """Place and text of every hint, and of every text that is a module's constant or a variable called hint."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if not re.search("hint|listing", source, re.IGNORECASE):
            continue
        for node in ast.walk(ast.parse(source)):
            given: list[ast.expr] = []
            if isinstance(node, ast.Call):
                given = [one.value for one in node.keywords if one.arg in ("hint", "listing", "label_hint")]
            elif isinstance(node, ast.Assign) and "hint" in ast.unparse(node.targets[0]).lower():
                given = [node.value]
            for one in given:
                inside = {
                    id(part) for inner in ast.walk(one) if isinstance(inner, ast.JoinedStr) for part in inner.values
                }
                for inner in ast.walk(one):
                    if id(inner) not in inside and (text := text_of(inner)):
                        yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


HINTS = list(hints())
SETTINGS = [
    (place, found) for place, text in HINTS for found in re.findall(r"--set ('[^']+'|[^\s,;]+\[[^]]*\]|\S+)", text)
]
COMMANDS = [(place, found) for place, text in HINTS for found in re.findall(r"\brc ([a-z]+(?: [a-z]+)?)", text)]


def test_there_are_hints_to_look_at() -> None:
    assert len(HINTS) > 150
    assert len(SETTINGS) > 10
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("place", "text"), HINTS)
def test_the_flags_of_a_hint_exist(place: str, text: str) -> None:
    unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - FLAGS - {"--help"}
    assert not unknown, f"{place} says {text!r}"


@pytest.mark.parametrize(("place", "text"), SETTINGS)
def test_the_settings_of_a_hint_can_be_set(place: str, text: str) -> None:
    key, equals, right = shlex.split(text)[0].rstrip(":,;").partition("=")
    group, _, name = key.partition(".")
    if equals and not right.startswith(("...", "KEY", "VALUE")):
        value(right)
    if group in KNOWN and name != PART and not name.endswith(f".{PART}"):
        kind = KNOWN[group]
        assert any(name in field_names(load(kind, one).Config) for one in modules(kind)), f"{place} says {key}"  # type: ignore[arg-type]


@pytest.mark.parametrize(("place", "text"), COMMANDS)
def test_the_verb_of_a_hint_exists(place: str, text: str) -> None:
    verb, _, second = text.partition(" ")
    known = ROOT.commands  # type: ignore[attr-defined]
    assert verb in known, f"{place} says rc {text}"
    if verb in GROUPS:
        assert second in known[verb].commands, f"{place} says rc {text}"
