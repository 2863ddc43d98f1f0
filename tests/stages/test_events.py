"""`--log tensorboard`: the files have what the log and the record have, each epoch once, and change no number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.data import prepare
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.errors import ConfigError, StoppedError
from robust_cluster.measure.images import pairs
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import events
from robust_cluster.stages.chain import Request, carry_out, execute, plan
from robust_cluster.stages.context import Context, Log
from robust_cluster.stages.finished import scored_again
from tests.cli.command import refused

SETTINGS = {"model.pretrain.epochs": 3, "model.cluster.epochs": 4}
LINE = {
    "epoch": 3,
    "loss": 1.5,
    "losses": {"reconstruction": 1.0, "prior": 0.5},
    "steps": 2,
    "seconds": 0.1,
    "health": {"empty_clusters": 2, "collapsed": True, "label_change": None, "cluster_sizes": [1, 2], "ACC": 0.5},
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return prepare.load(DataRef("digits", limit=60), Folders(downloads=False))


def specs_of(data: Dataset, model: str = "dec") -> list[RunSpec]:
    """A clustering, its pretraining before it, and PGD on the images after it."""
    settings = {**(SETTINGS if model == "dec" else {}), "attack.steps": 2, "attack.norm": "linf", "attack.eps": 0.2}
    request = Request("attack", data.ref, model, 4, attack="pgd", profile="smoke")
    return plan(replace(request, overrides={**settings, "attack.rows": 20}), data.info)


def context_of(folder: Path, data: Dataset, log: Log | None = "tensorboard") -> Context:
    return Context(RunStore(folder), data, "smoke", "cpu", log=log)


def read(path: Path) -> Any:
    """All that a run's files have."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(path / events.EVENTS), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def steps(found: Any, tag: str) -> list[int]:
    return [one.step for one in found.Scalars(tag)]


def test_a_line_of_the_log_as_scalars_has_losses_health_and_scores_apart() -> None:
    assert events.scalars(LINE) == {
        "loss": 1.5,
        "losses/reconstruction": 1.0,
        "losses/prior": 0.5,
        "health/empty_clusters": 2.0,
        "health/collapsed": 1.0,
        "scores/ACC": 0.5,
    }


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="needs tensorboard"):
        events.check()
    sentence = refused("cluster --model kmeans --data digits --limit 60 --log tensorboard --quiet")
    assert "--log tensorboard needs tensorboard (pip install 'robust_cluster[tensorboard]')" in sentence
    assert not Path("runs").exists()


def test_the_pictures_are_samples_that_were_scored_as_they_were_moved(tmp_path: Path, digits: Dataset) -> None:
    specs, context = specs_of(digits, "kmeans"), context_of(tmp_path, digits, None)
    execute(specs, context)
    rows, attacker = scored_again(specs[-1], context)
    clean, moved = pairs(rows, attacker, 5)
    assert clean[0].shape == moved[0].shape == (5, 1, 8, 8)
    places = np.linspace(0, 19, 5).astype(int)
    values = digits.views[0][rows.index[places]].numpy() / digits.info.unit  # type: ignore[union-attr]
    np.testing.assert_allclose(clean[0], values.reshape(-1, 1, 8, 8), rtol=1e-6)
    assert 0.19 < np.abs(moved[0] - clean[0]).max() <= 0.2 + 1e-6
    every = rows.moved(attacker)(0)[0][places].numpy().reshape(-1, 1, 8, 8) / digits.info.unit
    np.testing.assert_allclose(moved[0], every, rtol=1e-6)
    assert not (tmp_path / specs[-1].directory / events.EVENTS).exists(), "nobody asked for files"


@pytest.mark.slow
def test_files_change_no_number_and_hold_every_epoch_and_the_pictures(tmp_path: Path, digits: Dataset) -> None:
    pytest.importorskip("tensorboard")
    specs = specs_of(digits)
    plain = execute(specs, context_of(tmp_path / "plain", digits, None))
    followed = execute(specs, context_of(tmp_path / "followed", digits))
    for one, other, spec in zip(plain, followed, specs, strict=True):
        assert (one["key"], one["checkpoint"]["sha256"]) == (other["key"], other["checkpoint"]["sha256"])
        assert one["metrics"] == other["metrics"]
        logs = [RunStore(tmp_path / name).lines(spec) for name in ("plain", "followed")]
        assert [{**line, "seconds": 0} for line in logs[0]] == [{**line, "seconds": 0} for line in logs[1]]
    found = read(tmp_path / "followed" / specs[1].directory)
    lines = RunStore(tmp_path / "followed").lines(specs[1])
    assert [one.value for one in found.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])
    assert steps(found, "health/embedding_norm") == [1, 2, 3, 4]
    assert [one.value for one in found.Scalars("record/ACC")] == pytest.approx([followed[1]["metrics"]["ACC"]])
    attack = read(tmp_path / "followed" / specs[2].directory)
    assert attack.Tags()["images"] == ["attack/clean", "attack/moved", "attack/difference"]
    assert attack.Images("attack/clean")[0].width == 8 * 8


@pytest.mark.slow
def test_a_run_that_resumes_has_each_epoch_once(tmp_path: Path, digits: Dataset) -> None:
    pytest.importorskip("tensorboard")

    class Stopping(Silent):
        def epoch(self, number: int, losses: Any) -> None:
            self.stops = number == 2

    specs, context = specs_of(digits), context_of(tmp_path, digits)
    with pytest.raises(StoppedError):
        carry_out(specs[0], replace(context, progress=Stopping()))
    path = tmp_path / specs[0].directory
    assert steps(read(path), "loss") == [1, 2]
    carry_out(specs[0], context)
    assert steps(read(path), "loss") == [1, 2, 3]
    assert len(list((path / events.EVENTS).iterdir())) == 1


@pytest.mark.slow
def test_a_run_that_was_done_before_gets_its_files_from_its_log(tmp_path: Path, digits: Dataset) -> None:
    pytest.importorskip("tensorboard")
    specs = specs_of(digits)[:2]
    execute(specs, context_of(tmp_path, digits, None))
    events.complete(RunStore(tmp_path), specs[1])
    found = read(tmp_path / specs[1].directory)
    assert steps(found, "loss") == [1, 2, 3, 4]
    assert steps(found, "record/NMI") == [4]
