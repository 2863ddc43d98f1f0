"""Features of images by one of torchvision's networks: its last linear layer left out, in batches that can be resumed.

ADEC's, DCAN's and KINGDRA's CIFAR-10 and STL-10 are the 2,048 averages that a ResNet-50 trained on ImageNet pools.
Images become RGB, are resized to a square, bilinearly with antialiasing, and normalized by the mean and standard
deviation of the network's published weights, mostly ImageNet's. An image's features do not depend on the others of its
batch: the network is in eval().
"""

import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn import functional

from robust_cluster import __version__, discover
from robust_cluster.data import cache, files, prepare
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.formats import arrays, images
from robust_cluster.data.sources import AGAIN, Collection, SourceFile, hash_of
from robust_cluster.errors import ConfigError, DataError, ShapeError, UnknownNameError

OTHERWISE = ("densenet", "googlenet", "inception_v3", "mnasnet")  # torchvision loads or feeds them in other ways
SAVE_SECONDS = 5.0  # of work that a killed process loses at most
READERS = 8  # threads that decode images
PROVENANCE = "provenance"  # the array of the .npz with the JSON of `Work.provenance`
UNTRAINED = "none"
SAVED = "torch.save(model.state_dict(), file)"  # how a file of weights is made
Report = Callable[[int, int], None]  # rows done, rows in all
Labels = npt.NDArray[np.generic] | None


class Source(Protocol):
    """Images that are read a batch at a time. `name` and `digest` are for the provenance; `labels` (n,) or None."""

    name: str
    digest: str
    labels: Labels

    def __len__(self) -> int: ...
    def images(self, start: int, stop: int, size: int) -> Tensor:
        """Images (stop - start, 3, size, size) in [0, 1]."""
        ...


class ImageFolder:
    """A folder of images, each of which is read when it is needed."""

    def __init__(self, folder: Path) -> None:
        listed = images.find(folder)
        self.name, self.paths = folder.resolve().name, listed.paths
        self.labels: Labels = None if listed.classes is None else np.array(listed.classes)
        self.pool = ThreadPoolExecutor(READERS)
        content = hashlib.sha256()
        for path, digest in zip(self.paths, self.pool.map(_digest, self.paths), strict=True):
            content.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
        self.digest = content.hexdigest()

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, start: int, stop: int, size: int) -> Tensor:
        """Images (stop - start, 3, size, size) in [0, 1]. Raises: DataError naming one that cannot be read."""

        def one(path: Path) -> Tensor:
            pixels = torch.tensor(images.pixels(path, "RGB"))
            return resized(pixels.permute(2, 0, 1)[None] / 255, size)

        return torch.cat(list(self.pool.map(one, self.paths[start:stop])))


class ImageArray:
    """Images of one array, in memory or mapped into it."""

    def __init__(self, name: str, raw: Raw) -> None:
        if not raw.image or len(raw.views) != 1 or not isinstance(raw.views[0], np.ndarray):
            shapes = ", ".join(str(view.shape) for view in raw.views)
            raise ShapeError(f"{name} must be images (n, height, width[, channels]), got {shapes}")
        self.name, self.pixels, self.labels = name, raw.views[0], raw.labels
        if raw.labels is not None and len(raw.labels) != len(self.pixels):
            raise ShapeError(f"{name} must have a label an image, got {len(self.pixels)} and {len(raw.labels)}")
        self.digest = prepare.digest([np.ascontiguousarray(self.pixels)], None)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, start: int, stop: int, size: int) -> Tensor:
        """Images (stop - start, 3, size, size) in [0, 1]. Raises: DataError, ShapeError for what are no images."""
        batch = torch.from_numpy(prepare.pixels(self.name, self.pixels[start:stop]))
        if batch.shape[1] not in (1, 3):
            raise ShapeError(f"{self.name} must have 1 or 3 channels, got images {tuple(batch.shape[1:])}")
        return resized(batch.expand(-1, 3, -1, -1), size)


@dataclass(frozen=True)
class Network:
    """A network without its last linear layer, and what the provenance tells of it.

    `mean`, `deviation`: of the pixels in [0, 1] that its weights were trained on, one a channel.
    """

    net: nn.Module
    name: str
    weights: str
    sha256: str | None
    width: int
    mean: Sequence[float]
    deviation: Sequence[float]


