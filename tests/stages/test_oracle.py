"""Data with the true classes as a view: a declared oracle alone trains on them, and what comes of it is no result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robust_cluster import discover
from robust_cluster.data.base import DataInfo, Dataset, Folders
from robust_cluster.data.multiview import with_classes
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError, DataError
from robust_cluster.report.flags import MARKS
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.chain import CHAIN, Request, execute, plan
from robust_cluster.stages.cluster import SAW_CLASSES
from robust_cluster.stages.context import Context

ORACLE = {"model.oracle": True, "model.hidden": [8], "model.pretrain.epochs": 1, "model.cluster.epochs": 1}


@pytest.fixture(scope="module")
def known() -> Dataset:
    """100 digits beside their classes."""
    return load(DataRef("oracle:digits", limit=100, split="none"), Folders())


def request(data: DataRef, **fields: Any) -> Request:
    return Request(**{"stage": "cluster", "data": data, "model": "dcan", "latent_dim": 4, "profile": "smoke", **fields})


def test_the_second_view_is_the_classes_and_the_first_what_it_is_without_them() -> None:
    plain, known = (load(DataRef(name, normalize="none"), Folders()) for name in ("digits", "oracle:digits"))
    assert known.labels is not None
    assert known.views[0][:].equal(plain.views[0][:])
    assert known.views[1][:].argmax(dim=1).tolist() == known.labels.tolist()
    assert known.views[1][:].sum(dim=1).equal(torch.ones(1797))
    assert len(plain.views) == 1


def test_every_method_is_refused_there_and_dcan_too_unless_it_is_declared_an_oracle(known: Dataset) -> None:
    for name in discover.names("models"):
        with pytest.raises(ConfigError, match="oracle:digits has the true classes as a view: only an oracle may train"):
            plan(request(known.ref, model=name), known.info)
    assert [run.stage for run in plan(request(known.ref, overrides=ORACLE), known.info)] == ["pretrain", "cluster"]


@pytest.mark.parametrize("name", ["digits", "noisy:digits"])
def test_an_oracle_has_no_classes_elsewhere(known: Dataset, name: str) -> None:
    info = replace(known.info, name=name)
    with pytest.raises(ConfigError, match=rf"oracle needs the classes as a view, {name} has none \(--data oracle:NAME"):
        plan(request(replace(known.ref, name=name), overrides=ORACLE), info)


@pytest.mark.parametrize("stage", [stage for stage in (*CHAIN, "certify") if stage not in ("pretrain", "cluster")])
def test_an_oracle_is_never_attacked_defended_or_certified(known: Dataset, stage: Any) -> None:
    with pytest.raises(ConfigError, match=f"labels have reached the training of an oracle: there is no {stage} of it"):
        plan(request(known.ref, stage=stage, overrides=ORACLE), known.info)


def test_its_record_says_that_it_saw_the_classes_and_every_table_has_a_letter_for_it(
    known: Dataset, tmp_path: Path
) -> None:
    specs = plan(request(known.ref, overrides=ORACLE), known.info)
    record = execute(specs, Context(RunStore(tmp_path), known, "smoke", device="cpu", threads=1))[-1]
    assert record["flags"] == [SAW_CLASSES]
    assert SAW_CLASSES in MARKS
    assert all(run.settings["model"]["oracle"] and run.data.name == "oracle:digits" for run in specs)


def test_a_run_of_other_settings_keeps_its_key() -> None:
    """What came later stands in a key only where it is used; the key is that of a run from before it."""
    info = DataInfo("digits", ((64,),), 100, 10, None, 1.0, "a" * 64)
    runs = plan(request(DataRef("digits")), info)
    assert not {"oracle", "critic_sees", "objective"} & {name for run in runs for name in run.settings["model"]}
    adec = plan(request(DataRef("digits"), model="adec", overrides={"model.augment": False}), info)
    assert not {"clustering_weight", "discriminator_hidden"} & {name for run in adec for name in run.settings["model"]}


def test_an_oracle_needs_a_class_for_every_sample_of_one_view() -> None:
    view = np.ones((3, 2), np.float32)
    for views, labels in (([view], None), ([view], np.array([0, 1, -1])), ([view, view], np.array([0, 1, 1]))):
        with pytest.raises(DataError, match="an oracle needs one view and a class for every sample"):
            with_classes(views, labels)
