"""Every method's training, stopped between two epochs and taken up again, ends as the uninterrupted one, to the bit."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_cluster import discover
from robust_cluster.data.base import Dataset
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import RunSpec, Stage
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import loop, methods
from robust_cluster.stages.chain import Request, carry_out, plan
from robust_cluster.stages.context import Context

Data = Callable[[str], Dataset]
NAMES = discover.names("models")
Case = tuple[str, Stage, str, str]  # model, stage that is stopped, attack, defense
OFTEN = {"ae_kmeans", "vae_kmeans"}  # the others nightly
CASES: list[Case] = [
    ("convae", "attack", "latent_net", ""),
    ("simvc", "attack", "view_gan", ""),
    ("convae", "defend", "latent_net", "mutual_info"),
    ("simvc", "defend", "view_gan", "ar_dmvc"),
]
for name in NAMES:
    config = methods.resolve("models", name, "smoke", {})
    if methods.method_class(discover.load("models", name)).has_pretraining(config):
        CASES.append((name, "pretrain", "", ""))
    if config.cluster.epochs:
        CASES.append((name, "cluster", "", ""))
PARAMETERS = [
    pytest.param(*case, marks=() if case[0] in OFTEN and case[1] in ("pretrain", "cluster") else pytest.mark.slow)
    for case in CASES
]
EPOCHS: dict[str, tuple[str, ...]] = {
    "pretrain": ("model.pretrain.epochs",),
    "cluster": ("model.cluster.epochs",),
    "attack": ("attack.schedule.epochs",),
    "defend": ("defense.schedule.epochs",),
}


class Stopped(BaseException):
    """Ends a training from outside; nothing of the package may catch it."""


class Stopping(Silent):
    """A progress that ends the training in its second epoch: the state of the first is saved."""

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        if number == 2:
            raise Stopped


@pytest.fixture(autouse=True)
def saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SHARE", math.inf)


@pytest.mark.parametrize(("name", "stage", "attack", "defense"), PARAMETERS)
def test_a_stopped_training_ends_as_the_uninterrupted_one(
    name: str, stage: Stage, attack: str, defense: str, data: Data, tmp_path: Path
) -> None:
    dataset, chosen = data(name), {"attack": attack, "defense": defense}
    epochs = dict.fromkeys(EPOCHS[stage], 3)
    chosen = {kind: value for kind, value in chosen.items() if value}
    request = Request(stage, dataset.ref, name, latent_dim=6, profile="smoke", overrides=epochs, **chosen)
    specs = plan(request, dataset.info)

    def outcome(folder: str, *, stopped: bool) -> dict[str, Any]:
        store = RunStore(tmp_path / folder)
        context = Context(store, dataset, "smoke", threads=1)
        for spec in specs[:-1]:
            carry_out(spec, context)
        if stopped:
            with pytest.raises(Stopped):
                carry_out(specs[-1], Context(store, dataset, "smoke", threads=1, progress=Stopping()))
            with store.own(specs[-1]) as run:
                assert run.load_state() is not None
            torch.manual_seed(99)
        record = carry_out(specs[-1], context)
        return {"metrics": record["metrics"], "losses": losses(store, specs[-1]), "model": store.load_model(specs[-1])}

    whole, resumed = outcome("whole", stopped=False), outcome("resumed", stopped=True)
    assert len(whole["losses"]) == 3
    assert resumed["losses"] == whole["losses"]
    assert resumed["metrics"] == whole["metrics"]
    assert same(resumed["model"], whole["model"])


def losses(store: RunStore, spec: RunSpec) -> list[dict[str, float]]:
    with store.own(spec) as run:
        return [line["losses"] for line in run.lines()]


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints hold the same tensors."""
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    return bool(torch.equal(first, second)) if isinstance(first, torch.Tensor) else bool(first == second)
