"""P5, P6, P13, P14 with transformers' own `generate()`, whose blocks are the swarm's."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from swarm.client import SwarmModelForCausalLM
from swarm.errors import RequestError
from swarm.wire.messages import Opened

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
PADDED = [[0, 0, 0, *PROMPT[:8]], PROMPT]
MASK = [[0] * 3 + [1] * 8, [1] * 11]

pytestmark = pytest.mark.simulated_time


class LoopPortal:
    """Calls into the test's own loop; not anyio's, whose scopes cannot outlive a fixture's task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        async def run() -> Any:
            result = func(*args)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


class Both:
    """The swarm's model and transformers' own, asked the same."""

    def __init__(self, swarm: SwarmModelForCausalLM, reference: Any) -> None:
        self.swarm, self.reference = swarm, reference

    async def generate(self, seed: int = 0, **options: Any) -> tuple[Any, Any]:
        """What each generates under the same seed."""
        return await asyncio.to_thread(self.run, seed, **options), self.local(seed, **options)

    def run(self, seed: int = 0, **options: Any) -> Any:
        """What the swarm generates; blocks."""
        torch.manual_seed(seed)
        return self.swarm.generate(**copy.copy(options)).tolist()

    def local(self, seed: int = 0, **options: Any) -> Any:
        """What transformers generates."""
        torch.manual_seed(seed)
        with torch.no_grad():
            return self.reference.generate(**copy.copy(options)).tolist()


@pytest.fixture
async def both(world, tiny):
    """Three peers, and a client with two faces."""
    await world.chain(0, 1, 3, 4)
    return Both(SwarmModelForCausalLM(await world.client(), LoopPortal()), tiny.reference)


def ids(*rows: list[int]) -> dict[str, torch.Tensor]:
    tensor = torch.tensor(rows)
    return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}


PADDED_IDS = {"input_ids": torch.tensor(PADDED), "attention_mask": torch.tensor(MASK)}


async def test_p4_greedy_single_and_padded_batch(both):
    for inputs in (ids(PROMPT), PADDED_IDS):
        ours, theirs = await both.generate(**inputs, max_new_tokens=20, do_sample=False)
        assert ours == theirs


SAMPLINGS = {
    "plain": {},
    "top-k": {"top_k": 20},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.02, "temperature": 0.7},
    "repetition penalty": {"repetition_penalty": 1.6, "temperature": 1.3},
    "all": {"top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2, "temperature": 0.8},
}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
async def test_p5_sampling_under_the_same_seed(both, sampling):
    options = {"max_new_tokens": 16, "do_sample": True, "top_k": 0, **sampling}
    ours, theirs = await both.generate(seed=7, **ids(PROMPT), **options)
    assert ours == theirs
    other, _ = await both.generate(seed=8, **ids(PROMPT), **options)
    assert other != ours
    ours, theirs = await both.generate(seed=7, **PADDED_IDS, **options)
    assert ours == theirs


async def test_p6_five_beams(both):
    for inputs in (ids(PROMPT), PADDED_IDS):
        ours, theirs = await both.generate(
            **inputs,
            max_new_tokens=12,
            num_beams=5,
            num_return_sequences=5,
            do_sample=False,
        )
        assert len(ours) == 5 * len(inputs["input_ids"])
        assert ours == theirs


async def test_p6_beams_when_a_peer_dies(both, world):
    """Beams are reordered at every step: a replacement must get them in the newest order."""
    await world.peer("spare", (0, 4))
    inputs = ids(PROMPT, PROMPT[::-1])
    options = {**inputs, "max_new_tokens": 12, "num_beams": 5, "do_sample": False}
    expected = both.local(**options)
    for number, victim in enumerate(["peer-1", "peer-0", "peer-2"]):
        loop, steps = asyncio.get_running_loop(), 0
        step = both.swarm.remote.head.logits

        def logits(hidden, step=step, victim=victim, number=number, loop=loop):
            nonlocal steps
            steps += 1
            if steps == 40 + 10 * number:
                asyncio.run_coroutine_threadsafe(world.kill(victim), loop).result()
            return step(hidden)

        both.swarm.remote.head.logits = logits
        assert await asyncio.to_thread(both.run, **options) == expected
        assert victim not in world.peers
        both.swarm.remote.head.logits = step


