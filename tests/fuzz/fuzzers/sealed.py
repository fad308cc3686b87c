"""Sealed streams: whoever passes them on alters, cuts, repeats, swaps or invents records, and who
sits at the far end lies about lengths."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st

from swarm.errors import Misbehaved, PeerError, Unreachable
from swarm.transport.memory import MemorySigner, Network
from swarm.transport.sealed import RECORD_LEN, SealedStream, accept, answer, call

from .bounds import Bounds, bounded
from .fuzzer import Fuzzer
from .hostile import HUGE, mutated

T = TypeVar("T")
Record = tuple[bytes, bytes]
Change = tuple[int, str, Any]
Lie = tuple[int, int, bytes]

_BOUNDS = Bounds(memory=1 << 20, memory_per_byte=8, lines=20_000)


class _End:
    """One end's stream to whoever passes records on: they arrive at `other`, or are collected."""

    arrived_bytes = 0
    peer = "relay"

    def __init__(self, greetings: list[bytes | None]) -> None:
        self.other: _End
        self.arrived: asyncio.Queue[Record | None] = asyncio.Queue()
        self.collected: list[Record] | None = None
        self._greetings = greetings

    def admit(self, payload: int | None = None) -> None:
        pass

    def offer(self, header: bytes, payload: Any) -> bool:
        record = bytes(header), bytes(payload)
        if self.collected is not None:
            self.collected.append(record)
            return True
        if self._greetings and (said := self._greetings.pop(0)) is not None:
            record = said, record[1]
        self.other.arrived.put_nowait(record)
        return True

    async def send(self, header: bytes, payload: Any) -> None:
        self.offer(header, payload)

    async def receive(self) -> Record:
        record = await self.arrived.get()
        if record is None:
            raise Unreachable(self.peer, "the connection ended")
        return record

    async def aclose(self) -> None:
        self.other.arrived.put_nowait(None)


async def _ending(end: _End, work: Coroutine[Any, Any, T]) -> T:
    """Does some work; where it fails, the other end hears of it."""
    try:
        return await work
    except BaseException:
        await end.aclose()
        raise


async def _respond(end: _End, network: Network) -> SealedStream:
    sealed, protocol = await answer(end, "a", MemorySigner(network, "b"))
    assert protocol == "/p", "what nobody asked for"
    await accept(sealed)
    return sealed


async def _greeted(a: _End, b: _End) -> tuple[SealedStream, SealedStream] | None:
    """Both ends of a sealed stream; None where one of them saw that something was changed."""
    a.other, b.other, network = b, a, Network()
    ends = await asyncio.gather(
        _ending(a, call(a, "b", "/p", MemorySigner(network, "a"))),
        _ending(b, _respond(b, network)),
        return_exceptions=True,
    )
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, PeerError):
            raise end
    one, other = ends
    if isinstance(one, SealedStream) and isinstance(other, SealedStream):
        return one, other
    return None


def _changed(records: list[Record], changes: list[Change]) -> list[Record]:
    """What whoever passes the records on makes of them."""
    records = list(records)
    for place, what, how in changes:
        at = place % (len(records) or 1)
        match what:
            case "drop":
                del records[at : at + 1]
            case "repeat":
                records[at:at] = records[at : at + 1]
            case "swap":
                records[at : at + 2] = reversed(records[at : at + 2])
            case "invent":
                records.insert(at, how)
            case "flip" if records:
                records[at] = _flipped(records[at], *how)
            case "cut" if records:
                header, payload = records[at]
                records[at] = header[: how[0]], payload[: how[1]]
            case "mix" if records:
                records[at] = records[at][0], records[how % len(records)][1]
    return records


def _flipped(record: Record, place: int, bit: int) -> Record:
    whole = bytearray(b"".join(record))
    if whole:
        whole[place % len(whole)] ^= 1 << bit
    length = len(record[0])
    return bytes(whole[:length]), bytes(whole[length:])


async def _received(stream: SealedStream) -> list[Record]:
    """The frames that came before one of two errors."""
    frames: list[Record] = []
    while True:
        try:
            header, payload = await stream.receive()
        except (Misbehaved, Unreachable):
            return frames
        frames.append((bytes(header), bytes(payload)))


async def _play(
    greetings: list[bytes | None], frames: list[Record], changes: list[Change], lies: list[Lie]
) -> None:
    a, b = _End(greetings), _End(greetings)
    streams = await _greeted(a, b)
    if streams is None:
        return
    ours, theirs = streams
    a.collected = []
    for frame in frames:
        await ours.send(*frame)
    honest = list(a.collected)
    for whole, piece, data in lies:
        await a.send(*ours._outgoing.seal(struct.pack(">II", whole % 2**32, piece % 2**32), data))
        ours._outgoing.advance()
    records = _changed(a.collected, changes)
    size = sum(len(header) + len(payload) for header, payload in records)
    for record in (*records, None):
        b.arrived.put_nowait(record)
    theirs.admit()
    with bounded(size, _BOUNDS):
        received = await _received(theirs)
    assert received[: len(frames)] == frames[: len(received)], "a frame that nobody has sent"
    if records[: len(honest)] != honest:
        assert len(received) < len(frames), "a frame too many"
    assert lies or len(received) <= len(frames)


_PAYLOADS = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([RECORD_LEN - 17, RECORD_LEN - 16, RECORD_LEN - 15, 3 * RECORD_LEN]).map(
        lambda length: b"p" * length
    ),
)
_SMALL = st.integers(0, 40)
_ORDER = st.sampled_from(["drop", "repeat", "swap"])
_CHANGES = st.one_of(
    st.tuples(_SMALL, _ORDER, st.none()),
    st.tuples(_SMALL, st.just("flip"), st.tuples(st.integers(0, 1 << 17), st.integers(0, 7))),
    st.tuples(_SMALL, st.just("cut"), st.tuples(st.integers(0, 60), st.integers(0, 60))),
    st.tuples(_SMALL, st.just("mix"), _SMALL),
    st.tuples(_SMALL, st.just("invent"), st.tuples(st.binary(max_size=90), st.binary(max_size=90))),
)
_LENGTHS = st.one_of(st.integers(0, 90), st.sampled_from(HUGE))
_CASES = st.tuples(
    st.one_of(
        st.just([]),
        st.just([]),
        st.lists(st.one_of(st.none(), mutated([bytes(32), bytes(96), bytes(18)])), max_size=4),
    ),
    st.lists(st.tuples(st.binary(max_size=40), _PAYLOADS), max_size=5),
    st.lists(_CHANGES, max_size=3),
    st.one_of(
        st.just([]), st.lists(st.tuples(_LENGTHS, _LENGTHS, st.binary(max_size=90)), max_size=4)
    ),
)


def check(case: tuple[Any, Any, Any, Any]) -> None:
    """What arrives is a beginning of what was sent, whatever happens on the way."""
    greetings, frames, changes, lies = case
    with asyncio.Runner() as runner:
        runner.run(_play(list(greetings), frames, changes, lies))


FUZZER = Fuzzer(_CASES, check)
