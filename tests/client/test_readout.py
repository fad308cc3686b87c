"""The head of many sessions at once."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch

from swarm.client.readout import Readout


class Head:
    """Doubles what it gets, in as many rows; remembers how many those were, and where."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.entered = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        assert threading.current_thread() is not threading.main_thread()
        self.calls.append(len(hidden))
        self.entered.set()
        assert self.free.wait(10)
        if self.error is not None:
            raise self.error
        return hidden * 2


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


async def entered(head: Head) -> None:
    """Returns once the head computes."""
    assert await asyncio.to_thread(head.entered.wait, 10)
    head.entered.clear()


async def ask(readout: Readout, *values: float) -> list[float]:
    return (await readout.logits(rows(*values))).flatten().tolist()


async def test_what_asks_together_is_computed_together():
    head = Head()
    readout = Readout(head)
    answers = await asyncio.gather(ask(readout, 1), ask(readout, 2, 3), ask(readout, 4))
    assert answers == [[2], [4, 6], [8]]
    assert head.calls == [4]


async def test_what_comes_meanwhile_is_the_next_batch():
    head = Head()
    readout = Readout(head)
    head.free.clear()
    first = asyncio.create_task(ask(readout, 1))
    await entered(head)
    later = [asyncio.create_task(ask(readout, value)) for value in (2, 3, 4)]
    await asyncio.sleep(0)
    head.free.set()
    assert await asyncio.gather(first, *later) == [[2], [4], [6], [8]]
    assert head.calls == [1, 3] and readout.num_batches == 2


async def test_one_that_is_cancelled_while_it_computes_leaves_nobody_waiting():
    head = Head()
    readout = Readout(head)
    head.free.clear()
    first = asyncio.create_task(ask(readout, 1))
    second = asyncio.create_task(ask(readout, 2))
    await entered(head)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    head.free.set()
    assert await second == [4]
    assert await ask(readout, 5) == [10]
    assert head.calls[-2:] == [1, 1]


async def test_an_error_is_told_to_who_asked_and_the_next_one_is_served():
    head = Head()
    readout = Readout(head)
    head.error = RuntimeError("out of memory")
    asking = (ask(readout, 1), ask(readout, 2))
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in found] == [RuntimeError, RuntimeError]
    head.error = None
    assert await ask(readout, 3) == [6]


async def test_a_prompt_is_scored_a_few_positions_at_a_time():
    head = Head()
    readout = Readout(head)
    hidden = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    tokens = [position % 9 for position in range(50)]
    found = await readout.scores(hidden, tokens, 3)
    expected = torch.log_softmax(2 * hidden, -1)
    assert [each.logprob for each in found] == pytest.approx(
        [float(expected[position, token]) for position, token in enumerate(tokens)], abs=1e-5
    )
    assert head.calls == [32, 18]
