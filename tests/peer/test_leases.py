"""P17-P19: waiting for memory."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import Busy, RequestError
from swarm.peer.leases import Leases

pytestmark = pytest.mark.simulated_time


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_lease_grows_and_never_shrinks() -> None:
    changes = []
    leases = Leases(10)
    leases.on_change = lambda: changes.append(leases.free)
    assert leases.try_hold("a", 4) and leases.try_hold("a", 2) and leases.try_hold("a", 7)
    assert (leases.held("a"), leases.free, changes) == (7, 3, [6, 3])
    assert not leases.try_hold("b", 4) and leases.held("b") == 0
    leases.release("a")
    leases.release("unknown")
    assert (leases.free, changes) == (10, [6, 3, 10])


async def test_more_than_there_is_at_all_is_refused_at_once() -> None:
    leases = Leases(10)
    with pytest.raises(RequestError, match="needs 11 pages of KV memory; this peer has 10"):
        await leases.hold("a", 11, patience=100)
    assert now() == 0


async def test_p17_who_waits_gets_its_turn_in_order() -> None:
    leases, order = Leases(10), []

    async def one(name: str, pages: int) -> None:
        await leases.hold(name, pages, patience=100)
        order.append((name, now()))

    leases.try_hold("old", 8)
    async with asyncio.TaskGroup() as tasks:
        for name, pages in (("a", 6), ("b", 1), ("c", 4)):
            tasks.create_task(one(name, pages))
        await turns()
        # One page is free, but whoever needs much must not wait for ever behind those who need
        # little.
        assert order == [] and leases.num_waiting == 3 and leases.free == 2
        await asyncio.sleep(3)
        leases.release("old")
        await turns()
        assert order == [("a", 3.0), ("b", 3.0)]
        leases.release("b")
    assert order[2] == ("c", 3.0)
    assert leases.num_waiting == 0


async def test_p18_the_wait_ends_on_time() -> None:
    leases = Leases(10, "the peer")
    leases.try_hold("old", 8)
    with pytest.raises(Busy, match=r"no room for 6 pages within 2\.5 s") as caught:
        await leases.hold("a", 6, patience=2.5)
    assert caught.value.peer == "the peer" and now() == pytest.approx(2.5)
    assert (leases.num_waiting, leases.free, leases.held("a")) == (0, 2, 0)


async def test_p18_who_stood_behind_one_that_gave_up_is_let_in() -> None:
    leases = Leases(10)
    leases.try_hold("old", 8)
    first = asyncio.create_task(leases.hold("a", 6, patience=1))
    await turns()
    await leases.hold("b", 2, patience=10)
    assert now() == pytest.approx(1) and leases.held("b") == 2
    with pytest.raises(Busy):
        await first


async def test_p19_cancelled_waiting_leaves_nothing() -> None:
    leases = Leases(10)
    leases.try_hold("old", 8)
    first = asyncio.create_task(leases.hold("a", 6, patience=100))
    second = asyncio.create_task(leases.hold("b", 2, patience=100))
    await turns()
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (leases.num_waiting, leases.held("a"), leases.held("b")) == (0, 0, 2)


async def test_p19_closing_a_session_ends_its_waiting() -> None:
    leases = Leases(10)
    leases.try_hold("a", 8)
    leases.try_hold("b", 2)
    growing = asyncio.create_task(leases.hold("a", 9, patience=100))
    await turns()
    leases.release("a")
    with pytest.raises(asyncio.CancelledError):
        await growing
    assert (leases.num_waiting, leases.free) == (0, 8)


@pytest.mark.parametrize("release_first", [True, False])
async def test_a_grant_in_the_same_turn_as_the_end_of_patience_counts(release_first: bool) -> None:
    leases = Leases(10)
    leases.try_hold("old", 8)
    loop = asyncio.get_running_loop()
    if release_first:
        loop.call_at(2.0, leases.release, "old")
    waiting = asyncio.create_task(leases.hold("a", 6, patience=2.0))
    await turns()
    if not release_first:
        loop.call_at(2.0, leases.release, "old")
    try:
        await waiting
    except Busy:
        assert leases.free == 10
    else:
        assert leases.held("a") == 6
    leases.release("a")
    assert leases.free == 10


async def test_a_grant_in_the_same_turn_as_a_cancellation_can_be_released() -> None:
    leases = Leases(10)
    leases.try_hold("old", 8)
    waiting = asyncio.create_task(leases.hold("a", 6, patience=100))
    await turns()
    leases.release("old")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    leases.release("a")
    assert (leases.free, leases.num_waiting) == (10, 0)


async def test_who_runs_grows_before_newcomers_are_let_in() -> None:
    leases, order = Leases(10), []

    async def one(name: str, pages: int) -> None:
        await leases.hold(name, pages, patience=100)
        order.append(name)

    leases.try_hold("a", 4)
    leases.try_hold("b", 3)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one("new", 9))
        await turns()
        # Room that the newcomer cannot use is not kept back for it.
        assert leases.try_hold("a", 6) and not leases.try_hold("other", 1)
        tasks.create_task(one("a", 9))
        tasks.create_task(one("b", 4))
        await turns()
        assert order == [] and leases.num_waiting == 3
        leases.release("b")
        await turns()
        assert order == ["a"]
        leases.release("a")
    assert order == ["a", "new"]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "release", "cancel", "wait"]),
        st.integers(0, 5),
        st.integers(1, 12),
        st.sampled_from([0.5, 1.0, 2.0]),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_nothing_is_ever_lost_or_promised_twice(actions: list[tuple]) -> None:
    asyncio.run(_act(actions))


async def _act(actions: list[tuple]) -> None:
    leases = Leases(10)
    tasks: dict[int, asyncio.Task[None]] = {}

    async def one(name: str, pages: int, patience: float) -> None:
        # As the peer does it: whatever goes wrong while a session opens, its lease is released.
        try:
            await leases.hold(name, pages, patience / 1000)
        except (Busy, RequestError):
            pass
        except asyncio.CancelledError:
            leases.release(name)
            raise

    for kind, who, pages, patience in actions:
        if kind == "hold" and (who not in tasks or tasks[who].done()):
            tasks[who] = asyncio.create_task(one(str(who), pages, patience))
        elif kind == "release":
            leases.release(str(who))
        elif kind == "cancel" and who in tasks:
            tasks[who].cancel()
        elif kind == "wait":
            await asyncio.sleep(patience / 1000)
        await turns(2)
        held = sum(leases.held(str(name)) for name in range(6))
        assert 0 <= leases.free == leases.num_pages - held
        if leases.num_waiting:
            first = leases._waiting[0]
            assert first.pages - leases.held(first.session) > leases.free, "it need not wait"
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    for name in range(6):
        leases.release(str(name))
    assert (leases.free, leases.num_waiting) == (10, 0)


async def test_nobody_fills_the_queue_for_others() -> None:
    """Whoever would have least comes first, and one's own requests keep their order."""
    leases, order = Leases(10), []

    async def wait(session: str, pages: int, account: str) -> None:
        await leases.hold(session, pages, 100.0, account)
        order.append(session)
        leases.release(session)

    assert leases.try_hold("begun", 8, "hog")
    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(wait(f"hog-{number}", 3, "hog"))
        tasks.create_task(wait("large", 9, "other"))
        tasks.create_task(wait("small", 2, "guest"))
        await turns()
        assert order == ["small"], "there is room for it, and it asks for little"
        leases.release("begun")
    assert order == ["small", "hog-0", "hog-1", "hog-2", "hog-3", "large"]


async def test_what_one_holds_counts_with_what_it_asks_for() -> None:
    leases = Leases(10)
    assert leases.try_hold("a1", 4, "a") and leases.try_hold("x1", 6, "x")
    waiting = {
        name: asyncio.ensure_future(leases.hold(name, pages, 100.0, name[0]))
        for name, pages in (("a2", 3), ("b1", 6))
    }
    await turns()
    leases.release("x1")
    await turns()
    assert waiting["b1"].done() and not waiting["a2"].done(), "6 in all are less than 4 + 3"
    leases.release("a1")
    await waiting["a2"]
    assert (leases.account("a2"), leases.free) == ("a", 1)
