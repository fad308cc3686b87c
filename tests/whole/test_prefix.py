"""A session that begins as an earlier one did computes only what is new, and says the same."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client import RowInput
from swarm.client.config import SessionConfig
from swarm.client.model import Reply
from swarm.peer.handler import HandlerConfig
from swarm.wire.messages import DType, Keep, Open, Opened, Step, Want

pytestmark = pytest.mark.simulated_time

UNITS = SessionConfig(unit_len=4, chunk_len=8)
PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5, 3, 9, 81, 2, 44, 61, 20, 8, 30]


@pytest.fixture
def say(tiny, asker):
    """`await say(model, ids, count)`: greedy tokens, which must be transformers' own."""

    async def say(model, ids, count=6, on_token=None) -> Reply:
        talk = asker(model)
        assert await talk.greedy(ids, count, on_token) == tiny.greedy(ids, count)
        return talk.reply

    return say


def computed(watch, *receivers: str) -> dict[str, int]:
    """Positions that each peer was sent in steps."""
    counts = dict.fromkeys(receivers, 0)
    for frame in watch.frames:
        if isinstance(frame.message, Step) and frame.receiver in counts:
            counts[frame.receiver] += sum(span.count for span in frame.message.rows)
    return counts


def histories(world) -> list[bool]:
    """Whether each peer could send again what it has kept."""
    return [
        kept.history.replayable for peer in world.peers.values() for kept in peer.hosting.kept._kept
    ]


async def test_the_next_turn_computes_only_what_is_new(world, say):
    await world.chain(0, 1, 3, 4)
    model = await world.client(config=UNITS)
    first = await say(model, PROMPT)
    assert first.num_cached == 0
    await world.settle()
    talk = [*first.prompt_ids, *first.ids, 70, 71, 72]
    watch = world.watch()
    second = await say(model, talk, 1)
    # Of 29 positions 24 are kept: the last token of a reply is never computed.
    assert (len(talk), second.num_cached) == (29, 24)
    assert computed(watch, *world.peers) == dict.fromkeys(world.peers, 5)
    assert all(len(peer.hosting.kept) == 1 for peer in world.peers.values())


