"""RegDB: persons in visible light and in infrared, paired within each identity; from a user's folder only."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robust_cluster.data.base import Folders, Raw
from robust_cluster.data.formats import images
from robust_cluster.data.multiview import SEED
from robust_cluster.errors import DataError

DESCRIPTION = "RegDB in 2 views, visible and thermal, 50 persons, pairs of 3x128x64 (labels make the pairs)"
CITATION = "Nguyen et al., Person recognition system based on visible light and thermal images, Sensors 2017"
INDEXES = (  # visible and thermal, below the root; the data set's own names first
    ("idx/train_visible_1.txt", "idx/train_thermal_1.txt"),
    ("visible.txt", "thermal.txt"),
)
IDENTITIES = 50  # of the 206 in the training index; AR-DMVC's regdb_a
SIZE = (64, 128)  # width and height in pixels
LICENSE = "not known here; its authors give it out against a signed form"
COLLECTION = None  # not to be downloaded


@dataclass(frozen=True)
class Index:
    """An index file with lines `relative/path label`: the paths of each identity, in the file's order."""

    file: Path
    images: dict[int, list[str]]


def find(folders: Folders) -> tuple[Path, Path, Path] | None:
    """Root folder, visible and thermal index file, or None."""
    for root in (base / name for base in folders.roots for name in ("regdb", "RegDB", "")):
        for visible, thermal in INDEXES:
            if (root / visible).is_file() and (root / thermal).is_file():
                return root, root / visible, root / thermal
    return None


def read(folders: Folders) -> Raw:
    """Pairs of the first 50 identities, each view (n, 128, 64, 3) uint8, and the identities.

    Within each identity, ascending, both lists are shuffled with one generator of seed 7 and zipped; images that the
    other list has no partner for are left out. Images become RGB, resized bilinearly.
    Raises: DataError for missing folders, identities and images, and for lines that are no `path label`.
    """
    found = find(folders)
    if found is None:
        raise DataError(
            "The data set regdb is not there: it needs a folder with its images and two index files, "
            f"{INDEXES[0][0]} and {INDEXES[0][1]} or {INDEXES[1][0]} and {INDEXES[1][1]}, lines `relative/path label`",
            hint="put it into a folder regdb below the one given as --data-dir; its authors give it out on request",
        )
    root, visible, thermal = found[0], read_index(found[1]), read_index(found[2])
    pairs = paired(visible, thermal)
    left = np.stack([_image(root / path, visible) for path, _, _ in pairs])
    right = np.stack([_image(root / path, thermal) for _, path, _ in pairs])
    return Raw((left, right), np.array([identity for *_, identity in pairs]), image=True, source="RegDB")


def read_index(file: Path) -> Index:
    """The content of an index file; empty lines are skipped. Raises: DataError naming the line that is malformed."""
    images: dict[int, list[str]] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        if not (path.strip() and label.isdecimal()):
            raise DataError(f"{file}, line {number}, must be `relative/path label` with a whole number, got {line!r}")
        images.setdefault(int(label), []).append(path.strip())
    if len(images) < 2:
        raise DataError(f"{file} must name images of at least 2 identities, got {len(images)}")
    return Index(file, images)


def paired(visible: Index, thermal: Index) -> list[tuple[str, str, int]]:
    """Visible path, thermal path and identity of every pair. Raises: DataError for an identity in one index only."""
    alone = sorted(set(visible.images) ^ set(thermal.images))
    if alone:
        lacking = thermal if alone[0] in visible.images else visible
        raise DataError(f"{lacking.file} names no image of identity {alone[0]}, the other index file does")
    rng = np.random.default_rng(SEED)
    pairs: list[tuple[str, str, int]] = []
    for identity in sorted(visible.images)[:IDENTITIES]:
        both = (visible.images[identity], thermal.images[identity])
        shuffled = [[paths[i] for i in rng.permutation(len(paths))] for paths in both]
        pairs += [(left, right, identity) for left, right in zip(*shuffled, strict=False)]
    return pairs


def _image(path: Path, index: Index) -> npt.NDArray[np.uint8]:
    """An image (128, 64, 3). Raises: DataError when it is missing or damaged."""
    if not path.is_file():
        raise DataError(f"{index.file} names the image {path}, which is not there")
    try:
        return images.pixels(path, "RGB", SIZE)
    except DataError as error:
        raise DataError(f"{path}, named in {index.file}, is no readable image: {error.__cause__}") from error
