"""A record shows where a run was made, truthfully, and never fails for it."""

import json
import platform
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch

import robust_cluster
from robust_cluster.runs import environment


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    environment._checkout.cache_clear()
    yield
    environment._checkout.cache_clear()


def commit(folder: Path) -> str:
    """Make `folder` a checkout with one commit of everything in it; returns the commit."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return git("rev-parse", "HEAD")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "robust_cluster"
    folder.mkdir()
    (folder / "errors.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE", folder)
    return folder


def test_versions_threads_and_device_are_those_of_this_process() -> None:
    found = environment.describe()
    assert found["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["versions"]["numpy"] == numpy.__version__
    assert found["versions"]["robust_cluster"] == robust_cluster.__version__
    assert set(found["versions"]) == {"robust_cluster", "torch", "torchvision", "numpy", "scikit-learn", "scipy"}
    assert (found["device"], found["accelerator"]) == ("cpu", None)
    assert found["threads"] == torch.get_num_threads()
    assert environment.describe(threads=3)["threads"] == 3
    assert found["cores"] >= 1
    assert found["cpu"]


def test_the_description_is_json_without_the_host_name() -> None:
    text = json.dumps(environment.describe(), allow_nan=False)
    assert socket.gethostname() not in json.loads(text).values()
    assert "host" not in json.loads(text)


def test_a_library_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LIBRARIES", ("no-such-library",))
    assert environment.describe()["versions"]["no-such-library"] is None


def test_a_clean_checkout_gives_its_commit(package: Path) -> None:
    first = commit(package.parent)
    (package.parent / "results.json").write_text("{}")  # beside the package: changes no number
    assert environment._checkout() == (first, False)


@pytest.mark.parametrize("name", ["errors.py", "new_method.py"])
def test_a_changed_or_new_file_in_the_package_makes_it_dirty(package: Path, name: str) -> None:
    first = commit(package.parent)
    (package / name).write_text("changed = True")
    assert environment._checkout() == (first, True)


def test_outside_a_checkout_there_is_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(package.parents[1]))
    assert environment._checkout() == (None, None)


def test_a_package_installed_below_another_checkout_does_not_report_that_one(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "robust_cluster"
    installed.mkdir(parents=True)
    commit(tmp_path)
    monkeypatch.setattr(environment, "PACKAGE", installed)
    assert environment._checkout() == (None, None)


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 2)])
def test_a_missing_or_slow_git_is_no_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    found = environment.describe()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_git_is_asked_once_per_process(package: Path) -> None:
    first = commit(package.parent)
    assert environment._checkout() == (first, False)
    (package / "errors.py").write_text("changed = True")
    assert environment._checkout() == (first, False)


def test_the_product_error_tells_float32_from_bfloat16() -> None:
    assert 1e-8 < environment.matmul_error("cpu") < 2e-6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert 1e-3 < environment.matmul_error("cpu") < 1e-2


def test_the_product_error_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    assert environment.matmul_error() == environment.matmul_error()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("lines", "is_told"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd\n", False),
        ("", True),
    ],
)
def test_a_cpu_has_bfloat16_products_by_its_flags_and_where_none_are_told(
    lines: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, **_: lines)
    assert environment.has_bfloat16("cpu") == is_told
    assert environment.has_bfloat16("mps")
