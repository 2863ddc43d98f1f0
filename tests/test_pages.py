"""README and the pages that it leads to: short, no link into nowhere, commands and code that run as typed."""

import re
import shlex
import sys
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.main import get_command

from robust_cluster.cli import app as entry
from robust_cluster.data import prepare
from robust_cluster.data.base import Batch, Dataset
from tests.cli.command import rc

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FINDINGS = sorted((ROOT / "tables" / "findings").glob("*.md"))
PAGES = [README, ROOT / "tables" / "RESULTS.md", *FINDINGS, *sorted((ROOT / "robust_cluster").glob("*/README.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PLANNED = ("pretrain", "cluster", "attack", "defend", "reattack", "certify", "table")  # verbs with --dry-run


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(page: Path, language: str = "") -> list[str]:
    """The code blocks of a page in one language, or in none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)
    return [block for named, block in found if named == language]


def typed(page: Path) -> list[str]:
    """The commands in a page's code blocks, without comments."""
    lines = [line.partition("  #")[0] for block in code(page) for line in block.splitlines()]
    return [" ".join(line.split()) for line in lines if line.startswith("rc ")]


def inline(page: Path) -> list[str]:
    """The commands in the running text that are whole: more than a verb, no word like NAME that stands for another."""
    found = [" ".join(command.split()) for command in re.findall(r"`(rc \w+ [^`]+)`", text(page))]
    return [command for command in found if not re.search(r"\b[A-Z]{3,}\b", command)]


TYPED = sorted({command for page in PAGES for command in typed(page)})
COMMANDS = sorted({*TYPED, *(command for page in PAGES for command in inline(page))})


def anchors(page: Path) -> set[str]:
    """What a link to one of the page's headings ends with, as GitHub makes it."""
    titles = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_has_at_most_250_lines_and_a_finding_80() -> None:
    assert len(text(README).splitlines()) <= 250
    assert FINDINGS
    assert {page.name: n for page in FINDINGS if (n := len(text(page).splitlines())) > 80} == {}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text(page)) if "://" not in link]
    for link in links:
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_the_readme_leads_to_every_page() -> None:
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)]+)\)", text(README))}
    assert set(PAGES) - {README} <= linked


def test_the_readme_explains_every_mark_of_a_caption() -> None:
    captions = re.findall(r"Marks, for at least one run of the \w+: ([^.]+)\.", "".join(map(text, PAGES)))
    letters = {unicodedata.normalize("NFKC", mark.split()[0]) for caption in captions for mark in caption.split(", ")}
    assert letters
    assert letters <= set(re.findall(r"\| `(\w)` \|", text(README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_verbs_and_options_that_exist(command: str) -> None:
    group, arguments = get_command(entry.app), shlex.split(command)[1:]
    context = group.make_context("rc", arguments, allow_interspersed_args=False)
    while (commands := getattr(group, "commands", None)) is not None:
        group = commands[arguments.pop(0)]
        context = group.make_context(group.name, list(arguments), parent=context)


@pytest.fixture(scope="module")
def loaded() -> dict[Any, Any]:
    """Data sets that a command of the pages has loaded: two views of 70,000 images take seconds."""
    return {}


def weighed(command: str) -> Any:
    """A command as a test, marked where its data are two views of 70,000 images, which are made first."""
    return pytest.param(command, marks=pytest.mark.slow) if "noisyfashion" in command else command


@pytest.mark.parametrize(
    "command", [weighed(line) for line in TYPED if line.split()[1] in PLANNED and "--from" not in line]
)
def test_a_command_of_a_verb_is_planned_as_typed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: dict[Any, Any]
) -> None:
    load = prepare.load

    def once(ref: Any, *others: Any, path: Any = None, **more: Any) -> Any:
        if path is not None:
            return load(ref, *others, path=path, **more)
        if ref not in loaded:
            loaded[ref] = load(ref, *others, **more)
        return loaded[ref]

    monkeypatch.setattr(prepare, "load", once)
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", x=np.random.default_rng(0).normal(size=(30, 5)), y=np.arange(30) % 3)
    result = rc(f"{command.removeprefix('rc ')} --dry-run")
    assert result.exit_code == 0, result.stderr
    assert "to run" in result.stderr


def test_the_readmes_method_is_a_method(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """ConvAE's terms and one more, which is least, minus its weight times ln K, when all clusters are as large."""
    (source,) = code(README, "python")
    module = ModuleType("balanced")
    monkeypatch.setitem(sys.modules, "balanced", module)
    exec(source, module.__dict__)
    model = module.Balanced(module.Config(hidden=(16,), head=(8,)), digits.info, 4)
    terms = model.losses(Batch((digits.views[0][:50],), torch.arange(50)), "cluster")
    assert set(terms) == {"reconstruction", "prior", "entropy", "balance"}
    assert -10 * np.log(10) <= terms["balance"].item() <= 0
