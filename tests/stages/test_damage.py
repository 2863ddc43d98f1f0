"""What is damaged between two commands is noticed before it costs anything; what is resumed is counted whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.data.base import Dataset
from robust_cluster.errors import CheckpointError
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import RunSpec, Stage
from robust_cluster.runs.store import MODEL, RESULT, STATE, RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

SMALL: dict[str, Any] = {
    "model.hidden": [16],
    "model.head": [16],
    "model.n_init": 1,
    "model.head_steps": 20,
    **{f"{phase}.epochs": 1 for phase in ("model.pretrain", "model.cluster")},
    "attack.hidden": [16],
    "attack.schedule.epochs": 3,
    "attack.schedule.steps_per_epoch": 2,
}


class Kills(Silent):
    """Ends the process's work after an epoch of the attacker, as Ctrl-C does."""

    attacking = False

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None:
        self.attacking = title.startswith("attack")

    def epoch(self, number: int, losses: Any) -> None:
        if self.attacking and number == 2:
            raise KeyboardInterrupt


def specs(data: Dataset, stage: Stage = "attack") -> list[RunSpec]:
    return plan(Request(stage, data.ref, "convae", 6, profile="smoke", overrides=SMALL, precision="highest"), data.info)


def context_of(folder: Path, data: Dataset, **more: Any) -> Context:
    return Context(RunStore(folder), data, "smoke", device="cpu", threads=1, **more)


def test_a_resumed_attack_has_asked_as_often_as_one_that_was_not_stopped(few_digits: Dataset, tmp_path: Path) -> None:
    runs = specs(few_digits)
    whole = execute(runs, context_of(tmp_path / "whole", few_digits))[-1]
    with pytest.raises(KeyboardInterrupt):
        execute(runs, context_of(tmp_path / "stopped", few_digits, progress=Kills()))
    resumed = execute(runs, context_of(tmp_path / "stopped", few_digits))[-1]
    assert whole["threat"]["queries"] > 0
    assert resumed["threat"] == whole["threat"]
    assert resumed["metrics"] == whole["metrics"]


def test_a_bit_that_flips_in_a_saved_state_is_noticed(few_digits: Dataset, tmp_path: Path) -> None:
    runs = specs(few_digits)
    context = context_of(tmp_path, few_digits)
    with pytest.raises(KeyboardInterrupt):
        execute(runs, context_of(tmp_path, few_digits, progress=Kills()))
    path = context.store.path(runs[-1]) / STATE
    content = path.read_bytes()
    for place in (0, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match=r"state\.pt is damaged"):
            execute(runs, context)
    path.write_bytes(content)
    assert execute(runs, context)[-1]["training"]["epochs"] == 3


@pytest.mark.parametrize("damage", ["record", "checkpoint"])
def test_a_damaged_parent_does_not_cost_its_finished_child(few_digits: Dataset, tmp_path: Path, damage: str) -> None:
    runs = specs(few_digits)
    context = context_of(tmp_path, few_digits)
    execute(runs, context)
    parent, child = (context.store.path(spec) for spec in runs[-2:])
    kept = (child / RESULT).read_bytes()
    record = json.loads((parent / RESULT).read_text())
    record["checkpoint"]["sha256"] = "00" * 32
    (parent / RESULT).write_text(json.dumps(record))
    if damage == "checkpoint":
        (parent / MODEL).unlink()
    with pytest.raises(CheckpointError, match=r"differs from its record's|is missing"):
        execute(runs, context)
    assert (child / RESULT).read_bytes() == kept
