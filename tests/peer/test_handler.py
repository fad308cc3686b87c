from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm.background import background
from swarm.errors import ConfigError, RemoteProtocolError, Unreachable
from swarm.peer.handler import Handler, HandlerConfig
from swarm.peer.kept import KeptPrefixes
from swarm.peer.leases import Leases
from swarm.peer.openings import Served
from swarm.peer.pages import PageTable
from swarm.peer.session import Arrival, Done, HopSession, cut
from swarm.wire.messages import (
    Close,
    Code,
    Copy,
    DType,
    Failed,
    Held,
    Hold,
    HopTime,
    Keep,
    Leaving,
    Meet,
    Next,
    Open,
    Opened,
    Output,
    Place,
    Prefix,
    Queued,
    RowRange,
    Step,
    Want,
    Wire,
)

pytestmark = pytest.mark.simulated_time

A, B, OTHER = "a" * 16, "b" * 16, "o" * 16


class FakeLink:
    """A link that keeps what is posted."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.closed = False
        self.round_trip: float | None = None
        self.attended = self.charged = 0.0
        self.posted: list[Any] = []

    def post(self, message: Any, payload: Any = b"") -> None:
        if self.closed:
            raise Unreachable(self.peer, "the link is closed")
        self.posted.append(message)

    @property
    def account(self) -> str:
        return self.peer

    def charge(self, cost: float = 1.0) -> None:
        self.charged += cost

    async def room(self) -> None:
        await asyncio.sleep(0)

    def attend(self, seconds: float) -> None:
        self.attended = seconds

    def take(self) -> list[Any]:
        posted, self.posted = self.posted, []
        return posted


class FakeEngine:
    """An engine that computes when it is told to."""

    def __init__(self) -> None:
        self.queue: list[tuple[HopSession, Arrival]] = []
        self.retired: list[str] = []
        self.keeping: list[tuple[str, Keep]] = []

    def keep(self, session: HopSession, keep: Keep) -> None:
        self.keeping.append((session.id, keep))

    def submit(self, session: HopSession, arrival: Arrival) -> None:
        self.queue.append((session, arrival))

    def drop_steps(self, session: HopSession) -> None:
        self.queue = [entry for entry in self.queue if entry[0] is not session]

    def retire(self, session: HopSession) -> None:
        self.drop_steps(session)
        self.retired.append(session.id)


class FakeNeighbours:
    def __init__(self) -> None:
        self.links: dict[str, FakeLink] = {}

    def get(self, peer: str) -> FakeLink | None:
        return None

    async def link(self, peer: str, addresses: Any) -> FakeLink:
        if peer not in self.links:
            raise Unreachable(peer, "not there")
        return self.links[peer]


class Bench:
    """A handler, and all that is around it."""

    def __init__(self, tasks: asyncio.TaskGroup, config: HandlerConfig | None) -> None:
        self.leases = Leases(10)
        self.engine = FakeEngine()
        self.neighbours = FakeNeighbours()
        self.client = FakeLink("client")
        served = Served("model", 2, 6, hidden_size=1, page_len=4)
        self.pages = PageTable(10, served.page_len)
        self.kept = KeptPrefixes(self.pages, seconds=60.0, share=1.0)
        self.handler = Handler(served, self.leases, self.kept, tasks, config)
        self.handler.attach(self.engine, self.neighbours)  # type: ignore[arg-type]

    async def tell(self, message: Any, payload: bytes = b"", link: FakeLink | None = None) -> None:
        await self.handler.on_message(link or self.client, message, payload)  # type: ignore[arg-type]
        for _ in range(5):
            await asyncio.sleep(0)

    async def open(self, name: str = A, positions: int = 8, **changes: Any) -> list[Any]:
        fields = {"model": "model", "start": 2, "end": 6, "patience": 1.0, "rows": 1, **changes}
        await self.tell(
            Open(session=name, epoch=1, positions=positions, dtype=DType.FLOAT32, **fields)
        )
        return self.client.take()

    async def wire(self, peer: str | None = None, name: str = A, has: tuple = (0,)) -> None:
        await self.tell(Wire(name, 1, Next(peer, OTHER, has=has)))

    async def step(self, seq: int, position: int, count: int, name: str = A, **more: Any) -> None:
        rows = (RowRange(0, position, count),)
        await self.tell(
            Step(name, more.pop("epoch", 1), seq, 0, rows, Want.ALL, **more), b"data" * count
        )

    def compute(self) -> None:
        """Finishes the oldest step."""
        session, arrival = self.engine.queue.pop(0)
        part = cut(arrival, 0, arrival.num_positions, 4)
        session.running = False
        output = memoryview(b"outs" * arrival.num_positions)
        self.handler.on_done(session, Done(part, output, HopTime(2, 6, 1, 1, 1), arrival))


@pytest.fixture
async def make() -> AsyncIterator[Any]:
    async with background() as tasks:
        yield lambda config=None: Bench(tasks, config)


@pytest.fixture
async def bench(make: Any) -> Bench:
    return make()


@pytest.mark.parametrize(
    "limits",
    [
        {"history_bytes": -1},
        {"growth_patience": 0},
        {"max_sessions": 0},
        {"keep_seconds": -1},
        {"keep_share": 1.1},
    ],
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        HandlerConfig(**limits)


async def test_only_its_own_client_has_something_of_a_session_kept(bench: Bench) -> None:
    keep = Keep(A, 0, (Prefix(4, b"k" * 16),))
    await bench.tell(keep)  # It may have closed, or failed.
    await bench.open()
    await bench.tell(keep, link=FakeLink("stranger"))
    assert bench.engine.keeping == [] and bench.client.take() == []
    await bench.tell(keep)
    assert bench.engine.keeping == [(A, keep)]


async def test_a_session_opens_with_room_and_gives_it_back(bench: Bench) -> None:
    assert await bench.open(positions=9, rows=2) == [Opened(A, 1)]
    assert (bench.leases.held(A), bench.handler.num_sessions) == (6, 1)
    await bench.tell(Close(A))
    assert (bench.leases.free, bench.handler.num_sessions) == (10, 0)
    assert bench.engine.retired == [A]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "other"}, Code.WRONG_MODEL),
        ({"start": 1}, Code.WRONG_MODEL),
        ({"end": 7}, Code.WRONG_MODEL),
        ({"start": 4, "end": 4}, Code.WRONG_MODEL),
        ({"positions": 41}, Code.TOO_LONG),
        ({"rows": 256}, Code.TOO_LONG),
    ],
)
async def test_what_cannot_be_opened_is_refused(
    bench: Bench, changes: dict[str, Any], code: Code
) -> None:
    (failed,) = await bench.open(**changes)
    assert (failed.session, failed.epoch, failed.code) == (A, 1, code)
    assert bench.leases.free == 10 and bench.handler.num_sessions == 0


async def test_a_part_of_the_span_may_be_opened(bench: Bench) -> None:
    assert await bench.open(start=3, end=5) == [Opened(A, 1)]


async def test_a_name_is_taken_once(bench: Bench) -> None:
    await bench.open()
    (failed,) = await bench.open()
    assert failed.code is Code.BAD_REQUEST and bench.handler.num_sessions == 1


async def test_no_more_sessions_than_allowed(make: Any) -> None:
    bench = make(HandlerConfig(max_sessions=1))
    await bench.open(A)
    assert [m.code for m in await bench.open(B)] == [Code.BUSY]


async def test_who_waits_for_room_is_told_how_it_ended(bench: Bench) -> None:
    await bench.open(A, 36)
    assert await bench.open(B, 8) == [Queued(B, 1)]
    await asyncio.sleep(1.1)
    assert [m.code for m in bench.client.take()] == [Code.BUSY]
    assert await bench.open(B, 8) == [Queued(B, 1)]
    await bench.tell(Close(A))
    assert bench.client.take() == [Opened(B, 1)]


async def test_closing_ends_the_wait_for_room(bench: Bench) -> None:
    await bench.open(A, 36)
    await bench.open(B, 8)
    await bench.tell(Close(B), link=FakeLink("stranger"))
    assert bench.leases.num_waiting == 1
    await bench.tell(Close(B))
    assert (bench.leases.num_waiting, bench.leases.free) == (0, 1)


async def test_a_client_that_is_gone_neither_holds_nor_waits(bench: Bench) -> None:
    await bench.open(A, 36)
    await bench.open(B, 36, patience=80_000.0)
    bench.client.closed = True
    bench.handler.on_lost(bench.client, Unreachable("client", "gone"))
    await asyncio.sleep(0)
    assert (bench.leases.num_waiting, bench.leases.free) == (0, 10)
    assert bench.handler.num_sessions == 0


async def test_leaving_ends_everything_and_says_so(bench: Bench) -> None:
    await bench.open(A, 36)
    await bench.open(B, 36)
    bench.handler.stop_accepting()
    bench.handler.close_all(Code.LEAVING, "bye")
    await asyncio.sleep(0)
    told = [m for m in bench.client.take() if isinstance(m, Failed)]
    assert {(m.session, m.code) for m in told} == {(A, Code.LEAVING), (B, Code.LEAVING)}
    assert (bench.leases.free, bench.leases.num_waiting) == (10, 0)
    assert [m.code for m in await bench.open("c" * 16)] == [Code.LEAVING]


async def test_sessions_are_handed_over_while_they_run(bench: Bench) -> None:
    await bench.open(A)
    await bench.open(B)
    bench.handler.stop_accepting()
    draining = asyncio.ensure_future(bench.handler.drain(30))
    await asyncio.sleep(0)
    assert bench.client.take() == [Leaving(A, 1, 30), Leaving(B, 1, 30)]
    await bench.wire()
    await bench.step(0, 0, 2)
    bench.compute()
    assert [type(m) for m in bench.client.take()] == [Output]
    await bench.tell(Close(A))
    assert not draining.done()
    await bench.tell(Close(B))
    assert draining.done()
    await draining


async def test_whom_nobody_takes_over_is_waited_for_in_vain_but_not_for_ever(bench: Bench) -> None:
    await bench.open(A)
    clock = asyncio.get_running_loop().time
    started = clock()
    await bench.handler.drain(30)
    assert 29.9 < clock() - started < 30.1 and bench.handler.num_sessions == 1


async def test_a_copy_goes_elsewhere_and_changes_nothing_here(bench: Bench) -> None:
    following = bench.neighbours.links["next"] = FakeLink("next")
    heir = bench.neighbours.links["heir"] = FakeLink("heir")
    await bench.open()
    await bench.wire("next")
    await bench.step(0, 0, 3)
    bench.compute()
    following.take()
    await bench.tell(Copy(A, 1, Next("heir", B, has=(1,))))
    (step,) = heir.take()
    assert (step.session, step.epoch, step.seq, step.refill) == (B, 1, 0, True)
    assert step.rows == (RowRange(0, 1, 2),)
    await bench.step(1, 3, 1)
    bench.compute()
    (step,) = following.take()
    assert (step.seq, step.rows, heir.take()) == (1, (RowRange(0, 3, 1),), [])
    await bench.tell(Copy(A, 0, Next("heir", B, has=(0,))))
    assert heir.take() == []


async def test_a_copy_that_cannot_be_sent_harms_nobody(bench: Bench) -> None:
    await bench.open()
    await bench.wire()
    await bench.tell(Copy(A, 1, Next("nobody", B, has=(0,))))
    assert bench.client.take() == [] and bench.handler.num_sessions == 1


async def test_peers_are_met_before_they_are_needed(bench: Bench) -> None:
    asked = []

    async def link(peer: str, addresses: Any) -> FakeLink:
        asked.append((peer, addresses))
        raise Unreachable(peer, "not there")

    bench.neighbours.link = link  # type: ignore[method-assign]
    await bench.tell(Meet((Place("one", ("/memory/one",)), Place("two"))))
    assert asked == [("one", ("/memory/one",)), ("two", ())]


async def test_nobody_makes_a_peer_dial_many_at_once(bench: Bench) -> None:
    asked, never = [], asyncio.Event()

    async def link(peer: str, addresses: Any) -> FakeLink:
        asked.append(peer)
        await never.wait()
        raise Unreachable(peer, "not there")

    bench.neighbours.link = link  # type: ignore[method-assign]
    for number in range(100):
        await bench.tell(Meet((Place(f"peer-{number // 2}"),)))
    assert asked == [f"peer-{number}" for number in range(16)]
    never.set()
    await asyncio.sleep(0.01)
    await bench.tell(Meet((Place("peer-0"),)))
    assert asked[16:] == ["peer-0"]


@pytest.mark.parametrize(
    "message",
    [
        Hold(A, 2, 0, (0,)),
        Wire(A, 1, Next(None, OTHER, has=(0,))),
        Copy(A, 1, Next("thief", OTHER)),
    ],
)
async def test_only_its_client_commands_a_session(bench: Bench, message: Any) -> None:
    """The hop before knows the session's name, and could have its outputs sent to itself."""
    thief = bench.neighbours.links["thief"] = FakeLink("thief")
    await bench.open()
    await bench.step(0, 0, 2)
    bench.compute()
    with pytest.raises(RemoteProtocolError, match="somebody else"):
        await bench.tell(message, link=thief)
    assert thief.take() == [] and bench.client.take() == []
    await bench.wire()
    assert [type(m) for m in bench.client.take()] == [Output]


