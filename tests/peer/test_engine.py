from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from swarm.background import background
from swarm.peer.blocks import load_span
from swarm.peer.engine import Brief, Engine
from swarm.peer.kept import KeptPrefixes
from swarm.peer.rhythm import Rhythm
from swarm.peer.runner import RowStep, Runner
from swarm.peer.scheduler import Scheduler
from swarm.peer.session import Done, HopSession
from swarm.wire.messages import DType, HopTime, Keep, Open, Prefix, RowRange, Step, Want
from swarm.wire.tensors import from_buffers, to_buffer

CLIENT: Any = SimpleNamespace(peer="client")
PREFIX = Prefix(8, b"the first eight!")
SLOW = 200.0
"""Seconds that batches are said to take: whoever lingers does so for a good part of them."""


class Bench:
    """An engine over two real blocks; `done` is what came out."""

    def __init__(self, tiny: Any, brief: float = 0.0) -> None:
        span = load_span(tiny("llama"), 0, 2, device=torch.device("cpu"), dtype=torch.float32)
        self.runner = Runner(span, num_pages=32, page_len=4)
        self.done: asyncio.Queue[tuple[HopSession, Done]] = asyncio.Queue()
        self.failed: asyncio.Queue[tuple[HopSession, Exception]] = asyncio.Queue()
        self.kept = KeptPrefixes(self.runner.pages, seconds=60.0, share=0.5)
        self.engine = Engine(
            self.runner,
            Scheduler(),
            self,
            self.kept,
            brief=brief,
        )

    def on_done(self, session: HopSession, done: Done) -> None:
        self.done.put_nowait((session, done))

    def on_compute_failed(self, session: HopSession, error: Exception) -> None:
        self.failed.put_nowait((session, error))

    def session(self, name: str, dtype: DType = DType.FLOAT32, end: int = 2) -> HopSession:
        request = Open(name * 16, 0, "model", 0, end, 1, 8, 1.0, dtype)
        return HopSession(request, CLIENT, 64)

    def begin(self, session: HopSession) -> int:
        """The session begins with what is kept; how much that is."""
        request = Open(session.id, 0, "model", 0, 2, 1, 99, 1.0, session.dtype, prefixes=(PREFIX,))
        found = self.kept.find("client", request, asyncio.get_running_loop().time())
        if found is None:
            return 0
        session.recall(found[0].history.head(found[1]))
        self.engine.recall(session, *found)
        return found[1]

    async def run(self, session: HopSession, hidden: torch.Tensor, position: int) -> torch.Tensor:
        """What comes out of one step, as it does in a peer."""
        self.submit(session, hidden, position, session._expected_seq)
        _, done = await self.done.get()
        session.feed.push(done.computed())
        return result(session, done)

    def submit(
        self, session: HopSession, hidden: torch.Tensor, position: int, seq: int, before: int = 0
    ) -> None:
        """With `before`, the hop before has computed the step in a batch of so many sessions."""
        rows = (RowRange(0, position, len(hidden)),)
        times = (HopTime(0, 2, 0, 0, before),) if before else ()
        step = Step(session.id, 0, seq, 0, rows, Want.ALL, times=times)
        arrival = session.accept(step, to_buffer(hidden, session.dtype), 0.0)
        assert arrival is not None
        self.engine.submit(session, arrival)

    def alone(self, hidden: torch.Tensor, end: int = 2) -> torch.Tensor:
        """What the blocks make of one whole sequence."""
        row = self.runner.pages.add_row()
        out = self.runner.run([RowStep(row, 0, len(hidden))], hidden, (0, end))
        self.runner.pages.remove_row(row)
        return out


@pytest.fixture
async def bench(tiny: Any) -> AsyncIterator[Bench]:
    bench = Bench(tiny)
    async with background() as tasks:
        tasks.create_task(bench.engine.run())
        yield bench


def result(session: HopSession, done: Done) -> torch.Tensor:
    return from_buffers([done.output], session.dtype, 64).float()


