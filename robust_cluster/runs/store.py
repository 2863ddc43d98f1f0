"""The run store: one folder a run, named by its key, written so that a kill at any moment loses nothing.

A folder holds spec.json (first), log.jsonl (a line an epoch), state.pt (the latest resumable state), model.pt, and
result.json, which comes last: its presence means done. Every file but the log is replaced as a whole.
"""

import errno
import hashlib
import io
import json
import logging
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from robust_cluster.errors import CheckpointError, ConfigError, DataError, MissingResultError, ShapeError, StoreError
from robust_cluster.runs.lock import LOCK, OWNER, Lease, owned
from robust_cluster.runs.record import Record, checked, read, spec_of
from robust_cluster.runs.spec import RunSpec, Stage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SPEC, LOG, STATE, MODEL, RESULT = "spec.json", "log.jsonl", "state.pt", "model.pt", "result.json"
LABELS = "labels.npy"  # of transductive methods
SEAL = b"robust_cluster state\n"  # before the SHA-256 of a saved state, which comes before the state
HEADER = len(SEAL) + hashlib.sha256().digest_size

# What torch.load raises on damaged bytes; found by cutting a checkpoint short and by flipping each of its bytes.
DAMAGED = (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError)

REFUSALS = (ConfigError, DataError, MissingResultError, ShapeError)  # of what a run was asked to do

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run's folder and its only owner's way to write into it; `RunStore.own` gives it out."""

    spec: RunSpec
    path: Path
    lease: Lease | None = None

    def record(self) -> dict[str, Any] | None:
        """The finished record, None while the run is not done. Raises: StoreError when it cannot be read."""
        return _read_record(self.path / RESULT)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one JSON line. Raises: ValueError for NaN or infinity (None stands for what is not known)."""
        text = json.dumps(dict(line), sort_keys=True, allow_nan=False) + "\n"
        with sentences(self.path), (self.path / LOG).open("ab") as file:
            file.write(text.encode())

    def lines(self) -> list[dict[str, Any]]:
        """What was logged, a line torn by a kill left out. Raises: StoreError when a line is not JSON."""
        whole = _whole_lines(self.path / LOG)
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise StoreError(f"{self.path / LOG} holds a line that is not JSON", hint=_again(self.spec)) from error

    def rewind(self, epoch: int) -> None:
        """Keep the logged lines whose "epoch" is at most `epoch`: a run that resumes logs the later ones again."""
        kept = [line for line in self.lines() if line.get("epoch", math.inf) <= epoch]
        text = "".join(json.dumps(line, sort_keys=True, allow_nan=False) + "\n" for line in kept)
        _write(self.path / LOG, text.encode())

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the resumable state: nested dicts and lists of tensors, numbers and strings, behind their SHA-256."""
        self._check()
        content = _pack(state)
        _write(self.path / STATE, SEAL + hashlib.sha256(content).digest() + content)

    def load_state(self) -> dict[str, Any] | None:
        """The latest resumable state, on the CPU; None when there is none. Raises: CheckpointError when damaged."""
        content = _read(self.path / STATE)
        if content is None:
            return None
        sealed = hashlib.sha256(content[HEADER:]).digest()
        try:
            if content[:HEADER] != SEAL + sealed:
                raise ValueError("its SHA-256 is another")
            return _unpack(content[HEADER:], "cpu")
        except DAMAGED as error:
            message = f"The resumable state {self.path / STATE} is damaged"
            raise CheckpointError(message, hint=_again(self.spec)) from error

    def save_model(self, state_dict: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        self._check()
        _write(self.path / MODEL, _pack(state_dict))

    def save_labels(self, labels: "npt.NDArray[np.int64]") -> None:
        """Replace what a method gave the rows that it was fitted on (n,), where its checkpoint cannot tell it."""
        import numpy as np  # late, here and below: help and listings need none of it

        self._check()
        buffer = io.BytesIO()
        np.save(buffer, labels.astype(np.int64), allow_pickle=False)
        _write(self.path / LABELS, buffer.getvalue())

    def finish(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record and return it as `record()` will read it: with key, spec, the checkpoint's size and SHA-256.

        It is written last; then the resumable state is deleted. Raises: ValueError for NaN or infinity.
        """
        self._check()
        full = {**record, "key": self.spec.key, "spec": self.spec.to_json()}
        model = _read(self.path / MODEL)
        if model is not None:
            full["checkpoint"] = {"file": MODEL, "sha256": hashlib.sha256(model).hexdigest(), "bytes": len(model)}
        content = _json(full)
        _write(self.path / RESULT, content)
        _remove(self.path / STATE)
        return dict(json.loads(content))

    def amend(self, fields: Mapping[str, Any]) -> None:
        """Replace some fields of a finished record, such as its audit; numbers that were measured stay.

        Raises: CheckpointError when the run is not finished.
        """
        record = self.record()
        if record is None:
            raise CheckpointError(f"{self.path} is not finished", hint=f"rc {self.spec.stage}")
        _write(self.path / RESULT, _json({**record, **fields}))

    def _check(self) -> None:
        """Raises StoreError when another process owns the run by now."""
        if self.lease is not None:
            self.lease.check()


