"""Frames, as they come out of a stream from another member in pieces of any size."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st

from swarm.errors import Misbehaved, Unreachable
from swarm.transport.libp2p_stream import Libp2pStream
from swarm.wire.frames import FrameLimits, encode_prefix

from .bounds import Bounds, bounded
from .fuzzer import Fuzzer
from .hostile import HUGE, mutated

_LIMITS = FrameLimits()
_MOST = 1 << 30
_GENEROUS = FrameLimits(header=2**32 - 1, payload=2**32 - 1)

_BOUNDS = Bounds(memory=64 * 1024, memory_per_byte=8)
"""What is claimed takes no memory: a frame may claim 64 MiB."""


class _Writer:
    """The half of a connection that is not looked at."""

    transport: Any

    def __init__(self) -> None:
        self.transport = self

    def set_write_buffer_limits(self, high: int) -> None:
        pass


def _frame(header: bytes, payload: bytes) -> bytes:
    return encode_prefix(len(header), len(payload)) + header + payload


def _claim(header_len: int, payload_len: int, rest: bytes) -> bytes:
    return encode_prefix(header_len % 2**32, payload_len % 2**32, _GENEROUS) + rest


_FRAMES = st.lists(
    st.builds(_frame, st.binary(max_size=60), st.binary(max_size=200)), max_size=4
).map(b"".join)
_SIZES = st.one_of(
    st.sampled_from([*HUGE, 64 * 1024, 64 * 1024 + 1, 64 << 20, (64 << 20) + 1]),
    st.integers(0, 300),
)
_STREAMS = st.one_of(
    _FRAMES,
    _FRAMES.flatmap(lambda whole: mutated([whole])),
    st.builds(_claim, _SIZES, _SIZES, st.binary(max_size=300)),
    st.builds(lambda a, b: a + b, _FRAMES, st.builds(_claim, _SIZES, _SIZES, st.binary())),
    st.binary(max_size=100),
)
_CASES = st.tuples(
    _STREAMS, st.lists(st.integers(1, 70), max_size=12), st.sampled_from([None, 0, 100, _MOST])
)


async def _received(raw: bytes, cuts: list[int], admitted: int | None) -> list[tuple[Any, ...]]:
    """All frames, and last what ended them; the bytes come in pieces of these lengths."""
    reader = asyncio.StreamReader()
    writer: Any = _Writer()
    stream = Libp2pStream("peer", reader, writer, _LIMITS, lambda: None)
    if admitted is None:
        stream.admit()
    else:
        stream.admit(admitted)

    async def feed() -> None:
        at = 0
        for length in cuts:
            reader.feed_data(raw[at : at + length])
            at += length
            await asyncio.sleep(0)
        reader.feed_data(raw[at:])
        reader.feed_eof()

    found: list[tuple[Any, ...]] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        while True:
            try:
                header, payload = await stream.receive()
            except (Misbehaved, Unreachable) as error:
                return [*found, (type(error),)]
            assert len(payload) <= (_LIMITS.payload if admitted is None else admitted)
            assert stream.arrived_bytes <= len(raw)
            found.append((bytes(header), bytes(payload)))


def check(case: tuple[bytes, list[int], int | None]) -> None:
    """The same frames come out however the bytes were cut, and then one of two errors."""
    raw, cuts, admitted = case
    with asyncio.Runner() as runner:
        whole = runner.run(_received(raw, [], admitted))
        with bounded(len(raw), _BOUNDS):
            pieces = runner.run(_received(raw, cuts, admitted))
    assert pieces == whole
    frames = b"".join(_frame(*found) for found in whole[:-1])
    assert raw.startswith(frames)


FUZZER = Fuzzer(_CASES, check)
