"""Hidden states as they arrive with a step, in every type that they travel in."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import strategies as st

from swarm.errors import RemoteProtocolError
from swarm.peer.session import HopSession
from swarm.wire.messages import DType, Open, RowRange, Step, Want
from swarm.wire.tensors import all_finite, from_buffers, to_buffer

from .bounds import Bounds, read
from .fuzzer import Fuzzer

_BOUNDS = Bounds(memory=256 * 1024, memory_per_byte=40)
_LARGEST = 1e38
"""Activations are nowhere near; beyond, rounding again may come out as too large."""

_SESSION = "s" * 16

_SIZES = st.sampled_from([1, 31, 32, 33, 64, 100])
_WORDS = st.sampled_from(
    [
        struct.pack("<f", value)
        for value in (0.0, 1.0, -3.5, 3e38, -3e38, 1e-45, float("nan"), float("inf"))
    ]
    + [b"\x7f\x7f\x7f\x7f", b"\x80\x7f\x00\x00", b"\xff\x7f\xff\x7f", b"\x00\x7c\x00\xfc"]
)


@st.composite
def _steps(draw: st.DrawFn) -> tuple[DType, int, int, int, bytes]:
    """Type, width, rows of the session, positions that are claimed, and a payload."""
    dtype, size, count = draw(st.sampled_from(list(DType))), draw(_SIZES), draw(st.integers(0, 5))
    length = count * dtype.position_len(size)
    if draw(st.integers(0, 5)) == 0:
        length = draw(st.integers(0, 2 * length + 8))
    payload = bytearray(draw(st.binary(max_size=8)).ljust(8, b"\x3c") * (length // 8 + 1))[:length]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, length - 4)))
        payload[at : at + 4] = draw(_WORDS)[: length - at]
    return dtype, size, draw(st.integers(1, 2)), count, bytes(payload)


def check(case: tuple[DType, int, int, int, bytes]) -> None:
    """What a session takes is as many finite numbers as it says, and travels on as it came."""
    dtype, size, num_rows, count, payload = case
    request = Open(_SESSION, 0, "m", 0, 1, num_rows, 8, 0.0, dtype)
    link: Any = SimpleNamespace(peer="peer")
    session = HopSession(request, link, size)
    step = Step(_SESSION, 0, 0, 0, (RowRange(0, 0, count),), Want.ALL)
    arrival = read(
        lambda: session.accept(step, payload, 0.0), RemoteProtocolError, len(payload), _BOUNDS
    )
    if arrival is None:
        return
    hidden = from_buffers([arrival.payload], dtype, size)
    assert hidden.shape == (count, size)
    assert torch.isfinite(hidden).all(), "what is not finite got in"
    sent = to_buffer(hidden, dtype)
    assert len(sent) == len(payload)
    if hidden.numel() and hidden.abs().max() < _LARGEST:
        assert all_finite(sent, dtype, dtype.position_len(size))
    if dtype is not DType.INT8:
        assert bytes(sent) == payload


FUZZER = Fuzzer(_steps(), check, examples=400)