async def test_a_bad_step_is_the_fault_of_who_sent_it(bench: Bench) -> None:
    """Of a hop before us, or of the client itself: never its own request, never ours."""
    before = FakeLink("before")
    nan = struct.pack("<f", float("nan"))
    step = Step(A, 1, 0, 0, (RowRange(0, 0, 1),), Want.ALL)
    await bench.open()
    await bench.tell(step, nan, link=before)
    (failed,) = bench.client.take()
    assert (failed.code, failed.peer) == (Code.BAD_STEP, "before")
    await bench.tell(step, nan)
    (failed,) = bench.client.take()
    assert (failed.code, failed.peer) == (Code.BAD_REQUEST, None)
    await bench.tell(step, b"data", link=before)
    assert len(bench.engine.queue) == 1


async def run_in_the_middle_and_at_the_end(bench: Bench) -> None:
    """A step of A, which goes on to the next hop, and one of B, which goes to the client."""
    await bench.open(A)
    await bench.open(B)
    await bench.wire("next", A)
    await bench.wire(None, B)
    for name in (A, B):
        await bench.step(0, 0, 2, name)
        bench.compute()


async def test_the_silence_of_the_next_hop_is_looked_for_that_of_the_client_is_not(
    bench: Bench,
) -> None:
    following = bench.neighbours.links["next"] = FakeLink("next")
    await run_in_the_middle_and_at_the_end(bench)
    assert following.attended > 0 and bench.client.attended == 0


