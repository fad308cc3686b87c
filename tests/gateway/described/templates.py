"""The templates of `tests/gateway/tools/templates`, by what their models can be brought to."""

from __future__ import annotations

NATIVE = (
    "action",
    "bare_name",
    "bracket",
    "channels",
    "elements",
    "fenced",
    "headers",
    "hermes",
    "keyed",
    "list",
    "pythonic",
    "sections",
    "square",
)
"""Calls are written as the template shows them."""

CALLING = (*NATIVE, "plain")
"""Calls are written: where the template shows none, in a way of our own."""

ALL = (*CALLING, "thinking", "turns")
"""With one that thinks before it calls, and one without tools in which both have to take turns."""
