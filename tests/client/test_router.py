from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from swarm.client.model_key import ModelKey
from swarm.client.route import UNKNOWN_ROUND_TRIP, Hop
from swarm.client.router import FRESH, MAX_MET, Router
from swarm.directory import Announcement, State
from swarm.errors import NoRouteError, Unreachable
from swarm.wire.messages import HopTime, Prefix

pytestmark = pytest.mark.simulated_time

KEY = ModelKey("model", 4, 8)


def serves(peer: str, start: int = 0, end: int = 4, **more: Any) -> Announcement:
    fields = {
        "name": peer,
        "model": "model",
        "model_name": "model",
        "num_blocks": 4,
        "state": State.SERVING,
        "decode_seconds": 0.01,
        "prefill_seconds": 0.001,
        "free_positions": 100,
        "total_positions": 100,
        "capacity": 0,
        "dtype": "float32",
        "device": "cpu",
        "addresses": (f"/memory/{peer}",),
        "version": "0",
        "time": 1.0,
        **more,
    }
    return Announcement(peer=peer, start=start, end=end, **fields)


class FakeLink:
    def __init__(self, peer: str) -> None:
        self.peer, self.round_trip = peer, 0.01
        self.standing = SimpleNamespace(member=peer.split(".")[0])
        self.measured = asyncio.Event()
        self.measured.set()


class FakeNeighbours:
    def __init__(self) -> None:
        self.links: dict[str, FakeLink] = {}
        self.dialled: list[str] = []
        self.gone: set[str] = set()

    def get(self, peer: str) -> FakeLink | None:
        return self.links.get(peer)

    async def link(self, peer: str, addresses: Any) -> FakeLink:
        self.dialled.append(peer)
        if peer in self.gone:
            raise Unreachable(peer, "gone")
        return self.links.setdefault(peer, FakeLink(peer))

    def take(self) -> list[str]:
        dialled, self.dialled = self.dialled, []
        return dialled


class Bench:
    """A router, and what it looks at."""

    def __init__(self, client: str = "") -> None:
        self.found: list[Announcement] = []
        self.num_finds = 0
        self.neighbours = FakeNeighbours()
        self.router = Router(self, self.neighbours, client)  # type: ignore[arg-type]

    async def find(self, model: str | None = None) -> tuple[Announcement, ...]:
        self.num_finds += 1
        return tuple(self.found)

    async def route(self, *excluded: str, kept: tuple[Hop, ...] = (), positions: int = 1) -> str:
        route = await self.router.route(KEY, kept, positions, excluded)
        return " ".join(f"{hop.peer}:{hop.start}-{hop.end}" for hop in route)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_what_the_directory_said_is_used_for_a_moment(bench: Bench) -> None:
    bench.found = [serves("a"), serves("b", model="other")]
    assert [e.peer for e in await bench.router.find("model")] == ["a"]
    await bench.router.find("model")
    assert bench.num_finds == 1
    await bench.router.find("model", fresh=True)
    await asyncio.sleep(FRESH + 0.1)
    await bench.router.find("model")
    assert bench.num_finds == 3


async def test_who_was_blamed_excluded_or_does_not_serve_is_left_out(bench: Bench) -> None:
    bench.found = [serves("a"), serves("b"), serves("c"), serves("d", state=State.LOADING)]
    bench.router.blame("a", "slow")
    assert await bench.route("b") == "c:0-4"
    with pytest.raises(NoRouteError) as caught:
        await bench.route("b", "c")
    assert caught.value.missing == ((0, 4),)
    await asyncio.sleep(1.1)
    assert await bench.route("b", "c") == "a:0-4"


