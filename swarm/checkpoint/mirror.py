"""A remote weight file of which only some byte ranges are on this disk.

The mirror is a sparse file of the remote one's size; a sidecar lists the ranges that are there.
A restart continues from it, a second span adds to it, and two processes may use it at once: the
bytes they write are the same, and the sidecar changes under a lock.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from swarm.errors import ConfigError

from .byte_ranges import Range, merged, num_bytes, pieces, subtracted
from .byte_source import mapped
from .fingerprint import write_atomically
from .progress import Advance
from .range_client import RangeClient

log = logging.getLogger(__name__)

PARALLEL = 4
# What a kill can cost at most per connection; a piece is on disk before the sidecar names it.
PIECE_BYTES = 16 << 20
LOCK_TIMEOUT_S = 60.0


class _Sidecar(msgspec.Struct, frozen=True):
    size: int
    ranges: list[tuple[int, int]]


class Mirror:
    """The local, partial copy of a remote file of `size` bytes, at `path`."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._sidecar = path.with_name(path.name + ".ranges.json")
        self._lock = path.with_name(path.name + ".lock")

    def finished(self) -> list[Range]:
        """The ranges that are here."""
        try:
            if self.path.stat().st_size != self._size:
                return []
            sidecar = msgspec.json.decode(self._sidecar.read_bytes(), type=_Sidecar)
        except (OSError, ValueError, RecursionError):
            return []
        if sidecar.size != self._size:
            return []
        return [r for r in merged(sidecar.ranges) if r[0] >= 0 and r[1] <= self._size]

    def prepare(self) -> None:
        """Make the sparse file. A leftover of another size is emptied, and its ranges forgotten."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock, timeout=LOCK_TIMEOUT_S):
            if self.path.exists() and self.path.stat().st_size == self._size:
                return
            self._sidecar.unlink(missing_ok=True)
            with self.path.open("wb") as file:
                file.truncate(self._size)

    def record(self, done: Range) -> None:
        """Add a range, already flushed to disk, to the finished ones."""
        with FileLock(self._lock, timeout=LOCK_TIMEOUT_S):
            ranges = merged([*self.finished(), done])
            write_atomically(self._sidecar, msgspec.json.encode(_Sidecar(self._size, ranges)))


class RemoteFile:
    """A weight file on the hub, read through its mirror. A `ByteSource`."""

    def __init__(self, client: RangeClient, mirror: Mirror, name: str, size: int) -> None:
        self._client = client
        self._mirror = mirror
        self._name = name
        self._size = size

    @property
    def name(self) -> str:
        """Repository and file name."""
        return self._name

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._size

    @property
    def path(self) -> Path:
        """The mirror's file."""
        return self._mirror.path

    def missing(self, ranges: Iterable[Range]) -> list[Range]:
        """See `ByteSource.missing`."""
        return subtracted(ranges, self._mirror.finished())

    def read(self, offset: int, length: int) -> memoryview:
        """See `ByteSource.read`. Downloads what is missing."""
        self.fetch([(offset, offset + length)], lambda n: None)
        return mapped(self._mirror.path, offset, length)

    def fetch(self, ranges: Iterable[Range], advance: Advance) -> None:
        """See `ByteSource.fetch`: several connections, each resumed where it broke."""
        if not (missing := self.missing(ranges)):
            return
        try:
            self._check_room(num_bytes(missing))
            self._mirror.prepare()
            self._fetch_pieces(list(pieces(missing, PIECE_BYTES)), advance)
        except Timeout as error:
            raise ConfigError(
                f"{self._mirror.path}: another process holds its lock; is one stuck?"
            ) from error
        except OSError as error:
            raise self._disk_error(error) from error

    def _check_room(self, needed: int) -> None:
        folder = self._mirror.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < needed:
            raise ConfigError(
                f"{self._name}: {needed} bytes to download, but only {free} bytes are free "
                f"on the disk of {folder}"
            )

    def _disk_error(self, error: OSError) -> ConfigError:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        return ConfigError(f"{self._name}: cannot write to {self._mirror.path}: {reason}")

    def _fetch_pieces(self, todo: list[Range], advance: Advance) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(min(PARALLEL, len(todo)), "download") as pool:
            jobs = [pool.submit(self._fetch_piece, piece, advance, stop) for piece in todo]
            try:
                done, _ = wait_for(jobs, return_when=FIRST_EXCEPTION)
            finally:  # also when the wait itself is interrupted (Ctrl-C)
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        for job in done:
            job.result()

    def _fetch_piece(self, piece: Range, advance: Advance, stop: threading.Event) -> None:
        written = piece[0]
        with self._mirror.path.open("r+b") as file:
            file.seek(piece[0])

            def keep(offset: int, data: bytes) -> None:
                nonlocal written
                file.write(data)
                written = offset + len(data)
                advance(len(data))

            try:
                self._client.fetch(piece, keep, stop)
            finally:
                file.flush()
                os.fsync(file.fileno())
                if written > piece[0]:
                    self._mirror.record((piece[0], written))
