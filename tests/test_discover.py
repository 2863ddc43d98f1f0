"""Methods are listed by file name without being imported, and loaded by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from robust_cluster import discover
from robust_cluster.errors import UnknownNameError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder whose files cannot be imported."""
    methods = {"models": ["graph", "ae_kmeans", "kmeans"], "data": ["digits", "fashion_mnist"]}
    for kind, modules in methods.items():
        (tmp_path / kind).mkdir()
        for name in ["base", "shared", *modules]:
            line = "" if name not in modules else 'DESCRIPTION = "x"' if kind == "data" else "class Config: ..."
            (tmp_path / kind / f"{name}.py").write_text(f"raise RuntimeError('listing must not import')\n{line}\n")
    monkeypatch.setattr(discover, "PACKAGE", tmp_path)
    discover.modules.cache_clear()
    yield tmp_path
    discover.modules.cache_clear()


@pytest.mark.usefixtures("package")
def test_methods_are_listed_by_file_name_without_importing_them() -> None:
    assert discover.names("models") == ["ae_kmeans", "graph", "kmeans"]
    assert discover.modules("models")["graph"] == "robust_cluster.models.graph"


def defined(path: Path) -> set[str]:
    """The names of the classes and constants that a file defines."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return classes | {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize("kind", ["models", "attacks", "defenses", "data"])
def test_every_file_with_a_config_or_a_description_is_listed_its_family_in_the_module_path(kind: discover.Kind) -> None:
    mark = "DESCRIPTION" if kind == "data" else "Config"
    methods = [file for file in (discover.PACKAGE / kind).rglob("*.py") if mark in defined(file)]
    paths = {
        ".".join(("robust_cluster", *file.relative_to(discover.PACKAGE).with_suffix("").parts)) for file in methods
    }
    assert set(discover.modules(kind).values()) == paths
    assert len(discover.names(kind)) == len(paths), "two files share one method name"


@pytest.mark.usefixtures("package")
def test_data_sets_are_written_with_hyphens_and_shared_reading_is_none_of_them() -> None:
    assert discover.names("data") == ["digits", "fashion-mnist"]
    assert discover.modules("data")["fashion-mnist"] == "robust_cluster.data.fashion_mnist"


def test_a_new_file_is_a_new_method(package: Path) -> None:
    (package / "models" / "dec.py").write_text("\nclass Config: ...\n")
    assert "dec" in discover.names("models")


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("models", "grahp", "Unknown model 'grahp'. Did you mean 'graph'? (rc ls models)"),
        ("data", "fashion_mnist", "Unknown data set 'fashion_mnist'. Did you mean 'fashion-mnist'? (rc ls data)"),
        ("models", "zzz", "Unknown model 'zzz'. Known: ae_kmeans, graph, kmeans. (rc ls models)"),
    ],
)
@pytest.mark.usefixtures("package")
def test_an_unknown_name_is_answered_with_a_suggestion(kind: discover.Kind, name: str, sentence: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        discover.load(kind, name)
    assert str(caught.value) == sentence


def test_load_returns_the_module_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover, "modules", lambda kind: {"spec": "robust_cluster.runs.spec"})
    assert discover.load("models", "spec").__name__ == "robust_cluster.runs.spec"
