"""Download of published files to the cache folder.

An interrupted download is resumed. A file gets its final name only after its checksum has been verified.
"""

import hashlib
import os
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from data_prep.errors import DataError
from data_prep.progress import Progress

CACHE_VARIABLE = "HPSEARCH_DATA"
_TIMEOUT_S = (20, 60)  # to connect, and between two pieces of data
_CHUNK = 2**16  # bytes; an incomplete chunk is lost when the connection breaks
_REDIRECTS = 5
_ATTEMPTS = 3  # attempts in a row without new data before the download fails
_MB = 1_000_000


def cache_folder() -> Path:
    """Return the folder of downloads: $HPSEARCH_DATA, or ~/.cache/hpsearch."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/hpsearch").expanduser()


def checksum(path: Path) -> str:
    """Return the MD5 sum of a file, hexadecimal.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from error


def download(url: str, path: Path, md5: str, title: str, progress: Progress) -> None:
    """Download a file, or resume the download that an earlier call left in `path`.part.

    Args:
        url: Address of the file; redirects are followed only to the same host.
        path: Destination; nothing is there until the file is complete and its checksum verified.
        md5: Expected MD5 sum, hexadecimal.
        title: Title of the stage that `progress` shows.
        progress: Receives the number of megabytes downloaded.

    Raises:
        DataError: There is no network, the host refuses, the disk is full, or the checksum is wrong. The message is one
            line and, unless the disk is the problem, says where to put the file by hand.
    """
    part = path.with_name(path.name + ".part")
    by_hand = f"or put the file at {path} yourself (from {url})"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, _Shown(title, progress), by_hand)
        if checksum(part) != md5:
            part.unlink()
            raise DataError(f"{url} is not the published file (its MD5 sum is not {md5}): try again, {by_hand}")
        os.replace(part, path)
    except requests.RequestException as error:  # a subclass of OSError, so it is caught first
        kept = f", {_size(part) / _MB:,.0f} MB are kept to resume from" if _size(part) else ""
        raise DataError(
            f"{path.name} cannot be downloaded ({_reason(error)}){kept}: check the network and try again, {by_hand}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{part} cannot be written ({error.strerror or error}): free some space, or set {CACHE_VARIABLE} to "
            "another folder"
        ) from error


class _Shown:
    """Reporter of one download to a Progress, in whole megabytes."""

    def __init__(self, title: str, progress: Progress) -> None:
        self._title, self._progress, self._done = title, progress, -1

    def at(self, done: int, total: int) -> None:
        """Report that `done` of `total` bytes have arrived."""
        if self._done < 0:
            self._progress.start(self._title, max(1, round(total / _MB)), "MB")
            self._done = 0
        whole = max(1, round(total / _MB)) if done == total else done // _MB
        self._progress.advance(whole - self._done)
        self._done = whole


def _complete(url: str, part: Path, shown: _Shown, by_hand: str) -> None:
    """Request missing bytes until the file is complete; fail after _ATTEMPTS requests in a row without new data."""
    idle = 0
    while True:
        before = _size(part)
        trouble: requests.RequestException = requests.ConnectionError("the host closes the connection")
        try:
            if _go_on(url, part, before, shown, by_hand):
                return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            trouble = error
        idle = 0 if _size(part) > before else idle + 1
        if idle == _ATTEMPTS:
            raise trouble


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _go_on(url: str, part: Path, start: int, shown: _Shown, by_hand: str) -> bool:
    """Request the bytes from `start` on; return whether the file is complete now."""
    with _answer(url, start, by_hand) as answer:
        if start and answer.status_code == requests.codes.requested_range_not_satisfiable:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(start):
                return True
            part.unlink()  # longer than the published file, so it belongs to another one
            return _go_on(url, part, 0, shown, by_hand)
        if not answer.ok:
            raise DataError(f"{url} answers {answer.status_code} {answer.reason}: try again later, {by_hand}")
        if answer.status_code != requests.codes.partial_content:
            start = 0  # the host does not support ranges and sends the whole file
        whole = start + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if start else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                shown.at(file.tell(), max(whole, file.tell()))
            file.flush()
            os.fsync(file.fileno())
            return file.tell() >= whole


def _answer(url: str, start: int, by_hand: str) -> requests.Response:
    """Return the host's response, which begins at byte `start` if the host supports ranges."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    asked = url
    for _ in range(_REDIRECTS):
        answer = requests.get(asked, headers=headers, stream=True, timeout=_TIMEOUT_S, allow_redirects=False)
        if not answer.is_redirect:
            return answer
        answer.close()
        asked = urljoin(asked, answer.headers["Location"])
        if urlsplit(asked).hostname != urlsplit(url).hostname:
            raise DataError(
                f"{url} redirects to another host ({urlsplit(asked).hostname}), which hpsearch does not follow: "
                f"try again later, {by_hand}"
            )
    raise DataError(f"{url} redirects {_REDIRECTS} times or more: try again later, {by_hand}")


def _reason(error: requests.RequestException) -> str:
    """Return the reason in a few words; the messages of requests contain whole call chains."""
    host = urlsplit(str(error.request.url)).hostname if error.request is not None else None
    what = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
    return f"{what} to {host}" if host else f"{what}: {type(error).__name__}"