async def test_outputs_go_to_the_next_hop_or_to_the_client(bench: Bench) -> None:
    link = bench.neighbours.links["next"] = FakeLink("next")
    link.round_trip = 0.030
    await run_in_the_middle_and_at_the_end(bench)
    (step,) = link.take()
    assert isinstance(step, Step) and (step.session, step.seq) == (OTHER, 0)
    assert [(hop.start, hop.trip) for hop in step.times] == [(2, 15_000)]
    (output,) = bench.client.take()
    assert isinstance(output, Output) and output.session == OTHER


async def test_what_is_computed_before_the_wire_comes_is_sent_with_it(bench: Bench) -> None:
    await bench.open()
    await bench.step(0, 0, 2)
    bench.compute()
    assert bench.client.take() == []
    await bench.wire()
    (output,) = bench.client.take()
    assert output.rows == (RowRange(0, 0, 2),)


async def test_a_next_hop_out_of_reach_is_named(bench: Bench) -> None:
    await bench.open()
    await bench.wire("nowhere")
    (failed,) = bench.client.take()
    assert (failed.code, failed.peer) == (Code.NEXT_UNREACHABLE, "nowhere")


async def test_a_lost_next_hop_is_named(bench: Bench) -> None:
    link = bench.neighbours.links["next"] = FakeLink("next")
    await bench.open()
    await bench.wire("next")
    link.closed = True
    bench.handler.on_lost(link, Unreachable("next", "gone"))
    (failed,) = bench.client.take()
    assert (failed.code, failed.peer, failed.session) == (Code.NEXT_UNREACHABLE, "next", A)
    assert bench.handler.num_sessions == 1


