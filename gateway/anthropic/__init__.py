"""Anthropic's Messages API."""

from __future__ import annotations
