"""Real `rc` processes that are killed, interrupted, or want the same run at once: the numbers stay the same."""

import hashlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.data.base import Dataset
from robust_cluster.runs.store import LOG, MODEL, RESULT, RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

RC = [sys.executable, "-c", "from robust_cluster.cli.app import main; main()"]
ATTACK = ["attack", "--data", "digits", "--model", "convae", "--profile", "smoke"]
ATTACK += ["--limit", "300", "--dim", "8", "--threads", "1", "--json"]
SETTINGS: dict[str, Any] = {
    "model.hidden": [16],
    "model.head": [16],
    "model.n_init": 1,
    "model.pretrain.epochs": 6,
    "model.cluster.epochs": 6,
    "attack.hidden": [16],
    "attack.schedule.epochs": 6,
}
SHORT = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
BEGUN = ["pretrain ae_kmeans: 6 epochs", "cluster convae: 6 epochs", "attack convae with latent_net 0: 6 epochs"]
Folder = dict[str, Any]


def start(runs_dir: Path, *options: str) -> "subprocess.Popen[str]":
    """The attack as a process of its own."""
    command = [*RC, *ATTACK, *options, "--runs-dir", str(runs_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The record that the process printed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    record: dict[str, Any] = json.loads(out)
    return record


def read_to(process: "subprocess.Popen[str]", word: str) -> None:
    """Read what the process says of its progress, up to the line with `word`."""
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line)
        if word in line:
            return
    pytest.fail(f"{word!r} was never said: {heard}")


def kill_after(process: "subprocess.Popen[str]", seconds: float) -> int:
    """End the process from outside after a while, unless it ends by itself; its exit code, -9 when it was killed."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode


def results(runs_dir: Path) -> dict[str, Folder]:
    """Run folder -> what must not depend on a kill: metrics, losses and health of every epoch, and the checkpoint."""
    found: dict[str, Folder] = {}
    for path in sorted(runs_dir.rglob(RESULT)):
        record = json.loads(path.read_text())
        lines = [json.loads(line) for line in (path.parent / LOG).read_text().splitlines()]
        found[str(path.parent.relative_to(runs_dir))] = {
            "metrics": record["metrics"],
            "flags": record["flags"],
            "steps": record["training"]["steps"],
            "log": [(line["epoch"], line["losses"], line["health"]) for line in lines],
            "model": hashlib.sha256((path.parent / MODEL).read_bytes()).hexdigest(),
        }
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, few_digits: Dataset) -> dict[str, Folder]:
    """The results of the short attack when nothing happens to it; in this process, which saves a start of torch."""
    runs_dir = tmp_path_factory.mktemp("uninterrupted")
    context = Context(RunStore(runs_dir), few_digits, "smoke", threads=1)
    request = Request("attack", few_digits.ref, "convae", latent_dim=8, profile="smoke", overrides=SETTINGS)
    execute(plan(request, few_digits.info), context)
    found = results(runs_dir)
    assert [folder.partition("/")[0] for folder in found] == ["attack", "cluster", "pretrain"]
    return found


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_numbers(uninterrupted: dict[str, Folder], tmp_path: Path) -> None:
    process = start(tmp_path, *SHORT)
    read_to(process, BEGUN[1])
    assert kill_after(process, random.Random(0).uniform(0, 0.1)) == -signal.SIGKILL
    assert "attack" not in {folder.partition("/")[0] for folder in results(tmp_path)}
    record = finish(start(tmp_path, *SHORT))
    assert results(tmp_path) == uninterrupted
    assert record["metrics"] == next(iter(uninterrupted.values()))["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("begun", BEGUN)
def test_ctrl_c_exits_with_130_and_the_same_command_finishes(
    uninterrupted: dict[str, Folder], tmp_path: Path, begun: str
) -> None:
    process = start(tmp_path, *SHORT)
    read_to(process, begun)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "error: interrupted" in err
    assert "Traceback" not in err
    finish(start(tmp_path, *SHORT))
    assert results(tmp_path) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_command_killed_at_many_random_moments_ends_with_the_uninterrupted_numbers(tmp_path: Path, seed: int) -> None:
    finish(start(tmp_path / "uninterrupted"))
    moments = random.Random(seed)
    codes = []
    for _ in range(5):
        process = start(tmp_path / "killed")
        read_to(process, "plan:")
        codes.append(kill_after(process, moments.uniform(0, 1.5)))
    assert codes.count(-signal.SIGKILL) >= 3
    finish(start(tmp_path / "killed"))
    assert results(tmp_path / "killed") == results(tmp_path / "uninterrupted")


@pytest.mark.slow
def test_of_two_processes_that_want_one_run_one_works_and_the_other_waits_for_its_record(
    uninterrupted: dict[str, Folder], tmp_path: Path
) -> None:
    first = start(tmp_path, *SHORT)
    read_to(first, BEGUN[0])
    first.send_signal(signal.SIGSTOP)  # it owns the run, and goes on once the other has said that it waits
    second = start(tmp_path, *SHORT)
    read_to(second, f"is being run by process {first.pid}")
    first.send_signal(signal.SIGCONT)
    assert finish(first) == finish(second)
    assert results(tmp_path) == uninterrupted
