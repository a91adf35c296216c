"""A published file to the cache folder: resumed where it broke off, compared with its checksum, in place at once."""

import hashlib
import os
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from data_prep.errors import DataError
from data_prep.progress import Progress

CACHE_VARIABLE = "HPSEARCH_DATA"
_TIMEOUT_S = (20, 60)  # to connect, between two pieces
_CHUNK = 2**16  # bytes; the last one before a break is lost
_REDIRECTS = 5
_ATTEMPTS = 3  # in a row that bring nothing
_MB = 1_000_000


def cache_folder() -> Path:
    """Where downloads lie: $HPSEARCH_DATA, or ~/.cache/hpsearch."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/hpsearch").expanduser()


def checksum(path: Path) -> str:
    """MD5 sum of a file, hexadecimal. Raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from error


def download(url: str, path: Path, md5: str, title: str, progress: Progress) -> None:
    """Brings a file. What an earlier call left in `path`.part is gone on with.

    Args:
        url: its address; redirections are followed on the same host only.
        path: where it is to be; nothing is there before the file is whole and right.
        md5: its MD5 sum, hexadecimal.
        title: of the stage.
        progress: told of megabytes.

    Raises:
        DataError: no network, the host refuses, the disk is full, or what came is not the file; one line that says
            where to put it by hand.
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
    except requests.RequestException as error:  # an OSError too, so it comes first
        kept = f", {_size(part) / _MB:,.0f} MB of it are kept" if _size(part) else ""
        raise DataError(
            f"{path.name} cannot be downloaded ({_reason(error)}){kept}: try again with a network, {by_hand}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{part} cannot be written ({error.strerror or error}): free some space, or set {CACHE_VARIABLE} to "
            "another folder"
        ) from error


class _Shown:
    """Megabytes of one download for a Progress, which counts in whole ones."""

    def __init__(self, title: str, progress: Progress) -> None:
        self._title, self._progress, self._done = title, progress, -1

    def at(self, done: int, total: int) -> None:
        """`done` of `total` bytes are there."""
        if self._done < 0:
            self._progress.start(self._title, max(1, round(total / _MB)), "MB")
            self._done = 0
        whole = max(1, round(total / _MB)) if done == total else done // _MB
        self._progress.advance(whole - self._done)
        self._done = whole


def _complete(url: str, part: Path, shown: _Shown, by_hand: str) -> None:
    """Asks for what is missing of the partial file until all is there, as long as each attempt brings something."""
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
    """One request, from byte `start` on; whether the file is whole now."""
    with _answer(url, start) as answer:
        if start and answer.status_code == requests.codes.requested_range_not_satisfiable:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(start):
                return True
            part.unlink()  # longer than the file: what is there is none of it
            return _go_on(url, part, 0, shown, by_hand)
        if not answer.ok:
            raise DataError(f"{url} answers {answer.status_code} {answer.reason}: try again later, {by_hand}")
        if answer.status_code != requests.codes.partial_content:
            start = 0  # a host that knows no ranges sends it all
        whole = start + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if start else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                shown.at(file.tell(), max(whole, file.tell()))
            file.flush()
            os.fsync(file.fileno())
            return file.tell() >= whole


def _answer(url: str, start: int) -> requests.Response:
    """The host's answer; from byte `start` on where it can do that."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    asked = url
    for _ in range(_REDIRECTS):
        answer = requests.get(asked, headers=headers, stream=True, timeout=_TIMEOUT_S, allow_redirects=False)
        if not answer.is_redirect:
            return answer
        answer.close()
        asked = urljoin(asked, answer.headers["Location"])
        if urlsplit(asked).hostname != urlsplit(url).hostname:
            raise DataError(f"{url} sends on to another host ({urlsplit(asked).hostname}), which is not followed")
    raise DataError(f"{url} sends on from one address to the next: try again later")


def _reason(error: requests.RequestException) -> str:
    """Why, in a few words: the exceptions of the library hold whole call chains."""
    host = urlsplit(str(error.request.url)).hostname if error.request is not None else None
    what = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
    return f"{what} to {host}" if host else f"{what}: {type(error).__name__}"
