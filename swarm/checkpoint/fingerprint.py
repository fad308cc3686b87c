"""What makes two copies of a model the same: their config's meaning, their weights' bytes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from swarm.errors import ConfigError

from .progress import Progress, wait

log = logging.getLogger(__name__)

# Written by whichever program saved the model last; they change nothing that is computed.
VOLATILE = frozenset({"transformers_version", "_name_or_path", "torch_dtype", "dtype"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 22
_LENGTH = 32


class _Hashed(msgspec.Struct, frozen=True):
    path: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str


def fingerprint(config: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    """32 hex digits for config.json's object and `{weight file name: its sha256}`."""
    digest = hashlib.sha256(json.dumps(_stable(config), sort_keys=True).encode())
    for name, sha256 in sorted(weights.items()):
        digest.update(f"\n{name} {sha256}".encode())
    return digest.hexdigest()[:_LENGTH]


def file_fingerprint(sha256: str) -> str:
    """The fingerprint of a model that is one file with everything inside (GGUF)."""
    return sha256[:_LENGTH]


def _stable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _stable(item) for key, item in value.items() if key not in VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def file_sha256(path: Path, memory: Path, progress: Progress) -> str:
    """The sha256 of a file's contents, computed at most once per version of the file.

    `memory` is the folder that remembers results, by real path, size, mtime and inode. A blob of
    the Hugging Face cache is named after its sha256 already, and is taken at its word.
    """
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name
    try:
        stat = real.stat()
        entry = memory / f"{hashlib.sha256(os.fsencode(real)).hexdigest()}.json"
        known = _recall(entry)
        fresh = _Hashed(str(real), stat.st_size, stat.st_mtime_ns, stat.st_ino, "")
        if known is not None and msgspec.structs.replace(known, sha256="") == fresh:
            return known.sha256
        sha256 = _hash(real, stat.st_size, progress)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    _remember(entry, msgspec.structs.replace(fresh, sha256=sha256))
    return sha256


def _hash(path: Path, size: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file, wait(progress, size, f"checking {path.name}") as advance:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def _recall(entry: Path) -> _Hashed | None:
    try:
        return msgspec.json.decode(entry.read_bytes(), type=_Hashed)
    except (OSError, ValueError, RecursionError):
        return None


def _remember(entry: Path, hashed: _Hashed) -> None:
    try:
        write_atomically(entry, msgspec.json.encode(hashed))
    except OSError as error:  # a read-only cache only costs hashing again
        log.info("hash_not_remembered path=%s reason=%s", hashed.path, error)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` in one step: readers see the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
