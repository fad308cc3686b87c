"""What a program finds on its disk again: damaged by whatever has happened to the disk."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from swarm import acquaintances, identity
from swarm.acquaintances import Acquaintance
from swarm.checkpoint import fingerprint, hub
from swarm.checkpoint.mirror import Mirror
from swarm.errors import ConfigError
from swarm.group import Group
from swarm.membership.papers import Cabinet, Papers
from swarm.wire.enrolment import Station

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_JSON, DEEP_MSGPACK, altered, plain, raw

_BOUNDS = Bounds(memory=256 * 1024, memory_per_byte=120, lines=4_000)
_SIZE = 100
_COMMIT = "c" * 40
_DIGEST = hashlib.sha256(b"").hexdigest()


def read_acquaintances(path: Path) -> None:
    """Only a help: what is damaged is nobody."""
    known = acquaintances.load(path)
    assert len(known) <= acquaintances.MAX_KNOWN
    acquaintances.save(path, known)
    assert acquaintances.load(path) == known


def read_identity(path: Path) -> None:
    found = identity.load(path)
    assert found is not None and identity.public_key(found.peer_id) is not None


def read_papers(path: Path) -> None:
    cabinet = Cabinet(path.parent, Group("group"))
    cabinet.place.mkdir(parents=True)
    path.rename(cabinet.place / "membership")
    assert isinstance(cabinet.load(), Papers)


def read_ranges(path: Path) -> None:
    """What is not known to be here is downloaded again."""
    mirror = Mirror(path.with_name("w"), _SIZE)
    mirror.path.write_bytes(bytes(_SIZE))
    path.rename(path.with_name("w.ranges.json"))
    assert all(0 <= begin < end <= _SIZE for begin, end in mirror.finished())


def read_listing(path: Path) -> None:
    kept = path.parent / "kept" / _COMMIT
    kept.mkdir(parents=True)
    path.rename(kept / "listing.json")
    listing = hub._remembered(kept.parent, _COMMIT)
    if listing is not None:
        assert all(file.size >= 0 for file in listing.files.values())


def read_hashed(path: Path) -> None:
    fingerprint._recall(path)


_SIGNATURE = b"s" * 64
_SAMPLES: dict[Callable[[Path], None], Any] = {
    read_acquaintances: plain((Acquaintance("peer", ("/ip4/1.2.3.4/tcp/1",), 12.5),)),
    read_ranges: {"size": _SIZE, "ranges": [[0, 10], [20, 40]]},
    read_listing: {"commit": _COMMIT, "files": {"a.safetensors": {"size": 8, "sha256": _DIGEST}}},
    read_hashed: {"path": "/x", "size": 1, "mtime_ns": 2, "inode": 3, "sha256": _DIGEST},
}
_PAPERS = plain(Papers(b"credential", "name", (Station("peer", ("/x",)),), (b"list",)))
_KEY = bytes([0x08, 0x01, 0x12, 0x40]) + bytes(64)


def _json(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode()


_CASES = st.one_of(
    *(
        st.tuples(
            st.just(reader),
            st.one_of(raw([_json(sample)]), altered(sample).map(_json), DEEP_JSON),
        )
        for reader, sample in _SAMPLES.items()
    ),
    st.tuples(
        st.just(read_papers),
        st.one_of(
            raw([msgspec.msgpack.encode(_PAPERS)]),
            altered(_PAPERS).map(msgspec.msgpack.encode),
            DEEP_MSGPACK,
        ),
    ),
    st.tuples(st.just(read_identity), raw([_KEY])),
)


def check(case: tuple[Callable[[Path], None], bytes]) -> None:
    """What is damaged is refused by name, or forgotten where it was only a help."""
    reader, content = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        read(lambda: reader(path), ConfigError, len(content), _BOUNDS)


FUZZER = Fuzzer(_CASES, check, examples=400)
