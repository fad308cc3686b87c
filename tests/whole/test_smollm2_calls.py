"""A real model held to a schema and to a call of a tool, by two peers of which one dies."""

from __future__ import annotations

import json
from contextlib import aclosing
from types import SimpleNamespace

import jsonschema_rs
import pytest

from swarm.cli.demo import demonstration_model
from swarm.client import Grammar, Reply, SamplingConfig
from swarm.errors import ConfigError
from swarm.gateway.ask import Tool, ToolChoice, ToolUse
from swarm.gateway.manners import manners
from swarm.gateway.tools.constraint import Constraint

CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "inhabitants": {"type": "integer", "minimum": 1},
        "languages": {
            "type": "array",
            "items": {"enum": ["German", "French", "Italian", "English"]},
            "minItems": 1,
            "maxItems": 2,
        },
        "capital": {"type": "boolean"},
    },
    "required": ["name", "inhabitants", "languages", "capital"],
    "additionalProperties": False,
}
TOOL = Tool("describe_city", "Describes a city.", CITY, strict=True)
QUESTION = [{"role": "user", "content": "Describe the city of Rome, in JSON."}]


@pytest.fixture(scope="module")
def model_file():
    try:
        return demonstration_model()
    except ConfigError as error:
        pytest.skip(str(error))


async def written(model, options, on_token=None):
    """The reply to the question, as text, and how often it had to be moved."""
    reply = Reply(model.template.encode(QUESTION))
    async with aclosing(model.reply(reply, options)) as pieces:
        async for _ in pieces:
            if on_token is not None:
                await on_token(len(reply.ids))
    return reply.text, reply.num_recoveries


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["schema", "call"])
async def test_what_is_asked_for_comes_whoever_dies(make_world, model_file, what):
    world = make_world(SimpleNamespace(folder=model_file))
    for name, blocks in (("first", (0, 15)), ("second", (15, 30)), ("spare", (15, 30))):
        await world.peer(name, blocks, kv_memory=64 << 20, page_len=32, silent=name == "spare")
    model = await world.client()
    grammar = Grammar.json_schema(CITY)
    if what == "call":
        choice = ToolChoice(ToolUse.REQUIRED, TOOL.name, parallel=False)
        grammar = Constraint(manners(model).syntax, [TOOL], choice).grammar()
    options = SamplingConfig(max_new_tokens=200, grammar=grammar)
    expected, num_recoveries = await written(model, options)
    assert num_recoveries == 0
    found = json.loads(expected.replace("<tool_call>", "").replace("</tool_call>", ""))
    if what == "call":
        assert found["name"] == TOOL.name and expected.strip().startswith("<tool_call>")
        found = found["arguments"]
    jsonschema_rs.validator_for(CITY).validate(found)

    killed = []

    async def on_token(number):
        if number >= 12 and not killed:
            killed.append(number)
            await world.kill("second")

    again, num_recoveries = await written(model, options, on_token)
    assert again == expected and killed and num_recoveries >= 1
