"""The search order, downloads from a server on this machine, and the sentences."""

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from robust_cluster.data.base import Folders
from robust_cluster.data.sources import Collection, SourceFile, bytes_in_words, fault, unpacks
from robust_cluster.errors import ConfigError, DataError
from tests.data.given import one_sentence

CONTENT = bytes(range(256)) * 20


class Server(ThreadingHTTPServer):
    """Serves CONTENT, from an offset where it is asked for one; keeps the Range headers that it was sent."""

    asked: list[str | None]
    stops_after: int | None = None
    knows_ranges = True


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.knows_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.server.stops_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    found.asked = []
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def published(server: Server, *, sha256: str | None = None) -> Collection:
    url = f"http://127.0.0.1:{server.server_port}/file.bin"
    digest = sha256 or hashlib.sha256(CONTENT).hexdigest()
    return Collection("some-set", (SourceFile("file.bin", url, len(CONTENT), sha256=digest),))


def test_a_download_goes_to_the_cache_is_told_of_and_is_not_repeated(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    folders = Folders(cache=tmp_path, system=(), progress=lambda *news: told.append(news))
    (path,) = published(server).get(folders)
    assert path == tmp_path / "some-set" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    offline = replace(folders, downloads=False)
    assert published(server).get(folders) == published(server).get(offline) == (path,)
    with pytest.raises(DataError, match="some-set is not there and is downloaded for a run only: it needs"):
        published(server).get(replace(offline, cache=tmp_path / "other"))
    assert server.asked == [None]


def test_a_download_that_was_cut_off_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    folders = Folders(cache=tmp_path, system=())
    server.stops_after = 1000
    with one_sentence(DataError, r"some-set is not there and could not be downloaded \(file.bin ended after 1,000"):
        published(server).download(folders)
    assert published(server).find(folders) is None
    server.stops_after = None
    (path,) = published(server).download(folders)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]


def test_a_server_without_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "some-set").mkdir()
    (tmp_path / "some-set" / "file.bin.part").write_bytes(b"old" * 10)
    server.knows_ranges = False
    (path,) = published(server).download(Folders(cache=tmp_path, system=()))
    assert path.read_bytes() == CONTENT


def test_a_download_with_another_checksum_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    wrong = published(server, sha256="0" * 64)
    with pytest.raises(DataError, match=rf"wrong checksum: SHA256 {'0' * 64} expected, got [0-9a-f]{{64}}"):
        wrong.download(Folders(cache=tmp_path, system=()))
    assert [path.name for path in (tmp_path / "some-set").iterdir()] == [".lock"]


def test_the_first_folder_that_has_all_files_wins(tmp_path: Path) -> None:
    two = Collection("two", (SourceFile("a.gz"), SourceFile("b.gz")), subfolders=("Other/raw",))
    names = ("data", "rc_data", "system", "cache")
    data, rc_data, system, cache = (tmp_path / name for name in names)
    for folder in (data, rc_data, system, cache):
        folder.mkdir()
    folders = Folders(data, cache, rc_data, (system,))
    assert two.find(folders) is None
    (data / "a.gz").touch()  # without b.gz it does not count
    for folder in (cache / "Other" / "raw", system / "two", rc_data, data / "two"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a").touch()  # unpacked
        (folder / "b.gz").touch()
        assert two.find(folders) == (folder / "a", folder / "b.gz")


def test_what_cannot_be_downloaded_is_named_with_its_size_its_checksum_and_the_folder(tmp_path: Path) -> None:
    form = Collection("form", (SourceFile("on-request.tar", size=2_640_397_119, sha256="ab" * 32),), install="ask them")
    with pytest.raises(DataError) as caught:
        form.get(Folders(cache=tmp_path, system=()))
    assert str(caught.value) == (
        f"The data set form is not there: it needs on-request.tar (2.64 GB, SHA-256 {'ab' * 32}) "
        "(put them into a folder form below the one given as --data-dir, or ask them)"
    )
    assert [bytes_in_words(size) for size in (5148, 26_421_880)] == ["5,148 bytes", "26.4 MB"]


def test_a_data_dir_that_is_missing_or_unreadable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = Collection("some", (SourceFile("a"),))
    with pytest.raises(ConfigError, match="--data-dir must be an existing folder, got"):
        some.find(Folders(tmp_path / "none", tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"--data-dir must be a folder that can be read, got .* \(chmod u\+rx"):
        some.find(Folders(tmp_path, tmp_path))


def test_a_file_is_checked_for_its_size_and_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    md5 = "900150983cd24fb0d6963f7d28e17f72"
    assert fault(SourceFile("file", size=3, md5=md5), path) is None
    assert fault(SourceFile("file", size=4), path) == (
        f"{path} has 3 bytes, published are 4: it is truncated, or another file"
    )
    assert fault(SourceFile("file", md5="00"), path) == f"{path} has the wrong checksum: MD5 00 expected, got {md5}"


def test_a_gz_file_that_is_cut_off_does_not_unpack(tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(3000))
    (tmp_path / "whole.gz").write_bytes(packed)
    (tmp_path / "cut.gz").write_bytes(packed[:-5])
    assert unpacks(tmp_path / "whole.gz")
    assert not unpacks(tmp_path / "cut.gz")
