"""`rc data`: every verb, its help, its output and its exit codes."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.cli import data
from robust_cluster.cli.options import classes, data_folders
from robust_cluster.data.prepare import available
from robust_cluster.data.sources import NO_LICENSE
from robust_cluster.errors import ConfigError
from tests.cli.command import check_help, rc

EXAMPLES = [line for verb in data.VERBS for line in verb.examples.split("\n")]


@pytest.fixture(autouse=True)
def own_cache(own_folder: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RC_CACHE", str(tmp_path / "cache"))
    # this machine's packages are no part of a test
    monkeypatch.setattr(data, "data_folders", lambda *given, **more: replace(data_folders(*given, **more), system=()))


def done(words: str, **env: str) -> Any:
    result = rc(words, **env)
    assert result.exit_code == 0, result.stderr
    return result


def write_mine(name: str = "my.npz", n: int = 30) -> Path:
    rng = np.random.default_rng(0)
    np.savez(name, x=rng.normal(size=(n, 5)), y=np.arange(n) % 3)
    return Path(name)


@pytest.mark.parametrize("verb", data.VERBS, ids=lambda verb: verb.name)
def test_the_help_of_a_verb_leads_with_its_examples(verb: Any) -> None:
    check_help(f"data {verb.name}", verb)


def test_a_file_of_the_users_is_told_of_by_its_path() -> None:
    Path("t.csv").write_text("Id,a,kind\n" + "".join(f"{i},{i % 7 * 4},{'ab'[i % 2]}\n" for i in range(30)))
    facts = json.loads(done("data info t.csv --label-column kind --json").stdout)
    assert (facts["name"], facts["shape"], facts["classes"]) == ("t.csv", ["30 x 2"], 2)
    assert facts["notes"] == ["the column 'Id' counts up: --id-column Id leaves it out"]
    assert json.loads(done("data info t.csv --label-column kind --id-column Id --json").stdout)["shape"] == ["30 x 1"]
    assert "There is no file none.csv" in rc("data info none.csv").stderr
    for name, hint in (("a.h5ad", "save its matrix"), ("t.xlsx", ".csv"), ("t.csv.old", "np.savez")):
        Path("t.csv.old").touch()
        assert hint in rc(f"cluster --model kmeans --data {name}").stderr.replace("\n", " ")


@pytest.mark.parametrize("cache", ["a-file", "a-file/below", "/dev/null/none"])
def test_a_cache_that_cannot_be_is_passed_over_or_named(cache: str) -> None:
    Path("a-file").touch()
    write_mine()
    done("cluster --model kmeans --data digits --limit 100", RC_CACHE=cache)
    done("data info digits", RC_CACHE=cache)
    for words in ("data prepare digits", "data import my.npz --name mine", "data fetch usps"):
        result = rc(words, RC_CACHE=cache)
        assert result.exit_code == 1
        assert "cannot be written: " in result.stderr.replace("\n", " ")
        assert "RC_CACHE=FOLDER keeps data elsewhere" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_runs_as_typed(example: str) -> None:
    write_mine()
    done(example.removeprefix("rc "))


def test_the_list_names_every_data_set_and_its_state() -> None:
    rows = json.loads(done("data ls --json").stdout)
    assert {"name", "state", "what"} == set(rows[0])
    assert {row["name"]: row["state"] for row in rows}["digits"] == "ready"
    assert "digits-28" in done("data ls").stdout


def test_info_tells_shape_classes_digest_license_and_citation() -> None:
    facts = json.loads(done("data info digits --json").stdout)
    assert facts["shape"] == ["1797 x 64"]
    assert (facts["classes"], facts["files"], facts["license"]) == (10, "part of a package", NO_LICENSE)
    assert facts["values"] == "0 to 16, 3 columns constant"
    assert len(facts["sha256"]) == 64
    assert json.loads(done("data info reuters10k --json").stdout)["folder"] == "reuters"
    text = done("data info mnist").stdout
    assert "train-images-idx3-ubyte.gz (9.9 MB, MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873) https://" in text
    assert "not there" in text


def test_prepare_writes_once_and_says_what_comes_next() -> None:
    first = done("data prepare digits --normalize adec --limit 100 --json")
    facts = json.loads(first.stdout)
    assert Path(facts["folder"]).parent == Path("cache/prepared").resolve()
    assert "next: rc cluster --model ae_kmeans --data digits --limit 100 --normalize adec" in first.stderr
    again = done("data prepare digits --normalize adec --limit 100 --json")
    assert json.loads(again.stdout) == facts
    assert "prepared already (--force prepares it again)" in again.stderr
    assert "prepared already" not in done("data prepare digits --normalize adec --limit 100 --force").stderr
    assert "sha256 " + facts["sha256"] in done("data info digits").stdout


def test_info_tells_shape_and_classes_of_a_large_set_once_it_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> dict[str, Any]:
        return dict(json.loads(done("data info mine --data-dir own --json").stdout))

    monkeypatch.setattr(data, "SMALL", 0)
    Path("own").mkdir()
    write_mine("own/mine.npz")
    done("data prepare mine --data-dir own --limit 6")
    assert told()["shape"] == "rc data prepare mine tells: reading takes minutes"
    done("data prepare mine --data-dir own")
    assert (told()["shape"], told()["classes"]) == (["30 x 5"], 3)
    write_mine("own/mine.npz", n=31)
    assert told()["shape"] == "rc data prepare mine tells: reading takes minutes"


def test_a_table_is_prepared_with_the_column_of_its_labels() -> None:
    Path("own").mkdir()
    Path("own/cells.csv").write_text("a,b,cell type\n" + "1,2,T\n3,1,B\n2,2,T\n5,0,B\n")
    result = rc("data prepare cells --data-dir own")
    assert "the column 'cell type' is not numeric (--label-column 'cell type' if it holds" in result.stderr
    result = rc("data prepare cells --data-dir own --label-column 'cell type'")
    assert "4 x 2" in result.stdout
    assert "next: rc cluster --model ae_kmeans --data cells --label-column 'cell type' --data-dir own" in result.stderr


def test_an_import_without_labels_is_prepared_and_clustered_by_its_name() -> None:
    np.save("plain.npy", np.random.default_rng(0).normal(size=(30, 5)))
    assert done("data import plain.npy --name plain").stdout == "plain: 30 x 5 vectors, no labels\n"
    done("data prepare plain")
    plan = done("cluster --model kmeans --data plain --clusters 4 --profile smoke --dry-run --json").stdout
    assert "kmeans-plain-" in plan


def test_what_is_imported_is_checked_first() -> None:
    np.savez("bad.npz", x=np.full((4, 2), np.nan), y=[0, 1, 0, 1])
    result = rc("data import bad.npz --name bad")
    assert result.exit_code == 1
    assert "bad: x has 8 values that are NaN, infinite or too large for float32" in result.stderr
    write_mine()
    result = rc("data import my.npz --name digits")
    assert (result.exit_code, "is the name of a built-in data set" in result.stderr) == (2, True)


def test_fetch_says_where_the_files_are_or_what_is_missing() -> None:
    assert "digits ships with a package" in done("data fetch digits").stderr
    result = rc("data fetch regdb")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The data set regdb is not there: it needs a folder" in result.stderr
    assert rc("data fetch digitz").exit_code == 2


def test_a_file_in_the_place_of_a_name_is_told_to_be_imported() -> None:
    write_mine()
    result = rc("data prepare my.npz")
    assert result.exit_code == 2
    assert "rc data import my.npz --name NAME" in " ".join(result.stderr.split())
    assert "my.npz.npz" not in result.stderr


def test_a_folder_without_its_slash_is_told_of() -> None:
    Path("photos").mkdir()
    result = rc("cluster --model kmeans --data photos")
    assert result.exit_code == 2
    assert "--data photos/ for the folder" in " ".join(result.stderr.split())


def test_verify_claims_nothing_of_a_file_that_is_packed_otherwise() -> None:
    folder = Path("folder/mnist")
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(b"anything"))
    rows = json.loads(done("data verify mnist --data-dir folder --json").stdout)
    assert {row["state"] for row in rows} == {
        "ok: unpacks without a fault, but is not packed as published: no checksum to compare"
    }


def test_verify_finds_what_has_changed() -> None:
    done("data prepare digits")
    assert "ok: prepared, as written" in done("data verify").stdout
    path = next(Path("cache/prepared").glob("*/view_0.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    result = rc("data verify digits --json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["state"].startswith("WRONG: ")
    assert rc("data verify digitz").exit_code == 2


def test_verify_compares_published_files_with_their_checksums() -> None:
    folder = Path("folder/mnist")
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(b"no gzip")
    result = rc("data verify mnist --data-dir folder --json")
    assert result.exit_code == 1
    assert "WRONG: " in result.stdout
    assert "train-images-idx3-ubyte.gz has the wrong checksum (7 of 9,912,422 bytes)" in result.stdout


def test_the_folder_in_rc_data_is_searched_after_the_data_dir(tmp_path: Path) -> None:
    for name in ("first", "second"):
        Path(name).mkdir()
    write_mine("second/theirs.npz")
    assert data_folders(Path("first")).rc_data is None
    found = done("data ls --data-dir first --json", RC_DATA=str(tmp_path / "second")).stdout
    assert "your file theirs.npz" in found
    result = rc("data ls", RC_DATA="/no/such/folder")
    assert (result.exit_code, "RC_DATA must be an existing folder" in result.stderr) == (2, True)


def test_a_choice_of_classes_has_one_name() -> None:
    assert (classes("2, 10,1"), classes("dog,cat"), classes(None)) == ("1,2,10", "cat,dog", None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "digits --subset 0,11",
            "--subset must name at least 2 different classes of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got",
        ),
        ("digits --subset 3", "--subset must name at least 2 different classes"),
        ("digits --size 4", "--size is for images, digits are vectors (leave it out)"),
        ("digits-28 --size 13", "--size must divide the images' 28 x 28 pixels, got 13"),
        ("digits --normalize dec", "'dec' is not one of 'alrdc', 'adec', 'none'"),
    ],
)
def test_a_wrong_choice_gets_one_sentence(words: str, sentence: str) -> None:
    result = rc(f"data prepare {words}")
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_folder_that_cannot_be_searched_is_refused() -> None:
    where = data_folders(Path("none"))
    with pytest.raises(ConfigError, match="--data-dir must be an existing folder"):
        available(where)
