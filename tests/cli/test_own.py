"""Methods and trained models in files of the user's own: `--model ./mine.py`."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from robust_cluster import discover
from robust_cluster.data.base import Folders
from robust_cluster.data.prepare import load
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from tests.cli.command import ROOT, rc, refused

CORNERS = """
import torch
from torch import nn


class Near(nn.Module):
    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.arange(10).float().unsqueeze(1) * torch.ones(64))

    def forward(self, x):
        return -torch.cdist(x, self.centers) ** 2


def load():
    return Near()
"""
DIGITS = "--data digits --limit 100 --profile smoke --threads 1"


@pytest.fixture
def net() -> Path:
    path = Path("net.py")
    path.write_text(CORNERS)
    return path


def test_a_trained_model_is_taken_as_it_is_attacked_and_found_again(net: Path) -> None:
    words = f"attack --model ./net.py {DIGITS} --attack ensemble --norm linf --eps 0.1 --rows 40 --json"
    result = rc(words)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert "adopted" in record["flags"]
    assert record["training"]["epochs"] == 0
    assert record["spec"]["model"].startswith("net-")
    assert record["own_files"] == {f"models/{record['spec']['model']}": str(net.absolute())}
    assert [one["status"] for one in record["audit"][:8]] == ["pass"] * 8
    (run,) = Path("runs/attack").iterdir()
    assert len(rc(f"predict {run} --quiet").stdout.splitlines()) == 101
    before = json.loads(rc(words).stdout)
    assert before["key"] == record["key"], "the same file has the same key, and the run is done"
    net.write_text(CORNERS + "\n# changed\n")
    assert "is not the file that the run was made with" in refused(f"predict {run} --quiet")
    assert json.loads(rc(f"cluster --model net.py {DIGITS} --json").stdout)["spec"]["model"] != record["spec"]["model"]


def test_the_readmes_method_runs_from_a_file_of_ones_own() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    Path("balanced.py").write_text(readme.split("```python\n")[1].split("```")[0])
    result = rc(f"cluster --model ./balanced.py {DIGITS} --set model.balance=2 --set model.cluster.epochs=1 --json")
    assert result.exit_code == 0, result.stderr
    (record,) = RunStore(Path("runs")).records("cluster")
    assert record["spec"]["settings"]["model"]["balance"] == 2.0
    discover.own.clear()  # as another process, which knows no file
    shown = rc(f"runs show {record['key']}").stdout
    assert "model.balance" in shown
    assert "model.head" not in shown, "as in the profile"
    discover.own.clear()
    assert "h settings" not in rc("table runs --profile smoke").stdout
    Path("balanced.py").write_text("")
    discover.own.clear()
    assert "h settings" in rc("table runs --profile smoke").stdout
    assert "not known now" in rc(f"runs show {record['key']}").stdout
    assert "balance" in record["training"]["losses"]


def test_a_method_of_ones_own_may_have_a_pretraining_of_its_own_and_settings_that_no_other_has() -> None:
    Path("mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from robust_cluster.models.autoencoder import ae_kmeans\n"
        "PROFILES = ae_kmeans.PROFILES\n"
        "@dataclass(frozen=True)\n"
        "class Config(ae_kmeans.Config):\n"
        "    twist: float = 1.0  # times the loss\n"
        "class Mine(ae_kmeans.AEKMeans):\n"
        "    pretrained_by = 'mine'\n"
        "    pretrain_fields = (*ae_kmeans.AEKMeans.pretrain_fields, 'twist')\n"
        "    def losses(self, batch, phase, outputs=None):\n"
        "        return {name: self.config.twist * term for name, term in super().losses(batch, phase).items()}\n"
    )
    words = f"{DIGITS} --set model.pretrain.epochs=1 --set model.hidden=[8] --set model.twist=2 --json"
    result = rc(f"cluster --model mine.py {words}")
    assert result.exit_code == 0, result.stderr
    spec = json.loads(result.stdout)["spec"]
    assert spec["parent"]["model"] == spec["model"]
    assert spec["parent"]["settings"]["model"]["twist"] == 2.0


@pytest.mark.filterwarnings("error")
def test_the_pages_network_is_taken_as_it_is() -> None:
    page = (ROOT / "robust_cluster" / "audit" / "README.md").read_text(encoding="utf-8")
    Path("net.py").write_text(page.split("```python\n")[1].split("```")[0])
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    torch.save(net.state_dict(), "net.pt")
    assert rc(f"cluster --model ./net.py {DIGITS} --normalize none").exit_code == 0
    (run,) = Path("runs/cluster").iterdir()
    lines = rc(f"predict {run} -q").stdout.splitlines()[1:]
    x = load(DataRef("digits", limit=100, normalize="none"), Folders()).views[0][:]
    assert [int(line.split(",")[1]) for line in lines] == net(x).argmax(dim=1).tolist()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1 / 0", "bad.py cannot be imported: ZeroDivisionError: division by zero"),
        ("x = 1", "must define one model (or load(), which gives a trained model), got none"),
        ("def load():\n    raise OSError('no weights')", "load() of bad.py fails: OSError: no weights"),
        ("def load():\n    return 3", "a model is a torch module or has predict, got int"),
        (
            "from robust_cluster.models.shallow.kmeans import KMeansModel\nclass Config:\n    pass\n"
            "class Mine(KMeansModel):\n    pass",
            "must define its settings as a class Config (@dataclass(frozen=True))",
        ),
        (
            "from robust_cluster.models.shallow.kmeans import Config, KMeansModel\n"
            "class A(KMeansModel):\n    pass\nclass B(KMeansModel):\n    pass",
            "must define one model (or load(), which gives a trained model), got several: A, B",
        ),
        (
            "import torch\ndef load():\n    return torch.nn.Linear(64, 3)",
            "must give (64, 10) for 64 samples and 10 clu",
        ),
        (
            "import torch\nclass Two(torch.nn.Linear):\n    def forward(self, x):\n"
            "        return super().forward(x) * torch.rand(len(x), 10)\ndef load():\n    return Two(64, 10)",
            "another label when it is asked again",
        ),
    ],
)
def test_a_file_that_holds_no_method_gets_one_sentence(content: str, sentence: str) -> None:
    Path("bad.py").write_text(content)
    assert sentence in refused(f"cluster --model bad.py {DIGITS} --quiet")


def test_a_file_that_is_not_there_gets_one_sentence() -> None:
    assert "none.py cannot be read: No such file" in refused(f"cluster --model none.py {DIGITS}")
    assert "none.py cannot be read: No such file" in refused(f"attack --model kmeans --attack none.py {DIGITS}")


def test_an_attack_of_ones_own_is_measured_like_those_of_the_house() -> None:
    Path("double.py").write_text(
        "from dataclasses import dataclass\n"
        "from robust_cluster.attacks import noise\n"
        "@dataclass(frozen=True)\n"
        "class Config(noise.Config):\n"
        "    factor: float = 1.0\n"
        "class Twice(noise.Noise):\n"
        "    pass\n"
    )
    words = "--norm linf --eps 0.1 --rows 40 --set attack.factor=2 --json"
    result = rc(f"attack --model kmeans {DIGITS} --attack ./double.py {words}")
    assert result.exit_code == 0, result.stderr
    spec = json.loads(result.stdout)["spec"]
    assert spec["attack"].startswith("double-")
    assert spec["settings"]["attack"]["factor"] == 2.0


MEMBER = """
from dataclasses import dataclass
from robust_cluster.attacks.bounded import BoundedAttack, BoundedConfig