async def test_blocks_are_missing_for_which_nobody_could_be_asked(bench: Bench) -> None:
    assert await bench.router.missing(KEY) == ((0, 4),)
    bench.found = [serves("a", 0, 2), serves("b", 2, 4), serves("c", 3, 4, state=State.LEAVING)]
    await bench.router.find("model", fresh=True)
    assert await bench.router.missing(KEY) == ()
    assert bench.neighbours.dialled == [], "nobody is dialled to find out"
    bench.router.blame("b", "slow")
    assert await bench.router.missing(KEY) == ((2, 4),)
    bench.router.miss(bench.found[0])
    assert await bench.router.missing(KEY) == ((0, 4),)
    await bench.neighbours.link("a", ())
    assert await bench.router.missing(KEY) == ((2, 4),), "who is linked is there after all"


async def test_of_equal_peers_those_that_were_left_the_beginning(bench: Bench) -> None:
    bench.found = [serves("a"), serves("b")]
    known, new = Prefix(32, b"k" * 16), Prefix(64, b"n" * 16)
    bench.router.recollection.note([known], {"b", "gone"})
    (hop,) = await bench.router.route(KEY, (), 1, prefixes=(known, new))
    assert hop.peer == "b"
    (hop,) = await bench.router.route(KEY, (), 1, prefixes=(new,))
    assert hop.peer == "a"
    # Whoever is to be left alone is left alone all the same.
    (hop,) = await bench.router.route(KEY, (), 1, {"b"}, (known,))
    assert hop.peer == "a"


async def test_peers_that_could_never_hold_a_session_are_the_last_choice(bench: Bench) -> None:
    bench.found = [serves("small", total_positions=9), serves("z-large", total_positions=10)]
    assert await bench.route(positions=10) == "z-large:0-4"
    bench.found = [serves("small", total_positions=9)]
    await bench.router.find("model", fresh=True)
    assert await bench.route(positions=10) == "small:0-4"


async def test_whoever_was_not_there_is_not_dialled_at_once_again(bench: Bench) -> None:
    bench.found = [serves("a"), serves("b")]
    bench.neighbours.gone = {"a"}
    assert await bench.route() == "b:0-4"
    assert sorted(bench.neighbours.take()) == ["a", "b"]
    await bench.route()
    assert "a" not in bench.neighbours.take()
    await asyncio.sleep(1.1)
    await bench.route()
    assert "a" in bench.neighbours.take()


async def test_a_newer_announcement_is_a_reason_to_dial_again(bench: Bench) -> None:
    bench.found = [serves("a")]
    bench.neighbours.gone = {"a"}
    with pytest.raises(NoRouteError):
        await bench.route()
    bench.neighbours.take()
    await bench.router.find("model", fresh=True)
    with pytest.raises(NoRouteError):
        await bench.route()
    assert bench.neighbours.take() == []
    bench.neighbours.gone, bench.found = set(), [serves("a", time=2.0)]
    await bench.router.find("model", fresh=True)
    assert await bench.route() == "a:0-4"


async def test_a_session_that_stands_still_takes_who_is_known_to_be_there(bench: Bench) -> None:
    bench.found = [serves("a", 0, 2), serves("b", 2, 4), serves("c", 2, 4)]
    await bench.route()
    (first,) = [hop for hop in await bench.router.route(KEY, (), 1) if hop.peer == "a"]
    bench.found.append(serves("new", 2, 4, decode_seconds=1e-6))
    bench.neighbours.take()
    assert await bench.route("b", kept=(first,)) == "a:0-2 c:2-4"
    assert bench.neighbours.take() == [] and bench.num_finds == 1


@pytest.mark.parametrize("kept", [(), (Hop("a", 0, 2),)])
async def test_whom_the_directory_knows_by_now_takes_over_at_once(bench: Bench, kept: Any) -> None:
    """Of the session's own peers all may be gone or leaving, or only some."""
    bench.found = [serves("a", 0, 2), serves("b", 2, 4)]
    await bench.route()
    bench.found.append(serves("new", 0, 4))
    assert "new" in await bench.route(*{"a", "b"} - {hop.peer for hop in kept}, kept=kept)


