"""Who owns a run's folder, among processes of one machine and of several that share a file system."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from robust_cluster.errors import StoreError
from robust_cluster.runs import lock
from robust_cluster.runs.lock import OWNER, SILENCE, is_owned, owned


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    monkeypatch.setattr(lock, "POLL", 0.01)


def elsewhere(folder: Path, *, silent: float, pid: int = 7) -> bytes:
    """The owner's file of a process on another machine, whose kernel's lock this one does not see."""
    folder.mkdir(exist_ok=True)
    content = json.dumps({"pid": pid, "host": "node2", "machine": "other", "id": str(pid)}).encode()
    (folder / OWNER).write_bytes(content)
    then = time.time() - silent
    os.utime(folder / OWNER, (then, then))
    return content


def until(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so within ten seconds."""
    end = time.monotonic() + 10
    while not is_so():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.005)
    return True


def test_an_owner_on_another_machine_that_lives_is_refused(tmp_path: Path) -> None:
    content = elsewhere(tmp_path / "run", silent=SILENCE - 5)
    with pytest.raises(StoreError, match=r"is being run by process 7 on node2 \(wait for it"):
        owned(tmp_path / "run", wait=False, notify=print).__enter__()
    assert (tmp_path / "run" / OWNER).read_bytes() == content
    assert is_owned(tmp_path / "run")


def test_an_owner_on_another_machine_that_is_silent_is_dead(tmp_path: Path) -> None:
    elsewhere(tmp_path / "run", silent=SILENCE + 5)
    assert not is_owned(tmp_path / "run")
    with owned(tmp_path / "run", wait=False, notify=print):
        assert json.loads((tmp_path / "run" / OWNER).read_bytes())["pid"] == os.getpid()
        assert is_owned(tmp_path / "run")
    assert not (tmp_path / "run" / OWNER).exists()


def test_an_owner_on_another_machine_is_waited_for_with_one_sentence(tmp_path: Path) -> None:
    elsewhere(tmp_path / "run", silent=0)
    said: list[str] = []
    begun = threading.Event()

    def told(text: str) -> None:
        said.append(text)
        begun.set()

    def own() -> None:
        with owned(tmp_path / "run", wait=True, notify=told):
            said.append("owned")

    thread = threading.Thread(target=own)
    thread.start()
    assert begun.wait(10)
    (tmp_path / "run" / OWNER).unlink()
    thread.join(10)
    assert said == [f"{tmp_path / 'run'} is being run by process 7 on node2; waiting for it to end", "owned"]


def test_an_owner_gives_signs_of_life(tmp_path: Path) -> None:
    with owned(tmp_path, wait=False, notify=print):
        os.utime(tmp_path / OWNER, (0, 0))
        assert until(lambda: (tmp_path / OWNER).stat().st_mtime > 0)


def test_a_file_system_that_is_away_for_a_while_does_not_end_the_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = lock._content, threading.Event()

    def away(path: Path) -> None:
        asked.set()

    with owned(tmp_path, wait=False, notify=print) as lease:
        monkeypatch.setattr(lock, "_content", away)
        assert asked.wait(10)
        monkeypatch.setattr(lock, "_content", read)
        os.utime(tmp_path / OWNER, (0, 0))
        assert until(lambda: (tmp_path / OWNER).stat().st_mtime > 0)
        lease.check()


def test_who_was_taken_over_learns_it_before_it_writes_and_leaves_the_new_owners_file(tmp_path: Path) -> None:
    with owned(tmp_path, wait=False, notify=print) as lease:
        lease.check()
        content = elsewhere(tmp_path, silent=0, pid=8)
        assert until(lambda: not lease.thread.is_alive())
        with pytest.raises(StoreError, match="was taken over by process 8 on node2, for this process gave no sign"):
            lease.check()
    assert (tmp_path / OWNER).read_bytes() == content


def test_a_new_owner_that_came_before_the_dead_ones_file_was_taken_away_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, silent=SILENCE + 5)
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        elsewhere(tmp_path, silent=0, pid=9)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    lock._evict(tmp_path)
    assert json.loads((tmp_path / OWNER).read_bytes())["pid"] == 9
    assert [path.name for path in tmp_path.iterdir()] == [OWNER]


def test_of_many_that_want_a_free_folder_one_gets_it(tmp_path: Path) -> None:
    leases = [lock.Lease(tmp_path) for _ in range(8)]
    assert sum(lease.take() for lease in leases) == 1
    for lease in leases:
        lease.end()
    assert list(tmp_path.iterdir()) == []