async def test_sessions_run_together_and_each_gets_its_own(bench: Bench) -> None:
    texts = {name: torch.randn(n, 64) for name, n in (("a", 3), ("b", 7), ("c", 1))}
    expected = {name * 16: bench.alone(text) for name, text in texts.items()}
    for name, text in texts.items():
        bench.submit(bench.session(name), text, 0, 0)
    for _ in texts:
        session, done = await bench.done.get()
        torch.testing.assert_close(result(session, done), expected[session.id])
        assert done.time.batch == 3 and not session.running
    assert (bench.engine.num_batches, bench.engine.num_positions) == (1, 11)


async def test_an_output_that_is_kept_keeps_no_other_sessions_outputs(bench: Bench) -> None:
    for name in ("a", "b"):
        bench.submit(bench.session(name), torch.randn(4, 64), 0, 0)
    for _ in range(2):
        _, done = await bench.done.get()
        kept: Any = done.output.obj
        while getattr(kept, "base", None) is not None:
            kept = kept.base
        storage = kept.untyped_storage() if isinstance(kept, torch.Tensor) else memoryview(kept)
        assert len(bytes(storage)) == len(done.output)


async def test_types_on_the_wire_may_differ_within_a_batch(bench: Bench) -> None:
    hidden = torch.randn(2, 64)
    expected = bench.alone(hidden.bfloat16().float())
    for name, dtype in (("a", DType.FLOAT32), ("b", DType.BFLOAT16)):
        bench.submit(bench.session(name, dtype), hidden.bfloat16().float(), 0, 0)
    for _ in range(2):
        session, done = await bench.done.get()
        close = {"atol": 0.02, "rtol": 0.02} if session.dtype is DType.BFLOAT16 else {}
        torch.testing.assert_close(result(session, done), expected, **close)


async def test_sessions_on_other_blocks_do_not_share_a_batch(bench: Bench) -> None:
    hidden = torch.randn(2, 64)
    expected = {2: bench.alone(hidden), 1: bench.alone(hidden, 1)}
    for name, end in (("a", 2), ("b", 1), ("c", 2)):
        bench.submit(bench.session(name, end=end), hidden, 0, 0)
    for _ in range(3):
        session, done = await bench.done.get()
        torch.testing.assert_close(result(session, done), expected[session.blocks[1]])
    assert bench.engine.num_batches == 2


async def test_steps_that_come_one_after_the_other_share_a_batch(bench: Bench) -> None:
    """As from the hop before, which has computed them together."""
    bench.engine._rhythm = Rhythm(SLOW, 0.0)
    sessions = [bench.session(name) for name in "abc"]
    for session in sessions:
        bench.submit(session, torch.randn(1, 64), 0, 0)
    for _ in sessions:
        assert (await bench.done.get())[1].time.batch == 3
    await asyncio.sleep(0)
    for session in sessions:
        bench.submit(session, torch.randn(1, 64), 1, 1)
        await asyncio.sleep(0.005)
    for _ in sessions:
        assert (await bench.done.get())[1].time.batch == 3
    # Who has nobody to wait for does not wait.
    for session in sessions[1:]:
        bench.engine.retire(session)
    bench.submit(sessions[0], torch.randn(1, 64), 2, 2)
    _, done = await bench.done.get()
    assert done.time.batch == 1 and bench.engine.num_batches == 3


async def test_a_hop_waits_for_those_that_were_computed_together_before(bench: Bench) -> None:
    bench.engine._rhythm = Rhythm(SLOW, 0.0)
    sessions = [bench.session(name) for name in "abc"]
    for session in sessions:
        bench.submit(session, torch.randn(1, 64), 0, 0)
    for _ in sessions:
        assert (await bench.done.get())[1].time.batch == 3
    # The last is somewhere else, alone: nobody waits for it, nor it for anybody.
    for session in sessions[:2]:
        bench.submit(session, torch.randn(1, 64), 1, 1, before=2)
        await asyncio.sleep(0.005)
    for _ in sessions[:2]:
        assert (await bench.done.get())[1].time.batch == 2
    started = asyncio.get_running_loop().time()
    bench.submit(sessions[2], torch.randn(1, 64), 1, 1, before=1)
    assert (await bench.done.get())[1].time.batch == 1
    assert asyncio.get_running_loop().time() - started < SLOW / 10, "lingering would take 0.3"


