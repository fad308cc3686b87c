"""Whether a model can be asked now: told at once, waited for as long as was said."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from swarm.client import RemoteModel
from swarm.errors import NoRouteError
from swarm.gateway.watch import Watch

pytestmark = pytest.mark.simulated_time


@dataclass
class Model:
    gaps: tuple[tuple[int, int], ...] = ()
    num_looks: int = 0

    async def missing(self) -> tuple[tuple[int, int], ...]:
        self.num_looks += 1
        await asyncio.sleep(0.02)
        return self.gaps

    def watch(self, patience: float = 20.0) -> Watch:
        return Watch(cast(RemoteModel, self), patience)


async def test_a_gap_that_closes_is_waited_for() -> None:
    model = Model(((3, 5),))
    watch = model.watch()
    ready = asyncio.ensure_future(watch.ready())
    await asyncio.sleep(10)
    assert not ready.done()
    model.gaps = ()
    await ready


async def test_patience_is_over_for_all_who_come_after_it() -> None:
    watch = Model(((3, 5),)).watch()
    loop = asyncio.get_running_loop()
    with pytest.raises(NoRouteError, match="3:5"):
        await watch.ready()
    assert loop.time() == pytest.approx(20, abs=1.1)
    with pytest.raises(NoRouteError, match="3:5"):
        await watch.ready()
    assert loop.time() == pytest.approx(20, abs=1.1), "nobody waits again for the same gap"


async def test_a_gap_that_was_closed_is_a_new_one_when_it_comes_again() -> None:
    model = Model(((3, 5),))
    watch = model.watch(5)
    with pytest.raises(NoRouteError):
        await watch.ready()
    model.gaps = ()
    await asyncio.sleep(2)
    await watch.ready()
    model.gaps = ((0, 1),)
    await asyncio.sleep(2)
    guard = asyncio.ensure_future(watch.guard())
    await asyncio.sleep(4)
    assert not guard.done()
    with pytest.raises(NoRouteError, match="0:1"):
        await guard


async def test_many_who_want_to_know_look_once_a_second() -> None:
    model = Model()
    watch = model.watch()
    guards = [asyncio.ensure_future(watch.guard()) for _ in range(100)]
    await asyncio.sleep(10)
    assert 5 <= model.num_looks <= 11
    for guard in guards:
        guard.cancel()
