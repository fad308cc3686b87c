import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from swarm.checkpoint.byte_source import LocalFile
from swarm.checkpoint.safetensors_header import MAX_HEADER_BYTES, parse_header, read_header
from swarm.errors import ConfigError


def entry(
    begin: int, end: int, dtype: str = "F32", shape: list[Any] | None = None
) -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_with(path: Path, header: object, data: int = 64) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data))
    return path


def test_agrees_with_the_safetensors_package(tmp_path: Path) -> None:
    state = {"a": torch.randn(3, 5), "b.c": torch.ones(7, dtype=torch.int8), "e": torch.empty(0, 4)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(state))
    entries = read_header(LocalFile(path))
    content = path.read_bytes()
    assert entries.keys() == state.keys()
    for name, found in entries.items():
        assert found.shape == tuple(state[name].shape)
        assert content[found.offset : found.end] == state[name].numpy().tobytes()


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"{not json", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 5000, "not JSON"),
        ([1, 2], "not a JSON object"),
        ({"a": 3}, "'a': its entry is not"),
        ({"a": entry(0, 8, "F33")}, "'a': unknown dtype 'F33'"),
        ({"a": entry(0, 8, shape=[-2])}, "'a': its shape"),
        ({"a": entry(0, 8, shape=[True, 2])}, "'a': its shape"),
        ({"a": entry(0, 8, shape=["2"])}, "'a': its shape"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, "'a': its data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "'a': its data_offsets"),
        ({"a": entry(8, 0, shape=[2])}, "'a': its bytes 8:0"),
        ({"a": entry(0, 68)}, "'a': its bytes 0:68 are not inside the file's 64"),
        ({"a": entry(0, 8, shape=[3])}, "needs 12 bytes, not 8"),
        ({"a": entry(0, 8, shape=[2**62, 2**62])}, "needs"),
        ({"a": entry(0, 16), "b": entry(12, 20)}, "'a' and 'b' overlap"),
    ],
)
def test_damaged_headers_name_the_file_and_the_fault(
    tmp_path: Path, header: object, complaint: str
) -> None:
    path = file_with(tmp_path / "bad.safetensors", header)
    with pytest.raises(ConfigError) as caught:
        read_header(LocalFile(path))
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("length", [2**63, MAX_HEADER_BYTES + 1, 65])
def test_a_header_length_is_limited_before_memory_is_taken(tmp_path: Path, length: int) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", length) + bytes(64))
    with pytest.raises(ConfigError, match=f"huge.safetensors: its header claims {length} bytes"):
        read_header(LocalFile(path))


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_of_a_few_bytes_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stub.safetensors"
    path.write_bytes(bytes(size))
    with pytest.raises(ConfigError, match=r"stub\.safetensors"):
        read_header(LocalFile(path))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70) | st.sampled_from(["F32", "I8", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "a"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
plausible = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I8", "BF16"]) | values,
        "shape": st.lists(st.integers(-1, 9), max_size=3) | values,
        "data_offsets": st.lists(st.integers(-1, 70), min_size=2, max_size=2) | values,
    }
)


@given(
    st.binary(max_size=80)
    | values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.text(max_size=3), plausible | values, max_size=4).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_header_is_accepted_whole_or_refused(raw: bytes) -> None:
    try:
        entries = parse_header(raw, 64, "f")
    except ConfigError as error:
        assert str(error).startswith("f: ")
        return
    taken: set[int] = set()
    for found in entries.values():
        inside = set(range(found.offset, found.end))
        assert all(8 + len(raw) <= at < 8 + len(raw) + 64 for at in inside)
        assert not inside & taken
        taken |= inside
