"""Inputs that once failed, by fuzzer, each named after what was wrong; they stay.

Each is made when it is asked for, as some need what only their fuzzer loads.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any


def _safetensors(entry: dict[str, Any]) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "data_offsets": [0, 1], **entry}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0"


def _gguf(tensor: bytes) -> bytes:
    name = b"blk.0.attn_q.weight"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", len(name)) + name
    return head + tensor + bytes(64)


def _weights(quantization: Any = None, block: Any = None, **tensors: Any) -> Any:
    import torch

    kinds = {"f8": torch.float8_e4m3fn, "u8": torch.uint8, "f32": torch.float32}
    state = {
        name: torch.zeros(shape, dtype=torch.float32).to(kinds[kind])
        for name, (kind, shape) in tensors.items()
    }
    return state, block, quantization


def _config(**fields: Any) -> tuple[bytes, None, None]:
    config = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 16, **fields}
    return json.dumps(config).encode(), None, None


def _nested_tuples() -> tuple[str, Any]:
    from fuzzers.directory import tuples

    return "packed", ("peers", tuples(1500), b"\xc4\x01x")


def _endless_record() -> tuple[str, Any]:
    from fuzzers.directory import endless

    return "record", ("peers", "peer", endless(math.nan), math.nan)


def _answers(info: bytes | None = None, file: Any = None, part: Any = None) -> tuple[Any, ...]:
    from fuzzers.hub import SOUND, Answer

    return (
        Answer(None, {}, info) if info is not None else SOUND,
        Answer(None, file, None) if file else SOUND,
        Answer(None, part, None) if part else SOUND,
    )


def _hidden(dtype: str, size: int, payload: bytes) -> tuple[Any, ...]:
    from swarm.wire.messages import DType

    return DType(dtype), size, 1, 1, payload


def _nested_file(reader: str) -> tuple[Any, bytes]:
    from fuzzers import files

    return getattr(files, reader), b'{"a":' * 40_000


def _hash_of_bytes() -> tuple[Any, bytes]:
    from fuzzers import files

    known = {"path": "/x", "size": 1, "mtime_ns": 2, "inode": 3, "sha256": "?"}
    return files.read_hashed, json.dumps(known).encode().replace(b"?", b"\xe5")


FOUND: dict[str, dict[str, Callable[[], Any]]] = {
    "safetensors": {
        "a size that Python refuses to write down": lambda: _safetensors({"shape": [10**4000] * 3}),
        "an error as long as the file": lambda: _safetensors({"shape": ["x" * 9000] * 40}),
        "a shape of more numbers than there is time to multiply": lambda: _safetensors(
            {"shape": [2**62] * 5000}
        ),
    },
    "gguf": {
        "a quantized tensor without dimensions": lambda: _gguf(struct.pack("<IIQ", 0, 2, 0)),
        "a K-quantized tensor without dimensions": lambda: _gguf(struct.pack("<IIQ", 0, 24, 0)),
    },
    "weights": {
        "scales for a vector": lambda: _weights(w=("f8", [4]), w_scale_inv=("f32", [2])),
        "blocks of fewer experts than scales": lambda: _weights(
            {"quant_method": "mxfp4"}, w_blocks=("u8", [1, 2, 3, 16]), w_scales=("u8", [2, 2, 3])
        ),
        "blocks without any shape": lambda: _weights(w_blocks=("u8", []), w_scales=("u8", [])),
        "blocks that are no bytes": lambda: _weights(
            w_blocks=("f8", [1, 1, 1, 16]), w_scales=("u8", [1, 1, 1])
        ),
        "blocks of another length": lambda: _weights(
            w_blocks=("u8", [1, 1, 1, 3]), w_scales=("u8", [1, 1, 1])
        ),
        "no experts at all": lambda: _weights(
            w_blocks=("u8", [0, 2, 3, 16]), w_scales=("u8", [0, 2, 3])
        ),
        "a method that is a list": lambda: _weights({"quant_method": [{"": "x" * 999}] * 9}),
        "a quantization that is a number": lambda: _weights(True),
        "a block of less than nothing": lambda: _weights(
            block=(1, -1), w=("f8", [0, 0]), w_scale_inv=("f32", [0, 0])
        ),
        "a block larger than memory": lambda: _weights(
            block=(2**62, 4), w=("f8", [8, 8]), w_scale_inv=("f32", [1, 2])
        ),
    },
    "config": {
        "ten million layers in sixty bytes": lambda: _config(
            model_type="qwen2", num_hidden_layers=10**7
        ),
        "a label for everybody on earth": lambda: _config(
            model_type="llama", num_hidden_layers=2, num_labels=8 * 10**9
        ),
        "an architecture of which nobody has heard": lambda: _config(model_type="x" * 9000),
    },
    "hub": {
        "a login page instead of an answer": lambda: _answers(b"<!doctype html>"),
        "an answer without a name": lambda: _answers(b"{}"),
        "an answer that is nothing": lambda: _answers(b"null"),
        "an answer nested too deep to read": lambda: _answers(b"[" * 40_000),
        "a length that is no number": lambda: _answers(file={"content-length": ""}),
        "a range that Python refuses to read": lambda: _answers(
            part={"content-range": f"bytes 0-1/{'9' * 5000}"}
        ),
    },
    "directory": {
        "tuples within tuples, until the process ends": _nested_tuples,
        "a record that expires at no time": _endless_record,
    },
    "addresses": {
        "port 0": lambda: ("peer", [], ["/ip4/1.2.3.4/tcp/0"], b"", None),
        "a port that no socket takes": lambda: ("peer", [], ["/ip4/1.2.3.4/tcp/99999"], b"", None),
    },
    "tensors": {
        "a scale that makes infinities": lambda: _hidden("int8", 1, b"\x00}<"),
        "a row of an odd number of bytes": lambda: _hidden("int8", 1, b"<<<"),
    },
    "files": {
        f"a file nested too deep to read: {reader}": lambda reader=reader: _nested_file(reader)
        for reader in ("read_ranges", "read_listing", "read_hashed")
    }
    | {"a hash that is no text": _hash_of_bytes},
}
