"""Programs that speak Anthropic's API, answered by a whole swarm."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import jsonschema_rs
import pytest
from aiohttp.test_utils import TestServer
from anthropic import AsyncAnthropic, BadRequestError

from swarm.gateway.anthropic.messages import ENDPOINTS
from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.core import Core

TEMPLATE = (
    "{%- for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{%- if add_generation_prompt %}assistant: {% endif %}"
)
FIRST = {"anthropic-version": "2023-06-01"}
"""The version of the API that has a temperature."""

ASKED = {
    "model": "tiny",
    "max_tokens": 40,
    "system": "Be kind.",
    "messages": [{"role": "user", "content": "Why?"}],
    "extra_headers": FIRST,
    "extra_body": {"temperature": 0},
}
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
    "required": ["mood", "sure"],
    "additionalProperties": False,
}


@pytest.fixture
async def three(make_tiny, make_world, make_byte_level):
    """Peers for blocks 0:1, 1:3 and 3:4 of a model that chats."""
    tiny = make_tiny("llama", eos_token_id=2, max_position_embeddings=2048)
    if not (tiny.folder / "tokenizer.json").exists():
        make_byte_level(template=TEMPLATE).save_pretrained(tiny.folder)
    world = make_world(tiny)
    await world.chain(0, 1, 3, 4)
    return world


@pytest.fixture
def anthropics(three):
    """`async with anthropics() as client`: the package's client of a gateway to the swarm."""

    @asynccontextmanager
    async def opening():
        config = GatewayConfig()
        core = Core({"tiny": await three.client("gateway")}, config)
        async with (
            TestServer(create_app(ENDPOINTS, core, config)) as server,
            AsyncAnthropic(
                base_url=str(server.make_url("")), api_key="any", max_retries=0
            ) as client,
        ):
            yield client

    return opening


def text_of(message):
    return "".join(block.text for block in message.content)


async def test_streamed_or_whole_it_is_what_the_model_says(three, anthropics):
    model = await three.client()
    talk = [{"role": "system", "content": "Be kind."}, *ASKED["messages"]]
    expected = await model.generate(talk, max_new_tokens=40)
    async with anthropics() as client:
        whole = await client.messages.create(**ASKED)
        async with client.messages.stream(**ASKED) as stream:
            streamed = await stream.get_final_message()
        counted = await client.messages.count_tokens(
            model="tiny", system="Be kind.", messages=ASKED["messages"]
        )
    assert text_of(whole) == text_of(streamed) == expected.text != ""
    assert whole.stop_reason == streamed.stop_reason
    for usage in (whole.usage, streamed.usage):
        assert usage.output_tokens == len(expected.ids)
        assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens
    assert counted.input_tokens == len(model.encode(talk))


@pytest.mark.parametrize("victim", ["peer-0", "peer-1", "peer-2"])
async def test_a_stream_outlives_any_peer(three, anthropics, victim):
    await three.spare((0, 4))
    async with anthropics() as client:
        expected = await client.messages.create(**ASKED)
        parts = []
        async with client.messages.stream(**ASKED) as stream:
            async for text in stream.text_stream:
                if len(parts) == 5:
                    await three.kill(victim)
                parts.append(text)
            message = await stream.get_final_message()
    assert len(parts) > 5
    assert "".join(parts) == text_of(message) == text_of(expected)
    assert message.usage.output_tokens == expected.usage.output_tokens


async def test_a_reply_keeps_to_a_schema(anthropics):
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    async with anthropics() as client:
        message = await client.messages.create(**ASKED | {"max_tokens": 200}, output_config=wanted)
    assert message.stop_reason == "end_turn"
    jsonschema_rs.validator_for(SCHEMA).validate(json.loads(text_of(message)))


async def test_the_next_turn_is_computed_only_where_it_is_new(anthropics):
    async with anthropics() as client:
        first = await client.messages.create(**ASKED)
        turns = [
            *ASKED["messages"],
            {"role": "assistant", "content": text_of(first)},
            {"role": "user", "content": "And then?"},
        ]
        second = await client.messages.create(**ASKED | {"messages": turns})
    assert first.usage.cache_read_input_tokens == 0
    assert second.usage.cache_read_input_tokens > 0


async def test_what_does_not_fit_is_refused_in_numbers(anthropics):
    async with anthropics() as client:
        with pytest.raises(BadRequestError, match=r"exceed context limit: \d+ \+ 2040 > 2048"):
            await client.messages.create(**ASKED | {"max_tokens": 2040})
        long = [{"role": "user", "content": "x" * 3000}]
        with pytest.raises(BadRequestError, match=r"prompt is too long: \d+ tokens > 2048"):
            await client.messages.create(**ASKED | {"messages": long})


async def test_a_reply_goes_on_from_what_is_begun(three, anthropics):
    model = await three.client()
    text = "system: Be kind.\nuser: Why?\nassistant: The sky"
    expected = await model.generate(text, raw=True, max_new_tokens=20)
    begun = [*ASKED["messages"], {"role": "assistant", "content": "The sky"}]
    async with anthropics() as client:
        message = await client.messages.create(**ASKED | {"messages": begun, "max_tokens": 20})
    assert text_of(message) == expected.text