@dataclass(frozen=True)
class Work:
    """What to compute: the features of a source's images by a network, written to the .npz `output`.

    `pixels`: a side of the images that the network sees. `batch_size` changes no number.
    """

    source: Source
    network: Network
    output: Path
    pixels: int = 224
    batch_size: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything that the features depend on, plain JSON."""
        return {
            "net": self.network.name,
            "weights": self.network.weights,
            "weights_sha256": self.network.sha256,
            "layer": "input of the last linear layer",
            "preprocessing": f"RGB in [0, 1], {self.pixels} x {self.pixels} bilinear with antialiasing, "
            f"mean {list(self.network.mean)}, standard deviation {list(self.network.deviation)}",
            "source": self.source.name,
            "source_sha256": self.source.digest,
            "n_samples": len(self.source),
            "device": self.device.type,
            "versions": {
                "robust_cluster": __version__,
                "torch": torch.__version__,
                "torchvision": _torchvision_version(),
            },
        }


def find_source(text: str, path: Path | None, folders: Folders) -> Source:
    """The images that a user names: a folder or file `path`, or a name.

    A name is a built-in data set, a file in --data-dir or RC_DATA, or an import.
    Raises: UnknownNameError, DataError, ShapeError.
    """
    if path is None and text not in discover.names("data"):
        own, imported = prepare.own_files(folders), cache.imports(folders)
        if text not in own and text in imported:
            return ImageArray(text, cache.read_import(text, folders))
        if text not in own:
            known = {*discover.names("data"), *own, *imported}
            raise UnknownNameError("images", text, known, listing="rc ls data, or a folder/ of yours")
        path = own[text]
    if path is None:
        return ImageArray(text, cast(Raw, discover.load("data", text).read(folders)))
    if path.is_dir() and not arrays.is_array_folder(path):
        return ImageFolder(path)
    return ImageArray(path.name, files.read(path))


def find_network(name: str, weights: str, folders: Folders) -> Network:
    """A network of torchvision in eval(), its last linear layer left out.

    `weights`: a file with a state_dict; "default" or the name of one of torchvision's sets of weights, found in a
    subfolder weights of one of the folders or downloaded; "none" for random ones of seed 0.
    Raises: UnknownNameError, ConfigError, DataError.
    """
    from torchvision import models  # seconds, and only features need it

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("network", name, known, listing="--net resnet50")
    if name.startswith(OTHERWISE):
        raise ConfigError(f"--net must be none of {', '.join(OTHERWISE)}, got {name}", hint="--net resnet50")
    sets = models.get_model_weights(name)
    chosen = sets.DEFAULT if weights == "default" else {one.name: one for one in sets}.get(weights)
    wanted = (chosen or sets.DEFAULT).transforms()
    file: Path | None = None
    if weights != UNTRAINED:
        file = Path(weights) if chosen is None else _weights_file(name, chosen.url, folders)
        weights = file.name if chosen is None else chosen.name
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    net = models.get_model(name, weights=None)
    torch.random.set_rng_state(state)
    width = _behead(net, name)
    if file is not None:
        _fill(net, name, _state_dict(file))
    net.eval().requires_grad_(False)
    sha256 = None if file is None else _digest(file)
    return Network(net, name, weights, sha256, width, wanted.mean, wanted.std)


def extract(work: Work, report: Report) -> bool:
    """Compute the features and write the .npz: `x` (n, width) float32, `y` where there are labels, `provenance`.

    Finished rows lie in `<output>.part`, from which the same command goes on after it was killed; another one starts
    anew. False when `output` has these features already.
    Raises: ConfigError when `output` has other features or is being written; DataError for images that cannot be read,
    features that are not finite, and a disk that is full.
    """
    if work.output.exists():
        if provenance(work.output) != work.provenance:
            raise ConfigError(f"{work.output} has other content", hint="--output FILE, or --force to replace it")
        return False
    part = work.output.with_name(f"{work.output.name}.part")
    work.source.images(0, 1, work.pixels)  # what are no images leaves no folder
    try:
        part.mkdir(parents=True, exist_ok=True)
        with FileLock(part / "lock", timeout=0):
            x = _computed(work, part, report)
            _write(work, part, x)
        shutil.rmtree(part)
    except Timeout as error:
        raise ConfigError(f"{work.output} is being written by another process", hint="--output FILE") from error
    except OSError as error:
        raise DataError(f"{work.output} cannot be written: {error.strerror or error}") from error
    return True


def provenance(path: Path) -> Mapping[str, Any] | None:
    """What the features of an .npz depend on, None where it does not say. Raises: DataError for a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as loaded:
            found = json.loads(str(loaded[PROVENANCE])) if PROVENANCE in loaded else None
            return cast(Mapping[str, Any] | None, found)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is there and no .npz of features: {error}", hint="--force to replace it") from error


def resized(batch: Tensor, size: int) -> Tensor:
    """Images (n, C, H, W) as (n, C, size, size), bilinearly with antialiasing; themselves where they have that size."""
    if tuple(batch.shape[2:]) == (size, size):
        return batch
    return functional.interpolate(batch, (size, size), mode="bilinear", antialias=True).clamp(0, 1)


