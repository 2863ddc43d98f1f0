"""Methods are listed by file name without being imported, and loaded by name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from robust_cluster import discover
from robust_cluster.errors import UnknownNameError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder whose files cannot be imported."""
    files = {
        "models": ["base", "graph", "ae_kmeans", "kmeans"],
        "data": ["base", "prepare", "files", "digits", "fashion_mnist"],
    }
    for kind, modules in files.items():
        (tmp_path / kind).mkdir()
        for name in modules:
            (tmp_path / kind / f"{name}.py").write_text("raise RuntimeError('listing must not import')")
    monkeypatch.setattr(discover, "PACKAGE", tmp_path)
    discover.modules.cache_clear()
    yield tmp_path
    discover.modules.cache_clear()


@pytest.mark.usefixtures("package")
def test_methods_are_listed_by_file_name_without_importing_them() -> None:
    assert discover.names("models") == ["ae_kmeans", "graph", "kmeans"]
    assert discover.modules("models")["graph"] == "robust_cluster.models.graph"


@pytest.mark.parametrize("kind", ["models", "attacks", "defenses", "data"])
def test_every_file_of_a_kind_is_listed_its_family_in_the_module_path(kind: discover.Kind) -> None:
    files = (discover.PACKAGE / kind).rglob("*.py")
    helpers = {"__init__", *discover.RESERVED}
    methods = [file for file in files if file.stem not in helpers and file.parent.name != "formats"]
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
    (package / "models" / "dec.py").touch()
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
