"""How each API says no: every reason has a status and a type, and the form is the API's."""

from __future__ import annotations

import pytest

from swarm.gateway.anthropic.dialect import ANTHROPIC
from swarm.gateway.endpoint import Dialect
from swarm.gateway.openai.dialect import OPENAI
from swarm.gateway.refusals import Reason, Refusal, TooLong


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_told(dialect: Dialect, reason: Reason) -> None:
    refusal = Refusal(reason, "because", param="field")
    assert 400 <= dialect.status(refusal) < 600
    assert "because" in dialect.refuse(refusal)["error"]["message"]


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        (Reason.INVALID, 400, "invalid_request_error"),
        (Reason.UNAUTHORIZED, 401, "authentication_error"),
        (Reason.FORBIDDEN, 403, "permission_error"),
        (Reason.UNKNOWN_MODEL, 404, "not_found_error"),
        (Reason.TOO_LARGE, 413, "request_too_large"),
        (Reason.BUSY, 429, "rate_limit_error"),
        (Reason.FAILED, 500, "api_error"),
        (Reason.NO_ROUTE, 529, "overloaded_error"),
    ],
)
def test_anthropics_statuses(reason: Reason, status: int, kind: str) -> None:
    refusal = Refusal(reason, "because")
    assert ANTHROPIC.status(refusal) == status
    body = ANTHROPIC.refuse(refusal)
    assert body["type"] == "error"
    assert body["error"] == {"type": kind, "message": "because"}
    assert body["request_id"].startswith("req_")


def test_anthropic_names_the_field_first() -> None:
    said = [
        ANTHROPIC.refuse(Refusal(Reason.INVALID, text, param="top_k"))["error"]["message"]
        for text in ("'top_k': too many", "'top_k' is not supported", "too many")
    ]
    assert said == ["top_k: too many", "top_k: Extra inputs are not permitted", "top_k: too many"]
    place = ANTHROPIC.refuse(Refusal(Reason.INVALID, "wrong", param="messages[0].content[12].x"))
    assert place["error"]["message"] == "messages.0.content.12.x: wrong"


def test_anthropics_clients_read_the_numbers_of_what_is_too_long() -> None:
    # The two sentences by which agents know whether to ask for less, or to shorten what was said.
    reply = ANTHROPIC.refuse(TooLong(1500, 1000, 2048, param="messages"))["error"]["message"]
    assert reply.startswith(
        "input length and `max_tokens` exceed context limit: 1500 + 1000 > 2048"
    )
    prompt = ANTHROPIC.refuse(TooLong(3000, 1000, 2048, param="messages"))["error"]["message"]
    assert prompt == "prompt is too long: 3000 tokens > 2048 maximum"
