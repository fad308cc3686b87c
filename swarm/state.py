"""What a program keeps on disk: private files that are written whole, and a folder's lock."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import platformdirs

from swarm.errors import ConfigError

from . import file_lock

_LOCK = "lock"
_TURN_INTERVAL = 0.1


def default_folder() -> Path:
    """Where this user's programs keep what they learn; it need not exist yet."""
    return platformdirs.user_state_path("homeswarm")


def make_folder(folder: Path) -> None:
    """Makes a folder that only its owner can look into; raises `ConfigError` if that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use the folder {folder}: {error.strerror}") from error


def read(path: Path) -> bytes | None:
    """The file's bytes, or None if there is none; raises `ConfigError` if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def replace(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read; readers see the old bytes or the new ones.

    When it returns the new ones are on the disk.
    Raises `ConfigError` where the file cannot be written.
    """
    with _written(path, content) as name:
        # mkstemp gave mode 600, which the file keeps.
        os.replace(name, path)


def create(path: Path, content: bytes) -> bool:
    """As `replace`, but only where there is no such file; returns whether it was written."""
    with _written(path, content) as name:
        try:
            os.link(name, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[str]:
    """A finished file beside `path`, for the length of the block unless it is moved away."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield name
            sync_folder(path.parent)
        finally:
            with suppress(OSError):
                os.unlink(name)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Makes sure that a file's name in a folder outlasts a power cut; raises `OSError`.

    Windows opens no folders, and writes names down by itself.
    """
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a folder for this process; the system lets go of it when the process dies.

    Makes the folder if there is none. Raises `ConfigError` that names the process which has it.
    """
    make_folder(folder)
    path = folder / _LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use the folder {folder}: {error.strerror}") from error
    with os.fdopen(handle, "r+") as file:
        try:
            file_lock.take(file.fileno())
        except BlockingIOError as error:
            owner = file.read(20).strip() or "?"
            raise ConfigError(f"{folder} is in use by process {owner}") from error
        except OSError as error:
            raise ConfigError(f"cannot lock {path}: {error.strerror}") from error
        try:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        yield


@asynccontextmanager
async def turn(path: Path) -> AsyncIterator[None]:
    """Waits until no other process of this machine holds this file, and holds it for the block."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(handle, "r+") as file:
        # Tried again and again: a thread that waits in the system cannot be cancelled.
        while not _try_lock(file.fileno(), path):  # noqa: ASYNC110
            await asyncio.sleep(_TURN_INTERVAL)
        yield


def _try_lock(handle: int, path: Path) -> bool:
    try:
        file_lock.take(handle)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ConfigError(f"cannot lock {path}: {error.strerror}") from error
    return True
