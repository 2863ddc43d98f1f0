"""Networks that were trained elsewhere, ClustPy's DEC and a plain net, brought by `rc cluster --model ./net.py`.

They are attacked and audited as ours are, and torchattacks, of equal steps, start, radius and loss, flips as many
samples of the same network. `make bench-peers` makes an environment with both libraries; this runs there:
`.venv-peers/bin/python -m pytest -s -m slow tests/cli/test_own_peers.py`
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robust_cluster.attacks.budget import Budget, Norm
from robust_cluster.measure.scores import spaced
from tests.cli.command import rc

CLUSTPY = """
import torch
from clustpy.deep.neural_networks import FeedforwardAutoencoder
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.autoencoder = FeedforwardAutoencoder([64, 128, 10])
        self.centers = nn.Parameter(torch.zeros(10, 10))

    def forward(self, x):
        q = 1 / (1 + torch.cdist(self.autoencoder.encode(x.flatten(1)), self.centers) ** 2)
        return q / q.sum(dim=1, keepdim=True)


def load():
    net = Net()
    net.load_state_dict(torch.load({path!r}))
    return net
"""
PLAIN = """
import torch
from torch import nn


def load():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    net.load_state_dict(torch.load({path!r}))
    return net
"""
ROWS, EPS = 200, {"linf": 0.05, "l2": 0.4}


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.npz, images in [0, 1]; clustpy.py and plain.py, which load networks that saw no label."""
    for name in ("clustpy", "torchattacks"):
        pytest.importorskip(name, reason=f"{name} is not installed here: make bench-peers makes .venv-peers")
    from clustpy.deep import DEC
    from clustpy.deep.neural_networks import FeedforwardAutoencoder

    folder = tmp_path_factory.mktemp("peers")
    digits = load_digits()
    x = (digits.data / 16).astype(np.float32)
    np.savez(folder / "digits.npz", x=x.reshape(-1, 1, 8, 8), y=digits.target)
    autoencoder = FeedforwardAutoencoder([64, 128, 10])
    dec = DEC(10, pretrain_epochs=10, clustering_epochs=10, neural_network=autoencoder, random_state=0).fit(x)
    weights = {f"autoencoder.{name}": one for name, one in dec.neural_network_trained_.state_dict().items()}
    torch.save(weights | {"centers": torch.tensor(dec.dec_cluster_centers_).float()}, folder / "clustpy.pt")
    torch.manual_seed(0)
    labels = torch.tensor(KMeans(10, n_init=4, random_state=0).fit_predict(x)).long()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(net(torch.from_numpy(x)), labels).backward()
        optimizer.step()
    torch.save(net.state_dict(), folder / "plain.pt")
    for name, text in (("clustpy", CLUSTPY), ("plain", PLAIN)):
        (folder / f"{name}.py").write_text(text.replace("{path!r}", repr(str(folder / f"{name}.pt"))))
    return folder


def words(folder: Path, name: str) -> str:
    runs, model, data = folder / "runs", folder / f"{name}.py", folder / "digits.npz"
    return f"--model {model} --data {data} --threads 1 --runs-dir {runs} --json -q"


