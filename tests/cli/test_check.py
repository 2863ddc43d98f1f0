"""`rc check ./mine.py`: a line for each contract, and one sentence for a file that is no method or breaks one."""

import json
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.cli import check
from robust_cluster.stages import checking
from tests.cli.command import ROOT, check_help, rc, refused

SETTINGS = "@dataclass(frozen=True)\nclass Config({}.Config):\n    '''Of mine.'''\n\n"
HEAD = "import torch\nimport torch.nn.functional as F\nfrom dataclasses import dataclass\n"
MEANS = f"{HEAD}from robust_cluster.models.shallow import kmeans\n{SETTINGS.format('kmeans')}"
DEC = f"{HEAD}from robust_cluster.models.autoencoder import dec\nPROFILES = dec.PROFILES\n{SETTINGS.format('dec')}"
NOISE = f"{HEAD}from robust_cluster.attacks import noise\n{SETTINGS.format('noise')}class Mine(noise.Noise):\n"


def checked(content: str, code: int) -> dict[str, Any]:
    """Contract -> what became of it, as --json prints it."""
    Path("mine.py").write_text(content)
    result = rc("check ./mine.py --json --quiet")
    assert result.exit_code == code, result.stderr
    found = json.loads(result.stdout)
    assert found["name"].startswith("mine-")
    return {line["contract"]: line for line in found["contracts"]}


def broken(content: str) -> dict[str, str]:
    """The sentences of the contracts that a file does not keep."""
    return {name: line["note"] for name, line in checked(content, 1).items() if line["status"] == "failed"}


def test_the_help_leads_with_its_examples() -> None:
    check_help("check", check.VERB)


def test_a_method_that_keeps_its_contracts_passes_line_by_line() -> None:
    Path("mine.py").write_text(MEANS + "class Mine(kmeans.KMeansModel):\n    pass\n")
    result = rc("check mine.py")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 12
    assert all(line.endswith("  passed") for line in lines)
    assert "soft labels sum to 1  " in result.stdout
    assert "on 200 digits, two minutes at most" in result.stderr


def test_an_attack_that_leaves_its_budget_is_told_by_how_much() -> None:
    moved = "    def perturb(self, surface, batch):\n        return (surface.point(batch)[0] + 2 * self.budget.eps,)\n"
    found = broken(NOISE + moved)
    assert list(found) == ["stays within its budget"]
    assert "a moved point is 0.486 outside of the budget (linf, eps 0.243, " in found["stays within its budget"]
    result = rc("check mine.py -q")
    assert result.stderr.splitlines() == ["error: mine.py does not keep 1 of its contracts: stays within its budget"]


