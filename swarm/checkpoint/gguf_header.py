"""The header of a GGUF file: its metadata, and which tensor lies where.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The gguf package's reader makes
an array object per token of the vocabulary, which takes seconds; here the vocabulary is stepped
over, and everything is checked, because the file comes from strangers.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from swarm.errors import ConfigError
from swarm.quoting import quoted

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 8
_MAX_NESTING = 4
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufTensor:
    """One stored tensor; `shape` in torch's order, `offset` from the start of the file."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """A file's scalar and text metadata, and its tensors by name.

    `outline` is a small GGUF file with the same metadata but the vocabulary, and the same tensor
    names, all empty: enough to work out a config from.
    """

    fields: dict[str, Any]
    tensors: dict[str, GgufTensor]
    outline: bytes


def read_gguf_header(path: Path) -> GgufHeader:
    """Parse and check a file's header. Raises `ConfigError` that says what is wrong with it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(_Cursor(data), path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, struct.error) as error:
        raise ConfigError(f"{path}: not a GGUF file, or damaged: {error}") from error


class _Cursor:
    """Reads little-endian values one after another; `ValueError` past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise ValueError(f"{length} bytes claimed at {self.at}, the file ends before")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode()

    def skip(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise ValueError(f"{length} bytes claimed at {self.at}, the file ends before")
        self.at += length


def _parse(cursor: _Cursor, path: Path) -> GgufHeader:
    if cursor.take(4) != MAGIC:
        raise ValueError("it does not start with GGUF")
    if (version := cursor.number("<I")) not in VERSIONS:
        raise ValueError(f"version {version} is not one of {VERSIONS}")
    num_tensors, num_fields = cursor.number("<Q"), cursor.number("<Q")
    fields: dict[str, Any] = {}
    kept: list[bytes] = []
    for _ in range(num_fields):
        begin = cursor.at
        key = cursor.text()
        value = _value(cursor, cursor.number("<I"), 0)
        if value is not None:
            fields[key] = value
        if value is not None or not key.startswith("tokenizer."):
            kept.append(cursor.data[begin : cursor.at])
    infos = list(_tensor_infos(cursor, num_tensors))
    alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise ValueError(f"general.alignment is {quoted(alignment)}")
    base = -(-cursor.at // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, shape, kind, offset in infos:
        if name in tensors:
            raise ValueError(f"tensor {quoted(name)} is there twice")
        tensors[name] = _tensor(name, shape, kind, base + offset, len(cursor.data))
    if (vocabulary := _vocabulary_field(fields, tensors)) is not None:
        kept.append(vocabulary)
    return GgufHeader(fields, tensors, _outline(version, kept, list(tensors)))


def _value(cursor: _Cursor, kind: int, depth: int) -> Any:
    """A scalar or a text; an array is stepped over and gives None."""
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text()
    if kind != _ARRAY or depth >= _MAX_NESTING:
        raise ValueError(f"metadata of type {kind} at {cursor.at}")
    item, count = cursor.number("<I"), cursor.number("<Q")
    if item in _SCALARS:
        cursor.skip(count * struct.calcsize(_SCALARS[item]))
        return None
    for _ in range(count):  # each item takes bytes, so that a false count ends with the file
        if item == _STRING:
            cursor.skip(cursor.number("<Q"))
        else:
            _value(cursor, item, depth + 1)
    return None


def _tensor_infos(cursor: _Cursor, count: int) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    for _ in range(count):
        name = cursor.text()
        if (num_dims := cursor.number("<I")) > _MAX_DIMS:
            raise ValueError(f"tensor {quoted(name)} has {num_dims} dimensions")
        dims = struct.unpack(f"<{num_dims}Q", cursor.take(8 * num_dims))
        yield name, tuple(reversed(dims)), cursor.number("<I"), cursor.number("<Q")


def _tensor(
    name: str, shape: tuple[int, ...], kind: int, offset: int, file_bytes: int
) -> GgufTensor:
    known = GGMLQuantizationType(kind)  # ValueError for a type that the package does not know
    group, group_bytes = GGML_QUANT_SIZES[known]
    row = shape[-1] if shape else 1
    if row % group:
        raise ValueError(f"tensor {quoted(name)}: rows of {row} are not whole {known.name} groups")
    num_bytes = prod(shape) // group * group_bytes
    if offset + num_bytes > file_bytes:
        raise ValueError(
            f"tensor {quoted(name)} ends at {offset + num_bytes} of {file_bytes} bytes"
        )
    return GgufTensor(name, known, shape, offset, num_bytes)


def _vocabulary_field(fields: dict[str, Any], tensors: dict[str, GgufTensor]) -> bytes | None:
    """The vocabulary's size as a metadata field, for a file that lists it but does not count."""
    key = f"{fields.get('general.architecture')}.vocab_size"
    if key in fields or not (table := tensors.get("token_embd.weight")) or not table.shape:
        return None
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<II", 4, table.shape[0])


def _outline(version: int, kept: list[bytes], names: list[str]) -> bytes:
    infos = []
    for name in names:
        raw = name.encode()
        empty = struct.pack("<IQIQ", 1, 0, GGMLQuantizationType.F32, 0)
        infos.append(struct.pack("<Q", len(raw)) + raw + empty)
    head = MAGIC + struct.pack("<IQQ", version, len(names), len(kept))
    padding = bytes(_DEFAULT_ALIGNMENT)
    return head + b"".join(kept) + b"".join(infos) + padding
