"""The header of a safetensors file."""

from __future__ import annotations

import json
import struct
from math import prod
from typing import Any

from hypothesis import strategies as st

from swarm.checkpoint.safetensors_header import DTYPE_BYTES, read_header
from swarm.errors import ConfigError

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_JSON, HUGE, NOT_TEXT, altered, mutated
from .memory_file import MemoryFile

_BOUNDS = Bounds(memory_per_byte=64)
_MAX_DATA = 256

_SAMPLE = {
    "__metadata__": {"format": "pt"},
    "model.embed_tokens.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
    "model.layers.0.up.weight": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [64, 80]},
    "empty": {"dtype": "I8", "shape": [0, 9], "data_offsets": [80, 80]},
}


def _file(header: bytes, data_len: int, claimed: int | None = None) -> bytes:
    length = len(header) if claimed is None else claimed
    return struct.pack("<Q", length % 2**64) + header + bytes(data_len)


def _long_sizes(digits: int, number: int) -> dict[str, Any]:
    """A shape whose product nobody can write down."""
    entry = {"dtype": "U8", "shape": [10**digits] * number, "data_offsets": [0, 1]}
    return {"a": entry}


_DATA = st.one_of(st.just(80), st.integers(0, _MAX_DATA))
_VALUES = st.one_of(
    altered(_SAMPLE),
    altered(_SAMPLE),
    st.builds(_long_sizes, st.integers(0, 4290), st.integers(1, 9)),
)
_JSON = _VALUES.map(lambda value: json.dumps(value, default=repr).encode())
_BROKEN = st.one_of(
    mutated([json.dumps(_SAMPLE).encode()]),
    st.builds(lambda bad: b'{"%b":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}' % bad, NOT_TEXT),
    DEEP_JSON,
)
_FILES = st.one_of(
    st.builds(_file, _JSON, _DATA),
    st.builds(_file, _JSON, _DATA),
    st.builds(_file, _BROKEN, _DATA),
    st.builds(_file, _JSON, _DATA, st.sampled_from([0, 1, *HUGE])),
    mutated([_file(json.dumps(_SAMPLE).encode(), 80)]),
)


def check(raw: bytes) -> None:
    """Tensors of the right size that lie inside the file, beside one another, or a refusal."""
    entries = read(lambda: read_header(MemoryFile(raw)), ConfigError, len(raw), _BOUNDS)
    if entries is None:
        return
    position = 8 + struct.unpack("<Q", raw[:8])[0]
    for entry in sorted(entries.values(), key=lambda entry: (entry.offset, entry.end)):
        assert entry.num_bytes == prod(entry.shape) * DTYPE_BYTES[entry.dtype]
        assert entry.end <= len(raw)
        if entry.num_bytes:
            assert position <= entry.offset
            position = entry.end


FUZZER = Fuzzer(_FILES, check)