async def test_the_same_prompt_again_computes_its_last_unit_only(world, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    replies = [await say(model, PROMPT) for _ in range(3)]
    # All but the last position could be kept; the prompt ends with a unit.
    assert [reply.num_cached for reply in replies] == [0, 16, 16]
    assert len({tuple(reply.ids) for reply in replies}) == 1


async def test_two_that_begin_alike_share_the_beginning(world, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    await say(model, [*PROMPT, 100, 101, 102, 103])
    assert (await say(model, [*PROMPT, 200, 201, 202, 203])).num_cached == 20
    assert (await say(model, [*PROMPT, 100, 101, 102, 103, 104])).num_cached == 24
    assert (await say(model, [*PROMPT, 200, 201, 202, 203, 204])).num_cached == 24
    assert (await say(model, [9, *PROMPT[1:], 100, 101, 102, 103, 104])).num_cached == 0


async def test_one_that_still_runs_is_gone_on_from_too(world, tiny, asker, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)

    async def meanwhile(count: int) -> None:
        if count == 2:
            assert (await say(model, [*PROMPT, 100, 101])).num_cached == 20

    await say(model, PROMPT, 6, meanwhile)
    await world.settle()
    assert all(len(peer.hosting.kept) == 2 for peer in world.peers.values())


async def test_a_hop_that_has_lost_its_client_begins_where_it_was(world, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    async with model.session() as session:
        hidden = model.head.embed(torch.tensor(PROMPT))
        await session.step([RowInput(0, 0, hidden, tuple(PROMPT))])
        world.network.disconnect("peer-0", "client")
        more, watch = (70, 71), world.watch()
        await session.step([RowInput(0, 20, model.head.embed(torch.tensor(more)), more)])
    assert [f.message.has for f in watch.frames if isinstance(f.message, Opened)] == [20]
    assert computed(watch, "peer-0") == {"peer-0": 2}


async def test_another_client_finds_nothing_whatever_it_asks_for(world, say):
    await world.chain(0, 2, 4)
    model, other = await world.client("one", UNITS), await world.client("two", UNITS)
    first = await say(model, PROMPT)
    assert (await say(other, PROMPT, 1)).num_cached == 0
    # Even the right names are worth nothing to it.
    object.__setattr__(other._access, "secret", model._access.secret)
    watch = world.watch()
    talk = [*PROMPT, *first.ids, 70]
    assert (await say(other, talk, 1)).num_cached == 0
    assert (await say(model, talk)).num_cached == 24
    opens = [frame for frame in watch.frames if isinstance(frame.message, Open)]
    assert len({frame.message.prefixes for frame in opens}) == 1
    told = [f.message.has for f in watch.frames if isinstance(f.message, Opened)]
    assert told == [0, 0, 24, 24]


async def test_another_type_of_numbers_finds_nothing(world, asker):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    await asker(model).greedy(PROMPT, 6)
    embed, talk = model.head.embed, torch.tensor(PROMPT)
    async with model.session(dtype=DType.BFLOAT16) as session:
        await session.step([RowInput(0, 0, embed(talk), tuple(PROMPT))])
        assert session.num_recalled == 0


async def test_a_client_that_keeps_nothing_asks_for_nothing(world, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=SessionConfig(unit_len=0))
    watch = world.watch()
    for _ in range(2):
        assert (await say(model, PROMPT)).num_cached == 0
    assert not any(
        isinstance(frame.message, Keep) or getattr(frame.message, "prefixes", ())
        for frame in watch.frames
    )


async def test_a_peer_that_keeps_nothing_is_filled_by_the_one_before_it(world, say):
    await world.peer("a", (0, 2))
    await world.peer("b", (2, 3), HandlerConfig(keep_seconds=0))
    await world.peer("c", (3, 4))
    model = await world.client(config=UNITS)
    await say(model, PROMPT)
    await world.settle()
    watch = world.watch()
    assert (await say(model, [*PROMPT, 70, 71], 1)).num_cached == 0
    assert computed(watch, "a", "b", "c") == {"a": 2, "b": 22, "c": 2}


async def test_without_a_history_a_peer_computes_again_what_the_next_one_lacks(world, say):
    await world.peer("a", (0, 2), HandlerConfig(history_bytes=0))
    await world.peer("b", (2, 4), HandlerConfig(keep_seconds=0))
    model = await world.client(config=UNITS)
    await say(model, PROMPT)
    await world.settle()
    assert histories(world) == [False]
    watch = world.watch()
    assert (await say(model, [*PROMPT, 70, 71], 1)).num_cached == 0
    assert computed(watch, "a", "b") == {"a": 22, "b": 22}


async def test_kept_pages_are_announced_as_free_and_given_at_once(world, say):
    # 16 pages of 8 positions.
    peer = await world.peer("only", (0, 4), kv_memory=16 * 8 * 2 * 2 * 16 * 4 * 4)
    model = await world.client(config=UNITS)
    hosting = peer.hosting
    assert hosting.total_positions == 128
    await say(model, PROMPT)
    await world.settle()
    assert hosting.kept.num_pages == 3
    assert hosting.free_positions == peer.announcement().free_positions == 128
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(128, 64))])
        assert (hosting.free_positions, len(hosting.kept)) == (0, 0)
    assert (await say(model, PROMPT)).num_cached == 0


async def test_who_has_begun_with_a_prefix_keeps_it_when_it_is_given_away(world, tiny, asker):
    peer = await world.peer("only", (0, 4), kv_memory=16 * 8 * 2 * 2 * 16 * 4 * 4)
    model = await world.client(config=UNITS)
    await asker(model).greedy(PROMPT, 6)
    talk = asker(model)
    async with model.session() as crowd:

        async def crowd_in(count: int) -> None:
            if count == 2:
                assert talk.reply.num_cached == 16
                await crowd.step([RowInput(0, 0, torch.randn(104, 64))])
                assert len(peer.hosting.kept) == 0

        assert await talk.greedy(PROMPT, 4, crowd_in) == tiny.greedy(PROMPT, 4)


async def test_what_is_not_used_is_forgotten(world, say):
    await world.peer("only", (0, 4), HandlerConfig(keep_seconds=60))
    model = await world.client(config=UNITS)
    kept = world.peers["only"].hosting.kept
    await say(model, PROMPT)
    await world.settle()
    assert len(kept) == 1
    await world.until(lambda: not len(kept), 61)
    assert world.peers["only"].hosting.runner.pages.num_rows == 0


