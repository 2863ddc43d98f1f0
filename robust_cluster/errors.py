"""The sentences a user can meet. Each error says what is wrong, what is allowed and what to do next."""

import difflib
from collections.abc import Iterable
from typing import Any


class RobustClusterError(Exception):
    """Base of every error with a sentence for the user; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"

    def __reduce__(self) -> tuple[Any, ...]:
        """How to send it to another process: by its sentence, whatever its kind was made from."""
        return _received, (type(self), self.message, self.hint)


def _received(kind: type[RobustClusterError], message: str, hint: str | None) -> RobustClusterError:
    """An error that another process sent."""
    error = kind.__new__(kind, message)
    RobustClusterError.__init__(error, message, hint=hint)
    return error


class ConfigError(RobustClusterError):
    """A value that the user chose is not allowed; exit code 2."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name does not exist; the message has the nearest one that does; exit code 2. `group` begins every name."""

    def __init__(
        self, kind: str, name: str, allowed: Iterable[str], *, group: str = "", listing: str | None = None
    ) -> None:
        known = sorted(allowed)
        alike = {one.lower(): one for one in known}  # ConvAE is as near to convae as a name can be
        near = difflib.get_close_matches(name.lower(), alike, n=1, cutoff=0.7)
        guess = (
            f"Did you mean {group + alike[near[0]]!r}?"
            if near
            else f"Known: {', '.join(group + one for one in known)}."
        )
        super().__init__(f"Unknown {kind} {group + name!r}. {guess}", hint=listing)


def check_at_least(minimum: float, config: object, *names: str) -> None:
    """Raises ConfigError unless every named field of `config`, or each item of one that is a tuple, is >= `minimum`.

    A field that is None has no value to check.
    """
    for name in names:
        value = getattr(config, name)
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None and not item >= minimum:  # NaN too
                raise ConfigError(f"{name} must be >= {minimum:g}, got {value}")


def check_positive(config: object, *names: str) -> None:
    """Raises ConfigError unless every named field of `config` is > 0 or None."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:  # NaN too
            raise ConfigError(f"{name} must be > 0, got {value}")


def check_share(config: object, *names: str) -> None:
    """Raises ConfigError unless every named field of `config` is in (0, 1]."""
    for name in names:
        if not 0 < getattr(config, name) <= 1:
            raise ConfigError(f"{name} must be in (0, 1], got {getattr(config, name)}")


class DataError(RobustClusterError):
    """A data set is not there, or its content cannot be used; exit code 1."""


def shortage(what: str, needed: int, available: int) -> str:
    """ "DEC needs 3.0 GiB of memory, 1.0 GiB are available", of bytes; less than a tenth of a GiB in MiB."""
    sizes = (
        f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.2g} MiB" for size in (needed, available)
    )
    return "{} needs {} of memory, {} are available".format(what, *sizes)


class OutOfMemory(RobustClusterError):
    """A fit would take more memory than there is, or than it may; nothing was allocated. Both in bytes; exit code 1."""

    def __init__(self, what: str, needed: int, available: int) -> None:
        super().__init__(shortage(what, needed, available), hint="--limit N, or a machine with more memory")
        self.needed, self.available = needed, available


class ShapeError(RobustClusterError):
    """Arrays do not fit together; exit code 1."""


class CheckpointError(RobustClusterError):
    """A checkpoint is missing, truncated, or not the one its record describes; exit code 1."""


class StoreError(RobustClusterError):
    """The runs directory cannot be read or written, or another process owns the run; exit code 1."""


class NonFiniteError(RobustClusterError):
    """A loss term became NaN or infinite; the last good state is kept; exit code 1."""


class MissingResultError(RobustClusterError):
    """Results were asked for that do not exist; exit code 3."""

    exit_code = 3


class StoppedError(RobustClusterError):
    """A run was asked to stop, and has after it saved its state; exit code 130."""

    exit_code = 130
