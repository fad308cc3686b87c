"""A sealed stream through somebody who reads, alters, repeats, reorders and cuts what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from swarm.errors import LocalProtocolError, Misbehaved, Unreachable
from swarm.transport import Buffer, Signer
from swarm.transport.memory import MemoryTransport, Network
from swarm.transport.memory_stream import MemoryStream
from swarm.transport.sealed import RECORD_LEN, SealedStream, accept, answer, call, refuse

pytestmark = pytest.mark.simulated_time

Record = tuple[bytes, bytes]
Tamper = Callable[[str, int, Record], list[Record]]
SECRET = b"activations" * 10


def as_it_is(way: str, number: int, record: Record) -> list[Record]:
    return [record]


@dataclass
class Middle:
    """Passes records between `a` and `b`, as `tamper` will have it."""

    tamper: Tamper = as_it_is
    seen: list[Record] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"a-b": 0, "b-a": 0})

    async def pump(self, way: str, source: MemoryStream, sink: MemoryStream) -> None:
        try:
            while True:
                header, payload = await source.receive()
                record = (bytes(header), bytes(payload))
                self.seen.append(record)
                for each in self.tamper(way, self.counts[way], record):
                    await sink.send(*each)
                self.counts[way] += 1
        finally:
            await sink.aclose()


@dataclass
class Pair:
    """Both ends of a sealed stream, and who sits between them."""

    a: SealedStream
    b: SealedStream
    middle: Middle
    protocol: str


class Wire:
    """Three members in a line; `a` believes that it is called `caller`, and calls `callee`."""

    def __init__(self) -> None:
        self.network = Network()
        self.ends = {name: self.network.transport(name) for name in ("a", "m", "b")}
        self.tasks: list[asyncio.Task[None]] = []
        self.middle = Middle()

    async def stream(self, end: MemoryTransport) -> tuple[MemoryStream, MemoryStream]:
        """The two sides of a stream between `m` and another."""
        accepted: asyncio.Queue[MemoryStream] = asyncio.Queue()

        async def keep(stream: MemoryStream) -> None:
            accepted.put_nowait(stream)
            await asyncio.Future()

        await end.serve("/x", keep)
        ours = await self.ends["m"].open(end.peer_id, "/x")
        ours.admit()
        return ours, await accepted.get()

    async def open(
        self, caller: Signer | None = None, callee: Signer | None = None, serves: bool = True
    ) -> Pair:
        (near, a), (far, b) = [await self.stream(self.ends[name]) for name in ("a", "b")]
        pumps = [("a-b", near, far), ("b-a", far, near)]
        self.tasks += [asyncio.create_task(self.middle.pump(*pump)) for pump in pumps]
        caller, callee = caller or self.ends["a"].signer, callee or self.ends["b"].signer

        async def respond() -> tuple[SealedStream, str]:
            try:
                sealed, protocol = await answer(b, "a", callee)
                await (accept(sealed) if serves else refuse(sealed))
            except BaseException:
                await b.aclose()
                raise
            return sealed, protocol

        # Not a task group: both ends' errors are looked at.
        calling = asyncio.create_task(call(a, "b", "/homeswarm/steps/1", caller))
        responding = asyncio.create_task(respond())
        self.tasks += [calling, responding]  # type: ignore[list-item]
        sealed = await calling
        there, protocol = await responding
        for end in (sealed, there):
            end.admit()
        return Pair(sealed, there, self.middle, protocol)

    async def aclose(self) -> None:
        for end in self.ends.values():
            await end.aclose()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def wire():
    wire = Wire()
    yield wire
    await wire.aclose()


async def test_each_end_knows_the_other_and_the_protocol(wire: Wire) -> None:
    pair = await wire.open()
    assert (pair.a.peer, pair.b.peer, pair.protocol) == ("b", "a", "/homeswarm/steps/1")


@pytest.mark.parametrize("size", [0, 1, RECORD_LEN - 17, RECORD_LEN - 16, RECORD_LEN, 1_000_003])
async def test_frames_of_any_size_go_both_ways(wire: Wire, size: int) -> None:
    pair = await wire.open()
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    for kind in (bytes, bytearray, memoryview):
        for near, far in ((pair.a, pair.b), (pair.b, pair.a)):
            await near.send(b"header", kind(payload))
            header, received = await far.receive()
            assert (header, bytes(received)) == (b"header", payload)
    assert max(len(payload) for _, payload in pair.middle.seen) <= RECORD_LEN


async def test_the_middle_reads_nothing(wire: Wire) -> None:
    pair = await wire.open()
    await pair.a.send(SECRET, SECRET)
    await pair.b.receive()
    passed = b"".join(header + payload for header, payload in pair.middle.seen)
    assert len(passed) > 2 * len(SECRET)
    assert b"activations" not in passed and b"homeswarm" not in passed


async def test_the_same_frame_never_looks_the_same(wire: Wire) -> None:
    pair = await wire.open()
    for _ in range(3):
        await pair.a.send(SECRET, SECRET)
        await pair.b.send(SECRET, SECRET)
    sealed = [await end.receive() for end in (pair.a, pair.b) for _ in range(3)]
    assert len(sealed) == 6
    assert len(set(pair.middle.seen)) == len(pair.middle.seen)


async def test_senders_at_once_do_not_interleave(wire: Wire) -> None:
    pair = await wire.open()
    sizes = [300_000, 10, 200_000, 0]
    async with asyncio.TaskGroup() as tasks:
        for number, size in enumerate(sizes):
            tasks.create_task(pair.a.send(b"%d" % number, bytes([number]) * size))
    for _ in sizes:
        header, payload = await pair.b.receive()
        assert bytes(payload) == bytes([int(header)]) * sizes[int(header)]


async def test_offer_sends_what_is_small(wire: Wire) -> None:
    pair = await wire.open()
    assert pair.a.offer(b"h", b"small")
    assert await pair.b.receive() == (b"h", b"small")
    assert not pair.a.offer(b"h", bytes(RECORD_LEN))


async def test_an_offer_that_is_not_taken_leaves_no_gap(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await wire.open()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStream, "offer", lambda *_: False)
        assert not pair.a.offer(b"h", b"not now")
    await pair.a.send(b"h", b"now")
    assert await pair.b.receive() == (b"h", b"now")


def flip(part: int, at: int) -> Callable[[Record], list[Record]]:
    def change(record: Record) -> list[Record]:
        parts = [bytearray(each) for each in record]
        parts[part][at] ^= 1
        return [(bytes(parts[0]), bytes(parts[1]))]

    return change


CHANGES = {
    "header altered": flip(0, 0),
    "header's tag altered": flip(0, -1),
    "payload altered": flip(1, 5),
    "payload cut": lambda record: [(record[0], record[1][:-1])],
    "payload left out": lambda record: [(record[0], b"")],
    "header cut": lambda record: [(record[0][:10], record[1])],
    "left out": lambda record: [],
    "repeated": lambda record: [record, record],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [100, 3 * RECORD_LEN], ids=["one record", "several"])
async def test_what_is_tampered_with_ends_the_stream(wire: Wire, change: str, size: int) -> None:
    pair = await wire.open()
    victim = wire.middle.counts["a-b"]

    def tamper(way: str, number: int, record: Record) -> list[Record]:
        return CHANGES[change](record) if (way, number) == ("a-b", victim) else [record]

    wire.middle.tamper = tamper
    await pair.a.send(b"first", bytes(size))
    await pair.a.send(b"second", b"2")
    with pytest.raises(Misbehaved) as caught:
        for _ in range(3):
            await pair.b.receive()
    assert caught.value.peer == "a"


@pytest.mark.parametrize("change", ["payload altered", "payload cut", "payload left out"])
async def test_what_is_tampered_with_is_noticed_at_once(wire: Wire, change: str) -> None:
    pair = await wire.open()
    wire.middle.tamper = lambda way, number, record: CHANGES[change](record)
    await pair.a.send(b"only", bytes(100))
    with pytest.raises(Misbehaved):
        async with asyncio.timeout(1):
            await pair.b.receive()


async def test_an_earlier_frame_does_not_fit_later_and_not_the_other_way(wire: Wire) -> None:
    for way in ("a-b", "b-a"):
        pair = await wire.open()
        wire.middle.tamper = as_it_is
        await pair.a.send(b"early", b"frame")
        await pair.b.receive()
        early = wire.middle.seen[-1]

        def tamper(going: str, number: int, record: Record, way: str = way, early=early):
            return [early] if going == way else [record]

        wire.middle.tamper = tamper
        sender, receiver = (pair.a, pair.b) if way == "a-b" else (pair.b, pair.a)
        await sender.send(b"late", b"frame")
        with pytest.raises(Misbehaved):
            await receiver.receive()
        wire.middle.tamper = as_it_is


async def test_a_forged_callee_is_found_out(wire: Wire) -> None:
    forger = wire.network.transport("forger").signer
    forger.peer_id = "b"
    wire.network._keys["forged"] = wire.network.key("m")
    forger.sign = wire.network.key("forged").sign  # type: ignore[method-assign]
    with pytest.raises(Misbehaved, match="somebody else answers") as caught:
        await wire.open(callee=forger)
    assert caught.value.peer == "b"


async def test_a_forged_caller_is_found_out(wire: Wire) -> None:
    forger = wire.network.transport("forger").signer
    forger.peer_id = "a"
    forger.sign = wire.network.key("m").sign  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        await wire.open(caller=forger)
    failures = [task.exception() for task in wire.tasks if task.done()]
    assert any(isinstance(error, Misbehaved) and error.peer == "a" for error in failures)


@pytest.mark.parametrize("message", ["a-b", "b-a"])
async def test_a_key_put_in_between_is_found_out(wire: Wire, message: str) -> None:
    def tamper(way: str, number: int, record: Record) -> list[Record]:
        return flip(0, 3)(record) if (way, number) == (message, 0) else [record]

    wire.middle.tamper = tamper
    with pytest.raises(Misbehaved):
        await wire.open()


@pytest.mark.parametrize("keys", [bytes(32), b"", bytes(31)])
async def test_a_key_that_is_none_is_refused(wire: Wire, keys: bytes) -> None:
    def tamper(way: str, number: int, record: Record) -> list[Record]:
        return [(keys, b"")] if (way, number) == ("a-b", 0) else [record]

    wire.middle.tamper = tamper
    with pytest.raises(Unreachable):
        await wire.open()
    failures = [task.exception() for task in wire.tasks if task.done()]
    assert any(isinstance(error, Misbehaved) and error.peer == "a" for error in failures)


async def test_a_protocol_that_is_not_served(wire: Wire) -> None:
    with pytest.raises(Unreachable, match="does not serve /homeswarm/steps/1"):
        await wire.open(serves=False)


async def test_a_payload_before_admission_is_refused(wire: Wire) -> None:
    pair = await wire.open()
    pair.b.admit(0)
    await pair.a.send(b"h", b"")
    assert await pair.b.receive() == (b"h", b"")
    await pair.a.send(b"h", b"payload")
    with pytest.raises(Misbehaved):
        await pair.b.receive()


async def test_a_long_frame_shows_signs_of_life(wire: Wire) -> None:
    from swarm.transport.memory import Condition

    pair = await wire.open()
    wire.network.between("m", "b", Condition(rate=RECORD_LEN))
    before = pair.b.arrived_bytes
    await pair.a.send(b"h", bytes(10 * RECORD_LEN))
    receiving = asyncio.create_task(pair.b.receive())
    for _ in range(8):
        await asyncio.sleep(1)
        assert not receiving.done()
        assert pair.b.arrived_bytes > before
        before = pair.b.arrived_bytes
    assert len((await receiving)[1]) == 10 * RECORD_LEN


async def test_frames_beyond_the_limits_are_our_own_fault(wire: Wire) -> None:
    pair = await wire.open()
    with pytest.raises(LocalProtocolError):
        await pair.a.send(bytes(64 * 1024), b"")
    await pair.a.send(b"still", b"open")
    assert await pair.b.receive() == (b"still", b"open")


async def test_the_end_is_told_in_the_far_ends_name(wire: Wire) -> None:
    pair = await wire.open()
    await wire.network.kill("m")
    for end in (pair.a, pair.b):
        with pytest.raises(Unreachable) as caught:
            await end.receive()
        assert caught.value.peer == end.peer
        with pytest.raises(Unreachable):
            await end.send(b"", b"")


async def test_a_frame_that_was_broken_off_ends_the_stream(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await wire.open()

    async def stuck(*_: Buffer) -> None:
        await asyncio.Future()

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStream, "send", stuck)
        sending = asyncio.create_task(pair.a.send(b"h", bytes(3 * RECORD_LEN)))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    with pytest.raises(Unreachable):
        await pair.a.send(b"h", b"next")
