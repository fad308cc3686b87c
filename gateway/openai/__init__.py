"""OpenAI's APIs: chat completions, completions, responses, models."""

from __future__ import annotations
