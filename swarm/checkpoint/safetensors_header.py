"""The header of a safetensors file: which tensor lies where.

Format: 8 bytes little-endian header length, that much JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors#format). The safetensors package wants whole local
files; a span is read from byte ranges of remote ones, so the header is parsed here, and checked,
because it comes from strangers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

from swarm.errors import ConfigError
from swarm.quoting import quoted

from .byte_source import ByteSource

MAX_HEADER_BYTES = 100_000_000  # the limit that safetensors itself sets
MAX_DIMS = 8
MAX_DIM = 2**63  # torch counts in 64 bits
DTYPE_BYTES: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `num_bytes` at `offset` from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    @property
    def end(self) -> int:
        """The first byte after the tensor."""
        return self.offset + self.num_bytes


def read_header(source: ByteSource) -> dict[str, TensorEntry]:
    """The tensors of a file by name. Raises `ConfigError` that names the file and what is wrong."""
    if source.size < 8:
        raise ConfigError(f"{source.name}: {source.size} bytes are too few for a safetensors file")
    (length,) = struct.unpack("<Q", source.read(0, 8))
    if length > MAX_HEADER_BYTES or 8 + length > source.size:
        raise ConfigError(
            f"{source.name}: its header claims {length} bytes, in a file of {source.size} "
            f"(at most {MAX_HEADER_BYTES} are allowed): not safetensors, or damaged"
        )
    return parse_header(bytes(source.read(8, length)), source.size - 8 - length, source.name)


def parse_header(raw: bytes, data_bytes: int, name: str) -> dict[str, TensorEntry]:
    """Check header JSON `raw` of file `name`, which `data_bytes` of tensors follow."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise ConfigError(f"{name}: its header is not a JSON object")
    header.pop("__metadata__", None)
    base = 8 + len(raw)
    entries = {
        tensor: _entry(fields, base, data_bytes, f"{name}: tensor {quoted(tensor)}")
        for tensor, fields in header.items()
    }
    _check_overlaps(entries, name)
    return entries


def _entry(fields: Any, base: int, data_bytes: int, where: str) -> TensorEntry:
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: its entry is not a JSON object")
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ConfigError(f"{where}: unknown dtype {quoted(dtype)}")
    if not _are_sizes(shape):
        raise ConfigError(f"{where}: its shape {quoted(shape)} is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ConfigError(f"{where}: its data_offsets {quoted(offsets)} are not two positions")
    begin, end = offsets
    if not begin <= end <= data_bytes:
        raise ConfigError(
            f"{where}: its bytes {begin}:{end} are not inside the file's {data_bytes} bytes of "
            "data (an incomplete download?)"
        )
    if (needed := prod(shape) * DTYPE_BYTES[dtype]) != end - begin:
        raise ConfigError(f"{where}: {dtype}{shape} needs {needed} bytes, not {end - begin}")
    return TensorEntry(dtype, tuple(shape), base + begin, end - begin)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or len(value) > MAX_DIMS:
        return False
    return all(type(item) is int and 0 <= item < MAX_DIM for item in value)


def _check_overlaps(entries: Mapping[str, TensorEntry], name: str) -> None:
    previous, position = "", 0
    for tensor, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].end)):
        if entry.num_bytes == 0:
            continue
        if entry.offset < position:
            raise ConfigError(f"{name}: tensors {quoted(previous)} and {quoted(tensor)} overlap")
        previous, position = tensor, entry.end