async def test_a_retired_session_gives_its_rows_back(bench: Bench) -> None:
    session = bench.session("a")
    bench.submit(session, torch.randn(9, 64), 0, 0)
    await bench.done.get()
    assert bench.runner.pages.free_pages == 29
    bench.submit(session, torch.randn(1, 64), 9, 1)
    bench.engine.retire(session)
    other = bench.session("b")
    bench.submit(other, torch.randn(1, 64), 0, 0)
    done_session, _ = await bench.done.get()
    assert done_session is other and session.rows is None
    assert bench.runner.pages.free_pages == 31


async def test_what_a_session_leaves_is_where_another_begins(bench: Bench) -> None:
    text, pages = torch.randn(14, 64), bench.runner.pages
    expected = bench.alone(text)
    first, second, third = (bench.session(name) for name in "abc")
    await bench.run(first, text[:10], 0)
    bench.engine.keep(first, Keep(first.id, 0, (PREFIX,)))
    # It goes on, and back into what is kept.
    await bench.run(first, torch.randn(3, 64), 5)
    assert bench.begin(second) == 8
    out = await bench.run(second, text[8:], 8)
    torch.testing.assert_close(out, expected[8:], atol=1e-4, rtol=1e-4)
    for session in (first, second):
        bench.engine.retire(session)
    assert bench.begin(third) == 8
    out = await bench.run(third, text[8:9], 8)
    torch.testing.assert_close(out, expected[8:9], atol=1e-4, rtol=1e-4)
    bench.engine.retire(third)
    await bench.run(bench.session("d"), torch.randn(1, 64), 0)
    assert (pages.num_rows, pages.free_pages, bench.kept.num_pages) == (2, 29, 2)


async def test_kept_pages_make_room_for_a_batch(bench: Bench) -> None:
    first = bench.session("a")
    await bench.run(first, torch.randn(8, 64), 0)
    bench.engine.keep(first, Keep(first.id, 0, (PREFIX,)))
    bench.engine.retire(first)
    await bench.run(bench.session("b"), torch.randn(120, 64), 0)
    assert (len(bench.kept), bench.runner.pages.free_pages) == (1, 0)
    await bench.run(bench.session("c"), torch.randn(8, 64), 0)
    assert (len(bench.kept), bench.runner.pages.free_pages) == (0, 0)