def _computed(work: Work, part: Path, report: Report) -> npt.NDArray[np.float32]:
    """The features (n, width), mapped into memory; it goes on with the rows that lie in `part`."""
    n, shape = len(work.source), (len(work.source), work.network.width)
    state, rows = part / "done.json", part / "x.npy"
    done = _done(state, rows, work, shape)
    x: npt.NDArray[np.float32] = np.lib.format.open_memmap(
        rows, mode="r+" if done else "w+", dtype=np.float32, shape=None if done else shape
    )
    net = work.network.net.to(work.device).to(memory_format=torch.channels_last)
    scales = (work.network.mean, work.network.deviation)
    mean, deviation = (torch.tensor(one, device=work.device).view(3, 1, 1) for one in scales)
    saved = time.monotonic()
    report(done, n)
    try:
        with torch.inference_mode():
            while done < n:
                stop = min(n, done + work.batch_size)
                batch = work.source.images(done, stop, work.pixels).to(work.device)
                found = net(((batch - mean) / deviation).contiguous(memory_format=torch.channels_last)).float().cpu()
                if not found.isfinite().all():
                    raise DataError(f"the features of the images {done} to {stop - 1} are not finite: other --weights")
                x[done:stop] = found.numpy()
                done = stop
                report(done, n)
                if time.monotonic() - saved > SAVE_SECONDS:
                    _save(state, x, done, work)
                    saved = time.monotonic()
    finally:  # also when interrupted
        _save(state, x, done, work)
    return x


def _done(state: Path, rows: Path, work: Work, shape: tuple[int, int]) -> int:
    """How many rows are computed; 0 where those that lie there are of another command or damaged."""
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
        there = np.load(rows, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return 0
    fits = content.get("provenance") == work.provenance and there.shape == shape and there.dtype == np.float32
    return int(content["done"]) if fits else 0


def _save(state: Path, x: npt.NDArray[np.float32], done: int, work: Work) -> None:
    """Write the rows to disk, then how many are done: a kill in between costs rows, and none is claimed that is not."""
    cast("np.memmap[Any, Any]", x).flush()
    new = state.with_suffix(".new")
    new.write_text(json.dumps({"done": done, "provenance": work.provenance}), encoding="utf-8")
    os.replace(new, state)


def _write(work: Work, part: Path, x: npt.NDArray[np.float32]) -> None:
    """Write the .npz in the folder `part`, then move it to its place, where it appears whole."""
    content: dict[str, Any] = {"x": x, PROVENANCE: np.array(json.dumps(work.provenance))}
    if work.source.labels is not None:
        content["y"] = work.source.labels
    new = part / "new.npz"
    with new.open("wb") as file:  # with the permissions of any file, which those of tempfile lack
        np.savez(file, **content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, work.output)


def _behead(net: nn.Module, name: str) -> int:
    """The inputs of the last linear layer, which the identity replaces. Raises: ConfigError when there is none."""
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(f"--net must end in a linear layer, {name} has none", hint="--net resnet50")
    parent, _, child = linear[-1].rpartition(".")
    width = cast(nn.Linear, net.get_submodule(linear[-1])).in_features
    setattr(net.get_submodule(parent), child, nn.Identity())
    return width


def _weights_file(name: str, url: str, folders: Folders) -> Path:
    """The file of torchvision's weights: in a folder, among torch's downloads, or downloaded. Raises: DataError."""
    file = url.rpartition("/")[2]
    weights = Collection("weights", (SourceFile(file, url),))
    torchs = Path(torch.hub.get_dir()) / "checkpoints" / file
    expected = Path(file).stem.rpartition("-")[2]  # torchvision's names end in the first digits of their SHA-256
    found = weights.find(folders) or ((torchs,) if torchs.is_file() else None)
    try:
        (target,) = found or weights.download(folders)
    except DataError as error:
        raise DataError(
            f"the weights {file} of {name} are not there and could not be downloaded from {url} "
            f"({error.__cause__}; SHA-256 begins {expected})",
            hint="put them into a folder weights below the one given as --data-dir, or give the file: --weights FILE",
        ) from error
    digest = _digest(target)
    if not digest.startswith(expected):
        raise DataError(
            f"{target} is damaged or another file: its SHA-256 must begin {expected}, got {digest[:16]}",
            hint=AGAIN,
        )
    return target


def _state_dict(file: Path) -> dict[str, Tensor]:
    """The parameters of a checkpoint, which may lie under "state_dict" or "model", with or without "module." before.

    Raises: DataError.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(
            f"There is no file of weights {file}", hint="--weights FILE, default or none, or one of torchvision's sets"
        ) from error
    except pickle.UnpicklingError as error:
        message = f"{file} is damaged, or holds more than tensors, which can run code and is not read"
        raise DataError(message, hint=SAVED) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{file} is damaged, truncated or no checkpoint of torch: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"{file} must hold a state_dict, parameter -> tensor", hint=SAVED)
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _fill(net: nn.Module, name: str, state: dict[str, Tensor]) -> None:
    """Load the parameters; those of the last layer, which is gone, are left over. Raises: DataError."""
    wanted = net.state_dict()
    common = [key for key in wanted if key in state]
    wrong = [f"{key} is {tuple(state[key].shape)}" for key in common if state[key].shape != wanted[key].shape]
    if not wrong:  # only loading tells what is missing: torchvision's transformers rename what older files hold
        missing = net.load_state_dict(state, strict=False).missing_keys
        wrong = [f"{key} is missing" for key in missing if not key.endswith("num_batches_tracked")]
    if wrong:
        raise DataError(f"the weights are of another network than {name}: {wrong[0]}", hint="--net NAME")


def _digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal. Raises: DataError."""
    try:
        return hash_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _torchvision_version() -> str:
    import torchvision

    return str(torchvision.__version__)
