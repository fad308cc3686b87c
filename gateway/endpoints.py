"""All that the gateway answers: the one list of its endpoints."""

from __future__ import annotations

from . import health, metrics_endpoint, models, openapi
from .anthropic import messages
from .endpoint import Endpoint
from .openai import chat, completions, responses


def all_endpoints() -> tuple[Endpoint, ...]:
    """Every API's endpoints, and the page that describes them."""
    described = (
        *models.ENDPOINTS,
        *chat.ENDPOINTS,
        *completions.ENDPOINTS,
        *responses.endpoints(),
        *messages.ENDPOINTS,
        *health.ENDPOINTS,
        *metrics_endpoint.ENDPOINTS,
    )
    return (*described, openapi.endpoint(described))
