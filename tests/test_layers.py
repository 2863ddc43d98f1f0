"""Dependencies point down, and what the command line reads first does not import torch."""

import ast
import importlib.util
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import robust_cluster
from robust_cluster.discover import PACKAGE

LAYERS = {
    **dict.fromkeys(("errors", "discover"), 0),
    **dict.fromkeys(("data", "nn", "metrics", "runs"), 1),
    "models": 2,
    "attacks": 3,
    "defenses": 4,
    **dict.fromkeys(("stages", "audit", "measure"), 5),
    **dict.fromkeys(("cli", "report", "evaluation", "verbs", "sklearn"), 6),
}
# The edges inside a layer: (importer, imported module or anything below it).
SIDEWAYS = {
    ("discover", "robust_cluster.errors"),
    ("data", "robust_cluster.runs.spec"),  # DataRef
    ("data", "robust_cluster.runs.seeds"),  # the rows that `limit` takes
    ("stages", "robust_cluster.audit"),
    ("stages", "robust_cluster.measure"),
    ("audit", "robust_cluster.measure"),
    ("cli", "robust_cluster.report"),
    ("sklearn", "robust_cluster.verbs"),
}
TORCH_FREE = ("errors", "discover", "runs", "report")
MODULES = sorted(info.name for info in pkgutil.walk_packages([str(PACKAGE)], prefix="robust_cluster."))


def source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def imports(text: str, package: str) -> Iterator[tuple[str, ...]]:
    """Each import of `text`, a module in `package`, as its dotted parts, those inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from ((*base.split("."), alias.name) for alias in node.names)


def wrong_edges(module: str, text: str) -> list[str]:
    """The imports of a module that point up, or sideways without leave."""
    importer = module.split(".")[1]
    wrong = []
    for parts in imports(text, module.rpartition(".")[0]):
        if parts[0] != "robust_cluster" or parts[1:2] == (importer,) or len(parts) == 1 or parts[1] not in LAYERS:
            continue
        name = ".".join(parts)
        sideways = any(importer == who and f"{name}.".startswith(f"{what}.") for who, what in SIDEWAYS)
        if LAYERS[parts[1]] >= LAYERS[importer] and not sideways:
            wrong.append(f"{module} imports {name}")
    return wrong


def loaded_early(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, `if TYPE_CHECKING:` left out."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.stmt):
            yield node
        pending.extend(ast.iter_child_nodes(node))


def imports_torch(text: str) -> bool:
    """Whether importing the module imports torch or torchvision by its own statements."""
    early = [node for node in loaded_early(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [parts[0] for node in early for parts in imports(ast.unparse(node), "robust_cluster")]
    return not {"torch", "torchvision"}.isdisjoint(names)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    assert wrong_edges(module, source(module)) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("nn.layers", "from robust_cluster.models.base import ClusterModel"),
        ("nn.layers", "from robust_cluster import models"),
        ("nn.layers", "def late():\n    import robust_cluster.cli.app"),
        ("nn.layers", "from ..models import base"),
        ("nn.layers", "from robust_cluster.metrics.nmi import nmi"),
        ("metrics.nmi", "from robust_cluster.runs.spec import DataRef"),
        ("data.base", "from robust_cluster.runs.store import RunStore"),
        ("data.base", "from robust_cluster.runs import specification"),
        ("audit.budget", "from robust_cluster.stages.loop import fit"),
        ("report.table", "from robust_cluster.cli.console import console"),
        ("errors", "from robust_cluster.discover import names"),
    ],
)
def test_an_edge_that_points_up_or_sideways_is_found(module: str, text: str) -> None:
    assert len(wrong_edges(f"robust_cluster.{module}", text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("models.base", "from robust_cluster.data.base import Views"),
        ("models.autoencoder.graph", "from . import convae"),
        ("data.base", "from robust_cluster.runs.spec import DataRef"),
        ("data.prepare", "from robust_cluster.runs import spec, seeds"),
        ("stages.attack", "from robust_cluster.audit.budget import check"),
        ("cli.app", "from robust_cluster import __version__"),
        ("report.table", "import pandas, robust_cluster"),
    ],
)
def test_an_edge_that_points_down_is_allowed(module: str, text: str) -> None:
    assert wrong_edges(f"robust_cluster.{module}", text) == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[1] in TORCH_FREE])
def test_a_module_that_must_answer_at_once_does_not_import_torch(module: str) -> None:
    assert not imports_torch(source(module))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import torch", True),
        ("from torch.nn import Module", True),
        ("try:\n    import torchvision\nexcept ImportError:\n    pass", True),
        ("class A:\n    from torch import Tensor", True),
        ("def late():\n    import torch", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", False),
        ("import torchless", False),
    ],
)
def test_an_early_import_of_torch_is_told_from_a_late_one(text: str, expected: bool) -> None:
    assert imports_torch(text) is expected


def test_torch_is_not_loaded_by_listing_reporting_or_the_command_lines_entry() -> None:
    light = [name for name in MODULES if name.split(".")[1] in TORCH_FREE or name == "robust_cluster.cli.app"]
    script = f"""
import importlib, sys
for name in {light!r}:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
from robust_cluster import discover
for kind in ("models", "attacks", "defenses", "data"):
    discover.names(kind)
    assert "torch" not in sys.modules, "listing " + kind
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_starts_without_libraries_that_take_a_second_to_import() -> None:
    """`make bench` measures how fast; PyTorch itself takes most of it."""
    script = """
import sys
import robust_cluster.stages.chain
loaded = {"scipy.stats", "sklearn", "pandas", "matplotlib", "torchvision"} & set(sys.modules); assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_holds_only_the_listed_folders_and_files() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found - {"__init__"} <= LAYERS.keys()
    assert Path(robust_cluster.__file__).parent == PACKAGE


@pytest.mark.parametrize("module", MODULES)
def test_a_modules_name_says_what_it_holds(module: str) -> None:
    assert module.rpartition(".")[2] not in {"utils", "util", "helpers", "common", "misc", "tmp"}
