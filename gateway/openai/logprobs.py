"""How likely tokens were, as OpenAI's two APIs write it down."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from swarm.client import ChosenToken

UNLIKELY = -9999.0
"""The API's word for a token that is as good as impossible: JSON knows no infinity."""

_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class TopLogprob(Struct):
    """A token that could have come. `bytes` is null where it stands for no text."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(Struct):
    """A token that has come, and the likeliest ones in its place."""

    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct):
    """Of a message's text, or of what a chunk has of it."""

    content: list[TokenLogprob]
    refusal: None = None


class Logprobs(Struct):
    """The same of a completion, in lists side by side.

    The first token of an echoed prompt has none. `text_offset` counts characters of `text`, the
    echoed prompt's among them, up to the one in which a token begins.
    """

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def extend(self, more: Logprobs) -> None:
        """Adds what follows."""
        self.tokens += more.tokens
        self.token_logprobs += more.token_logprobs
        self.top_logprobs += more.top_logprobs
        self.text_offset += more.text_offset


def chat_logprobs(tokens: Iterable[ChosenToken]) -> ChoiceLogprobs:
    """As chat completions have it."""
    return ChoiceLogprobs(
        [
            TokenLogprob(
                _escaped(token.raw),
                list(token.raw) or None,
                _finite(token.logprob),
                [
                    TopLogprob(_escaped(raw), list(raw) or None, _finite(logprob))
                    for _, raw, logprob in token.top
                ],
            )
            for token in tokens
        ]
    )


def completion_logprobs(tokens: Iterable[ChosenToken], text: str, start: int) -> Logprobs:
    """As completions have it, for the tokens of `text`, which begins at character `start`."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    found, length = Logprobs(), 0
    for token in tokens:
        found.tokens.append(_marked(token.raw))
        found.token_logprobs.append(None if token.logprob is None else _finite(token.logprob))
        found.top_logprobs.append(None if token.logprob is None else _top(token))
        # Bytes of a character that has only begun count with what follows, if that completes it.
        begun, _ = decoder.getstate()
        broken = bool(begun) and text[length : length + 1] == _NO_CHARACTER
        found.text_offset.append(start + length + broken)
        length += len(decoder.decode(token.raw))
    return found


def _top(token: ChosenToken) -> dict[str, float]:
    """The likeliest ones and the token itself. Of two that read the same, the likelier one."""
    top: dict[str, float] = {}
    for _, raw, logprob in token.top:
        top.setdefault(_marked(raw), _finite(logprob))
    if all(token.id != other for other, _, _ in token.top):
        top.setdefault(_marked(token.raw), _finite(token.logprob))
    return top


def _finite(logprob: float | None) -> float:
    return UNLIKELY if logprob is None else max(logprob, UNLIKELY)


def _escaped(raw: bytes) -> str:
    """The text; bytes that are none as `\\xe2`."""
    return raw.decode(errors="backslashreplace")


def _marked(raw: bytes) -> str:
    """The text; where it is none, its bytes behind `bytes:`, as no text begins."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
