"""Folders of images: a sub-folder a class, or images without labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Array, Raw
from robust_cluster.data.formats import memory
from robust_cluster.errors import DataError, RobustClusterError, ShapeError

if TYPE_CHECKING:
    from PIL import Image

# What torchvision's ImageFolder takes; its own list would cost the import of torchvision to see what a folder holds.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
BYTE, WORD = 255, 65535  # the largest values of 8 and 16 bits
SIGNED = 2  # in a TIFF's tag 339, the sample format
CONVERT = "save them all with 8 or 16 bits, or as one .npy of floats in [0, 1]"


@dataclass(frozen=True)
class Header:
    """Width and height of an image, Pillow's mode, and the largest value that it can have, None where that is open."""

    size: tuple[int, int]
    mode: str
    top: int | None

    @property
    def is_gray(self) -> bool:
        """Whether it has one channel."""
        return self.mode[0] in "1LIF" and self.mode[1:2] in ("", ";")


@dataclass(frozen=True)
class Listed:
    """Paths of images in the order of their class, then their name; `classes` names each one's class, or is None.

    `notes`: what a user must know of where the classes were found.
    """

    paths: tuple[Path, ...]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def is_image_folder(folder: Path) -> bool:
    """Whether the folder of a class below `folder` holds an image directly; False for what cannot be read."""
    try:
        return folder.is_dir() and any(
            _is_image(path) for inside in _classes(folder).values() for one in inside for path in one.iterdir()
        )
    except OSError:
        return False


def find(folder: Path) -> Listed:
    """The images below each sub-folder, which is their class; without sub-folders, the images of the folder itself.

    Where all sub-folders are named like parts of a data set (train, val, test, ...), classes are one level down, and
    those of all parts are taken together.
    Raises: DataError when the folder or a part of it cannot be read, images lie on several levels, or a class has none.
    """
    try:
        own = [path for path in _inside(folder) if _is_image(path)]
        classes = _classes(folder)
        above = (folder.resolve(),)
        groups = {
            name: [path for one in inside for path in sorted(_below(one, above)) if _is_image(path)]
            for name, inside in classes.items()
        }
        levels = {
            name: any(_is_image(path) for one in inside for path in one.iterdir())
            for name, inside in classes.items()
            if groups[name]
        }
        in_parts = [path for part in _parts(folder) for path in part.iterdir() if _is_image(path)]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror or error}") from error
    if own and groups:
        raise DataError(
            f"{folder} must hold images or a sub-folder a class, got both: {own[0].name} and {next(iter(groups))}"
        )
    if in_parts:
        raise DataError(
            f"{in_parts[0].relative_to(folder)} lies beside the classes of {folder}, or in place of them",
            hint=f"a sub-folder a class in {in_parts[0].parent.name}/, or that folder alone as --data",
        )
    if not own and not any(groups.values()):
        raise DataError(f"{folder} holds no image", hint=f"a sub-folder a class with {', '.join(SUFFIXES)}, or x.npy")
    if own:
        return Listed(tuple(own), None)
    empty = [name for name, paths in groups.items() if not paths]
    if empty:
        raise DataError(f"the class {empty[0]!r} of {folder} has no image", hint="remove the sub-folder")
    if len(set(levels.values())) > 1:
        deep, flat = (next(name for name, is_flat in levels.items() if is_flat == wanted) for wanted in (False, True))
        raise DataError(
            f"{folder} must hold its classes on one level, got images in {flat} and only folders of images in {deep}",
            hint="--data with the folder whose sub-folders are the classes",
        )
    pairs = [(path, name) for name, paths in groups.items() for path in paths]
    parts = ", ".join(path.name for path in _parts(folder))
    notes = (f"classes are the folders in {parts}, which are taken together",) if parts else ()
    return Listed(tuple(path for path, _ in pairs), tuple(name for _, name in pairs), notes)


def read(folder: Path, size: int | None = None) -> Raw:
    """Images (n, height, width, 3), or (n, height, width) when all are grayscale, and the classes' names.

    uint8 where no image is deeper than 8 bits. Else float32: 16 bits are divided by 65,535; integers of 32 bits and
    floats beyond [0, 1] are scaled so that the least value of all is 0 and the largest 1, and a note says so.
    `size`: pixels a side that every image is resized to, bilinearly with antialiasing; needed where they differ.
    Raises: DataError, ShapeError for images of several sizes.
    """
    listed = find(folder)
    headers = [_header(path) for path in listed.paths]
    first = headers[0]
    if size is None and (other := next((i for i, one in enumerate(headers) if one.size != first.size), 0)):
        pair = (f"{listed.paths[i].name} {headers[i].size[0]} x {headers[i].size[1]}" for i in (0, other))
        raise ShapeError(f"the images of {folder} must have one size, got {' and '.join(pair)}", hint="--size 64")
    if other := next((i for i, one in enumerate(headers) if (one.top is None) != (first.top is None)), 0):
        pair = (f"{listed.paths[i].name} {headers[i].mode}" for i in (0, other))
        raise DataError(f"the images of {folder} must have one depth, got {' and '.join(pair)}", hint=CONVERT)
    mode = "L" if all(one.is_gray for one in headers) else "RGB"
    width, height = (size, size) if size is not None else first.size
    shape = (len(headers), height, width) if mode == "L" else (len(headers), height, width, 3)
    memory.check(str(folder), 5 * int(np.prod(shape)), "--size with fewer pixels")  # a byte a value, later 4 more
    is_deep = any(one.top != BYTE for one in headers)
    images: Array = np.empty(shape, np.float32 if is_deep else np.uint8)
    for row, path in enumerate(listed.paths):
        values, top = _values(path, mode, (width, height))
        images[row] = values if not is_deep else values / np.float32(top or 1)
    notes = _scaled(folder, cast(npt.NDArray[np.float32], images), first) if is_deep else ()
    classes = None if listed.classes is None else np.array(listed.classes)
    return Raw((images,), classes, True, folder.name, notes=listed.notes + notes, labels_from="its folders")


