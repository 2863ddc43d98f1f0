"""Every method's training, stopped between two epochs and taken up again, ends as the uninterrupted one, to the bit."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from robust_cluster.data.base import Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import Stage
from robust_cluster.stages import loop, methods
from robust_cluster.stages.chain import Request, plan
from robust_cluster.stages.checking import taken_up
from tests.contracts.choice import ATTACKS, DEFENSES, FIRST, MODELS, info_for, size, small

Data = Callable[[str], Dataset]
Case = tuple[str, Stage, str, str]  # model, stage that is stopped, attack, defense
TRAINED: dict[Stage, list[str]] = {"pretrain": [], "cluster": []}
for name, kind in MODELS.items():
    config = methods.resolve("models", name, "smoke", {})
    if kind.has_pretraining(config):
        TRAINED["pretrain"].append(name)
    if config.cluster.epochs:
        TRAINED["cluster"].append(name)


def victim(attack: str) -> str:
    """A network whose data the attack can move points of."""
    config = methods.resolve("attacks", attack, "smoke", {})
    for name in (FIRST["autoencoder"], FIRST["multiview"]):
        with suppress(ConfigError):
            ATTACKS[attack].check_data(info_for(name), config)
            return name
    raise LookupError(attack)


CASES: list[Case] = [(name, stage, "", "") for stage, names in TRAINED.items() for name in names]
CASES += [(victim(name), "attack", name, "") for name, kind in ATTACKS.items() if kind.trained]
CASES += [(victim(kind.meets), "defend", kind.meets, name) for name, kind in DEFENSES.items()]


def effort(name: str, stage: Stage) -> int:
    """Weights times steps, of three epochs of a stage and of what comes before it, about."""
    config, n = small(name).config, info_for(name).n_samples
    pretraining, own = (one.steps_per_epoch or n // one.batch(n) for one in (config.pretrain, getattr(config, stage)))
    before = config.pretrain.epochs * pretraining if stage == "cluster" and name in TRAINED["pretrain"] else 0
    return size(name) * (before + 3 * own)


OFTEN = {(min(names, key=partial(effort, stage=stage)), stage) for stage, names in TRAINED.items()}  # others nightly
PARAMETERS = [pytest.param(*case, marks=() if case[:2] in OFTEN else pytest.mark.slow) for case in CASES]
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
    whole = taken_up(plan(request, dataset.info), dataset, tmp_path, Stopping(), Stopped)
    assert len(whole["losses"]) == 3