async def test_what_the_next_hop_refuses_is_passed_on_to_the_client(bench: Bench) -> None:
    """The next hop names the session as it knows it, which is not our name for it."""
    link = bench.neighbours.links["next"] = FakeLink("next")
    await bench.open()
    await bench.wire("next")
    refusal = Failed(OTHER, 1, Code.UNKNOWN_SESSION, "no such session here")
    await bench.tell(refusal, link=FakeLink("stranger"))
    await bench.tell(Failed(OTHER, 0, Code.UNKNOWN_SESSION, "old"), link=link)
    await bench.tell(Failed(A, 1, Code.UNKNOWN_SESSION, "our own name"), link=link)
    assert bench.client.take() == []
    await bench.tell(refusal, link=link)
    (failed,) = bench.client.take()
    assert (failed.session, failed.code, failed.peer) == (A, Code.UNKNOWN_SESSION, "next")


async def test_steps_of_no_session_are_refused(bench: Bench) -> None:
    await bench.step(0, 0, 1)
    (failed,) = bench.client.take()
    assert (failed.session, failed.epoch, failed.code) == (A, 1, Code.UNKNOWN_SESSION)


async def test_gaps_are_told_and_nonsense_is_refused(bench: Bench) -> None:
    await bench.open()
    await bench.step(1, 0, 1)
    await bench.step(0, 5, 1)
    await bench.step(0, 0, 1, epoch=0)
    codes = [message.code for message in bench.client.take()]
    assert codes == [Code.STEP_MISSING, Code.BAD_REQUEST]
    assert bench.engine.queue == []


