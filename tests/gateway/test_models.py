"""`/v1/models`: which there are, and each by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest
from aiohttp.test_utils import TestClient
from openai.types import Model
from yarl import URL

from swarm.gateway.answer import ModelCard
from swarm.gateway.openai.models import ENDPOINTS

NAMES = ["tiny", "Org/Model-7B", "a%2Fb c/ü:q4?.gguf"]


@pytest.fixture
async def client(serve: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    card = ModelCard("", 1_700_000_000, 2048, has_route=True)

    async def models() -> tuple[ModelCard, ...]:
        return tuple(replace(card, name=name) for name in NAMES)

    monkeypatch.setattr(scripted, "models", models)
    async with serve(ENDPOINTS) as client:
        yield client


def shown(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "swarm"}


async def test_all_models(client: TestClient) -> None:
    answer = await client.get("/v1/models")
    assert answer.status == 200
    body = await answer.json()
    assert body == {"object": "list", "data": [shown(name) for name in NAMES]}
    for model in body["data"]:
        Model.model_validate(model, strict=True)


@pytest.mark.parametrize(
    "path, name",
    [
        ("tiny", "tiny"),
        ("Org/Model-7B", "Org/Model-7B"),
        ("Org%2FModel-7B", "Org/Model-7B"),
        ("a%252Fb%20c%2F%C3%BC:q4%3F.gguf", "a%2Fb c/ü:q4?.gguf"),
    ],
)
async def test_one_model_by_its_name(client: TestClient, path: str, name: str) -> None:
    answer = await client.get(URL(f"/v1/models/{path}", encoded=True))
    assert answer.status == 200
    assert await answer.json() == shown(name)


@pytest.mark.parametrize("path", ["gpt", "Tiny", "Org", "Org/Model-7B/", "%00"])
async def test_a_model_that_is_not_there(client: TestClient, path: str) -> None:
    answer = await client.get(URL(f"/v1/models/{path}", encoded=True))
    assert answer.status == 404
    error = (await answer.json())["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "model_not_found")
    assert error["param"] == "model"


async def test_the_package_finds_them(client: TestClient) -> None:
    url = str(client.make_url("/v1"))
    async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as program:
        assert [model.id async for model in program.models.list()] == NAMES
        for name in NAMES:
            assert (await program.models.retrieve(name)).id == name
        with pytest.raises(openai.NotFoundError):
            await program.models.retrieve("gpt")
