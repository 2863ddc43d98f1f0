"""Runs of precision "bf16": bfloat16 products inside training steps, float32 everywhere else."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import UnknownNameError
from robust_cluster.nn.precision import precision
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import LOG, RunStore
from robust_cluster.stages import loop
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.cluster import describe_model
from robust_cluster.stages.context import Context

SMALL: dict[str, Any] = {
    "model.hidden": (64, 32),
    **{f"model.{phase}.epochs": 3 for phase in ("pretrain", "cluster")},
    **{f"model.{phase}.steps_per_epoch": 2 for phase in ("pretrain", "cluster")},
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataRef("digits", limit=300), Folders())


def asked(dataset: Dataset, level: Any, stage: Any = "cluster", model: str = "dec", **changes: Any) -> list[RunSpec]:
    settings = {**SMALL, **({"model.n_init": 1} if model == "dec" else {}), **changes}
    return plan(
        Request(stage, dataset.ref, model, 6, profile="smoke", precision=level, overrides=settings), dataset.info
    )


def context_of(dataset: Dataset, folder: Path, progress: Any = None) -> Context:
    return Context(RunStore(folder), dataset, "smoke", device="cpu", threads=1, progress=progress or Silent())


class Products(TorchDispatchMode):
    """Notes the types of what each forward product multiplies, and whether a training step asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, torch.dtype]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.addmm.default:
            kinds = {value.dtype for value in args if isinstance(value, Tensor)}
            assert len(kinds) == 1
            self.seen.add(("training" if torch.is_grad_enabled() else "scoring", *kinds))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["dec", "vade"])
@pytest.mark.parametrize(("level", "trained_in"), [("bf16", torch.bfloat16), ("highest", torch.float32)])
def test_training_steps_multiply_at_the_level_and_labels_targets_and_scores_come_from_float32(
    digits: Dataset, tmp_path: Path, model: str, level: str, trained_in: torch.dtype
) -> None:
    specs = asked(digits, level, model=model)
    with Products() as products:
        execute(specs, context_of(digits, tmp_path))
    assert products.seen == {("training", trained_in), ("scoring", torch.float32)}
    weights = RunStore(tmp_path).load_model(specs[-1])
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}


def test_the_record_says_which_precision_it_was_trained_with(digits: Dataset, tmp_path: Path) -> None:
    for level, least, most in (("highest", 1e-8, 2e-6), ("bf16", 1e-3, 1e-2)):
        record = execute(asked(digits, level), context_of(digits, tmp_path))[-1]
        assert record["spec"]["precision"] == record["spec"]["parent"]["precision"] == level
        assert record["environment"]["matmul"]["precision"] == level
        assert least < record["environment"]["matmul"]["relative_error"] < most


def test_a_trained_model_has_the_same_scores_at_every_level(digits: Dataset, tmp_path: Path) -> None:
    context = context_of(digits, tmp_path)
    specs = asked(digits, "bf16")
    record = execute(specs, context)[-1]
    for level in ("highest", "bf16"):
        with precision(level):
            again = describe_model(context.trained_model(specs[-1]), context)
        assert again["metrics"].items() <= record["metrics"].items()
        assert again["health"].items() <= record["health"].items()


def test_attacks_defenses_and_certificates_are_exact_on_models_that_bfloat16_trained(digits: Dataset) -> None:
    chain = plan(Request("reattack", digits.ref, "convae", 6, profile="smoke", precision="bf16"), digits.info)
    assert [(spec.stage, spec.precision) for spec in chain] == [
        ("pretrain", "bf16"),
        ("cluster", "bf16"),
        ("attack", "highest"),
        ("defend", "highest"),
        ("reattack", "highest"),
    ]


def test_an_unknown_level_is_refused(digits: Dataset) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown precision 'bf61'\. Did you mean 'bf16'\?"):
        asked(digits, "bf61")


class Stopped(BaseException):
    """Ends a training from outside."""


class Stopping(Silent):
    """A progress that ends each training in its second epoch."""

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        if number == 2:
            raise Stopped


@pytest.fixture
def saved_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SHARE", math.inf)


@pytest.mark.usefixtures("saved_every_epoch")
def test_a_resumed_training_ends_as_the_uninterrupted_one(digits: Dataset, tmp_path: Path) -> None:
    specs = asked(digits, "bf16", **{"model.tol": 0.0})
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    execute(specs, context_of(digits, whole))
    for until in (1, 2):
        with pytest.raises(Stopped):
            execute(specs[:until], context_of(digits, resumed, Stopping()))
        torch.manual_seed(99)
        execute(specs[:until], context_of(digits, resumed))
    for spec in specs:
        first, second = (RunStore(folder).load_model(spec) for folder in (whole, resumed))
        assert len((RunStore(whole).path(spec) / LOG).read_text().splitlines()) == 3
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
