"""The models that can be asked, as Anthropic lists them.

https://docs.anthropic.com/en/api/models-list. OpenAI's API has other answers at the same paths:
`is_asked` tells whose client it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from aiohttp import web

from ..answer import ModelCard
from ..endpoint import Call, whole
from ..refusals import Reason, Refusal
from .version import version_of

_LIMIT = 20
_MOST = 1000


class ModelInfo(msgspec.Struct, tag_field="type", tag="model"):
    """A model. `created_at` is when the gateway opened it; 0 tokens stand for "not known"."""

    id: str
    display_name: str
    created_at: str
    max_input_tokens: int
    max_tokens: int
    lifecycle: Literal["active"] = "active"


class ModelPage(msgspec.Struct):
    """Some of the models, in order, and whether there are more."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


def is_asked(request: web.Request) -> bool:
    """Whether a client of Anthropic's API asks: only those send its version."""
    return "anthropic-version" in request.headers


async def list_models(call: Call) -> web.StreamResponse:
    """A page of the models: `limit` of them, after `after_id` or before `before_id`."""
    version_of(call.request)
    return whole(page(await call.answerer.models(), call.request.query))


async def show_model(call: Call) -> web.StreamResponse:
    """One model, `{model}` in the path."""
    version_of(call.request)
    name = call.request.match_info["model"]
    for card in await call.answerer.models():
        if card.name == name:
            return whole(_info(card))
    raise Refusal(Reason.UNKNOWN_MODEL, f"model: {name}")


def page(cards: Sequence[ModelCard], query: Mapping[str, str]) -> ModelPage:
    """The part of the models that a query asks for."""
    if unknown := set(query) - {"limit", "after_id", "before_id", "beta"}:
        raise Refusal(Reason.UNSUPPORTED, "is not supported", param=min(unknown))
    if "after_id" in query and "before_id" in query:
        raise Refusal(Reason.INVALID, "is given with `after_id`", param="before_id")
    limit = _number(query.get("limit", str(_LIMIT)))
    first, last = 0, len(cards)
    if "after_id" in query:
        first = _place(cards, query["after_id"], "after_id") + 1
    if "before_id" in query:
        last = _place(cards, query["before_id"], "before_id")
        shown = cards[max(first, last - limit) : last]
        has_more = last - limit > first
    else:
        shown = cards[first : first + limit]
        has_more = first + limit < last
    data = [_info(card) for card in shown]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return ModelPage(data, has_more, *ends)


def _info(card: ModelCard) -> ModelInfo:
    created = datetime.fromtimestamp(card.created, UTC).isoformat().replace("+00:00", "Z")
    limit = card.context_length
    return ModelInfo(card.name, card.name, created, limit, limit)


def _place(cards: Sequence[ModelCard], name: str, param: str) -> int:
    for place, card in enumerate(cards):
        if card.name == name:
            return place
    raise Refusal(Reason.INVALID, "there is no such model", param=param)


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST:
        return int(text)
    raise Refusal(Reason.INVALID, f"must be from 1 to {_MOST}", param="limit")
