"""What both directories promise: the tests run over the DHT and over its twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import identity
from swarm.directory import (
    MAX_BLOCKS,
    Announcement,
    Directory,
    State,
    decode_announcement,
    encode_announcement,
)
from swarm.directory.dht import DhtConfig, DhtDirectory
from swarm.directory.memory import Registry
from swarm.errors import RecordError
from swarm.membership.founder import Founder
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport


def announcement(peer: str, model: str = "model", **changes: object) -> Announcement:
    entry = Announcement(peer, "name", model, "a model", 8, 0, 4, State.SERVING)
    return msgspec.structs.replace(entry, **changes)


@dataclass
class Seat:
    """One member's directory."""

    peer: str
    directory: Directory


@pytest.fixture(params=["memory", "dht"])
async def seats(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Seat]]:
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        seats = []
        if request.param == "memory":
            registry = Registry()
            seats = [Seat(peer, registry.directory(peer)) for peer in ("a", "b", "c")]
        else:
            keys = (identity.create(tmp_path / name) for name in ("group", "authority"))
            founder, entries = Founder(*keys), ()
            for _ in range(3):
                config = Libp2pConfig(host="127.0.0.1")
                transport = await stack.enter_async_context(Libp2pTransport.start(config))
                directory = await DhtDirectory.join(
                    transport,
                    founder.admit(transport.signer),
                    entries,
                    (),
                    DhtConfig(may_be_first=not entries),
                )
                stack.push_async_callback(directory.aclose)
                entries = entries or transport.addresses
                seats.append(Seat(transport.peer_id, directory))
        yield seats


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_nothing_is_announced_at_first(seats: list[Seat]) -> None:
    for seat in seats:
        assert await seat.directory.find() == ()
        await seat.directory.withdraw()


async def test_everybody_finds_what_is_announced(seats: list[Seat]) -> None:
    entries = [announcement(seat.peer, start=number) for number, seat in enumerate(seats)]
    for seat, entry in zip(seats, entries, strict=True):
        await seat.directory.announce(entry)
    expected = tuple(sorted(entries, key=lambda entry: entry.peer))
    for seat in seats:
        assert await seat.directory.find() == expected


async def test_a_model_is_asked_for_by_its_fingerprint(seats: list[Seat]) -> None:
    await seats[0].directory.announce(announcement(seats[0].peer, "one"))
    await seats[1].directory.announce(announcement(seats[1].peer, "two"))
    found = await seats[2].directory.find("two")
    assert [entry.peer for entry in found] == [seats[1].peer]
    assert await seats[2].directory.find("three") == ()


async def test_a_new_announcement_replaces_the_one_before(seats: list[Seat]) -> None:
    first, reader = seats[0], seats[2]
    for free in (3, 2, 1):
        await first.directory.announce(announcement(first.peer, free_positions=free))
        (found,) = await reader.directory.find()
        assert found.free_positions == free
    await first.directory.announce(announcement(first.peer, state=State.LEAVING))
    (found,) = await reader.directory.find()
    assert found.state is State.LEAVING


async def test_what_is_withdrawn_is_gone_at_once(seats: list[Seat]) -> None:
    for seat in seats[:2]:
        await seat.directory.announce(announcement(seat.peer))
    await seats[0].directory.withdraw()
    for seat in seats:
        assert [entry.peer for entry in await seat.directory.find()] == [seats[1].peer]
    await seats[0].directory.announce(announcement(seats[0].peer))
    assert len(await seats[2].directory.find()) == 2


async def test_who_stops_announcing_expires(seats: list[Seat]) -> None:
    await seats[0].directory.announce(announcement(seats[0].peer), lifetime=0.2)
    await seats[1].directory.announce(announcement(seats[1].peer))

    async def expired() -> bool:
        return len(await seats[2].directory.find()) == 1

    await until(expired)
    assert [entry.peer for entry in await seats[0].directory.find()] == [seats[1].peer]


async def test_leaving_twice_is_harmless(seats: list[Seat]) -> None:
    await seats[2].directory.aclose()
    await seats[2].directory.aclose()
    await seats[0].directory.announce(announcement(seats[0].peer))
    assert len(await seats[1].directory.find()) == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_an_announcement_or_an_error(raw: bytes) -> None:
    try:
        entry = decode_announcement(raw)
    except RecordError:
        return
    assert entry.start <= entry.end <= entry.num_blocks


def test_an_announcement_survives() -> None:
    entry = announcement("a", addresses=("/ip4/1.2.3.4/tcp/5",), decode_seconds=0.5, time=1.5)
    assert decode_announcement(encode_announcement(entry)) == entry


@pytest.mark.parametrize(
    "changes",
    [
        {"start": 5},
        {"end": 9},
        {"num_blocks": 3},
        {"start": 0, "end": 0, "num_blocks": 0},
        {"num_blocks": MAX_BLOCKS + 1},
        {"decode_seconds": -1.0},
        {"time": float("inf")},
        {"watts": float("nan")},
        # As a date, a year of five digits.
        {"resumes": 1e12},
    ],
)
def test_announcements_that_no_correct_peer_makes(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        decode_announcement(encode_announcement(announcement("a", **changes)))


def test_nesting_that_would_exhaust_the_stack_is_an_error() -> None:
    with pytest.raises(RecordError):
        decode_announcement(encode_announcement(announcement("a"))[:-9] + b"\x91" * 60_000)


@pytest.mark.parametrize(
    ("state", "end", "serving"),
    [(State.SERVING, 4, True), (State.SERVING, 0, False), (State.LEAVING, 4, False)],
)
def test_serving(state: State, end: int, serving: bool) -> None:
    assert announcement("a", state=state, end=end).serving is serving
