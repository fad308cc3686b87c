"""`/v1/models` (https://platform.openai.com/docs/api-reference/models)."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec import Struct

from swarm.quoting import quoted

from ..answer import ModelCard
from ..endpoint import Call, Endpoint, whole
from ..refusals import Reason, Refusal
from .dialect import OPENAI


class Model(Struct, kw_only=True):
    """A model that can be asked. It belongs to the group whose members run it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["swarm"] = "swarm"


class ModelList(Struct, kw_only=True):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


async def list_models(call: Call) -> web.Response:
    """All models of this gateway."""
    cards = await call.answerer.models()
    return whole(ModelList(data=[_model(card) for card in cards]))


async def show_model(call: Call) -> web.Response:
    """One of them; its name may hold slashes, as names of repositories do."""
    name = call.request.match_info["model"]
    for card in await call.answerer.models():
        if card.name == name:
            return whole(_model(card))
    raise Refusal(Reason.UNKNOWN_MODEL, f"the model {quoted(name)} does not exist", param="model")


def _model(card: ModelCard) -> Model:
    return Model(id=card.name, created=card.created)


ENDPOINTS = (
    Endpoint("GET", "/v1/models", "The models", OPENAI, list_models, answer=ModelList),
    Endpoint("GET", "/v1/models/{model:.+}", "One model", OPENAI, show_model, answer=Model),
)
