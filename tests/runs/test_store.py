"""The run store: atomic, owned by one process, resumable, and plain about what is wrong."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

from robust_cluster.errors import CheckpointError, ConfigError, DataError, NonFiniteError, StoreError
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import Run, RunStore
from tests.made import MADE

# Owns the run, says so, and when its standard input ends, finishes the run.
OWNER = """
import json, sys
from pathlib import Path
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import RunStore
with RunStore(Path(sys.argv[1])).own(RunSpec.from_json(json.loads(sys.argv[2]))) as run:
    run.log({"epoch": 1})
    print("owned", flush=True)
    sys.stdin.read()
    run.finish(json.loads(sys.argv[3]))
"""
# The same, but the kernel ends it between the write of result.json and its replacement.
KILLED_BEFORE_REPLACE = """
import os, signal
replace = os.replace
def killed(source, target):
    if str(target).endswith("result.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
"""


HALF = {**MADE, "metrics": {"ACC": 0.5}}
SPEC = RunSpec("pretrain", DataRef("digits"), "ab" * 32, "graph", latent_dim=64, seed=0)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def run(store: RunStore) -> Iterator[Run]:
    with store.own(SPEC, wait=False) as owned:
        yield owned


@contextmanager
def owner(store: RunStore, before: str = "") -> Iterator["subprocess.Popen[str]"]:
    """Another process that owns the run."""
    command = [sys.executable, "-c", before + OWNER, str(store.root), json.dumps(SPEC.to_json()), json.dumps(HALF)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        try:
            yield process
        finally:
            process.kill()


def let_finish(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()


def raising(number: int) -> Callable[..., NoReturn]:
    """A system call that fails with `number`."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


def finished(store: RunStore, spec: RunSpec = SPEC) -> Path:
    """The folder of a finished run with a checkpoint."""
    with store.own(spec) as owned:
        owned.save_model({"weight": torch.arange(6.0)})
        owned.finish({**MADE, "metrics": {"ACC": 0.75}})
    return store.path(spec)


@contextmanager
def refused(error: type[Exception], sentence: str) -> Iterator[None]:
    """A block that raises the error with exactly this sentence."""
    with pytest.raises(error) as caught:
        yield
    assert str(caught.value) == sentence


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_store_creates_nothing_until_the_first_run(store: RunStore) -> None:
    assert store.record(SPEC) is None
    assert store.records() == []
    store.discard(SPEC)
    assert not store.root.exists()


def test_an_owned_run_has_its_spec_and_owner_first(store: RunStore, run: Run) -> None:
    assert run.path == store.root / SPEC.directory
    assert files(run.path) == {"spec.json", "owner.json", ".lock"}
    assert RunSpec.from_json(json.loads((run.path / "spec.json").read_text())) == SPEC
    assert json.loads((run.path / "owner.json").read_text())["pid"] == os.getpid()


def test_the_owner_is_forgotten_when_the_block_ends_even_by_an_error(store: RunStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.own(SPEC):
        raise KeyboardInterrupt
    assert files(store.path(SPEC)) == {"spec.json", ".lock"}
    with store.own(SPEC, wait=False) as again:
        assert again.record() is None


def test_a_finished_record_holds_key_spec_and_checkpoint_and_reads_back_equal(store: RunStore, run: Run) -> None:
    run.save_model({"weight": torch.arange(6.0)})
    record = run.finish({**MADE, "metrics": {"ACC": 0.75}, "sizes": (3, 4)})
    assert record["metrics"]["ACC"] == 0.75
    assert record["key"] == SPEC.key
    assert RunSpec.from_json(record["spec"]) == SPEC
    assert record["checkpoint"]["bytes"] == (run.path / "model.pt").stat().st_size
    assert record == run.record() == store.record(SPEC)
    text = (run.path / "result.json").read_text()
    assert text == json.dumps(record, sort_keys=True, indent=1) + "\n"


def test_a_run_without_a_model_finishes_without_a_checkpoint(store: RunStore, run: Run) -> None:
    assert "checkpoint" not in run.finish(MADE)
    with pytest.raises(CheckpointError, match="finished without a checkpoint"):
        store.load_model(SPEC)


def test_the_result_is_written_last_and_the_state_goes_after_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_state({"epoch": 3})
    run.save_model({"weight": torch.zeros(2)})
    seen: list[tuple[str, set[str]]] = []
    replace = os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((target.name, {name for name in files(run.path) if not name.startswith(".")}))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    run.finish(HALF)
    assert seen == [("result.json", {"spec.json", "owner.json", "state.pt", "model.pt"})]
    assert not (run.path / "state.pt").exists()


def test_nan_is_refused_before_anything_is_written(run: Run) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.finish({**MADE, "metrics": {"ACC": float("nan")}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.log({"epoch": 1, "loss": float("inf")})
    assert run.record() is None
    assert run.lines() == []


def test_records_come_from_every_stage_sorted_by_path(store: RunStore) -> None:
    specs = [replace(SPEC, seed=1), replace(SPEC, stage="attack"), SPEC]
    for spec in specs:
        finished(store, spec)
    with store.own(replace(SPEC, seed=2)):
        pass  # begun, not finished
    assert [record["key"] for record in store.records()] == [
        spec.key for spec in sorted(specs, key=lambda spec: spec.directory)
    ]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "is damaged: it is [1], must be an object"),
        ("3", "is damaged: it is 3, must be an object"),
        ("\udcff", "is not valid JSON"),
    ],
)
def test_a_record_that_is_not_a_json_object_is_named(store: RunStore, content: str, wrong: str) -> None:
    path = finished(store) / "result.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    for read in (store.records, lambda: store.record(SPEC)):
        with pytest.raises(StoreError) as caught:
            read()
        assert f"{path} {wrong}" in str(caught.value)
        assert str(caught.value).endswith("(delete it and give the command again)")


def test_log_lines_are_on_disk_at_once_and_come_back_in_order(run: Run) -> None:
    run.log({"epoch": 1})
    assert (run.path / "log.jsonl").read_text() == '{"epoch": 1}\n'
    run.log({"epoch": 2, "loss": 1 / 3})
    assert run.lines() == [{"epoch": 1}, {"epoch": 2, "loss": 1 / 3}]


def test_a_torn_last_line_is_ignored_and_the_next_owner_logs_after_the_last_whole_one(store: RunStore) -> None:
    with store.own(SPEC) as first:
        first.log({"epoch": 1})
        with (first.path / "log.jsonl").open("a") as file:
            file.write('{"epoch": 2, "lo')
        assert first.lines() == [{"epoch": 1}]
    with store.own(SPEC) as second:
        second.log({"epoch": 2})
        assert second.lines() == [{"epoch": 1}, {"epoch": 2}]


def test_a_damaged_line_in_the_middle_is_named(run: Run) -> None:
    (run.path / "log.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(StoreError, match=r"log\.jsonl holds a line that is not JSON .*--force"):
        run.lines()


def test_rewinding_forgets_the_epochs_after_the_state(run: Run) -> None:
    for epoch in (1, 2, 3):
        run.log({"epoch": epoch})
    run.rewind(2)
    assert run.lines() == [{"epoch": 1}, {"epoch": 2}]
    run.log({"epoch": 3})
    assert [line["epoch"] for line in run.lines()] == [1, 2, 3]


def test_a_state_round_trips_bit_for_bit(run: Run) -> None:
    assert run.load_state() is None
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    state = {
        "epoch": 7,
        "loss": 0.1 + 0.2,
        "phase": "cluster",
        "ended": False,
        "best": None,
        "model": network.state_dict(),
        "optimizers": {"model": optimizer.state_dict()},
        "history": [{"loss": 1.5}, {"loss": 1.25}],
        "rng": {"batches": generator.get_state(), "global": torch.get_rng_state()},
    }
    expected = torch.rand(3, generator=generator)
    run.save_state(state)
    loaded = run.load_state()
    assert loaded is not None
    for name in ("epoch", "loss", "phase", "ended", "best", "history"):
        assert loaded[name] == state[name]
    fresh = torch.Generator()
    fresh.set_state(loaded["rng"]["batches"])
    assert torch.equal(torch.rand(3, generator=fresh), expected)
    torch.testing.assert_close(loaded["model"], dict(network.state_dict()), rtol=0, atol=0)
    torch.testing.assert_close(loaded["optimizers"]["model"], optimizer.state_dict(), rtol=0, atol=0)
    network.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizers"]["model"])


def test_a_failure_between_write_and_replace_leaves_the_old_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_state({"epoch": 1})
    before = files(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", raising(errno.EIO))
        with pytest.raises(StoreError, match="cannot be read or written: Input/output error"):
            run.save_state({"epoch": 2})
    assert run.load_state() == {"epoch": 1}
    assert files(run.path) == before  # nothing temporary is left


def test_a_kill_between_write_and_replace_leaves_no_result_and_is_tidied_up(store: RunStore) -> None:
    with owner(store, before=KILLED_BEFORE_REPLACE) as process:
        let_finish(process)
        process.wait()
    leftovers = list(store.path(SPEC).glob(".*.tmp"))
    assert len(leftovers) == 1
    assert json.loads(leftovers[0].read_text())["metrics"]["ACC"] == 0.5  # it was written whole, yet does not count
    with store.own(SPEC, wait=False) as run:
        assert run.record() is None
        assert run.lines() == [{"epoch": 1}]
        assert list(run.path.glob(".*.tmp")) == []


def test_the_state_of_a_run_killed_after_its_result_is_tidied_up(store: RunStore) -> None:
    folder = finished(store)
    (folder / "state.pt").write_bytes(b"left behind")
    with store.own(SPEC) as run:
        assert run.load_state() is None


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda _: b"x" * 99]
)
def test_a_damaged_state_is_refused_with_the_way_out(run: Run, damage: Callable[[bytes], bytes]) -> None:
    run.save_state({"epoch": 1, "weight": torch.zeros(9)})
    path = run.path / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    sentence = f"The resumable state {path} is damaged (rc pretrain with --force makes it anew)"
    with refused(CheckpointError, sentence):
        run.load_state()


def test_a_state_with_a_pickled_object_is_not_executed(run: Run, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"trap": Trap()}, run.path / "state.pt")
    with pytest.raises(CheckpointError):
        run.load_state()
    assert not (tmp_path / "sprung").exists()


