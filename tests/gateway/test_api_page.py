"""`docs/api.md`: its examples run, and it tells of every field."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarm.gateway.anthropic import messages
from swarm.gateway.anthropic.body import MessagesBody
from swarm.gateway.events import Ended, Ending, Said
from swarm.gateway.openai import chat, completions, models
from swarm.gateway.openai.chat import ChatRequest
from swarm.gateway.openai.completions import CompletionRequest
from swarm.gateway.openai.responses import endpoints as responses
from swarm.gateway.openai.responses.body import ResponseRequest

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S))
BODIES: dict[str, type[msgspec.Struct]] = {
    "Chat completions": ChatRequest,
    "Completions": CompletionRequest,
    "Responses": ResponseRequest,
    "Messages": MessagesBody,
}


@pytest.mark.parametrize("section", BODIES)
def test_every_field_is_told_of(section: str) -> None:
    for field in BODIES[section].__struct_encode_fields__:
        assert f"`{field}`" in SECTIONS[section], field


@pytest.mark.parametrize("section", ["Chat completions", "Completions", "Responses", "Models"])
async def test_the_example_runs(serve: Any, scripted: Any, section: str) -> None:
    example = re.search(
        r"^curl http://localhost:8000(\S+)(.*?)(?:-d '(.*?)')?$\n```",
        SECTIONS[section],
        re.M | re.S,
    )
    assert example is not None
    path, _, body = example.groups()
    scripted.events = (Said(0, "Because."), Ended(0, Ending.END))
    endpoints = (*chat.ENDPOINTS, *completions.ENDPOINTS, *responses(), *models.ENDPOINTS)
    async with serve(endpoints) as client:
        if body is None:
            answer = await client.get(path)
        else:
            fields = {**json.loads(body), "model": "tiny"}
            answer = await client.post(path, json=fields)
        assert answer.status == 200, await answer.text()


async def test_the_example_of_messages_runs(
    serve: Any, scripted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.search(r"^```python\n(.*?)^```", SECTIONS["Messages"], re.M | re.S)
    assert example is not None
    scripted.events = (Said(0, "Because"), Said(0, " of air."), Ended(0, Ending.END))
    async with serve(messages.ENDPOINTS) as client:
        code = example[1].replace("http://localhost:8000", str(client.make_url("")).rstrip("/"))
        code = code.replace('"smol"', '"tiny"')
        scope: dict[str, Any] = {}
        try:
            await asyncio.to_thread(exec, code, scope)
        finally:
            # A program ends with its script; here, the connection would be left to the garbage
            # collector, which may find it open in the middle of another test.
            scope["client"].close()
    assert capsys.readouterr().out == "Because of air."
