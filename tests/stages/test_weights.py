"""Weights of a user's own file: read, compared by name and shape, and given to what the pretraining hands on."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.errors import ConfigError
from robust_cluster.nn.perceptrons import MirroredAutoencoder
from robust_cluster.stages.weights import fill, read


class Plain(nn.Module):
    """An autoencoder as anybody writes it."""

    def __init__(self, inputs: int = 4, hidden: int = 3) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        self.decoder = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, inputs))


def ours(scale: float = 1.0) -> MirroredAutoencoder:
    return MirroredAutoencoder((4,), 2, (3,), scale=scale)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapped", ["plain", "prefixed", "parallel", "checkpoint", "double"])
def test_weights_arrive_by_name_whatever_they_are_wrapped_in(wrapped: str, tmp_path: Path) -> None:
    state = Plain().state_dict()
    head = {"head.weight": torch.ones(3, 2)}
    contents: dict[str, Any] = {
        "plain": state,
        "prefixed": {f"autoencoder.{name}": one for name, one in state.items()} | head,
        "parallel": {f"module.{name}": one for name, one in state.items()},
        "checkpoint": {"epoch": 3, "state_dict": state | head},
        "double": {name: one.double() for name, one in state.items()},
    }
    part = ours()
    seed = int(part.start_seed)
    notes = fill(part, read(saved(tmp_path / "ae.pt", contents[wrapped])), "dec")
    assert all(part.state_dict()[name].equal(one) for name, one in state.items())
    assert (float(part.scale), int(part.start_seed)) == (1.0, seed)
    left = [f"{tmp_path / 'ae.pt'}: left out head.weight"] if wrapped in ("prefixed", "checkpoint") else []
    assert notes == left


def test_our_own_checkpoint_brings_its_scale_and_its_seed(tmp_path: Path) -> None:
    first, second = ours(scale=0.5), ours(scale=2.0)
    assert fill(second, read(saved(tmp_path / "model.pt", first.state_dict())), "dec") == []
    assert all(second.state_dict()[name].equal(one) for name, one in first.state_dict().items())


def test_weights_without_a_scale_are_told_what_their_inputs_are_multiplied_by(tmp_path: Path) -> None:
    (note,) = fill(ours(scale=0.25), read(saved(tmp_path / "ae.pt", Plain().state_dict())), "dec")
    assert "dec multiplies its inputs by 0.25; weights that were trained on the values as they are need --set" in note


def changed(state: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    new = state | {name.replace("__", "."): one for name, one in changes.items() if one is not None}
    return {name: one for name, one in new.items() if changes.get(name.replace(".", "__"), 0) is not None}


STATE = Plain().state_dict()
BAD = [
    (Plain(5).state_dict(), "of another shape encoder.0.weight (3, 5) for (3, 4), decoder.2.weight (5, 3) for (4, 3)"),
    (changed(STATE, encoder__0__bias=None), "does not fit the autoencoder of dec: missing encoder.0.bias (--dim, and"),
    (changed(STATE, encoder__4__weight=torch.ones(2, 2)), "of dec: unexpected encoder.4.weight (--dim"),
    ({"enc.weight": torch.ones(1)}, "missing encoder.0.weight, encoder.0.bias, encoder.2.weight, encoder.2.bias, "
     "decoder.0.weight, decoder.0.bias and 2 more; unexpected enc.weight (--dim, and the settings of rc ls"),
    (changed(STATE, encoder__0__bias=torch.tensor([1.0, torch.nan, 1.0])), "NaN or infinite values in encoder.0.bias"),
    (Plain(), "cannot be read as weights: Weights only load failed"),
    ([1, 2], "is no state_dict, which has tensors by name and nothing else (torch.save(net.state_dict(), FILE))"),
    ({"epoch": 3}, "is no state_dict, which has tensors by name and nothing else"),
    ({}, "is no state_dict, which has tensors by name and nothing else"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), BAD)
def test_what_does_not_fit_is_listed_in_one_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    part = ours()
    before = {name: one.clone() for name, one in part.state_dict().items()}
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        fill(part, read(saved(tmp_path / "ae.pt", content)), "dec")
    assert all(one.equal(before[name]) for name, one in part.state_dict().items()), "nothing was taken"


def test_a_file_that_is_damaged_or_not_there_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ae.pt").write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"ae.pt cannot be read as weights: "):
        _ = read(tmp_path / "ae.pt").tensors
    with pytest.raises(ConfigError, match=r"none.pt cannot be read: No such file"):
        read(tmp_path / "none.pt")


def test_safetensors_are_read_where_the_library_is_there(tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    try:
        from safetensors.torch import save_file
    except ImportError:
        path.write_bytes(b"")
        with pytest.raises(ConfigError, match=r"needs safetensors, which is not installed \(pip install -e "):
            _ = read(path).tensors
        return
    save_file(STATE, path)
    found = read(path).tensors
    assert found.keys() == STATE.keys()
    assert all(one.equal(STATE[name]) for name, one in found.items())
    path.write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"ae.safetensors cannot be read as weights: "):
        _ = read(path).tensors