def test_a_fault_of_the_file_fails_the_contract_and_names_the_line() -> None:
    found = broken(NOISE + "    def perturb(self, surface, batch):\n        return surface.point(batch)[0] @ 3\n")
    assert found["one seed, one attack"].startswith("TypeError: unsupported operand ")
    assert found["one seed, one attack"].endswith(", mine.py line 11")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1 / 0", "mine.py cannot be imported: ZeroDivisionError: division by zero"),
        ("x = 1", "mine.py must define one model, attack or defense, or load(), got none"),
        (MEANS + "class A(kmeans.KMeansModel): ...\nclass B(kmeans.KMeansModel): ...\n", "got several: A, B"),
        (NOISE + "    pass\nfrom robust_cluster.models.shallow import kmeans\nclass M(kmeans.KMeansModel):\n    pass\n",
         "must define one model, attack or defense, or load(), got model and attack"),
        (MEANS.replace("(frozen=True)", "") + "class A(kmeans.KMeansModel):\n    pass\n", "cannot inherit non-frozen"),
        ("class Config: pass\nclass A:\n    def perturb(self): ...", "a class Config (@dataclass(frozen=True))"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_method_gets_one_sentence(content: str, sentence: str) -> None:
    Path("mine.py").write_text(content)
    assert sentence in refused("check mine.py")


def test_a_file_that_is_not_there_gets_one_sentence() -> None:
    assert "none.py cannot be read: No such file" in refused("check none.py")


def test_a_trained_net_that_takes_no_digits_is_told_what_is_missing() -> None:
    found = broken("import torch\ndef load():\n    return torch.nn.Linear(64, 3)\n")
    assert found == {"runs on digits": "the model must give (64, 10) for 64 samples and 10 clusters, got (64, 3)"}


def test_after_a_contract_that_the_others_rest_on_none_is_tried() -> None:
    found = checked(MEANS + "class Mine(kmeans.KMeansModel):\n    def assign(self, z):\n"
                    "        return super().assign(z) / 0 * 0\n", 1)  # fmt: skip
    assert found["soft labels sum to 1"]["note"].startswith(
        "assign gives NaN or infinite values for 200 of 200 samples"
    )
    assert list(found)[-1] == "the others"
    assert found["the others"]["status"] == "not run"


def test_contracts_that_are_not_tried_in_two_minutes_are_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LIMIT", 0.0)
    Path("mine.py").write_text(MEANS + "class Mine(kmeans.KMeansModel):\n    pass\n")
    result = rc("check mine.py -q")
    assert result.exit_code == 1
    assert "the others                            not run: two minutes are over" in result.stdout
    assert result.stderr == "error: mine.py keeps 1 of its contracts, and the others were not tried\n"


TAUGHT = """
from sklearn.datasets import load_digits
TRUTH = torch.tensor(load_digits().target)
class Mine(dec.DEC):
    def losses(self, batch, phase, outputs=None):
        found = super().losses(batch, phase, outputs)
        taught = F.cross_entropy(self.encode(batch.views).z, TRUTH[batch.index] % 6)
        return found if phase == "pretrain" else found | {"taught": taught}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "contracts"),
    [
        (DEC + TAUGHT, ["takes no labels", "cluster sees no row numbers"]),
        (
            DEC + "class Mine(dec.DEC):\n    def encode(self, views):\n"
            "        return super().encode((F.dropout(views[0], 0.2),))\n",
            ["same answer twice"],
        ),
        (
            DEC + "class Mine(dec.DEC):\n    seen = 0.0\n    def losses(self, batch, phase, outputs=None):\n"
            "        self.seen += 1\n        own = super().losses(batch, phase)\n"
            "        return {name: term * self.seen for name, term in own.items()}\n",
            ["reports the losses of pretrain", "reports the losses of cluster", "resumes bit for bit"],
        ),
    ],
    ids=["labels", "dropout", "resume"],
)  # fmt: skip
def test_a_model_that_breaks_contracts_hears_which(content: str, contracts: list[str]) -> None:
    assert set(contracts) <= set(broken(content))


@pytest.mark.slow
@pytest.mark.parametrize("of", ["README", "net", "estimator", "attack", "defense"])
def test_good_files_of_every_kind_pass(of: str) -> None:
    mine = "class Mine({}):\n    pass\n"
    files = {
        "README": (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0],
        "net": "from torch import nn\ndef load():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n",
        "estimator": "from sklearn.cluster import KMeans\nimport numpy\ndef load():\n"
        "    x = numpy.random.default_rng(0).random((99, 64), dtype='float32')\n"
        "    return KMeans(10, n_init=1, random_state=0).fit(x)\n",
        "attack": f"{HEAD}from robust_cluster.attacks import latent_net\nPROFILES = latent_net.PROFILES\n"
        + SETTINGS.format("latent_net")
        + mine.format("latent_net.LatentNet"),
        "defense": f"{HEAD}from robust_cluster.defenses import mutual_info\nPROFILES = mutual_info.PROFILES\n"
        + SETTINGS.format("mutual_info")
        + mine.format("mutual_info.MutualInfo"),
    }
    found = checked(files[of], 0)
    assert {line["status"] for line in found.values()} == {"passed"}
    assert len(found) == {"README": 22, "net": 10, "estimator": 9, "attack": 8, "defense": 8}[of]