async def test_a_peer_that_starts_again_has_nothing_and_all_is_well(world, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    await say(model, PROMPT)
    await world.leave("peer-1")
    await world.peer("peer-1", (2, 4))
    assert (await say(model, PROMPT)).num_cached == 0
    assert (await say(model, PROMPT)).num_cached == 16


@pytest.mark.parametrize("limit", [1 << 30, 0], ids=["history", "no-history"])
@pytest.mark.parametrize("victim", ["peer-0", "peer-1", "peer-2"])
@pytest.mark.parametrize("politely", [False, True], ids=["dies", "leaves"])
async def test_a_hop_goes_while_a_session_has_what_was_kept(world, say, victim, limit, politely):
    await world.chain(0, 1, 3, 4, handler_config=HandlerConfig(history_bytes=limit))
    await world.spare((0, 4))
    model = await world.client(config=UNITS)
    first = await say(model, PROMPT)
    await world.settle()
    assert histories(world) == [limit > 0] * 3

    async def go(count: int) -> None:
        if count == 3:
            await world.show()
            await (world.leave(victim) if politely else world.kill(victim))

    second = await say(model, [*PROMPT, *first.ids, 70], 8, go)
    assert second.num_cached == 24


async def test_a_replacement_begins_with_what_it_kept_itself(world, say):
    await world.peer("a", (0, 2))
    await world.peer("b", (2, 4))
    model = await world.client(config=UNITS)
    first = await say(model, PROMPT)
    await world.kill("a")
    await world.peer("c", (0, 2))
    await say(model, PROMPT)  # Through c and b.
    await world.settle()
    await world.peer("a2", (0, 2))
    talk = [*PROMPT, *first.ids, 70]
    watch = world.watch()

    async def die(count: int) -> None:
        if count == 1:
            used = next(f.receiver for f in watch.frames if isinstance(f.message, Open))
            watch.frames.clear()
            await world.kill(used)

    await say(model, talk, 4, die)
    opened = [f.message for f in watch.frames if isinstance(f.message, Opened)]
    assert [message.has for message in opened] in ([20], [24], [0])


async def test_rolling_back_into_what_is_shared_leaves_it_as_it_is(world, tiny, asker, say):
    # Pages of 8 positions: the 20 that are kept end within one.
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    await say(model, PROMPT, 1)
    embed = model.head.embed
    for length in (18, 9, 8, 3, 0):
        async with model.session() as session:
            talk = [*PROMPT, 70]
            await session.step([RowInput(0, 0, embed(torch.tensor(talk)), tuple(talk))])
            assert session.num_recalled == 20
            other = [*PROMPT[:length], 201, 202, 203]
            fresh = other[length:]
            row = RowInput(0, length, embed(torch.tensor(fresh)), tuple(fresh))
            (last,) = await session.step([row])
            token = int(model.head.logits(last)[0].argmax())
            assert [token] == tiny.greedy(other, 1)
    assert (await say(model, [*PROMPT, 70], 4)).num_cached == 20


async def test_guesses_that_were_wrong_are_not_kept_as_what_was_said(world, tiny, asker, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    embed, talk = model.head.embed, list(PROMPT)
    async with model.session() as session:
        await session.step([RowInput(0, 0, embed(torch.tensor(talk)), tuple(talk))])
        guess = (201, 202, 203, 204)
        await session.step([RowInput(0, 20, embed(torch.tensor(guess)), guess)], Want.ALL)
        said = tuple(tiny.greedy(talk, 4))
        await session.step([RowInput(0, 20, embed(torch.tensor(said)), said)], Want.ALL)
    assert (await say(model, [*talk, *said, 70])).num_cached == 24
    assert (await say(model, [*talk, *guess, 70])).num_cached == 20


async def test_what_no_hop_is_known_to_have_is_not_kept(world, tiny, asker, say):
    """A roll-back that was given up may have reached some hops and not others."""
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    embed = model.head.embed
    async with model.session() as session:
        await session.step([RowInput(0, 0, embed(torch.tensor(PROMPT)), tuple(PROMPT))])
        watch = world.watch()
        watch.drops = lambda frame: isinstance(frame.message, Step)
        other = (201, 202, 203, 204, 205, 206, 207, 208)
        row = RowInput(0, 8, embed(torch.tensor(other)), other)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await session.step([row])
        watch.drops = lambda frame: False
    asked = [f.message for f in watch.frames if isinstance(f.message, Keep)]
    assert {max(prefix.length for prefix in keep.prefixes) for keep in asked} == {8}
    # What the first step had computed was kept before the second one was sent.
    assert (await say(model, PROMPT)).num_cached == 16
    assert (await say(model, [*PROMPT[:8], *other])).num_cached == 8


async def test_words_without_tokens_end_what_is_known(world, say):
    await world.chain(0, 2, 4)
    model = await world.client(config=UNITS)
    embed = model.head.embed
    async with model.session() as session:
        ids = torch.tensor(PROMPT)
        await session.step([RowInput(0, 0, embed(ids[:8]), tuple(PROMPT[:8]))])
        await session.step([RowInput(0, 8, embed(ids[8:12]))])
        await session.step([RowInput(0, 12, embed(ids[12:]), tuple(PROMPT[12:]))])
    assert (await say(model, PROMPT)).num_cached == 8
