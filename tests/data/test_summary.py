"""The first line that a verb prints: what was read."""

from pathlib import Path

import numpy as np
import pytest

from robust_cluster.data import cache, files
from robust_cluster.data.base import Folders
from robust_cluster.data.formats import Reading
from robust_cluster.data.prepare import load
from robust_cluster.data.summary import lines
from robust_cluster.runs.spec import DataRef
from tests.data.given import data_dir

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(30, 5))
IMAGES = RNG.integers(0, 256, (30, 8, 6, 3)).astype(np.uint8)
Y = np.arange(30) % 3


@pytest.mark.parametrize(
    ("ref", "line"),
    [
        (DataRef("digits"), "digits: 1,797 rows x 64 columns, 10 clusters from its labels, scaled by 0.1513 (alrdc)"),
        (
            DataRef("digits", normalize="none"),
            "digits: 1,797 rows x 64 columns, 10 clusters from its labels, not scaled",
        ),
        (
            DataRef("digits", n_clusters=4, limit=50, normalize="none"),
            "digits: 50 rows x 64 columns, 4 clusters as given, 10 classes from its labels, not scaled",
        ),
        (DataRef("pictures"), "pictures.npz: 30 images x 3 x 8 x 6, 3 clusters from its labels, not scaled"),
        (
            DataRef("noisy:pictures"),
            "pictures.npz: 30 images, 2 views of 3 x 8 x 6, 3 x 8 x 6, 3 clusters from its labels, not scaled",
        ),
        (
            DataRef("bare", n_clusters=2, normalize="none"),
            "bare.npy: 30 rows x 5 columns, 2 clusters as given, no labels",
        ),
    ],
)
def test_the_first_line_says_what_was_read(folders: Folders, ref: DataRef, line: str) -> None:
    np.savez(data_dir(folders) / "pictures.npz", x=IMAGES, y=Y)
    np.save(data_dir(folders) / "bare.npy", VECTORS)
    assert lines(load(ref, folders))[0].startswith(line)


def test_the_column_of_the_labels_is_named_and_notes_follow_also_of_copies(folders: Folders) -> None:
    path = data_dir(folders) / "ids.csv"
    path.write_text("Id,a,label\n" + "".join(f"{i},{i % 7 * 4},{'xyz'[i % 3] if i else ''}\n" for i in range(30)))
    expected = [
        "ids.csv: 30 rows x 2 columns, 3 clusters from the column 'label', scaled by 0.4282 (alrdc)",
        "note: the column 'Id' counts up: --id-column Id leaves it out",
        "note: 1 of 30 samples have no label and are not scored",
    ]
    data = load(DataRef("ids"), folders)
    assert lines(data) == expected
    cache.write(data, folders, (path,))
    assert lines(load(DataRef("ids"), folders)) == expected
    cache.write_import("kept", files.read(path, Reading()), folders)
    kept = load(DataRef("kept"), Folders(None, folders.cache))
    assert lines(kept) == ["kept" + expected[0].removeprefix("ids.csv"), *expected[1:]]


def test_a_folder_of_images_names_its_folders(tmp_path: Path) -> None:
    from PIL import Image

    for name, value in (("ape", 1), ("cat", 2)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("L", (4, 4), value).save(tmp_path / "pets" / name / "1.png")
    data = load(DataRef("pets"), Folders(tmp_path))
    assert lines(data) == ["pets: 2 images x 1 x 4 x 4, 2 clusters from its folders, not scaled"]
