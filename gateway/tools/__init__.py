"""Calls of tools: how a model writes them, what keeps it to that, and who reads them."""

from __future__ import annotations
