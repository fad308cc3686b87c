"""Measuring a line: what comes out, what it may cost, and who may ask."""

from __future__ import annotations

import asyncio

import pytest

from swarm.errors import Busy, ConfigError, PeerError, RemoteProtocolError
from swarm.membership.certificate import Role
from swarm.membership.founder import Founder
from swarm.transport.gauge import PROTOCOL, Gauge, measure
from swarm.transport.link import connect
from swarm.transport.memory import MemorySigner, Network
from swarm.wire.gauging import MAX_BYTES, Chunk, Measure, decode, encode

MB = 1_000_000


class Pair:
    """Two members at one line."""

    def __init__(self) -> None:
        self.network = Network()
        self.founder = Founder(self.signer("key"), self.signer("bootstrap"), "home")
        self.mine = self.founder.admit(self.signer("me"), Role.CLIENT, "me")
        theirs = self.founder.admit(self.signer("other"), Role.PEER, "other")
        self.me, self.other = self.network.transport("me"), self.network.transport("other")
        self.gauge = Gauge(theirs)

    def signer(self, name: str) -> MemorySigner:
        return MemorySigner(self.network, name)

    async def serve(self) -> None:
        await self.other.serve(PROTOCOL, self.gauge.accept)

    async def measure(self, limit: int = MAX_BYTES):
        return await measure(self.me, self.mine, "other", limit=limit)


async def test_a_line_is_measured_both_ways():
    pair = Pair()
    await pair.serve()
    speed = await pair.measure()
    assert speed.down > MB and speed.up > MB
    assert speed.moved == 2 * MAX_BYTES


async def test_no_more_than_allowed_is_moved():
    pair = Pair()
    await pair.serve()
    assert (await pair.measure(80_000)).moved == 160_000
    with pytest.raises(ConfigError):
        await pair.measure(MAX_BYTES + 1)


async def test_who_measures_again_and_again_is_refused():
    pair = Pair()
    await pair.serve()
    with pytest.raises(Busy):
        for _ in range(8):
            await pair.measure()


async def test_one_at_a_time():
    pair = Pair()
    await pair.serve()
    stream = await pair.me.open("other", PROTOCOL)
    await connect(stream, pair.mine)
    await stream.send(encode(Measure(1000)), b"")
    assert isinstance(decode(bytes((await stream.receive())[0])), Chunk)
    with pytest.raises(Busy):
        await pair.measure()
    await stream.aclose()
    while True:
        try:
            await pair.measure(8)
            break
        except Busy:
            await asyncio.sleep(0)


async def test_strangers_measure_nothing():
    pair = Pair()
    await pair.serve()
    foreign = Founder(pair.signer("key2"), pair.signer("bootstrap2"), "away")
    stranger = foreign.admit(pair.signer("stranger"), Role.PEER, "stranger")
    with pytest.raises(PeerError):
        await measure(pair.network.transport("stranger"), stranger, "other")


@pytest.mark.parametrize("header", [b"", b"\x81", encode(Chunk())[:-1], b"\x92\xa7measure\x00"])
def test_what_is_no_message(header):
    with pytest.raises(RemoteProtocolError):
        decode(header)