class Margin(nn.Module):
    """Two logits of each sample, of its cluster and of the likeliest other: their cross-entropy climbs our margin."""

    def __init__(self, net: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.net, self.labels = net, labels[:, None]

    def forward(self, x: Tensor) -> Tensor:
        log_y = log_soft(self.net, x)
        others = log_y.scatter(1, self.labels, -torch.inf).amax(dim=1, keepdim=True)
        return torch.cat([log_y.gather(1, self.labels), others], dim=1)


class Log(nn.Module):
    """log y, as other libraries attack it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return log_soft(self.net, x)


def log_soft(net: nn.Module, x: Tensor) -> Tensor:
    found: Tensor = net(x)
    return found.log() if bool(((found.sum(dim=1) - 1).abs() < 1e-3).all()) else found.log_softmax(dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["clustpy", "plain"])
def test_torchattacks_flips_as_many_samples_of_a_brought_network(name: str, norm: Norm, folder: Path) -> None:
    import torchattacks

    net = imported(folder / f"{name}.py").load().eval()
    x = torch.from_numpy(np.load(folder / "digits.npz")["x"])
    clean = x[spaced(len(x), ROWS)]
    labels = net(clean).argmax(dim=1).detach()

    def flips(moved: Tensor) -> int:
        (inside,) = Budget(norm, EPS[norm], (0.0, 1.0)).clip((clean,), (moved.detach(),))
        return int((net(inside).argmax(dim=1) != labels).sum())

    def ours(attack: str, steps: int, more: str = "") -> int:
        budget = f"--attack {attack} --norm {norm} --eps {EPS[norm]} --rows {ROWS} --set attack.steps={steps} {more}"
        result = rc(f"attack {words(folder, name)} {budget}")
        assert result.exit_code == 0, result.stderr
        return round(json.loads(result.stdout)["metrics"]["flip"] * ROWS)

    def apgd(victim: nn.Module, goal: Tensor, loss: str) -> int:
        kind = torchattacks.APGD(victim.eval(), norm={"linf": "Linf", "l2": "L2"}[norm], eps=EPS[norm], steps=100,
                                 loss=loss)  # fmt: skip
        return flips(kind(clean, goal))

    step = 2 * EPS[norm] / 40
    kind = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    pgd = kind(Margin(net, labels).eval(), eps=EPS[norm], alpha=step, steps=40, random_start=False)
    zeros = torch.zeros_like(labels)
    found = {
        "pgd": (ours("pgd", 40, "--set attack.random_start=false"), flips(pgd(clean, zeros))),
        "apgd": (ours("apgd", 100), apgd(Margin(net, labels), zeros, "ce")),
    }
    usual = {loss: apgd(Log(net), labels, loss) for loss in ("ce", "dlr")}
    print(f"\n{name} {norm} {EPS[norm]}: flips of {ROWS}, ours and torchattacks' {found}; its own losses {usual}")
    assert 0 < found["pgd"][0] < ROWS, "the radius tells attacks apart"
    assert abs(found["pgd"][0] - found["pgd"][1]) <= 1, found
    if norm == "linf":  # in the L2 ball their APGD starts on the sphere, ours inside
        assert abs(found["apgd"][0] - found["apgd"][1]) <= 1, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clustpy", "plain"])
def test_a_brought_network_is_attacked_and_audited_as_ours_are(name: str, folder: Path) -> None:
    net = imported(folder / f"{name}.py").load().eval()
    arrays = np.load(folder / "digits.npz")
    clustered = json.loads(rc(f"cluster {words(folder, name)}").stdout)
    assert clustered["flags"] == ["adopted"]
    predicted = net(torch.from_numpy(arrays["x"])).argmax(dim=1).numpy()
    (run,) = (folder / "runs" / "cluster").glob(f"{name}-*")
    lines = rc(f"predict {run} --data {folder / 'digits.npz'} -q").stdout.splitlines()[1:]
    assert [int(line.split(",")[1]) for line in lines] == predicted.tolist()
    attacked = rc(f"attack {words(folder, name)} --attack ensemble --norm linf --eps 0.05 --rows 100 --profile smoke")
    record = json.loads(attacked.stdout)
    assert 0 < record["metrics"]["noise_flip"] < record["metrics"]["flip"]
    (run,) = (folder / "runs" / "attack").glob(f"{name}-*-{record['key']}")
    audit = rc(f"audit {run} --data {folder / 'digits.npz'} --rows 100 --threads 1 --json -q")
    found = {one["name"]: (one["status"], one["note"]) for one in json.loads(audit.stdout)}
    print(f"\n{name}: ACC {clustered['metrics']['ACC']:.3f}, flips {record['metrics']['flip']}, {found}")
    assert "fail" not in {status for status, _ in found.values()}, found
