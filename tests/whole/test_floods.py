"""X11: members that flood, or send what is no number. Bystanders keep their tokens and pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch

from swarm.background import background
from swarm.errors import PeerError
from swarm.peer.limits import HandlerConfig, MemberLimits
from swarm.peer.runner import Runner
from swarm.transport.link import Link, connect
from swarm.transport.neighbours import PROTOCOL
from swarm.wire.messages import (
    Close,
    Code,
    DType,
    Failed,
    Next,
    Open,
    Opened,
    Output,
    Queued,
    RowRange,
    Step,
    Want,
    Wire,
)

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
PAGE = 8 * 4 * 256
"""Bytes of a page of 8 positions in 4 blocks."""


class Hostile:
    """A member that says what it likes to one peer, and notes the answers."""

    def __init__(self, world: Any, link: Link) -> None:
        self.link = link
        self.model = world.checkpoint.fingerprint
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    async def _note(self, _: Link, message: Any, payload: Any) -> None:
        self.answers.put_nowait(message)

    async def run(self) -> None:
        """Listens until it is thrown out."""
        with contextlib.suppress(PeerError):
            await self.link.run(self._note)

    def open(self, name: str, positions: int = 8, rows: int = 1, patience: float = 9e3) -> None:
        """Asks for a session, for as long as a message may say."""
        self.link.post(Open(name, 1, self.model, 0, 4, rows, positions, patience, DType.FLOAT32))

    async def answer(self, kind: type) -> Any:
        """The next answer that is one of these."""
        while not isinstance(found := await self.answers.get(), kind):
            pass
        return found

    def step(self, name: str, seq: int, hidden: torch.Tensor, position: int = 0) -> None:
        """Sends a step as it is."""
        rows = (RowRange(0, position, len(hidden)),)
        payload = hidden.numpy().tobytes()
        self.link.post(Step(name, 1, seq, 0, rows, Want.ALL), payload)


def name(number: int) -> str:
    return f"{number:016}"


@asynccontextmanager
async def hostile(world: Any, peer: str, who: str = "hostile") -> AsyncIterator[Hostile]:
    """A hostile member for the length of the block."""
    member = world.member(who)
    stream = await member.transport.open(peer, PROTOCOL)
    link = await connect(stream, member.membership, world.link_config)
    enemy = Hostile(world, link)
    async with background() as tasks:
        tasks.create_task(enemy.run())
        yield enemy


async def timed(world: Any, asker: Any, model: Any, count: int = 8) -> float:
    """Seconds of a reply, whose tokens must be right."""
    clock = asyncio.get_running_loop().time
    started = clock()
    assert await asker(model).greedy(PROMPT, count) == world.tiny.greedy(PROMPT, count)
    return clock() - started


async def test_one_member_takes_not_every_place(world, asker):
    """It may have so many sessions, so many rows, and so many that wait: then it hears so."""
    limits = HandlerConfig(member=MemberLimits(sessions=12, waiting=4, rows=20))
    peer = await world.peer("peer", (0, 4), limits, kv_memory=64 * PAGE)
    model = await world.client()
    async with hostile(world, "peer") as enemy:
        for number in range(30):
            enemy.open(name(number), positions=0)
        opened = [await enemy.answer(Opened | Failed) for _ in range(30)]
        assert [type(each) for each in opened].count(Opened) == 12
        refused = [each for each in opened if isinstance(each, Failed)]
        assert {each.code for each in refused} == {Code.BUSY}
        enemy.link.post(Close(name(0)))
        enemy.open(name(99), rows=10)
        assert (await enemy.answer(Failed)).message == "11 rows are yours already"
        assert await timed(world, asker, model) < 1
        for number in range(1, 12):
            enemy.link.post(Close(name(number)))
        for number in range(40, 50):
            enemy.open(name(number), positions=64 * 8)
        await asyncio.sleep(0.1)
        assert peer.hosting.handler.num_openings == 4
        refused = [each for each in _drain(enemy) if isinstance(each, Failed)]
        assert len(refused) == 5, "one got all the memory there is, four wait for it"
        assert all("4 sessions of yours wait" in each.message for each in refused)
        assert peer.hosting.handler.num_sessions == 1


def _drain(enemy: Hostile) -> list[Any]:
    return [enemy.answers.get_nowait() for _ in range(enemy.answers.qsize())]


async def test_who_hoards_memory_gives_way_to_who_has_none(world, asker):
    """And only as far as that takes: what the others do not need, it may keep."""
    peer = await world.peer("peer", (0, 4), kv_memory=16 * PAGE)
    model = await world.client()
    async with hostile(world, "peer") as enemy:
        for number in range(8):
            enemy.open(name(number), positions=16)
            await enemy.answer(Opened)
        assert peer.hosting.leases.free == 0
        enemy.open(name(8), positions=16)
        await enemy.answer(Queued)
        assert await timed(world, asker, model, 24) < 10
        lost = [each for each in _drain(enemy) if isinstance(each, Failed)]
        assert 1 <= len(lost) <= 4 and {each.code for each in lost} == {Code.BUSY}
        assert "made room" in lost[0].message


async def test_a_session_that_nobody_uses_holds_no_memory_that_others_need(world, asker):
    peer = await world.peer("peer", (0, 4), kv_memory=8 * PAGE)
    model = await world.client()
    async with hostile(world, "peer") as enemy:
        enemy.open(name(0), positions=64)
        await enemy.answer(Opened)
        assert peer.hosting.leases.free == 0
        await asyncio.sleep(60)
        assert await timed(world, asker, model) < 10


async def test_a_member_beyond_its_share_lets_others_grow(world, asker):
    """The sessions of somebody who came later, or grows later, are not those that have to go."""
    await world.peer("peer", (0, 4), kv_memory=16 * PAGE)
    model = await world.client()
    async with hostile(world, "peer") as enemy:
        for number in range(6):
            enemy.open(name(number), positions=16)
            await enemy.answer(Opened)
        # Begins with 2 pages of 16, and needs 6.
        reply = asyncio.create_task(timed(world, asker, model, 36))
        assert await reply < 20
        lost = [each for each in _drain(enemy) if isinstance(each, Failed)]
        assert lost and lost[0].session == name(5)
    assert asker(model).reply.route is not None


async def test_steps_that_nobody_could_compute_so_fast_close_their_session(world, asker):
    """A session rolls back to its beginning again and again, and never waits for an answer."""
    limits = HandlerConfig(member=MemberLimits(inbox_bytes=1 << 20, all_inbox_bytes=1 << 21))
    peer = await world.peer("peer", (0, 4), limits)
    model = await world.client()
    usual = await timed(world, asker, model)
    async with hostile(world, "peer") as enemy:
        enemy.open(name(0), positions=64)
        await enemy.answer(Opened)
        enemy.link.post(Wire(name(0), 1, Next(None, name(0), has=(0,))))
        reply = asyncio.create_task(timed(world, asker, model))
        hidden = torch.randn(64, 64)
        for seq in range(200):
            enemy.step(name(0), seq, hidden)
        failed = await enemy.answer(Failed)
        assert (failed.code, failed.message) == (Code.BUSY, "too many steps wait here")
        assert peer.hosting.handler._inbox.num_bytes <= 1 << 20
        assert await reply < usual + 2
    await world.until(lambda: peer.hosting.handler._inbox.num_bytes == 0)


@pytest.mark.parametrize("bad", ["nan", "inf", "short", "rows"])
async def test_a_bad_tensor_reaches_nobody_elses_batch(world, asker, bad):
    """Its sender hears what is wrong with it, and whoever is beside it nothing."""
    await world.peer("peer", (0, 4))
    model = await world.client()
    async with hostile(world, "peer") as enemy:
        enemy.open(name(0), positions=16)
        await enemy.answer(Opened)
        enemy.link.post(Wire(name(0), 1, Next(None, name(0), has=(0,))))
        reply = asyncio.create_task(timed(world, asker, model, 16))
        hidden = torch.randn(4, 64)
        enemy.step(name(0), 0, hidden)
        await enemy.answer(Output)
        if bad in ("nan", "inf"):
            hidden[1, 5] = float(bad)
            enemy.step(name(0), 1, hidden, 4)
        elif bad == "short":
            rows = (RowRange(0, 4, 4),)
            enemy.link.post(Step(name(0), 1, 1, 0, rows, Want.ALL), b"x" * 100)
        else:
            rows = (RowRange(7, 4, 4),)
            enemy.link.post(Step(name(0), 1, 1, 0, rows, Want.ALL), hidden.numpy().tobytes())
        assert (await enemy.answer(Failed)).code is Code.BAD_REQUEST
        await reply
        # It may go on where it was.
        enemy.step(name(0), 1, torch.randn(1, 64), 4)
        await enemy.answer(Output)


async def test_a_peer_whose_blocks_give_no_numbers_says_so_itself(world, asker, monkeypatch):
    """It is left alone and the reply goes on, though finite numbers went in."""
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    model = await world.client()
    broken = world.peers["peer-1"].hosting.runner
    run = Runner.run

    def poisoned(self: Runner, *args: Any) -> torch.Tensor:
        out = run(self, *args)
        return torch.full_like(out, float("nan")) if self is broken else out

    async def at_token(number: int) -> None:
        if number == 3:
            await world.show()
            monkeypatch.setattr(Runner, "run", poisoned)

    one = asker(model)
    assert await one.greedy(PROMPT, 10, at_token) == world.tiny.greedy(PROMPT, 10)
    assert [hop.peer for hop in one.reply.route] == ["peer-0", "spare-2:4"]
    assert model._access.router._avoided() == {"peer-1"}


async def test_a_peer_that_floods_a_client_slows_down_nobody_else(world, asker):
    """Outputs of sessions that it does not have, and of those that it has had."""
    await world.chain(0, 2, 4)
    model = await world.client()
    usual = await timed(world, asker, model)
    links = world.peers["peer-0"]._neighbours._links
    link = next(link for link in links if link.peer == "client")

    async def flood() -> None:
        output = Output(name(0), 1, 0, 0, (RowRange(0, 0, 1),), Want.ALL)
        while True:
            for _ in range(100):
                link.post(output, bytes(256))
            await asyncio.sleep(0.01)

    async with background() as tasks:
        tasks.create_task(flood())
        for _ in range(3):
            assert await timed(world, asker, model) < usual + 2
