"""Methods of installed packages, which entry points name: listed, run and recorded as those of the house."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robust_cluster import discover
from robust_cluster.cli.options import offer
from tests.cli.command import rc, refused

MEANS = '''"""Means: k-means of another package (2026)."""
from dataclasses import dataclass
from robust_cluster.models.shallow import kmeans


@dataclass(frozen=True)
class Config(kmeans.Config):
    """Of means."""

    shift: float = 0.0  # of nothing


class Helper:
    """Another class of the file."""


class Means(kmeans.KMeansModel):
    """k-means."""
'''
DIGITS = "--data digits --limit 50 --profile smoke --threads 1"
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install(package, content, models="means"): a package with one module, which is the method of each given kind."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def installed(package: str, content: str = MEANS, version: str = "1.0", **names: str) -> Path:
        folder = site / package
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError('listing must not import')" if "bad" in package else "")
        (folder / "mine.py").write_text(content)
        known = site / f"{package}-{version}.dist-info"
        known.mkdir()
        (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = (f"[robust_cluster.{kind}]\n{name} = {package}.mine\n" for kind, name in names.items())
        (known / "entry_points.txt").write_text("\n".join(lines))
        discover.offers.cache_clear()
        return folder / "mine.py"

    yield installed
    discover.offers.cache_clear()
    for name in [name for name in sys.modules if name.startswith("their")]:
        del sys.modules[name]


def test_an_installed_method_is_listed_run_and_part_of_the_key(install: Install) -> None:
    file = install("theirs", models="means")
    listed = {row["name"]: row["what"] for row in json.loads(rc("ls models --json").stdout)}
    assert listed["means"] == "Means: k-means of another package (2026). [theirs 1.0]"
    assert offer("models")("mea") == ["means"]
    assert "model.shift" in rc("ls models means").stdout
    result = rc(f"cluster --model means {DIGITS} --set model.shift=1 --json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["spec"]["packages"] == {"models/means": f"theirs 1.0 {digest}"}
    (run,) = Path("runs/cluster").iterdir()
    assert run.name.startswith("means-digits-50-")
    assert len(rc(f"predict {run} -q").stdout.splitlines()) == 51
    file.write_text(MEANS + "\n# changed\n")
    assert (
        f"{run.parent.name}/{run.name} was made with theirs 1.0, there is theirs 1.0 whose file is another for the "
        "method means" in refused(f"predict {run} -q")
    )
    again = json.loads(rc(f"cluster --model means {DIGITS} --set model.shift=1 --json").stdout)
    assert again["key"] != record["key"]


def test_a_run_of_the_house_has_the_key_that_it_had(install: Install) -> None:
    before = rc(f"cluster --model kmeans {DIGITS} --dry-run").stderr
    install("theirs", models="means")
    assert rc(f"cluster --model kmeans {DIGITS} --dry-run").stderr == before


def test_a_name_of_the_house_stays_the_houses_and_that_is_said(install: Install) -> None:
    install("theirs", models="kmeans")
    sentence = "theirs 1.0 offers the model 'kmeans', a name that robust_cluster has: it is left out"
    assert sentence in rc("ls models").stderr
    assert sentence in rc(f"cluster --model kmeans {DIGITS} --dry-run").stderr
    assert discover.packages("models", ["kmeans"]) == {}
    assert discover.load("models", "kmeans").__name__ == "robust_cluster.models.shallow.kmeans"


def test_a_name_that_two_packages_have_is_nobodys(install: Install) -> None:
    install("theirs", models="means")
    install("theirother", version="2.1", models="means")
    sentence = "theirother 2.1 and theirs 1.0 both offer the model 'means': remove one of them"
    assert sentence in refused(f"cluster --model means {DIGITS}")
    listed = rc("ls models")
    assert sentence in listed.stderr
    assert " means " not in listed.stdout


def test_a_name_that_is_none_is_left_out(install: Install) -> None:
    install("theirs", models="../means")
    assert "theirs 1.0 offers the model '../means', and a name is letters, digits and _: it is left out" in (
        rc("ls models").stderr
    )


def test_a_package_that_raises_breaks_only_itself(install: Install) -> None:
    install("theirbad", models="means", attacks="push")
    assert "[theirbad 1.0]" in rc("ls models").stdout
    said = refused(f"cluster --model means {DIGITS}")
    assert "the model means of theirbad 1.0 cannot be imported: RuntimeError: listing must not import" in said
    words = "--attack ensemble --norm linf --eps 0.1 --set attack.queries=5 --dry-run"
    assert rc(f"attack --model kmeans {DIGITS} {words}").exit_code == 0
    assert {"pgd", "push"} & discover.loadable("attacks").keys() == {"pgd"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("x = 1", "the model means of theirs 1.0 must define one model, got none"),
        (MEANS + "class Other(Means): ...\n", "must define one model, got several: Means, Other"),
        (
            MEANS.replace("kmeans.Config", "").replace("(frozen=True)", ""),
            "as a class Config (@dataclass(frozen=True))",
        ),
    ],
)
def test_a_module_that_is_no_method_gets_one_sentence(install: Install, content: str, sentence: str) -> None:
    install("theirs", content, models="means")
    assert sentence in refused(f"cluster --model means {DIGITS}")


@pytest.mark.slow
def test_an_attack_and_a_defense_of_a_package_are_found_too(install: Install) -> None:
    push = "from dataclasses import dataclass\nfrom robust_cluster.attacks import noise\nConfig = noise.Config\n"
    install("theirs", push + "class Push(noise.Noise): ...\n", attacks="push")
    result = rc(f"attack --model kmeans {DIGITS} --attack push --norm linf --eps 0.1 --rows 20 --json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["spec"]["packages"].keys() == {"attacks/push"}
    guard = push.replace("attacks import noise", "defenses import mutual_info as noise")
    install("theirguard", guard + "class Guard(noise.MutualInfo): ...\n", defenses="guard")
    assert "guard" in rc("ls defenses").stdout
    assert rc(f"defend --model graph {DIGITS} --defense guard --dry-run").exit_code == 0