@dataclass(frozen=True)
class Config(BoundedConfig):
    pass

class Brighter(BoundedAttack):
    feedback = "none"

    def search(self, surface, known):
        return tuple(view + self.budget.eps for view in known.point)
"""
ENSEMBLE = f"attack --model kmeans {DIGITS} --attack ensemble --norm linf --eps 0.3 --rows 20"


@pytest.mark.slow
def test_an_attack_of_ones_own_is_a_member_of_the_ensemble_and_its_digits_are_in_the_key() -> None:
    Path("mine.py").write_text(MEMBER)
    words = f"{ENSEMBLE} --set 'attack.members=[apgd,./mine.py]' --set attack.steps=1 --json"
    result = rc(words)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    (_, name) = record["spec"]["settings"]["attack"]["members"]
    assert name == f"mine-{hashlib.sha256(MEMBER.encode()).hexdigest()[:8]}"
    assert record["own_files"] == {f"attacks/{name}": str(Path("mine.py").absolute())}
    assert record["spec"]["versions"][name] == 1
    (run,) = Path("runs/attack").iterdir()
    points = rc(f"export {run} --output moved.npz --quiet")
    assert points.exit_code == 0, points.stderr
    Path("mine.py").write_text(f"{MEMBER}# another\n")
    assert json.loads(rc(words).stdout)["key"] != record["key"]
    assert "is not the file that the run was made with" in refused(f"export {run} --output other.npz --quiet")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("x = 1", "must define one attack, got none"),
        (
            MEMBER.replace("(BoundedConfig)", "").replace("(BoundedAttack)", "") + "\n    def perturb(self): pass\n",
            "must be a BoundedAttack that learns nothing, with a BoundedConfig",
        ),
    ],
)
def test_a_file_that_can_be_no_member_gets_one_sentence(content: str, sentence: str) -> None:
    Path("mine.py").write_text(content)
    assert sentence in refused(f"{ENSEMBLE} --set attack.members=[./mine.py] --quiet")
