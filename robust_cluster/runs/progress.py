"""Who is told how far a run is, and may ask it to stop."""

from collections.abc import Mapping
from typing import Protocol

from robust_cluster.runs.spec import RunSpec


class Progress(Protocol):
    """What is told how far a run is. `stops`: the run shall save its state after this epoch, and end."""

    @property
    def stops(self) -> bool: ...

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None: ...
    def epoch(self, number: int, losses: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Board(Protocol):
    """What is told of all runs of a command: of each when it begins, and when it has ended or failed."""

    def begin(self, spec: RunSpec) -> Progress: ...
    def end(self, spec: RunSpec, error: Exception | None = None) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A progress that tells nothing."""

    stops = False

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None:
        """Tells nothing."""

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        """Tells nothing."""

    def note(self, text: str) -> None:
        """Tells nothing."""

    def stop(self) -> None:
        """Tells nothing."""
