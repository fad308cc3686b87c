"""OpenAI's Responses API: text and function tools, streamed or whole, kept for a while."""

from __future__ import annotations

from .endpoints import endpoints
from .store import Store, StoreConfig

__all__ = ["Store", "StoreConfig", "endpoints"]