def pixels(path: Path, mode: str, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """One image as uint8, 16 bits rounded to 8, resized to `size` (width, height) where it has another.

    Raises: DataError, also for integers of 32 bits and floats, whose range a single image does not tell.
    """
    values, top = _values(path, mode, size)
    if top is None:
        raise DataError(f"{path} holds {values.dtype} values, whose range is not known", hint=CONVERT)
    return values if top == BYTE else np.rint(values * np.float32(BYTE / top)).astype(np.uint8)


def _header(path: Path) -> Header:
    """What an image's header tells. Raises: DataError."""
    with _opened(path) as image:
        return Header(image.size, image.mode, _top(image))


def _top(image: "Image.Image") -> int | None:
    """The largest value that an open image can have, None for integers of 32 bits, signed ones and floats."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return WORD
    return None if image.mode in ("I", "F") or _sample_format(image) == SIGNED else BYTE


def _sample_format(image: "Image.Image") -> int:
    """What a TIFF says of its numbers: 1 unsigned, 2 signed, 3 float; 1 for every other format."""
    return int(image.tag_v2.get(339, (1,))[0]) if image.format == "TIFF" else 1  # type: ignore[attr-defined]


def _values(path: Path, mode: str, size: tuple[int, int] | None) -> tuple[npt.NDArray[Any], int | None]:
    """One image's values as uint8, or as they are in float32 where it is deeper than 8 bits, and their `_top`.

    Raises: DataError.
    """
    from PIL import Image

    with _opened(path) as image:
        top = _top(image)
        if top == BYTE:
            plain = image.convert(mode)
        else:
            found = np.asarray(image)
            if image.format == "TIFF" and image.mode != "F":  # Pillow knows only one kind of each width
                kind = "i" if _sample_format(image) == SIGNED else "u"
                found = found.view(f"{found.dtype.byteorder}{kind}{found.dtype.itemsize}")
            plain = Image.fromarray(found.astype(np.float32))
        if size is not None and plain.size != size:
            plain = plain.resize(size, Image.Resampling.BILINEAR)
        values = np.asarray(plain)
        return np.stack([values] * 3, axis=-1) if values.ndim == 2 and mode == "RGB" else values, top


def _scaled(folder: Path, images: npt.NDArray[np.float32], first: Header) -> tuple[str, ...]:
    """What was done to deep images, in words; those without a known range are brought into [0, 1] in place.

    Raises: DataError for values that are not finite.
    """
    low, high = float(images.min()), float(images.max())
    if not np.isfinite(high - low):
        raise DataError(f"the images of {folder} have values that are NaN or infinite")
    if first.top is not None:
        return (f"16-bit images are divided by {WORD}; their largest value is {high * WORD:.0f}",)
    if first.mode == "F" and low >= 0 and high <= 1:
        return ()
    np.divide(images - np.float32(low), np.float32(high - low or 1), out=images)
    return (f"images without a range of their own are scaled from [{low:g}, {high:g}], over all of them, to [0, 1]",)


@contextmanager
def _opened(path: Path) -> Iterator["Image.Image"]:
    """An open image, for a block. Raises: DataError when the file, or what the block reads of it, is damaged."""
    from PIL import Image  # torchvision brings it; not needed to list data sets

    try:
        with Image.open(path) as image:
            yield image
    except (RobustClusterError, MemoryError):
        raise
    except Exception as error:  # a flipped bit can make Pillow's decoders raise anything
        raise DataError(f"{path} is no readable image: {error}") from error


def _inside(folder: Path) -> list[Path]:
    """What lies directly in a folder and is not hidden, by name. Raises: OSError."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _parts(folder: Path) -> list[Path]:
    """The sub-folders where all of them are named like parts of a data set, else none. Raises: OSError."""
    inside = [path for path in _inside(folder) if path.is_dir()]
    return inside if all(path.name.lower() in PARTS for path in inside) else []


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The name of each class and its folders: one, or with parts one in each. Raises: OSError."""
    found: dict[str, list[Path]] = {}
    for above in _parts(folder) or [folder]:
        for path in _inside(above):
            if path.is_dir():
                found.setdefault(path.name, []).append(path)
    return dict(sorted(found.items()))


def _below(folder: Path, above: tuple[Path, ...]) -> list[Path]:
    """Every file below a folder; a link to a folder that it lies in, which are `above`, is not followed.

    Raises: OSError for a folder that cannot be read, which Path.rglob passes over.
    """
    here = folder.resolve()
    if here in above:
        return []
    found: list[Path] = []
    for path in folder.iterdir():
        found += _below(path, (*above, here)) if path.is_dir() else [path]
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
