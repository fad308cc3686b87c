"""Answers from outside the group, where the user has turned that on and the swarm cannot answer."""

from __future__ import annotations

from .config import FallbackConfig
from .fallback import Fallback

__all__ = ["Fallback", "FallbackConfig"]
