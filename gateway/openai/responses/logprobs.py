"""Logprobs of tokens as the API writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .items import Logprob, TopLogprob

if TYPE_CHECKING:
    from swarm.client import ChosenToken

_LOWEST = -9999.0
"""What the API says of a token that cannot come; JSON has no infinity."""


def logprobs(tokens: Iterable[ChosenToken]) -> list[Logprob]:
    """Of those tokens that are text and that were scored."""
    return [
        Logprob(
            _text(token.raw),
            list(token.raw),
            max(token.logprob, _LOWEST),
            [TopLogprob(_text(raw), list(raw), max(top, _LOWEST)) for _, raw, top in token.top],
        )
        for token in tokens
        if token.raw and token.logprob is not None
    ]


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
