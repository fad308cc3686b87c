"""The header of a GGUF file, and its quantized weights as numbers and as grids."""

from __future__ import annotations

import struct
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from hypothesis import strategies as st

from swarm.checkpoint.gguf_grids import has_grid, read_grid
from swarm.checkpoint.gguf_header import GgufHeader, read_gguf_header
from swarm.checkpoint.gguf_source import dequantized
from swarm.errors import ConfigError

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import HUGE, NOT_TEXT, TEXT, mutated

_BOUNDS = Bounds(memory_per_byte=64)
_MAX_NUMBERS = 1 << 16

_KINDS = st.sampled_from([int(kind) for kind in gguf.GGMLQuantizationType])
_FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}


def _text(raw: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(raw) if claimed is None else claimed) + raw


_BYTES = st.one_of(st.binary(max_size=12), TEXT.map(str.encode), NOT_TEXT)
_TEXTS = st.one_of(
    _BYTES.map(_text),
    st.builds(_text, _BYTES, st.sampled_from(HUGE)),
    st.sampled_from([b"general.alignment", b"general.architecture", b"llama.block_count"]).map(
        _text
    ),
)
_COUNTS = st.one_of(st.integers(0, 4), st.sampled_from(HUGE))


@st.composite
def _scalar(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(list(_FORMS)))
    size = struct.calcsize(_FORMS[kind])
    return struct.pack("<I", kind) + draw(st.binary(min_size=size, max_size=size))


@st.composite
def _array(draw: st.DrawFn) -> bytes:
    """Nested as deep as it likes; its items may be fewer than it claims."""
    head = b"".join(struct.pack("<IQ", 9, draw(_COUNTS)) for _ in range(draw(st.integers(1, 8))))
    items = draw(st.lists(_TEXTS, max_size=4))
    return struct.pack("<I", 9) + head + struct.pack("<IQ", 8, draw(_COUNTS)) + b"".join(items)


_FIELDS = st.builds(
    lambda key, value: key + value,
    _TEXTS,
    st.one_of(_scalar(), _array(), _TEXTS.map(lambda text: struct.pack("<I", 8) + text)),
)


@st.composite
def _tensor(draw: st.DrawFn) -> bytes:
    name = draw(st.one_of(st.just(_text(b"blk.0.attn_q.weight")), _TEXTS))
    sizes = st.one_of(
        st.sampled_from([0, 1, 32, 64, 256]), st.integers(0, 300), st.sampled_from(HUGE)
    )
    dims = draw(st.lists(sizes, max_size=4))
    offset = draw(st.one_of(st.sampled_from([0, 32, 64]), st.sampled_from(HUGE)))
    head = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return name + head + struct.pack("<IQ", draw(_KINDS), offset)


@st.composite
def _file(draw: st.DrawFn) -> bytes:
    fields = draw(st.lists(_FIELDS, max_size=4))
    tensors = draw(st.lists(_tensor(), max_size=3))
    counts = [len(tensors), len(fields)]
    if draw(st.integers(0, 9)) == 0:
        counts[draw(st.integers(0, 1))] = draw(st.sampled_from(HUGE))
    version = draw(st.sampled_from([2, 3, 3, 3, 1, 2**32 - 1]))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts)
    data = draw(st.sampled_from([0, 31, 32, 700, 4096]))
    noise = np.random.default_rng(draw(st.integers(0, 99))).bytes(data)
    return head + b"".join(fields) + b"".join(tensors) + bytes(32) + noise


@cache
def _sample() -> bytes:
    """A small file as the gguf package writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.gguf"
        out = gguf.GGUFWriter(path, "llama")
        out.add_block_count(1)
        out.add_token_list(["<s>", "a", "b"])
        out.add_tensor("token_embd.weight", np.ones((3, 32), np.float32))
        for kind in (gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q4_1):
            packed = gguf.quantize(np.ones((2, 64), np.float32), kind)
            out.add_tensor(f"blk.0.{kind.name}.weight", packed, raw_dtype=kind)
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        return path.read_bytes()


def check(raw: bytes) -> None:
    """Tensors that lie inside the file and become as many numbers as they claim, or a refusal."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(raw)
        file.flush()
        path = Path(file.name)
        header = read(lambda: read_gguf_header(path), ConfigError, len(raw), _BOUNDS)
        if header is not None:
            _check_header(header, raw)


def _check_header(header: GgufHeader, raw: bytes) -> None:
    assert len(header.outline) <= 2 * len(raw) + 4096
    for tensor in header.tensors.values():
        assert tensor.offset + tensor.num_bytes <= len(raw)
        if np.prod(tensor.shape, dtype=object) > _MAX_NUMBERS:
            continue
        stored = memoryview(raw)[tensor.offset : tensor.offset + tensor.num_bytes]
        room = Bounds(memory=4 << 20, memory_per_byte=512)
        numbers: Any = read(partial(dequantized, tensor, stored), ConfigError, len(raw), room)
        assert numbers is None or numbers.shape == tensor.shape
        if len(tensor.shape) == 2 and has_grid(tensor.kind):
            grid = read_grid(tensor, stored)
            assert grid.scale.shape == (tensor.shape[0], tensor.shape[1] // 32)


FUZZER = Fuzzer(
    st.one_of(_file(), _file(), st.deferred(lambda: mutated([_sample()])), st.binary(max_size=64)),
    check,
)