async def test_a_hop_takes_no_answers(bench: Bench) -> None:
    with pytest.raises(RemoteProtocolError, match="does not take Opened"):
        await bench.tell(Opened(A, 1))
    await bench.open()
    with pytest.raises(RemoteProtocolError, match="wired 2 of 1 rows"):
        await bench.wire(has=(0, 0))


async def test_a_hold_waits_for_what_is_being_computed(bench: Bench) -> None:
    link = bench.neighbours.links["next"] = FakeLink("next")
    await bench.open()
    await bench.wire("next")
    await bench.step(0, 0, 2)
    await bench.step(1, 2, 1)
    session, _ = bench.engine.queue[0]
    entry = bench.engine.queue[:1]
    session.running = True
    await bench.tell(Hold(A, 2, 0, (0,)))
    assert bench.client.take() == [] and bench.engine.queue == []
    bench.engine.queue = entry
    bench.compute()
    # The old route is given up: nothing is sent on it any more.
    assert bench.client.take() == [Held(A, 2, (2,), True)] and link.take() == []
    await bench.step(2, 3, 1, epoch=1)
    await bench.step(0, 2, 1, epoch=2)
    assert [a.step.epoch for _, a in bench.engine.queue] == [2]


async def test_room_that_comes_while_a_hold_waits_is_not_for_steps_of_the_old_epoch(
    bench: Bench,
) -> None:
    """They would be computed after the answer, and sent on as if they were of the new epoch."""
    await bench.open(A, 4)
    await bench.open(B, 32)
    await bench.wire()
    await bench.step(0, 0, 4)
    await bench.step(1, 4, 8)
    entry = bench.engine.queue[:]
    entry[0][0].running = True
    await bench.tell(Hold(A, 2, 0, (0,)))
    await bench.tell(Close(B))
    assert bench.engine.queue == [] and bench.leases.num_waiting == 0
    bench.engine.queue = entry
    bench.compute()
    assert bench.client.take() == [Held(A, 2, (4,), True)]


async def test_who_no_longer_needs_room_takes_it_from_nobody(bench: Bench) -> None:
    await bench.open(A, 4)
    await bench.open(B, 36)
    await bench.step(0, 0, 8)
    assert bench.leases.num_waiting == 1
    await bench.tell(Hold(A, 2, 0, (0,)))
    await asyncio.sleep(2.1)
    assert bench.handler.num_sessions == 2 and bench.leases.num_waiting == 0
    assert bench.client.take() == [Held(A, 2, (0,), True)]


async def test_what_fails_while_a_hold_waits_answers_the_hold(bench: Bench) -> None:
    """Of the epoch before, it would be dropped, and the peer blamed for its silence."""
    await bench.open()
    await bench.step(0, 0, 2)
    session, _ = bench.engine.queue[0]
    session.running = True
    await bench.tell(Hold(A, 2, 0, (0,)))
    bench.handler.close_all(Code.LEAVING, "this peer is leaving")
    (failed,) = bench.client.take()
    assert (failed.epoch, failed.code) == (2, Code.LEAVING)


