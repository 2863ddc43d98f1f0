"""Losses of tiny runs stay what they were. After a change that is meant: `python tests/golden/test_losses.py`.

ConvAE, MIE and Graph on 300 digits, every stage, on a CPU with one thread and exact float32 products. A change of these
numbers raises the `version` of the method that changed.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_cluster.data.base import Folders
from robust_cluster.data.prepare import load
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import LOG, RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

GOLDEN = Path(__file__).parent / "losses.json"
MODELS = ("convae", "mie", "graph")
TINY = {
    "model.hidden": [16],
    "model.head": [16],
    "model.head_steps": 20,
    "model.n_init": 1,
    "attack.hidden": [16],
    **{f"{phase}.epochs": 2 for phase in ("model.pretrain", "model.cluster", "attack.schedule", "defense.schedule")},
    **{f"{phase}.steps_per_epoch": 3 for phase in ("model.cluster", "attack.schedule", "defense.schedule")},
}


def losses_of(model: str, runs_dir: Path) -> dict[str, list[dict[str, float]]]:
    """Stage -> named loss terms of each epoch, of a chain of tiny runs."""
    dataset = load(DataRef("digits", limit=300), Folders())
    context = Context(RunStore(runs_dir), dataset, "smoke", device="cpu", threads=1)
    request = Request(
        "reattack", dataset.ref, model, latent_dim=8, profile="smoke", overrides=TINY, precision="highest"
    )
    specs = plan(request, dataset.info)
    execute(specs, context)
    logs = {spec.stage: (context.store.path(spec) / LOG).read_text().splitlines() for spec in specs}
    return {stage: [json.loads(line)["losses"] for line in lines] for stage, lines in logs.items()}


@pytest.mark.parametrize("model", [*(pytest.param(name, marks=pytest.mark.slow) for name in MODELS[:2]), MODELS[2]])
def test_the_losses_of_a_tiny_run_are_the_golden_ones(model: str, tmp_path: Path) -> None:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text())[model]
    found = losses_of(model, tmp_path)
    assert {stage: len(epochs) for stage, epochs in found.items()} == dict.fromkeys(golden, 2)
    for stage, epochs in golden.items():
        for expected, terms in zip(epochs, found[stage], strict=True):
            assert terms == pytest.approx(expected, rel=1e-4), stage


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        content = {model: losses_of(model, Path(folder)) for model in MODELS}
    GOLDEN.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(f"wrote {GOLDEN.name} with torch {torch.__version__}")
