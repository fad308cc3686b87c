"""The file of a gateway's keys, which people copy and edit."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.gateway.keys import FILE, KeyFile, Keys

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_JSON, altered, mutated

_BOUNDS = Bounds(memory=1 << 20, memory_per_byte=600, lines=6_000)

_KEY = {"name": "ann", "sha256": "0" * 64, "created": 1.5}
_FILES = st.one_of(
    altered({"keys": [_KEY, {**_KEY, "name": "bob"}]}).map(
        lambda value: json.dumps(value, default=repr).encode(errors="replace")
    ),
    mutated([json.dumps({"keys": [_KEY]}).encode()]),
    DEEP_JSON,
)


def check(raw: bytes) -> None:
    """Keys with names and digests, or word that the file is damaged; and nobody gets in by it."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        (path / FILE).write_bytes(raw)
        keys = read(KeyFile(path).read, ConfigError, len(raw), _BOUNDS)
        if keys is None:
            return
        assert Keys(file=KeyFile(path)).find("sk-swarm-" + "x" * 43) is None
    for key in keys:
        assert len(key.sha256) == 64 and 1 <= len(key.name) <= 64 and key.name.isascii()


FUZZER = Fuzzer(_FILES, check, examples=200)
