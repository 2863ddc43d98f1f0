"""`--weights FILE`: own weights in place of the pretraining's training, in the key and in the record."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robust_cluster
from tests.cli.command import rc, refused

AE = "--model ae_kmeans --data digits --limit 60 --dim 4 --profile smoke --threads 1 --set model.hidden=[8]"
SHORT = "--set model.pretrain.epochs=2 --set model.n_init=1"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs directory with a pretraining of ours."""
    path = tmp_path_factory.mktemp("before")
    assert rc(f"pretrain {AE} {SHORT} --runs-dir {path}").exit_code == 0
    return path


@pytest.fixture(scope="module")
def pretrained(before: Path) -> Path:
    """Its checkpoint."""
    (path,) = before.glob("pretrain/*/model.pt")
    return path


def test_own_weights_are_clustered_without_a_training_and_stand_in_key_and_record(
    before: Path, pretrained: Path
) -> None:
    usual = json.loads(rc(f"cluster {AE} {SHORT} --runs-dir {before} --json").stdout)
    Path("ae.pt").write_bytes(pretrained.read_bytes())
    digest = hashlib.sha256(pretrained.read_bytes()).hexdigest()
    result = rc(f"cluster {AE} {SHORT} --weights ae.pt --json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["metrics"] == usual["metrics"], "k-means on the same weights"
    assert record["flags"][-1] == "own weights"
    assert record["spec"]["parent"]["weights"] == digest
    assert record["key"] != usual["key"]
    assert "next: rc attack" in result.stderr
    assert "--weights ae.pt" in result.stderr.splitlines()[-1]
    first = json.loads(rc(f"pretrain {AE} {SHORT} --weights ae.pt --json").stdout)
    assert first["weights"] == {"file": str(Path("ae.pt").absolute()), "sha256": digest}
    assert (first["training"]["epochs"], first["training"]["stop_reason"]) == (0, "weights")
    assert first["flags"] == ["own weights"]
    state = torch.load("ae.pt", weights_only=True)
    state["body.0.0.bias"] += 1
    torch.save(state, "ae.pt")
    assert json.loads(rc(f"pretrain {AE} {SHORT} --weights ae.pt --json").stdout)["key"] != first["key"]


def test_weights_of_another_shape_are_refused_with_what_differs_and_leave_no_run(pretrained: Path) -> None:
    said = refused(f"cluster {AE.replace('--dim 4', '--dim 5')} {SHORT} --weights {pretrained} -q")
    assert "does not fit the autoencoder of ae_kmeans: of another shape decoder.0.weight (8, 4) for (8, 5), " in said
    assert not list(Path("runs").glob("*/*"))


def test_a_method_without_a_pretraining_takes_no_weights(pretrained: Path) -> None:
    said = refused(f"cluster --model kmeans --data digits --limit 60 --weights {pretrained} -q")
    assert "kmeans has no pretraining, so it takes no weights" in said
    assert "the weights none.pt cannot be read: No such file" in refused(f"cluster {AE} --weights none.pt -q")


def test_a_net_of_ones_own_starts_dec_from_python() -> None:
    widths = {"encoder": (4, 3, 2), "decoder": (2, 3, 4)}
    nets = {name: nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c)) for name, (a, b, c) in widths.items()}
    torch.save(nn.ModuleDict(nets).state_dict(), "ae.pt")
    x = np.random.default_rng(0).normal(size=(60, 4))
    settings = {"hidden": [3], "norm": "none", "cluster.epochs": 0, "n_init": 1}
    run = robust_cluster.cluster("dec", x, n_clusters=3, latent_dim=2, settings=settings, weights="ae.pt")
    torch.testing.assert_close(torch.from_numpy(run.embed(x)), nets["encoder"](torch.tensor(x).float()).detach())
    assert run.record["flags"][-1] == "own weights"