def test_a_finished_model_loads_as_it_was_saved(store: RunStore) -> None:
    finished(store)
    assert torch.equal(store.load_model(SPEC)["weight"], torch.arange(6.0))


def test_the_model_of_an_unfinished_run_is_refused(store: RunStore, run: Run) -> None:
    run.save_model({"weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"is not finished.*rc pretrain"):
        store.load_model(SPEC)


def test_a_missing_model_is_refused_with_the_way_out(store: RunStore) -> None:
    path = finished(store) / "model.pt"
    path.unlink()
    with refused(CheckpointError, f"The checkpoint {path} is missing (rc pretrain with --force makes it anew)"):
        store.load_model(SPEC)


def test_a_truncated_or_edited_model_is_refused_with_both_sizes(store: RunStore) -> None:
    path = finished(store) / "model.pt"
    size = path.stat().st_size
    os.truncate(path, size - 100)
    with pytest.raises(CheckpointError, match=rf"truncated or edited.*{size - 100} bytes, {size} when.*--force"):
        store.load_model(SPEC)
    torch.save({"weight": torch.arange(6.0) + 1}, path)
    with pytest.raises(CheckpointError, match=r"truncated or edited.*SHA-256"):
        store.load_model(SPEC)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_discarded_run_starts_over(store: RunStore, is_damaged: bool) -> None:
    folder = finished(store)
    (folder / "log.jsonl").write_text('{"epoch": 1}\n')
    (folder / "state.pt").write_bytes(b"")
    if is_damaged:
        (folder / "result.json").write_text("{")
    store.discard(SPEC)
    assert files(folder) == {"spec.json", ".lock"}
    assert store.record(SPEC) is None


def test_a_live_owners_run_is_refused_with_its_process_and_host(store: RunStore) -> None:
    with owner(store) as process:
        who = f"process {process.pid} on {os.uname().nodename}"
        sentence = f"{store.path(SPEC)} is being run by {who} (wait for it to end, or stop it)"
        with refused(StoreError, sentence), store.own(SPEC, wait=False):
            pass


def test_another_run_is_free_while_one_is_owned(store: RunStore) -> None:
    with owner(store), store.own(replace(SPEC, seed=1), wait=False) as run:
        assert run.record() is None


def test_a_live_owner_is_waited_for_and_its_result_is_seen(store: RunStore) -> None:
    said: list[str] = []
    with owner(store) as process:

        def notify(sentence: str) -> None:
            said.append(sentence)
            let_finish(process)

        with store.own(SPEC, notify=notify) as run:
            record = run.record()
    assert record is not None
    assert record["metrics"]["ACC"] == 0.5
    assert len(said) == 1
    assert f"process {process.pid} on" in said[0]
    assert said[0].endswith("waiting for it to end")


def test_a_dead_owners_run_is_taken_over_at_once(store: RunStore) -> None:
    with owner(store) as process:
        process.kill()
        process.wait()
        assert json.loads((store.path(SPEC) / "owner.json").read_text())["pid"] == process.pid
        with store.own(SPEC, wait=False) as run:
            assert json.loads((run.path / "owner.json").read_text())["pid"] == os.getpid()
            assert run.lines() == [{"epoch": 1}]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_says_so_and_keeps_what_was_there(run: Run, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_state({"epoch": 1})
    before = files(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, raising(errno.ENOSPC))
        hint = "make room and give the same command again: the run resumes"
        with refused(StoreError, f"No space left on the device that holds {run.path} ({hint})"):
            run.save_state({"epoch": 2})
    assert files(run.path) == before
    assert run.load_state() == {"epoch": 1}


def test_a_full_disk_while_logging_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", raising(errno.ENOSPC))
    with pytest.raises(StoreError, match="No space left on the device"):
        run.log({"epoch": 1})


def test_a_full_disk_when_a_run_begins_gives_the_lock_back(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raising(errno.ENOSPC))
        with pytest.raises(StoreError, match="No space left"), store.own(SPEC):
            pass
    with store.own(SPEC, wait=False) as run:
        assert run.record() is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_runs_directory_that_may_not_be_written_is_named(
    store: RunStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", raising(number))
    why = f"{os.strerror(number)} (choose a folder that you may write with --runs-dir)"
    with refused(StoreError, f"The runs directory {store.path(SPEC)} cannot be used: {why}"), store.own(SPEC):
        pass


def test_a_folder_that_may_not_be_listed_is_an_error_and_not_an_empty_table(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(store)
    monkeypatch.setattr(os, "scandir", raising(errno.EACCES))
    with pytest.raises(StoreError, match="cannot be used"):
        store.records()


def test_a_file_in_place_of_the_runs_directory_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("")
    store = RunStore(file)
    assert store.record(SPEC) is None
    sentence = f"The runs directory must be a folder, but {file} is a file (choose another: --runs-dir)"
    with refused(StoreError, sentence), store.own(SPEC):
        pass
    with refused(StoreError, sentence):
        store.records()


def test_an_error_of_the_training_itself_is_passed_on_unchanged(store: RunStore) -> None:
    with pytest.raises(FileNotFoundError, match="the caller's own"), store.own(SPEC):
        raise FileNotFoundError("the caller's own")


@pytest.mark.parametrize("refusal", [ConfigError("no such value"), DataError("no such file")])
def test_a_run_that_is_refused_leaves_no_folder(store: RunStore, refusal: Exception) -> None:
    with pytest.raises(type(refusal)), store.own(SPEC):
        raise refusal
    assert list(store.root.iterdir()) == []


def test_a_run_that_did_something_keeps_its_folder_whatever_ends_it(store: RunStore) -> None:
    with suppress(ConfigError), store.own(SPEC) as run:
        run.log({"epoch": 1})
        raise ConfigError("refused in its second epoch")
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "log.jsonl", "spec.json"]
    other = replace(SPEC, seed=1)
    with pytest.raises(NonFiniteError), store.own(other) as run:
        raise NonFiniteError("nan")
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "spec.json"]


def test_who_waits_for_a_run_that_is_refused_owns_it_then(store: RunStore) -> None:
    """The lock that it waited for was removed with the folder: it takes one that others see."""

    def refused(sentence: str) -> None:
        first.__exit__(ConfigError, ConfigError("refused"), None)

    first = store.own(SPEC)
    first.__enter__()
    with store.own(SPEC, notify=refused) as run:
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "owner.json", "spec.json"]
        with pytest.raises(StoreError, match="is being run by process"), store.own(SPEC, wait=False):
            pass
