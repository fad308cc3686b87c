"""All that the gateway answers: the one list of its endpoints."""

from __future__ import annotations

from . import health, openapi
from .endpoint import Endpoint
from .openai import responses


def all_endpoints() -> tuple[Endpoint, ...]:
    """Every API's endpoints, and the page that describes them."""
    described = (*responses.endpoints(), *health.ENDPOINTS)
    return (*described, openapi.endpoint(described))
