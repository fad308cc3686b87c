"""Server-sent events as they come in, cut into the data of each; from somebody who may be hostile.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations


class TooLong(Exception):
    """More came, without an end, than an event may have."""


class Parts:
    """Bytes in, events' data out; holds at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are complete now. Raises `TooLong`."""
        found: list[bytes] = []
        *whole, rest = data.split(b"\n")
        for end in whole:
            self._hold(end)
            line = bytes(self._line).removesuffix(b"\r")
            self._line.clear()
            if line:
                self._take(line)
            elif self._data:
                found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        self._hold(rest)
        return found

    def _hold(self, part: bytes) -> None:
        if self._size + len(self._line) + len(part) > self._most:
            raise TooLong
        self._line += part

    def _take(self, line: bytes) -> None:
        # Comments and other fields say nothing that is asked here.
        if line.startswith(b"data:"):
            data = line[5:].removeprefix(b" ")
            self._data.append(data)
            # Each costs memory, however little it says.
            self._size += len(data) + 64