@dataclass(frozen=True)
class RunStore:
    """All runs below `root`, which is created with the first run."""

    root: Path

    def path(self, spec: RunSpec) -> Path:
        """The run's folder, which need not exist."""
        return self.root / spec.directory

    def record(self, spec: RunSpec) -> dict[str, Any] | None:
        """The run's record when it is done, else None. Raises: StoreError when it cannot be read."""
        return _read_record(self.path(spec) / RESULT)

    def records(self, stage: Stage | None = None) -> list[dict[str, Any]]:
        """Every finished record below the root, or of one stage, by path.

        Raises: StoreError naming the one that cannot be read.
        """

        def stop(error: OSError) -> None:
            raise error  # os.walk would pass over a folder that it may not list, and a table would lack its runs

        with sentences(self.root):
            top = self.root / stage if stage else self.root
            walk = os.walk(top, onerror=stop) if top.exists() else ()
            paths = sorted(Path(folder, RESULT) for folder, _, files in walk if RESULT in files)
        return [record for record in map(_read_record, paths) if record is not None]

    def find(self, key: str) -> RunSpec | None:
        """The spec of the run with this key, None when there is none. Raises: StoreError when it cannot be read."""
        for path in sorted(self.root.glob(f"*/*-{key}/{SPEC}")) if key.isalnum() else ():
            content = _read(path)
            return spec_of(read(content, path), path) if content else None
        return None

    def lines(self, spec: RunSpec) -> list[dict[str, Any]]:
        """What a run has logged, whoever owns it; none for a run that logged nothing. Raises: StoreError."""
        return Run(spec, self.path(spec)).lines()

    @contextmanager
    def own(self, spec: RunSpec, *, wait: bool = True, notify: Callable[[str], None] = logger.warning) -> Iterator[Run]:
        """A block in which this process alone owns the run; a dead owner's lock is free at once.

        When another process owns it, `notify` gets one sentence and this one waits, after which the run may be done.
        A run that is refused before it has logged, saved or finished anything leaves no folder.
        Raises: StoreError when it is owned and `wait` is False, or when the folder cannot be written.
        """
        path = self.path(spec)
        with ExitStack() as held:
            with sentences(path):
                lease = held.enter_context(owned(path, wait=wait, notify=notify))
            try:
                _tidy(path)
                if not (path / SPEC).exists():
                    _write(path / SPEC, _json(spec.to_json()))
                yield Run(spec, path, lease)
            except REFUSALS:
                _forget(path)
                raise

    def load_model(self, spec: RunSpec, map_location: str = "cpu") -> dict[str, Any]:
        """The finished run's checkpoint. Raises: CheckpointError, as `checkpoint`."""
        return _unpack(self.checkpoint(spec), map_location)

    def checkpoint(self, spec: RunSpec) -> bytes:
        """The bytes of the finished run's checkpoint, after a check against the SHA-256 in its record.

        Raises: CheckpointError when the run is not done, or its checkpoint is missing or not what was recorded.
        """
        path, record = self.path(spec) / MODEL, self.record(spec)
        if record is None:
            raise CheckpointError(f"{path.parent} is not finished, so it has no checkpoint", hint=f"rc {spec.stage}")
        if "checkpoint" not in record:
            raise CheckpointError(f"The run {path.parent} was finished without a checkpoint", hint=_again(spec))
        content = _read(path)
        if content is None:
            raise CheckpointError(f"The checkpoint {path} is missing", hint=_again(spec))
        wanted = record["checkpoint"]
        if hashlib.sha256(content).hexdigest() != wanted["sha256"]:
            size = f"{len(content)} bytes, {wanted['bytes']} when it was written"
            message = f"The checkpoint {path} was truncated or edited: its SHA-256 differs from its record's ({size})"
            raise CheckpointError(message, hint=_again(spec))
        return content

    def recorded_checkpoint(self, spec: RunSpec | None) -> str | None:
        """SHA-256 of a finished run's checkpoint by its record; None without a run, a record or a checkpoint."""
        checkpoint = (self.record(spec) or {}).get("checkpoint") if spec else None
        return str(checkpoint["sha256"]) if checkpoint else None

    def labels(self, spec: RunSpec) -> "npt.NDArray[np.int64]":
        """What a transductive method gave its rows (n,). Raises: CheckpointError where the run did not keep it."""
        import numpy as np

        content = _read(self.path(spec) / LABELS)
        if content is None:
            raise CheckpointError(f"The run {self.path(spec)} has kept no labels of its rows", hint=_again(spec))
        found: npt.NDArray[np.int64] = np.load(io.BytesIO(content), allow_pickle=False)
        return found

    def discard(self, spec: RunSpec) -> None:
        """Forget the run's result, checkpoint, state and log, so that it starts over; waits for a live owner."""
        if self.path(spec).exists():
            with self.own(spec) as run:
                for name in (RESULT, STATE, MODEL, LOG):  # the result first: without it nothing else counts
                    _remove(run.path / name)


