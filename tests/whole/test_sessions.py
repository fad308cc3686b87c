"""P3, P8, P13: hidden states through sessions are those of one local forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch

from swarm.client import RowInput
from swarm.client.config import SessionConfig
from swarm.errors import LocalProtocolError, RequestError
from swarm.wire.messages import Want

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]


def local_blocks(tiny, hidden: torch.Tensor) -> torch.Tensor:
    """What transformers' blocks make of `hidden` `[n, hidden_size]`, before the final norm."""
    seen = []
    model = tiny.reference.model
    hook = model.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(inputs_embeds=hidden[None], use_cache=False)
    hook.remove()
    return seen[0][0]


async def run(session, hidden: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """`hidden` in steps of these lengths."""
    position, outputs = session.lengths[0], []
    for length in lengths:
        part = hidden[position : position + length]
        (out,) = await session.step([RowInput(0, position, part)], Want.ALL)
        assert out.shape == part.shape
        outputs.append(out)
        position += length
    return torch.cat(outputs)


@pytest.mark.parametrize("borders", [(0, 4), (0, 1, 3, 4)], ids=["1-peer", "3-peers"])
async def test_p3_token_by_token_is_one_forward_is_local(world, tiny, borders):
    await world.chain(*borders)
    model = await world.client()
    hidden = torch.randn(30, 64)
    expected = local_blocks(tiny, hidden)
    for lengths in ([30], [1] * 30, [5, 1, 0, 12, 1, 0, 11], [29, 1]):
        async with model.session() as session:
            torch.testing.assert_close(
                await run(session, hidden, lengths), expected, atol=1e-3, rtol=0
            )


async def test_p3_zero_length_step_before_anything_needs_no_swarm(world):
    model = await world.client()
    async with model.session() as session:
        assert (await run(session, torch.randn(0, 64), [0])).shape == (0, 64)


async def test_p3_rows_of_mixed_lengths_in_one_step(world, tiny):
    await world.chain(0, 2, 4)
    model = await world.client(config=SessionConfig(chunk_len=7))
    texts = [torch.randn(n, 64) for n in (20, 3, 0, 11)]
    async with model.session(num_rows=4) as session:
        outputs = await session.step([RowInput(i, 0, t) for i, t in enumerate(texts)], Want.ALL)
        lasts = await session.step([RowInput(i, len(t), t[:2]) for i, t in enumerate(texts)])
        assert session.lengths == (22, 5, 0, 13)
    for text, output, last in zip(texts, outputs, lasts, strict=True):
        assert output.shape == text.shape
        if len(text):
            torch.testing.assert_close(output, local_blocks(tiny, text), atol=1e-3, rtol=0)
            both = local_blocks(tiny, torch.cat([text, text[:2]]))
            torch.testing.assert_close(last, both[-1:], atol=1e-3, rtol=0)


async def test_p3_what_is_wanted_decides_what_comes_back(world):
    await world.chain(0, 2, 4)
    model = await world.client(config=SessionConfig(chunk_len=8))
    hidden = torch.randn(20, 64)
    async with model.session() as session:
        (everything,) = await session.step([RowInput(0, 0, hidden)], Want.ALL)
        (last,) = await session.step([RowInput(0, 0, hidden)], Want.LAST)
        (nothing,) = await session.step([RowInput(0, 0, hidden)], Want.NOTHING)
    assert (everything.shape, last.shape, nothing.shape) == ((20, 64), (1, 64), (0, 64))
    torch.testing.assert_close(last, everything[-1:], atol=1e-5, rtol=0)


@pytest.fixture
async def one_block(make_world, make_tiny):
    """A world for a model of one block, and a client."""
    tiny = make_tiny("llama", num_hidden_layers=1)
    world = make_world(tiny)
    await world.peer("only", (0, 1))
    return world, tiny


async def test_p8_one_block_forward_and_cached(one_block):
    world, tiny = one_block
    model = await world.client()
    hidden = torch.randn(137, 64)
    expected = local_blocks(tiny, hidden)
    async with model.session() as session:
        whole = await run(session, hidden, [137])
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)
    async with model.session() as session:
        pieces = await run(session, hidden, [129] + [1] * 8)
    torch.testing.assert_close(pieces, expected, atol=1e-3, rtol=0)


