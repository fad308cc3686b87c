"""Replies that keep to a grammar: what may come next is decided before the model chooses."""

from __future__ import annotations

from .grammar import Grammar
from .layout import Layout

__all__ = ["Grammar", "Layout"]