def _forget(folder: Path) -> None:
    """Remove the folder of a run that did nothing, and its stage's if that is left empty; its lock is held."""
    if {path.name for path in folder.iterdir()} - {SPEC, OWNER, LOCK}:
        return
    with suppress(OSError):  # a folder that cannot be removed does no harm
        for name in (SPEC, OWNER, LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        folder.parent.rmdir()


def _tidy(folder: Path) -> None:
    """Remove what a killed owner left: temporary files, a torn log line, the state of a finished run."""
    for leftover in folder.glob(".*.tmp"):
        _remove(leftover)
    if (folder / RESULT).exists():
        _remove(folder / STATE)
    whole = len(_whole_lines(folder / LOG))
    if whole < len(_read(folder / LOG) or b""):
        with sentences(folder):
            os.truncate(folder / LOG, whole)


def _whole_lines(path: Path) -> bytes:
    """The file up to its last end of line; empty when there is no file."""
    content = _read(path) or b""
    return content[: content.rfind(b"\n") + 1]


def _read_record(path: Path) -> Record | None:
    """The record in `path`, None when there is no file. Raises: StoreError naming file and field."""
    content = _read(path)
    return None if content is None else checked(read(content, path), path)


def _read(path: Path) -> bytes | None:
    """The file's bytes, None when there is no such file."""
    with sentences(path.parent):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole: whoever reads it meets the old content or the new, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with sentences(path.parent):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # also Ctrl-C; a full disk needs the room back
            temporary.unlink(missing_ok=True)
            raise
        if hasattr(os, "O_DIRECTORY"):  # Windows has no folder handles to synchronize
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _remove(path: Path) -> None:
    """Delete a file that may not be there."""
    with sentences(path.parent):
        path.unlink(missing_ok=True)


@contextmanager
def sentences(folder: Path) -> Iterator[None]:
    """A block in which the system's errors about a folder become a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise _store_error(error, folder) from error


def _store_error(error: OSError, folder: Path) -> StoreError:
    """The sentence for one system error."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "make room and give the same command again: the run resumes"
        return StoreError(f"No space left on the device that holds {folder}", hint=hint)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        hint = "choose a folder that you may write with --runs-dir"
        return StoreError(f"The runs directory {folder} cannot be used: {error.strerror}", hint=hint)
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        file = next((place for place in (folder, *folder.parents) if place.is_file()), folder)
        return StoreError(
            f"The runs directory must be a folder, but {file} is a file", hint="choose another: --runs-dir"
        )
    return StoreError(f"{folder} cannot be read or written: {error.strerror or error}")


def _again(spec: RunSpec) -> str:
    """The hint that says how to make a run anew."""
    return f"rc {spec.stage} with --force makes it anew"


def _json(content: Mapping[str, Any]) -> bytes:
    """Sorted, indented JSON with an end of line. Raises: ValueError for NaN or infinity."""
    return (json.dumps(content, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _pack(state: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint, packed in memory: into a file, torch would hide a full disk behind its own errors."""
    import torch  # late, here and below: records are read where torch is not loaded

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpack(content: bytes, map_location: str) -> dict[str, Any]:
    """The state in a checkpoint's bytes; no pickled objects. Raises: one of DAMAGED when it is none."""
    import torch

    return dict(torch.load(io.BytesIO(content), map_location=map_location, weights_only=True))
