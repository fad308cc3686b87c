"""`/v1/models`, which both APIs have: told in the words of whoever asks."""

from __future__ import annotations

from aiohttp import web

from .anthropic import models as anthropic
from .endpoint import Call, Endpoint
from .openai import models as openai
from .openai.dialect import OPENAI


async def _list(call: Call) -> web.StreamResponse:
    if anthropic.is_asked(call.request):
        return await anthropic.list_models(call)
    return await openai.list_models(call)


async def _show(call: Call) -> web.StreamResponse:
    if anthropic.is_asked(call.request):
        return await anthropic.show_model(call)
    return await openai.show_model(call)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/models",
        "The models",
        OPENAI,
        _list,
        answer=openai.ModelList | anthropic.ModelPage,
    ),
    Endpoint(
        "GET",
        # Names of repositories hold slashes.
        "/v1/models/{model:.+}",
        "One model",
        OPENAI,
        _show,
        answer=openai.Model | anthropic.ModelInfo,
    ),
)
