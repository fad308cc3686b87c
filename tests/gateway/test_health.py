"""`/health` says whether models can be asked, and to strangers no more than that."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.answer import ModelCard
from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.health import ENDPOINTS
from swarm.gateway.keys import Keys, given

KEY = "a-key-of-twenty-and-more"


async def test_models_with_a_route_are_healthy(serve: Any) -> None:
    async with serve(ENDPOINTS) as client, client.get("/health") as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "status": "ok",
            "models": {"tiny": {"has_route": True, "missing": []}},
        }


async def test_one_gap_is_enough(
    serve: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models() -> tuple[ModelCard, ...]:
        whole = ModelCard("whole", 0, 0, has_route=True)
        return (whole, ModelCard("torn", 0, 0, has_route=False, missing=((2, 5),)))

    monkeypatch.setattr(scripted, "models", models)
    async with serve(ENDPOINTS) as client, client.get("/health") as answer:
        assert answer.status == 503
        body = await answer.json()
        assert body["status"] == "no_route"
        assert body["models"]["torn"] == {"has_route": False, "missing": [[2, 5]]}
        assert body["models"]["whole"]["has_route"]


async def test_strangers_learn_only_whether(scripted: Any) -> None:
    keys = Keys(given([KEY]))
    app = create_app(ENDPOINTS, scripted, GatewayConfig(), keys)
    async with TestClient(TestServer(app)) as client:
        async with client.get("/health") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        async with client.get("/health", headers={"x-api-key": KEY}) as answer:
            assert "tiny" in (await answer.json())["models"]
