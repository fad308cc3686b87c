"""`/health`: whether the models can be asked now, which is more than being up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web

from .answer import NOBODY, ModelCard
from .endpoint import Call, Endpoint
from .openai.dialect import OPENAI


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there is a route through all blocks of a model, and which blocks nobody serves."""

    has_route: bool
    missing: list[tuple[int, int]]


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`ok` where every model has a route. What is told of each is for those who may ask."""

    status: Literal["ok", "no_route"]
    models: dict[str, ModelHealth] | None = None


async def _health(call: Call) -> web.Response:
    cards = await call.answerer.models()
    whole = all(card.has_route for card in cards)
    models = None if call.caller == NOBODY else _told(cards)
    health = Health(status="ok" if whole else "no_route", models=models)
    return web.Response(
        body=msgspec.json.encode(health),
        content_type="application/json",
        status=200 if whole else 503,
        headers={"Cache-Control": "no-store"},
    )


def _told(cards: Sequence[ModelCard]) -> dict[str, ModelHealth]:
    return {
        card.name: ModelHealth(has_route=card.has_route, missing=list(card.missing))
        for card in cards
    }


ENDPOINTS = (
    Endpoint(
        "GET",
        "/health",
        "Whether every model has a route now",
        OPENAI,
        _health,
        answer=Health,
        open=True,
    ),
)
