"""Features of images: what a network gives, resumed to the bit, with their provenance; and every way it can fail."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from robust_cluster.cli import app as entry
from robust_cluster.data import cache, features, files
from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.features import ImageArray, ImageFolder, Network, Work, extract, find_network, find_source
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError, DataError, ShapeError, UnknownNameError
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir, labels_of, one_sentence

N, SIZE = 7, 8
MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]  # of the tiny network's published weights


class Tiny(nn.Module):
    """A network of two layers; the features are ReLU(5 maps) averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(self.maps(x)).relu().mean(dim=(2, 3)))
        return found


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return Folders(tmp_path, tmp_path / "cache", system=())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision knows one network."""
    from torchvision import models  # late: else every worker of the suite waits for it

    monkeypatch.setattr(models, "list_models", lambda module: ["tiny", "headless", "densenet121"])
    build: dict[str, Callable[[], nn.Module]] = {"tiny": Tiny, "headless": lambda: nn.Sequential(nn.Conv2d(3, 2, 1))}
    monkeypatch.setattr(models, "get_model", lambda name, weights: build[name]())
    url = "https://nowhere.invalid/tiny-0123abcd.pth"
    wanted = SimpleNamespace(mean=MEAN, std=DEVIATION)
    default = SimpleNamespace(name="V2", url=url, transforms=lambda: wanted)
    monkeypatch.setattr(models, "get_model_weights", lambda name: IterableSets(default))


class IterableSets:
    """What torchvision gives: an enumeration with a default."""

    def __init__(self, default: Any) -> None:
        self.DEFAULT = default

    def __iter__(self) -> Any:
        return iter([self.DEFAULT])


def pixels() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(256, size=(N, 12, 10, 3), dtype=np.uint8)


def save_weights(folder: Path, *, wrap: str | None = None, prefix: str = "") -> Path:
    torch.manual_seed(3)
    net = Tiny()
    net.norm.running_mean.fill_(0.1)  # type: ignore[union-attr]
    state = {f"{prefix}{key}": value for key, value in net.state_dict().items()}
    torch.save({wrap: state} if wrap else state, folder / "tiny.pth")
    return folder / "tiny.pth"


def work(folders: Folders, source: Any = None, **more: Any) -> Work:
    np.savez(data_dir(folders) / "some.npz", x=pixels(), y=np.arange(N) % 2)
    found = source or find_source("some.npz", Path("some.npz"), folders)
    return Work(found, find_network("tiny", "none", folders), Path("out.npz"), SIZE, 3, **more)


def ignore(done: int, total: int) -> None:
    pass


def kill(done: int, total: int) -> None:
    if done == 6:
        raise KeyboardInterrupt


@pytest.mark.usefixtures("tiny")
def test_features_are_the_input_of_the_last_layer_of_the_normalized_images(folders: Folders, tmp_path: Path) -> None:
    from torchvision.transforms import functional as pil

    network = find_network("tiny", str(save_weights(tmp_path)), folders)
    job = replace(work(folders), network=network)
    assert extract(job, ignore)
    net = Tiny().eval()
    net.load_state_dict(torch.load(tmp_path / "tiny.pth", weights_only=True))
    images = torch.from_numpy(pixels()).permute(0, 3, 1, 2) / 255
    images = pil.resize(images, [SIZE, SIZE], antialias=True)
    images = pil.normalize(images, MEAN, DEVIATION)
    with torch.no_grad():
        expected = net.norm(net.maps(images)).relu().mean(dim=(2, 3))
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["x"], expected.numpy(), rtol=1e-5, atol=1e-6)
        assert found["y"].tolist() == (np.arange(N) % 2).tolist()
    told = features.provenance(tmp_path / "out.npz")
    assert told is not None
    assert told["weights_sha256"] == hashlib.sha256((tmp_path / "tiny.pth").read_bytes()).hexdigest()
    assert (told["net"], told["weights"], told["source"]) == ("tiny", "tiny.pth", "some.npz")
    assert told["preprocessing"].endswith("mean [0.5, 0.4, 0.3], standard deviation [0.2, 0.25, 0.3]")
    assert (tmp_path / "out.npz").stat().st_mode == (tmp_path / "some.npz").stat().st_mode
    assert not (tmp_path / "out.npz.part").exists()
    assert load(DataRef("out"), folders).info.shapes == ((5,),)


@pytest.mark.usefixtures("tiny")
def test_a_killed_extraction_goes_on_and_gives_the_same_bytes(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "SAVE_SECONDS", -1.0)
    whole = replace(work(folders), output=Path("whole.npz"))
    extract(whole, ignore)
    job = work(folders)
    with pytest.raises(KeyboardInterrupt):
        extract(job, kill)
    assert not job.output.exists()
    seen: list[int] = []
    assert extract(job, lambda done, total: seen.append(done))
    assert seen == [6, 7]
    assert job.output.read_bytes() == whole.output.read_bytes()
    assert not extract(job, ignore)


@pytest.mark.usefixtures("tiny")
def test_another_command_begins_anew_and_another_result_is_not_overwritten(folders: Folders) -> None:
    job = work(folders)
    with pytest.raises(KeyboardInterrupt):
        extract(job, kill)
    seen: list[int] = []
    larger = replace(job, pixels=SIZE + 1)
    extract(larger, lambda done, total: seen.append(done))
    assert seen == [0, 3, 6, 7]
    with pytest.raises(ConfigError, match=r"out\.npz has other content \(--output FILE, or --force to replace it\)"):
        extract(job, ignore)


@pytest.mark.usefixtures("tiny")
def test_two_processes_do_not_write_one_file(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "out.npz.part").mkdir()
    with FileLock(tmp_path / "out.npz.part" / "lock"):
        with pytest.raises(ConfigError, match=r"out\.npz is being written by another process"):
            extract(work(folders), ignore)


@pytest.mark.usefixtures("tiny")
def test_a_folder_of_images_of_any_size_has_its_classes_and_a_digest_of_its_bytes(
    folders: Folders, tmp_path: Path
) -> None:
    for row, (name, size) in enumerate((("cat/1.png", (9, 9)), ("cat/2.png", (20, 11)), ("ape/1.png", (8, 8)))):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if row else "RGB", size, 40 * row if row else (7, 7, 7)).save(path)
    source = find_source("pets/", tmp_path / "pets", folders)
    assert isinstance(source, ImageFolder)
    extract(work(folders, source), ignore)
    raw = files.read(Path("out.npz"))
    assert (labels_of(raw), raw.views[0].shape) == (["ape", "cat", "cat"], (3, 5))
    assert source.images(0, 1, SIZE).mean().item() == pytest.approx(80 / 255)
    before = source.digest
    Image.new("L", (8, 8), 81).save(tmp_path / "pets" / "ape" / "1.png")
    assert ImageFolder(tmp_path / "pets").digest != before


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 6, 6, 1), (4, 3, 6, 6), (4, 6, 6, 3)])
def test_gray_and_rgb_arrays_in_either_order_become_rgb(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape))
    found = ImageArray("a", files.read(tmp_path / "a.npy")).images(1, 3, 6)
    assert tuple(found.shape) == (2, 3, 6, 6)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("wrap", "prefix"), [(None, ""), ("state_dict", ""), ("model", "module.")])
def test_checkpoints_as_training_scripts_leave_them_are_read(
    folders: Folders, tmp_path: Path, wrap: str | None, prefix: str
) -> None:
    network = find_network("tiny", str(save_weights(tmp_path, wrap=wrap, prefix=prefix)), folders)
    assert network.width == 5
    assert network.net.state_dict()["norm.running_mean"].tolist() == pytest.approx([0.1] * 5)


@pytest.mark.usefixtures("tiny")
def test_published_weights_are_found_and_checked_or_say_where_to_put_them(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    sentence = r"tiny-0123abcd\.pth of tiny are not there .*\(<urlopen error no route to host>; SHA-256 begins"
    with pytest.raises(DataError, match=sentence) as info:
        find_network("tiny", "default", folders)
    assert "put them into a folder weights below the one given as --data-dir" in str(info.value)
    assert "\n" not in str(info.value)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "tiny-0123abcd.pth"
    save_weights(tmp_path).rename(file)
    with pytest.raises(DataError, match=r"its SHA-256 must begin 0123abcd, got"):
        find_network("tiny", "V2", folders)
    monkeypatch.setattr(features, "_digest", lambda path: "0123abcd" + "0" * 56)
    assert find_network("tiny", "default", folders).weights == "V2"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"There is no file of weights .*odd\.pth \(--weights FILE, default or none"),
        (b"no checkpoint", r"odd\.pth is damaged"),
        (Tiny().state_dict(), r"odd\.pth is damaged"),  # cut after 500 bytes
        (Tiny(), r"odd\.pth is damaged, or holds more than tensors, which can run code"),
        ({"a": 1}, r"odd\.pth must hold a state_dict, parameter -> tensor"),
        (
            nn.Linear(2, 2).state_dict(),
            r"the weights are of another network than tiny: maps\.weight is missing \(--net NAME\)",
        ),
        ({**Tiny().state_dict(), "maps.bias": torch.zeros(9)}, r"another network than tiny: maps\.bias is \(9,\)"),
    ],
    ids=["missing", "text", "cut", "code", "numbers", "other", "wider"],
)
def test_weights_that_cannot_be_used_get_one_sentence(
    folders: Folders, tmp_path: Path, content: Any, sentence: str, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "odd.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    if "cut" in request.node.name:
        os.truncate(file, 500)
    with one_sentence(DataError, sentence):
        find_network("tiny", str(file), folders)


@pytest.mark.usefixtures("tiny")
def test_unknown_networks_images_and_what_are_no_images_get_one_sentence(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown network 'tinny'. Did you mean 'tiny'"):
        find_network("tinny", "none", folders)
    with pytest.raises(ConfigError, match="must end in a linear layer, headless has none"):
        find_network("headless", "none", folders)
    with pytest.raises(ConfigError, match=r"--net must be none of densenet, .*, got densenet121 \(--net resnet50\)"):
        find_network("densenet121", "default", folders)
    with pytest.raises(UnknownNameError, match=r"Unknown images 'digit'. Did you mean 'digits'"):
        find_source("digit", None, folders)
    with pytest.raises(ShapeError, match=r"digits must be images \(n, height, width\[, channels\]\), got \(1797, 64\)"):
        find_source("digits", None, folders)
    np.save(tmp_path / "two.npy", np.zeros((4, 6, 6, 2)))
    with pytest.raises(ShapeError, match="must have 1 or 3 channels"):
        find_source("two.npy", tmp_path / "two.npy", folders).images(0, 2, 6)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("damage", ["nan", "image", "output"])
def test_what_goes_wrong_on_the_way_gets_one_sentence(folders: Folders, tmp_path: Path, damage: str) -> None:
    job = work(folders)
    if damage == "nan":
        broken: Network = replace(job.network)
        next(iter(broken.net.parameters())).fill_(float("nan"))
        job, sentence = replace(job, network=broken), "the features of the images 0 to 2 are not finite"
    elif damage == "image":
        (tmp_path / "pets").mkdir()
        (tmp_path / "pets" / "a.png").write_text("text")
        job, sentence = replace(job, source=ImageFolder(tmp_path / "pets")), r"a\.png is no readable image"
    else:
        (tmp_path / "out.npz").write_text("text")
        sentence = r"out\.npz is there and no \.npz of features"
    with one_sentence(DataError, sentence):
        extract(job, ignore)


def rc(*words: str) -> Any:
    return CliRunner().invoke(entry.app, ["data", "features", *words], prog_name="rc")


@pytest.mark.usefixtures("tiny")
def test_the_command_writes_features_tells_their_provenance_and_the_next_command(folders: Folders) -> None:
    work(folders)
    words = ("some.npz", "--net", "tiny", "--weights", "none", "--pixels", "8", "--threads", "1")
    done = rc(*words, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["weights"] == "none"
    assert "next: rc cluster --model ae_kmeans --data some-tiny.npz" in done.stderr
    again = rc(*words)
    assert (again.stdout, again.exit_code) == ("some-tiny.npz: 7 x 5\n", 0)
    assert "were there already" in again.stderr
    assert rc(*words, "--force", "--quiet").stderr == ""


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ("digits-28", "--weights", "none"),
            2,
            "--weights none gives random features, which are no result for digits-28",
        ),
        (("digits-28", "--output", "x.csv"), 2, "--output must end in .npz, got x.csv"),
        (("nowhere/", "--weights", "none", "--net", "tiny"), 1, "or be a folder, got 'nowhere'"),
        (("digits-28", "--pixels", "0"), 2, "--pixels must be >= 1, got 0"),
    ],
)
def test_what_the_command_refuses(words: tuple[str, ...], code: int, sentence: str) -> None:
    done = rc(*words)
    assert (done.exit_code, sentence in done.stderr) == (code, True), done.stderr


@pytest.mark.slow
def test_resnet50_gives_2048_features(folders: Folders) -> None:
    network = find_network("resnet50", "none", folders)
    assert network.width == 2048
    assert tuple(network.net(torch.rand(1, 3, 64, 64)).shape) == (1, 2048)


@pytest.mark.slow
def test_the_names_in_older_files_of_a_transformer_are_known(folders: Folders, tmp_path: Path) -> None:
    from torchvision import models

    state = models.vit_b_32().state_dict()
    older = {key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): state[key] for key in state}
    torch.save(older, tmp_path / "vit.pth")
    found = find_network("vit_b_32", str(tmp_path / "vit.pth"), folders).net.state_dict()
    assert all(torch.equal(found[key], state[key]) for key in found)


def test_images_that_were_imported_are_found_by_their_name(folders: Folders) -> None:
    cache.write_import("pets", Raw((pixels(),), None, True, "pets.npz"), folders)
    assert len(find_source("pets", None, folders)) == len(pixels())
    assert find_source("pets", None, folders).digest == ImageArray("x", Raw((pixels(),), None, True, "x")).digest


@pytest.mark.usefixtures("tiny")
def test_weights_are_downloaded_only_where_they_are_asked_for(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(file: Any, *rest: Any) -> None:
        fetched.append(file.name)
        raise OSError("no network")

    monkeypatch.setattr("robust_cluster.data.sources._fetch", fetch)
    work(folders)
    words = ("some.npz", "--net", "tiny", "--pixels", "8")
    unset = rc(*words)
    assert (unset.exit_code, unset.stdout, fetched) == (1, "", [])
    assert unset.stderr == (
        "error: the weights of tiny are not here, and are downloaded only if they are asked for (--weights default)\n"
    )
    assert "no network" in rc(*words, "--weights", "default").stderr
    assert len(fetched) == 1


@pytest.mark.usefixtures("tiny")
def test_what_are_no_images_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("flat.npz", x=np.zeros((4, 3, 3, 2), np.uint8))
    done = rc("flat.npz", "--net", "tiny", "--weights", "none", "--output", str(tmp_path / "a/b/c.npz"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert not (tmp_path / "a").exists()