async def test_what_a_failed_batch_may_have_overwritten_is_not_kept(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, run = bench.session("a"), bench.runner.run

    def fail(rows: list[RowStep], *args: Any) -> torch.Tensor:
        run(rows, *args)
        raise RuntimeError("after everything was written")

    await bench.run(broken, torch.randn(10, 64), 0)
    monkeypatch.setattr(bench.runner, "run", fail)
    bench.submit(broken, torch.randn(20, 64), 2, 1)
    await asyncio.sleep(0)  # The batch is under way.
    bench.engine.keep(broken, Keep(broken.id, 0, (PREFIX,)))
    await bench.failed.get()
    monkeypatch.undo()
    caplog.clear()
    bench.engine.retire(broken)
    await bench.run(bench.session("b"), torch.randn(1, 64), 0)
    assert len(bench.kept) == 0


async def test_a_batch_that_fails_ends_its_sessions_and_not_the_engine(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    broken = bench.session("a")
    bench.submit(broken, torch.randn(200, 64), 0, 0)
    session, error = await bench.failed.get()
    assert session is broken and type(error).__name__ == "PageShortage"
    assert not session.running
    assert "batch failed" in caplog.text
    caplog.clear()
    bench.engine.retire(broken)
    bench.submit(bench.session("b"), torch.randn(1, 64), 0, 0)
    await bench.done.get()


def test_a_batch_is_brief_if_others_of_its_size_were() -> None:
    brief = Brief(0.01, one_thread=True)
    assert not brief.expects(1)
    brief.note(1, 0.002)
    assert brief.expects(1) and not brief.expects(2)
    brief.note(1, 0.02)
    assert brief.expects(1), "a single slow one may be anybody's fault"
    for _ in range(4):
        brief.note(1, 0.02)
    assert not brief.expects(1)
    for _ in range(8):
        brief.note(1, 0.002)
    assert brief.expects(1), "it is looked at again, whichever way it was computed"


@pytest.mark.parametrize("limit, one_thread", [(0.0, True), (0.01, False)])
def test_nothing_is_brief_without_a_limit_or_with_several_threads(
    limit: float, one_thread: bool
) -> None:
    brief = Brief(limit, one_thread=one_thread)
    brief.note(1, 0.0)
    assert not brief.expects(1)


async def test_brief_batches_need_no_thread_and_let_others_have_a_turn(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    bench, threads, turns = Bench(tiny, brief=60.0), [], 0
    run = bench.runner.run

    def watched(*args: Any) -> torch.Tensor:
        threads.append(threading.current_thread() is threading.main_thread())
        return run(*args)

    monkeypatch.setattr(bench.runner, "run", watched)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    session = bench.session("a")
    for position in range(4):
        bench.submit(session, torch.randn(1, 64), position, position)
    async with background() as tasks:
        tasks.create_task(bench.engine.run())
        await bench.done.get()
        tasks.create_task(others())
        for _ in range(3):
            await bench.done.get()
    assert threads == [False, True, True, True]
    assert turns >= 2


async def test_a_brief_batch_that_fails_ends_its_sessions_and_not_the_engine(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    bench = Bench(tiny, brief=60.0)
    session = bench.session("a")
    bench.submit(session, torch.randn(1, 64), 0, 0)
    async with background() as tasks:
        tasks.create_task(bench.engine.run())
        await bench.done.get()
        with monkeypatch.context() as broken:
            broken.setattr(bench.runner, "run", lambda *_: 1 / 0)
            bench.submit(session, torch.randn(1, 64), 1, 1)
            _, error = await bench.failed.get()
        assert isinstance(error, ZeroDivisionError) and not session.running
        assert "batch failed" in caplog.text
        caplog.clear()
        bench.submit(bench.session("b"), torch.randn(1, 64), 0, 0)
        await bench.done.get()


async def test_numbers_that_are_none_end_their_session_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever got them would blame us, and rightly."""
    run, good, bad = bench.runner.run, torch.randn(3, 64), torch.randn(2, 64)
    expected = bench.alone(good)

    def broken(*args: Any) -> torch.Tensor:
        out = run(*args).clone()
        out[-1, 7] = float("inf")
        return out

    monkeypatch.setattr(bench.runner, "run", broken)
    bench.submit(bench.session("a"), good, 0, 0)
    bench.submit(bench.session("b"), bad, 0, 0)
    session, done = await bench.done.get()
    torch.testing.assert_close(result(session, done), expected)
    failed, error = await bench.failed.get()
    assert (failed.id, session.id) == ("b" * 16, "a" * 16)
    assert isinstance(error, ArithmeticError) and not failed.running


async def test_what_the_wires_type_cannot_say_is_no_number_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.runner.run
    monkeypatch.setattr(bench.runner, "run", lambda *args: torch.full_like(run(*args), 7e4))
    wide, half = bench.session("a", DType.BFLOAT16), bench.session("b", DType.FLOAT16)
    for session in (wide, half):
        bench.submit(session, torch.randn(1, 64), 0, 0)
    assert (await bench.done.get())[0] is wide
    assert (await bench.failed.get())[0] is half