async def test_p8_past_the_context_limit(one_block, asker):
    world, _ = one_block
    model = await world.client()
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(510, 64))], Want.NOTHING)
        with pytest.raises(RequestError, match=r"513 positions.*context is 512"):
            await session.step([RowInput(0, 510, torch.randn(3, 64))])
        # The session itself is unharmed.
        assert session.lengths == (510,)
        await session.step([RowInput(0, 510, torch.randn(2, 64))])
    with pytest.raises(RequestError, match="context is 512"):
        await asker(model).greedy([5] * 513, 1)


async def test_p8_more_than_the_peer_could_ever_hold(make_world, make_tiny):
    world = make_world(make_tiny("llama", num_hidden_layers=1))
    # One position takes 2 * 2 * 16 * 4 = 256 bytes: 8 pages of 8 positions.
    await world.peer("small", (0, 1), kv_memory=8 * 8 * 256)
    model = await world.client()
    async with model.session() as session:
        with pytest.raises(RequestError, match=r"needs 9 pages of KV memory; this peer has 8"):
            await session.step([RowInput(0, 0, torch.randn(65, 64))])
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(64, 64))], Want.NOTHING)
        with pytest.raises(RequestError, match="this peer has 8"):
            await session.step([RowInput(0, 64, torch.randn(1, 64))])


@pytest.mark.parametrize("back_to", [0, 1, 8, 10, 19])
async def test_p13_other_continuation_after_a_roll_back(world, tiny, asker, back_to):
    await world.chain(0, 1, 3, 4)
    model = await world.client()
    asked = asker(model)
    first, other = [*PROMPT, *range(30, 39)], list(range(100, 112))
    async with model.session() as session:
        await asked.logits(session, first, 0)
        logits = await asked.logits(session, other, back_to)
        assert session.lengths == (back_to + 12,)
        again = await asked.logits(session, first[back_to:], back_to)
    expected = tiny.logits(first[:back_to] + other)[back_to:]
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(again, tiny.logits(first)[back_to:], atol=1e-3, rtol=0)


async def test_p13_rows_are_reordered_and_go_apart(world, tiny):
    await world.chain(0, 2, 4)
    model = await world.client()
    texts = [[1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4, 3]]
    async with model.session(num_rows=2) as session:
        embed = model.head.embed
        await session.step([RowInput(i, 0, embed(torch.tensor(t))) for i, t in enumerate(texts)])
        new = [RowInput(0, 7, embed(torch.tensor([11]))), RowInput(1, 4, embed(torch.tensor([12])))]
        outputs = await session.step(new, reorder=[1, 1])
        assert session.lengths == (8, 5)
    for ids, output in zip([[*texts[1], 11], [*texts[1][:4], 12]], outputs, strict=True):
        expected = tiny.logits(ids)[-1]
        torch.testing.assert_close(model.head.logits(output)[0], expected, atol=1e-3, rtol=0)


async def test_a_gap_is_our_callers_bug(world):
    await world.chain(0, 4)
    model = await world.client()
    async with model.session() as session:
        with pytest.raises(LocalProtocolError, match="gap"):
            await session.step([RowInput(0, 1, torch.randn(1, 64))])


async def test_a_session_closed_while_its_route_is_sought_leaves_no_plans(world, monkeypatch):
    await world.chain(0, 2, 4)
    model = await world.client()
    router, sought, found = model._access.router, asyncio.Event(), asyncio.Event()
    route = router.route

    async def slow_route(*args):
        chosen = await route(*args)
        sought.set()
        await found.wait()
        return chosen

    monkeypatch.setattr(router, "route", slow_route)
    session = model.session()
    hidden = model.head.embed(torch.tensor(PROMPT))
    step = asyncio.create_task(session.step([RowInput(0, 0, hidden)]))
    await sought.wait()
    session.close()
    found.set()
    with pytest.raises(LocalProtocolError, match="closed"):
        await step
    assert not model._access.standbys._routes
    assert not router.crowd._open
