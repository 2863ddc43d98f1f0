"""Who is told how far a run is."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """What is told how far a run is."""

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None: ...
    def epoch(self, number: int, losses: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """A progress that tells nothing."""

    def start(self, title: str, total: int, done: int, unit: str = "epoch") -> None:
        """Tells nothing."""

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        """Tells nothing."""

    def note(self, text: str) -> None:
        """Tells nothing."""

    def stop(self) -> None:
        """Tells nothing."""