async def test_peers_that_cannot_reach_one_another_are_not_joined(bench: Bench) -> None:
    bench.found = [serves("a", 0, 2), serves("b", 2, 4), serves("z", 2, 4)]
    assert await bench.route() == "a:0-2 b:2-4"
    bench.router.separate("a", "b")
    assert await bench.route() == "a:0-2 z:2-4"
    assert not bench.router._avoided(), "nobody is at fault"
    await asyncio.sleep(1.1)
    assert await bench.route() == "a:0-2 b:2-4"


@pytest.mark.parametrize("kept", [Hop("a", 0, 2), Hop("b", 2, 4)])
async def test_of_two_that_are_apart_the_new_one_is_replaced(bench: Bench, kept: Hop) -> None:
    bench.found = [serves("a", 0, 2), serves("b", 2, 4), serves("y", 0, 2), serves("z", 2, 4)]
    await bench.route()
    bench.router.separate("a", "b")
    expected = "a:0-2 z:2-4" if kept.peer == "a" else "y:0-2 b:2-4"
    assert await bench.route("nobody", kept=(kept,)) == expected


async def test_peers_that_are_apart_are_joined_where_there_are_no_others(bench: Bench) -> None:
    bench.found = [serves("a", 0, 2), serves("b", 2, 4)]
    bench.router.separate("a", "b")
    assert await bench.route() == "a:0-2 b:2-4"
    kept = (Hop("a", 0, 2), Hop("b", 2, 4))
    assert await bench.route("nobody", kept=kept) == "a:0-2 b:2-4"


async def test_standbys_are_met_up_to_a_number(bench: Bench) -> None:
    bench.found = [serves(f"peer-{i:02}") for i in range(MAX_MET - 1)]
    await bench.router.meet(KEY)
    assert len(bench.neighbours.take()) == MAX_MET - 1
    bench.found += [serves("x"), serves("y"), serves("w", state=State.LOADING)]
    await asyncio.sleep(FRESH + 0.1)
    await bench.router.meet(KEY)
    assert bench.neighbours.take() == ["x"]
    await bench.router.meet(KEY)
    assert bench.neighbours.take() == []


async def test_who_is_avoided_is_not_met(bench: Bench) -> None:
    bench.found = [serves("a"), serves("b")]
    bench.router.blame("a", "silent")
    await bench.router.meet(KEY)
    assert bench.neighbours.take() == ["b"]


async def test_a_route_without_somebody_uses_only_who_is_linked(bench: Bench) -> None:
    bench.found = [serves("a", 0, 2), serves("b", 2, 4), serves("c", 2, 4)]
    route = await bench.router.route(KEY, (), 1)
    other = bench.router.without(KEY, route, "b")
    assert [hop.peer for hop in other] == ["a", "c"]
    del bench.neighbours.links["c"]
    with pytest.raises(NoRouteError) as caught:
        bench.router.without(KEY, route, "b")
    assert caught.value.missing == ((2, 4),)


async def test_a_long_route_may_need_some_who_were_not_met(bench: Bench) -> None:
    key = replace(KEY, num_blocks=MAX_MET + 4)
    bench.found = [serves(f"p{i:02}", i, i + 1) for i in range(key.num_blocks)]
    assert len(await bench.router.route(key, (), 1)) == key.num_blocks
    assert len(bench.neighbours.take()) == MAX_MET


async def test_who_stands_still_does_not_wait_for_who_never_answers(bench: Bench) -> None:
    """A frozen peer takes connections and says nothing."""
    bench.found = [serves("frozen"), serves("well")]
    link = bench.neighbours.link

    async def slow(peer: str, addresses: Any) -> FakeLink:
        if peer == "frozen":
            await asyncio.sleep(5)
        return await link(peer, addresses)

    bench.neighbours.link = slow  # type: ignore[method-assign]
    clock = asyncio.get_running_loop().time
    started = clock()
    route = await bench.router.route(KEY, (Hop("kept", 0, 2),), 1)
    assert [hop.peer for hop in route] == ["kept", "well"] and clock() - started < 0.1