async def test_p13_cropped_and_continued_otherwise(both, tiny):
    def talk() -> list[torch.Tensor]:
        model = both.swarm
        out = model(input_ids=torch.tensor([PROMPT]), use_cache=True)
        cache = out.past_key_values
        cache.crop(-4)
        assert cache.get_seq_length() == len(PROMPT) - 4
        other = model(input_ids=torch.tensor([[50, 51, 52]]), past_key_values=cache).logits
        cache.crop(5)
        third = model(input_ids=torch.tensor([[60, 61]]), past_key_values=cache).logits
        return [out.logits[0], other[0], third[0]]

    first, other, third = await asyncio.to_thread(talk)
    kept = PROMPT[:-4]
    for logits, expected in (
        (first, tiny.logits(PROMPT)),
        (other, tiny.logits([*kept, 50, 51, 52])[-3:]),
        (third, tiny.logits([*PROMPT[:5], 60, 61])[-2:]),
    ):
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


async def test_p14_prompt_lookup_is_plain_greedy(both):
    ours, theirs = await both.generate(
        **ids(PROMPT * 3), max_new_tokens=24, prompt_lookup_num_tokens=4, do_sample=False
    )
    plain = both.local(**ids(PROMPT * 3), max_new_tokens=24, do_sample=False)
    assert ours == theirs == plain


@pytest.mark.parametrize("helper", ["same", "other"])
async def test_p14_assistant_model_is_plain_greedy(both, make_tiny, helper):
    """With an assistant that is always right, and with one that is mostly wrong."""
    changes = {} if helper == "same" else {"num_hidden_layers": 2}
    assistant = make_tiny("llama", **changes).reference
    options = {**ids(PROMPT), "max_new_tokens": 20, "do_sample": False}
    ours = await asyncio.to_thread(both.run, **options, assistant_model=assistant)
    assert ours == both.local(**options)


async def test_forward_of_a_padded_batch(both, tiny):
    logits = (await asyncio.to_thread(lambda: both.swarm(**PADDED_IDS))).logits
    for row, (line, mask) in enumerate(zip(PADDED, MASK, strict=True)):
        real = [token for token, kept in zip(line, mask, strict=True) if kept]
        torch.testing.assert_close(logits[row][-len(real) :], tiny.logits(real), atol=1e-3, rtol=0)


async def test_what_only_the_blocks_could_tell_is_refused(both):
    given = {"input_ids": torch.tensor([PROMPT])}
    with pytest.raises(RequestError, match="output_hidden_states"):
        await asyncio.to_thread(lambda: both.swarm(**given, output_hidden_states=True))
    with pytest.raises(RequestError, match="takes no wonders"):
        await asyncio.to_thread(lambda: both.swarm(**given, wonders=1))
    with pytest.raises(RequestError, match="cache_implementation static"):
        await asyncio.to_thread(
            lambda: both.swarm.generate(**given, max_new_tokens=2, cache_implementation="static")
        )


async def test_what_peers_have_kept_serves_the_next_generate(both, world):
    prompt = PROMPT * 7
    for held in (0, 64):
        watch = world.watch()
        swarm, local = await both.generate(**ids(prompt), max_new_tokens=4)
        assert swarm == local
        opened = [frame.message for frame in watch.frames if isinstance(frame.message, Opened)]
        assert [message.has for message in opened] == [held] * 3


async def test_what_travels_is_chosen_from_the_callers_own_thread_too(world):
    # In bfloat16 there is something to choose, by what the router knows in its loop.
    await world.chain(0, 2, 4)
    model = await world.client(dtype=torch.bfloat16)
    swarm = SwarmModelForCausalLM(model, LoopPortal())
    generated = await asyncio.to_thread(
        lambda: swarm.generate(**ids(PROMPT), max_new_tokens=3, do_sample=False)
    )
    assert generated.shape == (1, len(PROMPT) + 3)
