"""Byte ranges of a remote file over HTTP (RFC 9110, section 14), by huggingface_hub's client."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping

from huggingface_hub import get_session, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError

from swarm.errors import ConfigError
from swarm.quoting import quoted

from .byte_ranges import Range

log = logging.getLogger(__name__)

# The root of the HTTP library that huggingface_hub is built on: httpx, or its successor httpx2.
TransportError: type[Exception] = HfHubHTTPError.__mro__[1]

ATTEMPTS = 6  # in a row, with nothing to show for it
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
# A connection that brought this much counts as progress: retries are bounded by the length.
WORTHWHILE_BYTES = 1 << 20
READ_TIMEOUT_S = 30.0
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)
_YES = frozenset({"1", "ON", "YES", "TRUE"})
_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})

Sink = Callable[[int, bytes], None]


class _Interrupted(Exception):
    """The connection broke, or the server asked to come back later."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network, now or when huggingface_hub was imported."""
    return is_offline_mode() or os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES


def refusal(name: str, status: int) -> str:
    """What an HTTP status means to a person who wants `name`."""
    meanings = {
        401: "it is gated, private or does not exist: log in (`hf auth login`) or set HF_TOKEN",
        403: "your account may not read it: ask for access on its page, or use another HF_TOKEN",
        404: "there is no such file, repository or revision",
        416: "the file is shorter than the hub said",
        429: "the hub limits the rate of requests: wait, or log in",
    }
    return f"{name}: the hub answered {status}: {meanings.get(status, 'try again later')}"


class RangeClient:
    """Downloads ranges of one remote file whose `size` in bytes is known."""

    def __init__(self, url: str, name: str, size: int) -> None:
        self._url = url
        self._name = name
        self._size = size

    def fetch(self, wanted: Range, sink: Sink, stop: threading.Event) -> None:
        """Give every byte of `wanted` to `sink(offset, data)`, in order.

        Continues a broken connection where it broke, a bounded number of times. Raises
        `ConfigError` for anything that retrying cannot help, or did not; returns early when
        `stop` is set.
        """
        position, end = wanted
        failures = 0
        while position < end and not stop.is_set():
            start = position
            try:
                for data in self._stream(position, end):
                    sink(position, data)
                    position += len(data)
                    if stop.is_set():
                        return
                if position < end:
                    raise _Interrupted("the answer ended early")
            except (_Interrupted, TransportError) as error:
                failures = 1 if position - start >= WORTHWHILE_BYTES else failures + 1
                if failures >= ATTEMPTS:
                    raise ConfigError(
                        f"{self._name}: download failed {failures} times in a row at byte "
                        f"{position}: {error or type(error).__name__}"
                    ) from error
                log.info("download_retry file=%s byte=%d reason=%s", self._name, position, error)
                stop.wait(min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S))

    def _stream(self, begin: int, end: int) -> Iterator[bytes]:
        if is_offline():
            raise ConfigError(
                f"{self._name}: {end - begin} bytes are not on this machine yet, "
                "and HF_HUB_OFFLINE forbids downloading"
            )
        headers = {
            "User-Agent": "homeswarm",
            "Range": f"bytes={begin}-{end - 1}",
            "Accept-Encoding": "identity",  # ranges count the file's own bytes
        }
        if token := get_token():  # dropped by the client when it is redirected to another host
            headers["Authorization"] = f"Bearer {token}"
        with get_session().stream(
            "GET", self._url, headers=headers, timeout=READ_TIMEOUT_S, follow_redirects=True
        ) as response:
            self._check(response.status_code, response.headers, begin, end)
            left = end - begin
            for data in response.iter_raw():
                yield data[:left]
                left -= len(data)
                if left <= 0:
                    return

    def _check(self, status: int, headers: Mapping[str, str], begin: int, end: int) -> None:
        if status in _TEMPORARY:
            raise _Interrupted(refusal(self._name, status))
        if status == 200:
            raise ConfigError(
                f"{self._name}: the server ignores Range requests, so that a part of the file "
                "cannot be downloaded alone; download the whole model and give its folder"
            )
        if status != 206:
            raise ConfigError(refusal(self._name, status))
        given = headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(given.strip())
        if (
            match is None
            or (int(match[1]), int(match[2])) != (begin, end - 1)
            or match[3] not in ("*", str(self._size))
        ):
            raise ConfigError(
                f"{self._name}: asked for bytes {begin}-{end - 1}/{self._size}, "
                f"the server sent {quoted(given)}"
            )
