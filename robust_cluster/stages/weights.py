"""Weights of the user's own file in place of a pretraining: `--weights ae.pt`.

They are those of what a method's pretraining hands on, its autoencoder: `encoder.0.weight`, `decoder.0.weight`, ... of
DEC. Names and shapes must be the same; a checkpoint of a whole model, ours or another, has them behind a prefix, e.g.
`autoencoder.encoder.0.weight`, and beside others, which are left out.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_cluster.errors import ConfigError
from robust_cluster.runs.store import DAMAGED

SAFETENSORS = ".safetensors"
FLAG = "own weights"  # of a pretraining that takes them, and of what is clustered from it
MOST = 6  # names that a sentence lists


@dataclass(frozen=True)
class Weights:
    """A file in memory."""

    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it holds, by name. Raises: ConfigError for what is no state_dict of finite tensors."""
        found = _safetensors(self) if self.path.suffix == SAFETENSORS else _pickled(self)
        if not found or not all(isinstance(name, str) and isinstance(one, Tensor) for name, one in found.items()):
            hint = "torch.save(net.state_dict(), FILE)"
            raise ConfigError(f"{self.path} is no state_dict, which has tensors by name and nothing else", hint=hint)
        wrong = [name for name, one in found.items() if not bool(one.isfinite().all())]
        if wrong:
            raise ConfigError(f"{self.path} has NaN or infinite values in {listed(wrong)}")
        return dict(found)


def read(path: Path) -> Weights:
    """A file of weights. Raises: ConfigError when it cannot be read."""
    try:
        return Weights(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the weights {path} cannot be read: {error.strerror}") from error


def _pickled(weights: Weights) -> Any:
    """What torch.save wrote, if that is tensors and plain values; of a checkpoint its "state_dict"."""
    try:
        found = torch.load(io.BytesIO(weights.content), map_location="cpu", weights_only=True)
    except DAMAGED as error:
        what = " ".join(str(error).split())[:100]
        raise ConfigError(
            f"{weights.path} cannot be read as weights: {what}", hint="torch.save(net.state_dict(), FILE)"
        ) from error
    found = found if isinstance(found, Mapping) else {}
    return found.get("state_dict", found)


def _safetensors(weights: Weights) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load  # late: an optional library
    except ImportError as error:
        hint = "pip install -e '.[safetensors]'"
        raise ConfigError(f"{weights.path} needs safetensors, which is not installed", hint=hint) from error
    try:
        found: dict[str, Tensor] = load(weights.content)
    except SafetensorError as error:
        raise ConfigError(f"{weights.path} cannot be read as weights: {error}") from error
    return found


def fill(part: nn.Module, weights: Weights, owner: str) -> list[str]:
    """Give the pretrained part of a method, `owner`, the weights of a file; what a user should know of it.

    Single numbers beside the weights, such as DEC's scale of the inputs, may be missing and stay as they are.
    Raises: ConfigError that lists what is missing, unexpected or of another shape.
    """
    wanted, given = part.state_dict(), weights.tensors
    prefix = common_prefix(wanted, given)
    inside = {name.removeprefix(prefix): one for name, one in given.items() if name.startswith(prefix)}
    absent = [name for name in wanted if name not in inside]
    missing = [name for name in absent if wanted[name].ndim]
    parts = {name.partition(".")[0] for name in wanted}
    beyond = [name for name in inside if name not in wanted and (missing or name.partition(".")[0] in parts)]
    other = [
        f"{name} {tuple(inside[name].shape)} for {tuple(one.shape)}"
        for name, one in wanted.items()
        if name in inside and inside[name].shape != one.shape
    ]
    faults = {"missing": missing, "unexpected": beyond, "of another shape": other}
    if any(faults.values()):
        what = "; ".join(f"{word} {listed(names)}" for word, names in faults.items() if names)
        hint = f"--dim, and the settings of rc ls models {owner}"
        raise ConfigError(f"{weights.path} does not fit the autoencoder of {owner}: {what}", hint=hint)
    part.load_state_dict({**wanted, **{name: one for name, one in inside.items() if name in wanted}})
    left = [name for name in given if name.removeprefix(prefix) not in wanted or not name.startswith(prefix)]
    notes = [f"{weights.path}: left out {listed(left)}"] if left else []
    if "scale" in absent and float(wanted["scale"]) != 1:
        notes.append(
            f"{weights.path} has no scale: {owner} multiplies its inputs by {float(wanted['scale']):.4g}; weights that "
            "were trained on the values as they are need --set model.norm=none"
        )
    return notes


def common_prefix(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What stands before most of the wanted names in the given ones: "autoencoder." in a checkpoint of DEC."""
    counts = Counter(
        name.removesuffix(one)
        for name in given
        for one in wanted
        if name == one or name.endswith(f".{one}")
    )  # fmt: skip
    return "" if not counts or counts[""] else counts.most_common(1)[0][0]


def listed(names: list[str]) -> str:
    """Names with commas between, the first few of many."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
