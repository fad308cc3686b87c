"""The models as Anthropic's API lists them."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import AsyncAnthropic

from swarm.gateway.answer import ModelCard
from swarm.gateway.anthropic.dialect import ANTHROPIC
from swarm.gateway.anthropic.models import is_asked, list_models, page, show_model
from swarm.gateway.endpoint import Call, Endpoint
from swarm.gateway.refusals import Refusal

CARDS = [ModelCard(name, 1_700_000_000, 4096, has_route=True) for name in "abcde"]

ENDPOINTS = [
    Endpoint("GET", "/v1/models", "models", ANTHROPIC, list_models),
    Endpoint("GET", "/v1/models/{model:.+}", "a model", ANTHROPIC, show_model),
]


async def test_as_the_package_reads_them(serve: Any) -> None:
    async with (
        serve(ENDPOINTS) as server,
        AsyncAnthropic(base_url=str(server.make_url("")), api_key="any", max_retries=0) as client,
    ):
        listed = [model async for model in client.models.list()]
        shown = await client.models.retrieve("tiny")
        beta = await client.beta.models.retrieve("tiny")
        with pytest.raises(Exception, match="not_found_error"):
            await client.models.retrieve("other")
    assert listed == [shown]
    assert (shown.id, shown.type, shown.max_input_tokens) == ("tiny", "model", 2048)
    assert shown.created_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert beta.id == "tiny"


async def test_the_version_tells_whose_client_asks(serve: Any) -> None:
    asked = []

    async def handle(call: Call) -> Any:
        asked.append(is_asked(call.request))
        return await list_models(call)

    async with serve([Endpoint("GET", "/", "", ANTHROPIC, handle)]) as client:
        statuses = [
            (await client.get("/", headers=headers)).status
            for headers in ({}, {"anthropic-version": "2023-06-01"}, {"anthropic-version": "2"})
        ]
    assert asked == [False, True, True]
    assert statuses == [200, 200, 400]


@pytest.mark.parametrize(
    ("query", "names", "has_more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "c"}, "de", False),
        ({"limit": "2", "before_id": "d"}, "bc", True),
        ({"limit": "3", "before_id": "d"}, "abc", False),
        ({"after_id": "e"}, "", False),
    ],
)
def test_pages(query: dict[str, str], names: str, has_more: bool) -> None:
    shown = page(CARDS, query)
    assert "".join(model.id for model in shown.data) == names
    assert shown.has_more == has_more
    ends = (names[0], names[-1]) if names else (None, None)
    assert (shown.first_id, shown.last_id) == ends


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "²"},
        {"limit": "9" * 10_000},
        {"after_id": "x"},
        {"after_id": "a", "before_id": "b"},
        {"order": "asc"},
    ],
    ids=lambda query: str(query)[:40],
)
def test_what_is_no_page(query: dict[str, str]) -> None:
    with pytest.raises(Refusal):
        page(CARDS, query)
