"""Runs on Dask's workers: the same bits as in one process, whatever dies."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.errors import ConfigError
from robust_cluster.runs.store import LOG, RESULT, RunStore
from robust_cluster.stages import workers
from robust_cluster.stages.workers import check_workers, version

RC = [sys.executable, "-c", "from robust_cluster.cli.start import main; main()"]
LONG = "cluster --model convae --data digits --profile smoke --set model.pretrain.epochs=150"


class Cluster:
    """A client whose workers say of themselves what a test wants."""

    def __init__(self, **said: Any) -> None:
        self.said = {"version": version(), "sees": True, "has": "not there", "host": "node2", "threads": 1, **said}

    def wait_for_workers(self, n: int, timeout: float) -> None:
        if self.said["host"] is None:
            raise TimeoutError

    def run(self, function: Callable[..., Any], *words: Any) -> dict[str, Any]:
        assert function is workers.about
        return {"tcp://10.0.0.2:4000": self.said}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"version": "0.0.9 (0)"},
            r"The worker tcp://10.0.0.2:4000 on node2 has robust_cluster 0.0.9 \(0\), this comm",
        ),
        ({"sees": False}, "does not see the runs directory of this command, /shared/runs on .*: there it is not there"),
        ({"threads": 4}, "would make 4 runs at once"),
        ({"host": None}, "The scheduler has no worker"),
    ],
)
def test_a_worker_that_would_make_other_runs_or_elsewhere_is_refused(said: dict[str, Any], sentence: str) -> None:
    sign = Path("/shared/runs/.commands/0123")
    check_workers(Cluster(), sign)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=sentence):
        check_workers(Cluster(**said), sign)  # type: ignore[arg-type]


def test_how_a_workers_process_ended_is_read_from_dasks_log() -> None:
    with workers._deaths() as deaths:
        import logging

        logging.getLogger("distributed.nanny").info("Worker process 123 was killed by signal 9")
        logging.getLogger("distributed.nanny").info("Worker process 124 exited with status 1")
    assert deaths == {123: "was killed by signal 9", 124: "exited with status 1"}


@pytest.mark.parametrize(("host", "end"), [(socket.gethostname(), "was killed by signal 9"), ("elsewhere", "is gone")])
def test_how_a_worker_of_this_machine_ended_is_waited_for(host: str, end: str) -> None:
    command = object.__new__(workers.Command)
    deaths: dict[int, str] = {}
    command.deaths, command.began = deaths, {"run": (123, host)}
    log = threading.Timer(0.2, deaths.__setitem__, (123, "was killed by signal 9"))
    log.start()
    assert command.last("run", patience=10) == f"process 123 on {host}, {end}"
    log.join()


def until(is_so: Callable[[], Any], seconds: float = 240) -> Any:
    """What the condition becomes, once it is true."""
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def slurm_answers() -> bool:
    return bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True).returncode == 0


def started(words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*RC, *words.split()], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def done(words: str) -> tuple[int, str, str]:
    process = started(words)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def logged(root: Path, run: str = "*") -> int:
    """Epochs that the pretrainings of some runs have logged, the fewest of them; 0 before there is one."""
    logs = list(root.glob(f"pretrain/{run}/{LOG}"))
    return min((log.read_bytes().count(b"\n") for log in logs), default=0)


def numbers(root: str) -> dict[str, Any]:
    """Key -> what a run found and the SHA-256 of its checkpoint."""
    return {
        record["key"]: (record.get("metrics"), record["checkpoint"]["sha256"])
        for record in RunStore(Path(root)).records()
    }


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_two_workers_make_the_bits_of_one_process_and_stdout_is_the_record() -> None:
    words = "attack --model graph --data digits --profile smoke --seed 0,1 --threads 1 --json"
    code, out, err = done(f"{words} --jobs 2 --runs-dir two")
    assert code == 0, err
    assert [record["spec"]["seed"] for record in json.loads(out)] == [0, 1]
    assert "[attack graph digits d64 s1]" in err
    assert "6/6 runs" in err
    assert done(f"{words} --quiet --runs-dir one")[0] == 0
    assert numbers("one") == numbers("two")
    assert len(numbers("two")) == 6
    code, out, err = done(f"{words} --jobs 2 --runs-dir two")
    assert (code, "plan: 6 runs, 6 done" in err, "graph:" in err) == (0, True, False)


@pytest.mark.slow
def test_a_killed_worker_costs_epochs_and_no_run() -> None:
    process = started(f"{LONG} --seed 0,1 --jobs 2 --runs-dir killed")
    until(lambda: logged(Path("killed")) > 3)
    pid = json.loads(until(lambda: list(Path("killed").glob("pretrain/*s0*/owner.json")))[0].read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert re.search(rf"-s0-\w+: its worker, process {pid} on \S+, was killed by signal 9; another goes on", err)
    assert done(f"{LONG} --seed 0,1 --threads 1 --quiet --runs-dir whole")[0] == 0
    assert numbers("killed") == numbers("whole")


@pytest.mark.slow
def test_a_run_whose_workers_die_three_times_is_named_and_the_others_are_made() -> None:
    process = started(f"{LONG} --seed 0,1 --jobs 2")
    killed: set[int] = set()
    while len(killed) < workers.DEATHS:
        for path in Path("runs").glob("pretrain/*s0*/owner.json"):
            try:
                pid = json.loads(path.read_text())["pid"]
            except (OSError, ValueError):
                continue
            if pid not in killed:
                killed.add(pid)
                time.sleep(0.2)
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: pretrain/ae_kmeans-digits-d64-s0-")
    assert re.search(r"3 workers died while they made it; the last, process \d+ on \S+, was killed by signal 9", last)
    assert "cluster convae digits d64 s0 failed: it was not made, for the run before it, pretrain/" in err
    assert len(list(Path("runs").glob(f"cluster/*s1*/{RESULT}"))) == 1


@pytest.mark.slow
def test_ctrl_c_saves_the_states_and_ends_within_seconds() -> None:
    process = started(f"{LONG} --seed 0,1 --jobs 2")
    until(lambda: logged(Path("runs")) > 3)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < workers.GRACE + 10
    assert err.splitlines()[-1].startswith("error: interrupted; finished runs and saved epochs are kept")
    assert len(list(Path("runs").glob("pretrain/*/state.pt"))) == 2
    code, _, err = done(f"{LONG} --seed 0,1 --jobs 2")
    assert (code, len(re.findall(r"\d+ done before", err))) == (0, 2)


@pytest.mark.slow
def test_two_commands_on_one_runs_directory_make_every_run_once() -> None:
    words = "cluster --model convae --data digits --profile smoke --seed 0,1,2,3 --jobs 2"
    first, second = started(words), started(words)
    said = [one.communicate(timeout=400)[1] for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert len(numbers("runs")) == 8
    begun = [name for text in said for name in re.findall(r"^\[(.+?)\] cluster convae: 10 epochs$", text, re.MULTILINE)]
    assert sorted(begun) == [f"cluster convae digits d64 s{seed}" for seed in range(4)]


@pytest.fixture
def scheduler() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A scheduler of its own with one worker; its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    one = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    with subprocess.Popen(dask, **silent) as head, subprocess.Popen(one, **silent) as worker:
        yield address, head
        worker.terminate()
        head.kill()


@pytest.mark.slow
def test_a_running_scheduler_makes_the_runs_and_its_end_is_said(scheduler: Any) -> None:
    address, head = scheduler
    words = f"--data digits --profile smoke --cluster {address}"
    _, _, err = until(lambda: (found := done(f"cluster --model convae {words}"))[0] == 0 and found)
    assert "cluster convae digits d64 s0 is done" in err
    process = started(f"{LONG} --seed 1,2 --cluster {address}")
    until(lambda: logged(Path("runs"), "*s[12]*") > 3)
    head.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("error: The scheduler is gone")
    assert "resumes" in err.splitlines()[-1]


@pytest.mark.slow
def test_where_nothing_listens_one_sentence_says_so() -> None:
    began = time.monotonic()
    code, out, err = done("cluster --model kmeans --data digits --quiet --cluster tcp://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert err.startswith("error: No scheduler answers at tcp://127.0.0.1:9 ")
    assert len(err.splitlines()) == 1
    assert time.monotonic() - began < 60  # 7 s, and the imports of a busy machine


@pytest.mark.slow
@pytest.mark.skipif(not slurm_answers(), reason="no SLURM controller answers here")
def test_the_readmes_job_runs_under_slurm() -> None:
    """As README has it, with two tasks, this environment, and numbers to compare."""
    readme = (Path(workers.__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (job,) = re.findall(r"```\n(#!/bin/bash\n#SBATCH.*?)```", readme, re.DOTALL)
    changes = {
        "--ntasks=9": "--ntasks=2",
        "--ntasks=8": "--ntasks=2",
        "source .venv/bin/activate": f"export PATH={Path(sys.executable).parent}:$PATH",
        "rc table table1 --profile smoke": "rc cluster --model convae --data digits --profile smoke --seed 0,1",
    }
    for old, new in changes.items():
        assert old in job, old
        job = job.replace(old, new)
    Path("runs").mkdir()
    Path("job.sh").write_text(job)
    subprocess.run(["sbatch", "--wait", "--output=out.txt", "job.sh"], check=True, timeout=600, capture_output=True)
    assert "4/4 runs" in Path("out.txt").read_text()
    words = "cluster --model convae --data digits --profile smoke --seed 0,1 --threads 1 --quiet --runs-dir one"
    assert done(words)[0] == 0
    assert numbers("runs") == numbers("one")
