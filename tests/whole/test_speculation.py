"""P14: with guesses ahead, whatever they are and whatever dies, a reply is the one without them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from swarm.client import Reply, SamplingConfig, SpeculationConfig
from swarm.client.config import SessionConfig
from swarm.client.decoding import Decoding
from swarm.client.speculation import quick_drafters
from swarm.client.speculation.draft_model import DraftModel
from swarm.client.speculation.guess import Grade, Guess
from swarm.client.speculation.speculator import Speculator
from swarm.errors import NoRouteError
from swarm.transport.memory import Condition
from swarm.wire.messages import Hold, Step

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
LONG = [(7 * i) % 299 + 1 for i in range(40)]
REPEATED = [5, 8, 9, 200, 31, 77, 140, 6] * 6
NUM_TOKENS = 24
PEERS = ["peer-0", "peer-1", "peer-2"]
SAMPLED = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2, "seed": 5}


@dataclass
class Knowing:
    """Guesses what is really said, but errs at every position that one of `errs` divides."""

    text: Sequence[int]
    errs: tuple[int, ...] = ()
    _length: int = field(default=0, init=False)

    def push(self, token: int) -> None:
        self._length += 1

    def guesses(self) -> Iterator[Guess]:
        for at in range(self._length, len(self.text) + 50):
            true = self.text[at] if at < len(self.text) else 3
            wrong = any(at % each == 0 for each in self.errs)
            yield Guess((true + 1) % 300 if wrong else true, Grade("knowing", 0, 0.7))


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


async def write(model, reply, sampling, speculator, on_token=None):
    """Fills a reply, and calls `on_token` with its length after each token."""
    async with model.session() as session:
        decoding = Decoding(session, model.readout, reply, sampling, set(), speculator)
        async with aclosing(decoding.tokens()) as tokens:
            async for _ in tokens:
                if on_token is not None:
                    await on_token(len(reply.ids))
    return reply.ids


def knowing(ids, answer, *errs, window=5):
    return Speculator(SpeculationConfig(window), [Knowing([*ids, *answer], errs)])


def sampling(**options):
    return SamplingConfig(max_new_tokens=NUM_TOKENS, **options)


@pytest.mark.simulated_time
@pytest.mark.parametrize("window", [None, 1, 4, 63], ids=str)
@pytest.mark.parametrize("ids", [PROMPT, REPEATED], ids=["prompt", "repeated"])
async def test_p14_greedy_is_transformers_own(three, window, ids):
    model, reply = await three.client(), Reply(list(ids))
    speculator = Speculator(SpeculationConfig(window), quick_drafters())
    assert await write(model, reply, sampling(), speculator) == three.tiny.greedy(ids, NUM_TOKENS)
    assert reply.num_steps + reply.num_accepted == NUM_TOKENS - 1
    assert reply.num_accepted <= reply.num_drafted


@pytest.mark.simulated_time
@pytest.mark.parametrize("errs", [(), (3,), (2, 7), (1,)], ids=str)
@pytest.mark.parametrize("options", [{}, SAMPLED, {"temperature": 1.3, "seed": 2}], ids=str)
async def test_p14_right_and_wrong_guesses_change_no_token(three, errs, options):
    """Nor, with a seed, what is drawn after them."""
    model = await three.client()
    off = Speculator(SpeculationConfig(0))
    plain = list(await write(model, Reply(list(PROMPT)), sampling(**options), off))
    reply = Reply(list(PROMPT))
    assert await write(model, reply, sampling(**options), knowing(PROMPT, plain, *errs)) == plain
    assert reply.num_steps + reply.num_accepted == NUM_TOKENS - 1
    if errs != (1,):
        assert reply.num_accepted >= 8
        assert reply.num_steps == NUM_TOKENS - 1 - reply.num_accepted
    else:
        assert reply.num_accepted == 0 < reply.num_drafted


@pytest.mark.simulated_time
async def test_one_step_brings_a_whole_window(three):
    model, reply, watch = await three.client(), Reply(list(PROMPT)), three.watch()
    answer = three.tiny.greedy(PROMPT, NUM_TOKENS)
    speculator = knowing(PROMPT, answer, window=63)
    assert await write(model, reply, sampling(), speculator) == answer
    assert (reply.num_steps, reply.num_drafted, reply.num_accepted) == (1, 22, 22)
    assert watch.count(Step)["peer-0", "peer-1"] == 2, "the prompt and one window"


@pytest.mark.simulated_time
async def test_a_window_never_goes_beyond_the_models_context(three):
    ids = [(11 * i) % 299 + 1 for i in range(512 - NUM_TOKENS)]
    model, answer = await three.client(), three.tiny.greedy(ids, NUM_TOKENS)
    speculator = knowing(ids, answer, 7, window=63)
    assert await write(model, Reply(list(ids)), sampling(), speculator) == answer


@pytest.mark.simulated_time
async def test_the_end_token_ends_a_window(three):
    model, reply = await three.client(), Reply(list(PROMPT))
    answer = three.tiny.greedy(PROMPT, NUM_TOKENS)
    end = next(token for token in answer[3:] if token not in answer[:3])
    shown = []
    async with model.session() as session:
        speculator = knowing(PROMPT, answer, window=63)
        decoding = Decoding(session, model.readout, reply, sampling(), {end}, speculator)
        async for token in decoding.tokens():
            shown.append(token)
    until = answer.index(end)
    assert shown == answer[:until] and reply.ids == answer[: until + 1]


# Whatever dies


@pytest.mark.simulated_time
@pytest.mark.parametrize("victim", PEERS)
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("errs", [(), (2, 5)], ids=str)
async def test_x1_killed_with_a_window_on_its_way(three, victim, number, errs):
    """The window has left the client, or the hop before the one that dies."""
    await three.spare((0, 4))
    answer = three.tiny.greedy(LONG, NUM_TOKENS)
    model, watch, kills, windows = await three.client(), three.watch(), [], []

    def look(frame):
        if isinstance(frame.message, Step) and frame.receiver == victim:
            (span,) = frame.message.rows
            if span.position >= len(LONG):
                windows.append(span)
                if len(windows) == number + 1:
                    assert span.count > 1
                    kills.append(asyncio.ensure_future(three.kill(victim)))
        return False

    watch.drops = look
    reply = Reply(list(LONG))
    assert await write(model, reply, sampling(), knowing(LONG, answer, *errs, window=4)) == answer
    assert len(kills) == 1 and reply.num_recoveries >= 1
    await kills[0]


@pytest.mark.simulated_time
@pytest.mark.parametrize("victim", PEERS)
async def test_x1_killed_between_the_tokens_of_a_window(three, victim):
    await three.spare((0, 2), (2, 4))
    answer = three.tiny.greedy(PROMPT, NUM_TOKENS)
    model = await three.client()

    async def on_token(number):
        if number == 9:
            await three.kill(victim)

    speculator = knowing(PROMPT, answer, 7)
    assert await write(model, Reply(list(PROMPT)), sampling(), speculator, on_token) == answer


@pytest.mark.simulated_time
async def test_x1_rejected_guesses_are_not_computed_again(three):
    """A hop that has missed a roll-back keeps all that was before it, however many there were."""
    await three.spare((1, 3))
    answer = three.tiny.greedy(LONG, NUM_TOKENS)
    model, watch = await three.client(), three.watch()
    holds = []

    def look(frame):
        if isinstance(frame.message, Hold):
            holds.append(frame.message)
        return False

    watch.drops = look

    async def on_token(number):
        if number == 12:
            await three.kill("peer-1")

    reply = Reply(list(LONG))
    speculator = knowing(LONG, answer, 1, window=3)
    assert await write(model, reply, sampling(), speculator, on_token) == answer
    assert holds and all(hold.generation > 5 for hold in holds)
    most = len(LONG) + (NUM_TOKENS - 1) * 4
    for name in ("peer-0", "peer-2"):
        assert three.peers[name].hosting._engine.num_positions <= most, name


@pytest.mark.simulated_time
@pytest.mark.parametrize("leaver", PEERS)
async def test_x10_a_peer_leaves_while_guesses_come_and_go(three, leaver):
    await three.spare((0, 4))
    await three.show()
    answer = three.tiny.greedy(LONG, 60)
    model, leaving = await three.client(), []

    async def on_token(number):
        if number == 10:
            leaving.append(asyncio.ensure_future(three.leave(leaver)))
        await asyncio.sleep(0.02)

    reply = Reply(list(LONG))
    speculator = knowing(LONG, answer, 2, window=3)
    many = SamplingConfig(max_new_tokens=60)
    assert await write(model, reply, many, speculator, on_token) == answer
    await leaving[0]
    assert leaver not in {hop.peer for hop in reply.route}


@pytest.mark.simulated_time
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
async def test_x4_a_reply_that_was_cut_short_goes_on_where_it_was(three, options):
    model = await three.client(config=SessionConfig(route_patience=1))
    off = Speculator(SpeculationConfig(0))
    plain = list(await write(model, Reply(list(PROMPT)), sampling(**options), off))
    reply = Reply(list(PROMPT))

    async def on_token(number):
        if number == 8:
            await three.kill("peer-1")

    with pytest.raises(NoRouteError):
        speculator = knowing(PROMPT, plain, 5)
        await write(model, reply, sampling(**options), speculator, on_token)
    assert 8 <= len(reply.ids) < NUM_TOKENS and reply.ids == plain[: len(reply.ids)]
    await three.peer("other", (1, 3))
    assert await write(model, reply, sampling(**options), knowing(PROMPT, plain, 5)) == plain


# Who guesses, and what for


async def test_a_small_model_guesses_as_well(three):
    """Here it is the large one itself, so that it is always right."""
    model, reply = await three.client(), Reply(list(PROMPT))
    # How often it is asked goes by the time that it takes: here it is always worth it.
    three.network.default = Condition(0.03)
    drafter = DraftModel(three.tiny.reference, 300, 512).drafter()
    speculator = Speculator(SpeculationConfig(4), quick_drafters(), drafter)
    assert await write(model, reply, sampling(), speculator) == three.tiny.greedy(
        PROMPT, NUM_TOKENS
    )
    assert reply.num_accepted > 10


async def test_what_can_be_guessed_saves_round_trips(three):
    """In real time, since what pays goes by what is measured."""
    answer = three.tiny.greedy(LONG, 60)
    model, reply = await three.client(), Reply(list(LONG))
    # Longer than what a busy machine adds to computing: that would be taken for the guesses' cost.
    three.network.default = Condition(0.03)
    speculator = knowing(LONG, answer, 13, window=None)
    assert await write(model, reply, SamplingConfig(max_new_tokens=60), speculator) == answer
    assert reply.num_steps < 20, "59 without guesses"