async def test_lengths_of_other_rows_are_refused(bench: Bench) -> None:
    await bench.open()
    with pytest.raises(RemoteProtocolError, match="holds 2 of 1 rows"):
        await bench.tell(Hold(A, 2, 0, (0, 0)))
    with pytest.raises(RemoteProtocolError, match="wired 2 of 1 rows"):
        await bench.tell(Wire(A, 1, Next(None, OTHER, has=(0,), settled=(0, 0))))


async def test_old_holds_and_wires_are_dropped(bench: Bench) -> None:
    await bench.open()
    await bench.tell(Hold(A, 3, 0, (0,)))
    bench.client.take()
    await bench.tell(Hold(A, 2, 0, (0,)))
    await bench.tell(Hold(A, 3, 0, (0,)))
    await bench.wire()
    await bench.tell(Hold(B, 3, 0, (0,)))
    (failed,) = bench.client.take()
    assert failed.code is Code.UNKNOWN_SESSION


async def test_a_session_that_needs_more_waits_for_it(bench: Bench) -> None:
    await bench.open(A, 4)
    await bench.open(B, 32)
    await bench.wire()
    await bench.step(0, 0, 4)
    await bench.step(1, 4, 8)
    assert len(bench.engine.queue) == 1 and bench.leases.num_waiting == 1
    await bench.step(2, 12, 1)
    await bench.tell(Close(B))
    assert [a.step.seq for _, a in bench.engine.queue] == [0, 1, 2]
    assert bench.leases.held(A) == 4


async def test_the_newest_gives_way_where_nobody_would(bench: Bench) -> None:
    await bench.open(A, 20)
    await bench.open(B, 20)
    await bench.step(0, 0, 24, A)
    await bench.step(0, 0, 24, B)
    assert bench.leases.num_waiting == 2
    await asyncio.sleep(2.1)
    (failed,) = bench.client.take()
    assert (failed.session, failed.code) == (B, Code.BUSY)
    assert [session.id for session, _ in bench.engine.queue] == [A]
    assert bench.leases.held(B) == 0 and bench.engine.retired == [B]


async def test_more_than_the_peer_has_is_refused(bench: Bench) -> None:
    await bench.open(A, 40)
    await bench.step(0, 0, 41)
    assert [m.code for m in bench.client.take()] == [Code.TOO_LONG]
    await bench.tell(Close(A))
    assert bench.leases.free == 10


async def test_a_step_that_cannot_be_computed_ends_its_session(bench: Bench) -> None:
    await bench.open()
    await bench.step(0, 0, 1)
    session, _ = bench.engine.queue[0]
    bench.handler.on_compute_failed(session, ValueError("odd numbers"))
    (failed,) = bench.client.take()
    assert failed.code is Code.INTERNAL and "odd numbers" in failed.message
    assert bench.handler.num_sessions == 0 and bench.leases.free == 10
    bench.handler.on_compute_failed(session, ValueError("again"))
    assert bench.client.take() == []


async def test_histories_are_bounded_and_the_silent_lose_theirs_first(make: Any) -> None:
    bench = make(HandlerConfig(history_bytes=6 * 4))
    for name in (A, B):
        await bench.open(name)
        await bench.wire(None, name)
    await bench.step(0, 0, 4, A)
    await bench.step(0, 0, 4, B)
    bench.compute()
    bench.compute()
    bench.client.take()
    await bench.tell(Hold(A, 2, 0, (0,)))
    await bench.tell(Hold(B, 2, 0, (0,)))
    assert bench.client.take() == [Held(A, 2, (4,), False), Held(B, 2, (4,), True)]


async def test_what_has_not_been_sent_yet_is_not_dropped(make: Any) -> None:
    """The next hop is slow to reach: what is computed meanwhile is needed when it is there."""
    bench = make(HandlerConfig(history_bytes=0))
    await bench.open()
    await bench.step(0, 0, 3)
    bench.compute()
    await bench.wire()
    (output,) = bench.client.take()
    assert output.rows == (RowRange(0, 0, 3),)
    await bench.step(1, 3, 1)
    bench.compute()
    await bench.tell(Hold(A, 2, 0, (0,)))
    assert bench.client.take()[-1] == Held(A, 2, (4,), False)