async def test_sessions_of_one_client_spread_over_equal_peers() -> None:
    bench = Bench("client")
    bench.found = [serves(name) for name in "abcd"]
    chosen = [await bench.route() for _ in range(8)]
    assert len(set(chosen[:4])) == 4 and sorted(chosen[:4]) == sorted(chosen[4:])
    # A clearly faster one is taken nevertheless.
    bench.found.append(serves("fast", decode_seconds=0.0))
    await asyncio.sleep(FRESH + 0.1)
    assert [await bench.route() for _ in range(3)] == ["fast:0-4"] * 3


async def test_many_clients_spread_over_equal_peers() -> None:
    chosen = set()
    for number in range(40):
        bench = Bench(f"client-{number}")
        bench.found = [serves(name) for name in "abc"]
        chosen.add(await bench.route())
    assert len(chosen) == 3


async def test_x11_a_peer_that_inflates_its_speed_is_found_out(bench: Bench) -> None:
    bench.found = [serves("a", decode_seconds=0.01), serves("liar", decode_seconds=0.0)]
    assert await bench.route() == "liar:0-4"
    route = await bench.router.route(KEY, (), 1)
    for _ in range(8):
        bench.router.learn(route, (HopTime(0, 4, 0, 50_000, 1),), 0.06)
    assert await bench.route() == "a:0-4"


async def test_x11_nor_does_it_help_to_hide_the_time(bench: Bench) -> None:
    bench.found = [serves("a", decode_seconds=0.01), serves("liar", decode_seconds=0.0)]
    route = await bench.router.route(KEY, (), 1)
    for _ in range(8):
        bench.router.learn(route, (HopTime(0, 4, 0, 0, 1),), 0.06)
    assert await bench.route() == "a:0-4"


async def test_a_loaded_peer_is_passed_by(bench: Bench) -> None:
    bench.found = [serves("a", queue_seconds=0.05), serves("z")]
    assert await bench.route() == "z:0-4"


async def test_the_outlook_is_the_route_that_would_be_taken_and_asks_nobody(bench: Bench) -> None:
    bench.found = [serves("a", 0, 2), serves("b", 2, 4), serves("slow", 0, 2, decode_seconds=1.0)]
    assert bench.router.outlook(KEY) == []
    await bench.router.find("model")
    await bench.router.link(Hop("a", 0, 2))
    bench.neighbours.take()
    outlook = [(entry.peer, trip) for entry, trip in bench.router.outlook(KEY)]
    assert outlook == [("a", 0.01), ("b", UNKNOWN_ROUND_TRIP)]
    assert (bench.neighbours.dialled, bench.num_finds) == ([], 1)
    bench.found.pop(1)
    await bench.router.find("model", fresh=True)
    assert bench.router.outlook(KEY) == []


async def test_a_second_opinion_is_another_members(bench: Bench) -> None:
    bench.found = [serves("ann.1"), serves("ann.2"), serves("bob.1"), serves("bob.2")]
    await bench.router.link(Hop("ann.1", 0, 4))
    route = await bench.router.others(KEY, (0, 4), frozenset({"ann.1"}))
    assert route[0].peer.startswith("bob")
    with pytest.raises(NoRouteError):
        await bench.router.others(KEY, (0, 4), frozenset({"ann.1", route[0].peer}))


async def test_who_hangs_up_does_not_become_a_stranger_to_its_owners_peers(bench: Bench) -> None:
    """Else its second peer could speak for it against an honest witness."""
    bench.found = [serves("ann.1"), serves("ann.2")]
    await bench.router.link(Hop("ann.1", 0, 4))
    bench.neighbours.links.clear()
    with pytest.raises(NoRouteError):
        await bench.router.others(KEY, (0, 4), frozenset({"ann.1"}))
