"""What is told of a gateway's answers, and who gives them, when peers die."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from swarm.client import SamplingConfig
from swarm.client.config import SessionConfig
from swarm.gateway import FallbackConfig, GatewayConfig, Metrics
from swarm.gateway.answer import Answer, Caller, Source
from swarm.gateway.ask import Ask, Tokens
from swarm.gateway.core import Core
from swarm.gateway.events import Said
from swarm.gateway.hybrid import Hybrid
from swarm.gateway.refusals import Refusal
from swarm.gateway.trace import Trace

pytestmark = pytest.mark.simulated_time

PROMPT = Tokens((1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5))
ANN = Caller("ann")


class Elsewhere:
    """A fallback that only notes who asks."""

    config = FallbackConfig("http://localhost")

    def __init__(self) -> None:
        self.asked: list[Ask] = []

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        self.asked.append(ask)
        yield Answer(ask.model, Source.FALLBACK, None)


@pytest.fixture
async def lettered(make_tiny, make_world):
    """Peers for blocks 0:1, 1:3 and 3:4 of a model whose tokens are words."""
    tiny = make_tiny("llama", vocab_size=300)
    if not (tiny.folder / "tokenizer.json").exists():
        words = {f"w{number}": number for number in range(300)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tiny.folder)
    world = make_world(tiny)
    await world.chain(0, 1, 3, 4)
    return world


def ask(count: int = 24) -> Ask:
    return Ask("tiny", PROMPT, SamplingConfig(max_new_tokens=count, ignore_eos=True), num_choices=2)


def core(model) -> Core:
    return Core({"tiny": model}, GatewayConfig(wait=2.0))


async def test_a_trace_tells_of_the_peer_that_died_and_of_the_one_that_took_over(lettered):
    await lettered.spare((0, 4))
    model, clock = await lettered.client(), asyncio.get_running_loop().time
    trace, num_said = Trace("/somewhere", clock()), 0
    async with core(model).answering(ask(), ANN) as answer:
        trace.answers, trace.begun, trace.asked = [answer], clock(), "tiny"
        async for event in answer.work.events():
            num_said += isinstance(event, Said)
            if num_said == 12:
                await lettered.kill("peer-1")
    trace.ended = clock()
    told = json.loads(trace.as_json())
    assert told["by"] == "swarm" and told["choices"] == 2 and told["completion"] == 48
    assert told["recoveries"] >= 2, "each choice has a session of its own"
    peers = {hop["peer"]: hop["blocks"] for hop in told["hops"]}
    assert peers["peer-1"] == [1, 3] and "spare-0:4" in peers
    for change in told["changes"]:
        assert change["kind"] == "recovery" and 0 < change["tokens"] < 24
    assert {(*each["gone"], *each["came"]) for each in told["changes"]} >= {("peer-1", "spare-0:4")}
    assert told["disturbed_steps"] >= 2 and told["disturbed_ms"] > 0
    assert told["steps"] + told["disturbed_steps"] == told["speculation"]["steps"]
    metrics = Metrics()
    metrics.note(trace, 200)
    families = text_string_to_metric_families(metrics.text().decode())
    samples = {
        (each.name, *each.labels.values()): each.value for f in families for each in f.samples
    }
    assert samples["homeswarm_recoveries_total",] == told["recoveries"]
    assert samples["homeswarm_hop_steps_total", "peer-1"] > 0
    assert samples["homeswarm_completion_tokens_total", "tiny"] == 48


async def test_whom_nobody_in_the_swarm_can_answer_the_fallback_does(lettered):
    elsewhere = Elsewhere()
    model = await lettered.client(config=SessionConfig(route_patience=2))
    hybrid = Hybrid(core(model), elsewhere)
    async with hybrid.answering(ask(), ANN) as answer:
        assert answer.source is Source.SWARM
    await lettered.kill("peer-1")
    async with hybrid.answering(ask(), ANN) as answer:
        assert answer.source is Source.FALLBACK
    assert len(elsewhere.asked) == 1
    await lettered.peer("peer-3", (1, 3))
    await asyncio.sleep(30)  # The dead one's announcement expires.
    async with hybrid.answering(ask(), ANN) as answer:
        assert answer.source is Source.SWARM


async def test_an_answer_that_the_swarm_has_begun_goes_nowhere_else(lettered):
    elsewhere = Elsewhere()
    model = await lettered.client(config=SessionConfig(route_patience=2))
    with pytest.raises(Refusal):
        async with Hybrid(core(model), elsewhere).answering(ask(60), ANN) as answer:
            async for _ in answer.work.events():
                await lettered.kill("peer-1")
    assert not elsewhere.asked
