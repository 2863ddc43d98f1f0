"""Folders of images: a sub-folder a class, or images without labels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robust_cluster.data.formats import memory
from robust_cluster.errors import DataError, ShapeError

if TYPE_CHECKING:
    from PIL import Image

# What torchvision's ImageFolder takes; its own list would cost the import of torchvision to see what a folder holds.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Listed:
    """Paths of images in the order of their class, then their name; `classes` names each one's class, or is None."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...] | None


def is_image_folder(folder: Path) -> bool:
    """Whether a sub-folder of `folder` holds an image directly; False for what cannot be read."""
    try:
        return folder.is_dir() and any(
            _is_image(path) for inside in sorted(folder.iterdir()) if inside.is_dir() for path in inside.iterdir()
        )
    except OSError:
        return False


def find(folder: Path) -> Listed:
    """The images below each sub-folder, which is their class; without sub-folders, the images of the folder itself.

    Raises: DataError when the folder or a part of it cannot be read, or a class has no image.
    """
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        groups = {path.name: sorted(p for p in _below(path) if _is_image(p)) for path in inside if path.is_dir()}
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror or error}") from error
    own = [path for path in inside if _is_image(path)]
    if own and groups:
        raise DataError(
            f"{folder} must hold images or a sub-folder a class, got both: {own[0].name} and {next(iter(groups))}"
        )
    if not own and not any(groups.values()):
        raise DataError(f"{folder} holds no image", hint=f"a sub-folder a class with {', '.join(SUFFIXES)}, or x.npy")
    if own:
        return Listed(tuple(own), None)
    empty = [name for name, paths in groups.items() if not paths]
    if empty:
        raise DataError(f"the class {empty[0]!r} of {folder} has no image", hint="remove the sub-folder")
    pairs = [(path, name) for name, paths in groups.items() for path in paths]
    return Listed(tuple(path for path, _ in pairs), tuple(name for _, name in pairs))


def read(folder: Path, size: int | None = None) -> tuple[tuple[npt.NDArray[np.uint8]], npt.NDArray[np.str_] | None]:
    """Images (n, height, width, 3), or (n, height, width) when all are grayscale, uint8, and the classes' names.

    `size`: pixels a side that every image is resized to, bilinearly with antialiasing; needed where they differ.
    Raises: DataError, ShapeError for images of several sizes.
    """
    listed = find(folder)
    sizes, is_gray = _headers(listed.paths)
    if size is None and len(set(sizes)) > 1:
        other = next(i for i, found in enumerate(sizes) if found != sizes[0])
        first, second = (f"{listed.paths[i].name} {sizes[i][0]} x {sizes[i][1]}" for i in (0, other))
        raise ShapeError(f"the images of {folder} must have one size, got {first} and {second}", hint="--size 64")
    width, height = (size, size) if size is not None else sizes[0]
    shape = (len(sizes), height, width) if is_gray else (len(sizes), height, width, 3)
    memory.check(str(folder), 5 * int(np.prod(shape)), "--size with fewer pixels")  # a byte a value, later 4 more
    images = np.empty(shape, np.uint8)
    for row, path in enumerate(listed.paths):
        images[row] = pixels(path, "L" if is_gray else "RGB", (width, height))
    return (images,), None if listed.classes is None else np.array(listed.classes)


def pixels(path: Path, mode: str, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """One image as uint8, resized to `size` (width, height) where it has another. Raises: DataError."""
    from PIL.Image import Resampling

    with _opened(path) as image:
        converted = image.convert(mode)
        if size is not None and converted.size != size:
            converted = converted.resize(size, Resampling.BILINEAR)
        return np.asarray(converted, dtype=np.uint8)


def _headers(paths: Sequence[Path]) -> tuple[list[tuple[int, int]], bool]:
    """(width, height) of each image, and whether all are grayscale. Raises: DataError."""
    sizes: list[tuple[int, int]] = []
    is_gray = True
    for path in paths:
        with _opened(path) as image:
            sizes.append(image.size)
            is_gray = is_gray and image.mode in ("L", "1")
    return sizes, is_gray


@contextmanager
def _opened(path: Path) -> Iterator["Image.Image"]:
    """An open image, for a block. Raises: DataError when the file, or what the block reads of it, is damaged."""
    from PIL import Image  # torchvision brings it; not needed to list data sets

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable image: {error}") from error


def _below(folder: Path) -> list[Path]:
    """Every file below a folder. Raises: OSError for one that cannot be read, which Path.rglob passes over."""
    found: list[Path] = []
    for path in folder.iterdir():
        found += _below(path) if path.is_dir() else [path]
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
