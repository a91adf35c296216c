"""Sets by name: fetched from a host that knows ranges, or does not, breaks off, or sends something else."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_sources import COUNTS, negatives, publish_medmnist

from data_prep.errors import DataError
from data_prep.progress import Silent
from data_prep.settings import PrepareSettings
from data_prep.sources import medmnist
from data_prep.sources.download import download
from data_prep.sources.medmnist import SETS, SIZES, file_name, is_known
from data_prep.sources.registry import find_source, read_source
from data_prep.storage.reader import PreparedSet
from search.cli import main


@dataclass
class Host:
    """Files of a folder over HTTP, and what was asked for."""

    folder: Path
    address: str = ""
    ranges: bool = True
    breaks_after: int | None = None
    """Bytes of each answer after which the connection ends, once."""
    redirect: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "published").mkdir()
    host = Host(tmp_path / "published")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = host.folder / self.path.partition("?")[0].lstrip("/")
            host.asked.append((self.path, self.headers["Range"]))
            if host.redirect is not None:
                self.send_response(302)
                self.send_header("Location", host.redirect)
                self.end_headers()
            elif not path.is_file():
                self.send_error(404)
            else:
                self.answer(path.read_bytes())

        def answer(self, content: bytes) -> None:
            start = int(re.sub(r"\D", "", self.headers["Range"] or "0")) if host.ranges else 0
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            stop, host.breaks_after = host.breaks_after, None
            self.wfile.write(content[start : None if stop is None else start + stop])

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield host
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; `bloodmnist` is published by the host."""
    publish_medmnist(host.folder, monkeypatch)
    monkeypatch.setenv("HPSEARCH_MEDMNIST_URL", host.address)
    monkeypatch.setenv("HPSEARCH_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_set_is_prepared_by_its_name(
    host: Host, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.augmentation.levels.augment", negatives)
    arguments = ["-w", str(tmp_path / "w"), "prepare", "BloodMNIST", "--levels", "low"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "downloading bloodmnist_64.npz (CC BY 4.0)" in done.output and "Prepared BloodMNIST" in done.output
    made = PreparedSet.open(tmp_path / "w" / "prepared")
    assert made.class_names == ("basophil", "monocyte", "platelet") and made.manifest["settings"]["size"] == 64
    assert [len(made.labels(split)) for split in ("train", "validation", "test")] == list(COUNTS.values())
    assert host.asked == [("/bloodmnist_64.npz?download=1", None)]
    again = CliRunner().invoke(main, [*arguments, "--size", "64"])
    assert again.exit_code == 0 and "Nothing to do" in again.output and len(host.asked) == 1
    assert CliRunner().invoke(main, ["-w", str(tmp_path / "w"), "check"]).exit_code == 0
    wrong = CliRunner().invoke(main, [*arguments, "--size", "96", "--force"])
    assert wrong.exit_code == 1 and "images of 28, 64, 128, 224 pixels, not of 96" in wrong.output


def test_a_download_that_broke_off_is_gone_on_with(host: Host, cache: Path) -> None:
    host.breaks_after = 100_000
    assert len(read_source("bloodmnist").labels) == sum(COUNTS.values())
    assert [range_ for _, range_ in host.asked] == [None, "bytes=65536-"]
    assert {path.name for path in cache.iterdir()} == {"bloodmnist_64.npz"}


@pytest.mark.parametrize(("ranges", "kept"), [(True, 7000), (False, 7000), (True, -1), (True, 10**6)])
def test_a_partial_file_is_completed_whatever_it_holds(host: Host, cache: Path, ranges: bool, kept: int) -> None:
    content = (host.folder / "bloodmnist_64.npz").read_bytes()
    cache.mkdir()
    part = content[:kept] if 0 < kept < len(content) else content if kept < 0 else content + bytes(100)
    (cache / "bloodmnist_64.npz.part").write_bytes(part)
    host.ranges = ranges
    read_source("bloodmnist")
    assert (cache / "bloodmnist_64.npz").read_bytes() == content and host.asked[0][1] == f"bytes={len(part)}-"


def test_what_is_not_the_published_file_is_refused(host: Host, cache: Path) -> None:
    with (host.folder / "bloodmnist_64.npz").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(DataError, match=r"is not the published file \(its MD5 sum is not .* put the file at .*cache/b"):
        read_source("bloodmnist")
    assert list(cache.iterdir()) == []
    (cache / "bloodmnist_64.npz").write_bytes(b"put there by hand")
    with pytest.raises(DataError, match=r"cache/bloodmnist_64\.npz is not the published file .*: remove it"):
        read_source("bloodmnist")


def test_without_a_network_the_error_says_which_file_goes_where(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPSEARCH_MEDMNIST_URL", "http://127.0.0.1:9/files")
    with pytest.raises(DataError) as error:
        read_source("bloodmnist")
    message = str(error.value)
    assert "\n" not in message and "(no connection to 127.0.0.1)" in message
    assert f"put the file at {cache / 'bloodmnist_64.npz'} yourself (from http://127.0.0.1:9/files/blood" in message


def test_other_answers_of_a_host_are_one_line(host: Host, cache: Path) -> None:
    (host.folder / "bloodmnist_64.npz").unlink()
    with pytest.raises(DataError, match="answers 404 Not Found: try again later, or put the file at"):
        read_source("bloodmnist")
    host.redirect = "http://localhost/elsewhere.npz"
    with pytest.raises(DataError, match=r"redirects to another host \(localhost\), which hpsearch does not follow"):
        read_source("bloodmnist")
    host.redirect = f"{host.address}/bloodmnist_64.npz"
    with pytest.raises(DataError, match="redirects 5 times or more"):
        read_source("bloodmnist")


def test_a_full_disk_is_said(host: Host, tmp_path: Path) -> None:
    (host.folder / "a").write_bytes(b"1")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written .*: free some space, or set HPSEARCH_DATA"):
        download(f"{host.address}/a", tmp_path / "file" / "a", "0", "downloading", Silent())


def test_progress_is_told_of_whole_megabytes(host: Host, tmp_path: Path) -> None:
    content = bytes(2_600_000)
    (host.folder / "a").write_bytes(content)
    seen: list[Any] = []

    class Seen:
        def start(self, title: str, total: int, unit: str = "images") -> None:
            seen.append((title, total, unit))

        def advance(self, count: int) -> None:
            seen.append(count)

    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    download(f"{host.address}/a", tmp_path / "a", md5, "downloading a", Seen())
    assert seen[0] == ("downloading a", 3, "MB") and sum(seen[1:]) == 3


@pytest.mark.parametrize("name", medmnist.LEFT_OUT)
def test_sets_that_are_left_out_say_why(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} cannot be prepared, because its images .*choose one of pathmnist, "):
        find_source(name).digest(name, 0)


@pytest.mark.parametrize("name", SETS)
def test_each_row_names_its_classes_and_the_sums_of_its_files(name: str) -> None:
    row = SETS[name]
    assert is_known(name) and len(set(row.class_names)) == len(row.class_names) >= 2
    assert len(set(row.md5)) == len(SIZES) and all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in row.md5)
    assert row.licence.startswith("CC BY")


def test_a_folder_called_like_a_set_is_written_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bloodmnist").mkdir()
    assert find_source("bloodmnist").kind == "medmnist" and find_source("./bloodmnist").kind == "folder"


def test_files_are_named_by_size() -> None:
    assert [file_name("bloodmnist", size) for size in (28, 224)] == ["bloodmnist.npz", "bloodmnist_224.npz"]
    assert PrepareSettings("bloodmnist").size is None and medmnist.DEFAULT_SIZE == 64
