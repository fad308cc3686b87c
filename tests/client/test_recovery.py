from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from swarm.client.chain import Refused
from swarm.client.config import SessionConfig
from swarm.client.faults import fault
from swarm.client.recovery import Recovery
from swarm.errors import Busy, NoRouteError, PeerError, RequestError, SwarmError, Unreachable
from swarm.wire.messages import Code, Failed

pytestmark = pytest.mark.simulated_time

Outcome = Exception | None
CONFIG = SessionConfig(route_patience=10.0, max_attempts=5)
GONE = NoRouteError(((1, 2),))


def refused(code: Code, peer: str = "full") -> Refused:
    return Refused(fault(Failed("s" * 16, 1, code, "why"), peer))


class Script:
    """Builds that end as told; the last one repeats."""

    def __init__(self, *outcomes: Outcome | Callable[[frozenset[str]], Outcome]) -> None:
        self.outcomes = list(outcomes)
        self.excluded: list[frozenset[str]] = []
        self.told: list[SwarmError | None] = []

    async def build(self, excluded: frozenset[str]) -> None:
        self.excluded.append(excluded)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if callable(outcome) and not isinstance(outcome, Exception):
            outcome = outcome(excluded)
        if outcome is not None:
            raise outcome  # type: ignore[misc]

    async def run(self, *excluded: str, config: SessionConfig = CONFIG) -> float:
        """Seconds that the recovery took."""
        clock = asyncio.get_running_loop().time
        started = clock()
        await Recovery(config, set(excluded), self.told.append).run(self.build)
        return clock() - started


async def test_what_succeeds_at_once_says_nothing() -> None:
    script = Script(None)
    assert await script.run("bad") == 0
    assert (script.excluded, script.told) == ([{"bad"}], [])


async def test_who_failed_is_left_out_of_the_next_try() -> None:
    script = Script(Unreachable("a", "gone"), refused(Code.LEAVING, "b"), None)
    await script.run()
    assert script.excluded == [set(), {"a"}, {"a", "b"}]


async def test_tries_are_bounded_and_the_last_error_comes_out() -> None:
    numbers = iter(range(100))
    script = Script(lambda _: Unreachable(f"peer-{next(numbers)}", "gone"))
    with pytest.raises(PeerError, match="peer-4"):
        await script.run()
    assert len(script.excluded) == CONFIG.max_attempts


async def test_tries_are_bounded_where_routes_come_and_go() -> None:
    """Nobody is there, somebody is there and fails, nobody is there, …: it ends all the same."""
    numbers = iter(range(10_000))

    def flaky(_: frozenset[str]) -> Exception:
        number = next(numbers)
        return GONE if number % 20 else Unreachable("flaky", "gone")

    with pytest.raises(Unreachable):
        await Script(flaky).run()
    assert next(numbers) <= 20 * CONFIG.max_attempts


async def test_missing_blocks_are_waited_for_and_told_once() -> None:
    script = Script(*[GONE] * 12, None)
    assert 2 < await script.run() < CONFIG.route_patience
    assert script.told == [GONE, None]


async def test_it_is_told_again_when_other_blocks_are_missing() -> None:
    other = NoRouteError(((3, 4),))
    script = Script(GONE, GONE, other, GONE, None)
    await script.run()
    assert script.told == [GONE, other, GONE, None]


async def test_in_the_end_it_names_what_is_missing() -> None:
    script = Script(GONE)
    clock = asyncio.get_running_loop().time
    with pytest.raises(NoRouteError) as caught:
        await script.run()
    assert caught.value is GONE
    assert CONFIG.route_patience <= clock() < CONFIG.route_patience + 1
    assert script.told == [GONE, None]


async def test_who_was_left_out_is_asked_again_before_anybody_waits() -> None:
    script = Script(lambda excluded: GONE if excluded else None)
    assert await script.run("innocent") == 0
    assert (script.excluded, script.told) == ([{"innocent"}, set()], [])


async def test_who_was_left_out_is_asked_again_at_once_only_once() -> None:
    """Then a little later each time: it may be gone."""

    def alone(excluded: frozenset[str]) -> Exception:
        return GONE if excluded else Unreachable("alone", "gone")

    clock = asyncio.get_running_loop().time
    script = Script(alone)
    with pytest.raises(Unreachable):
        await script.run("alone")
    assert script.excluded == [{"alone"}, set()] * CONFIG.max_attempts
    assert clock() == pytest.approx(0.25 * (CONFIG.max_attempts - 1))


@pytest.mark.parametrize(("code", "error"), [(Code.BUSY, Busy), (Code.TOO_LONG, RequestError)])
async def test_full_peers_are_no_missing_ones(code: Code, error: type[Exception]) -> None:
    """The blocks are served, but nobody has room, or ever will: that is what is said."""
    script = Script(lambda excluded: GONE if excluded else refused(code))
    with pytest.raises(error, match="why"):
        await script.run()
    assert script.told == []


async def test_others_are_asked_before_a_full_peer_is_an_error() -> None:
    script = Script(refused(Code.BUSY, "a"), refused(Code.TOO_LONG, "b"), None)
    await script.run()
    assert script.excluded == [set(), {"a"}, {"a", "b"}]


async def test_the_callers_fault_is_never_retried() -> None:
    script = Script(refused(Code.BAD_REQUEST))
    with pytest.raises(RequestError):
        await script.run()
    assert len(script.excluded) == 1


async def test_our_own_bug_is_not_retried() -> None:
    script = Script(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await script.run()
    assert len(script.excluded) == 1


async def test_room_that_was_waited_for_is_no_time_without_a_route() -> None:
    """Patience begins anew with every route that was there."""
    script = Script(*[GONE] * 35, Unreachable("a", "gone"), *[GONE] * 35, None)
    assert await script.run() > CONFIG.route_patience
    assert script.told[-1] is None


async def test_who_is_cancelled_no_longer_waits() -> None:
    script = Script(GONE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await script.run()
    assert script.told == [GONE, None]
