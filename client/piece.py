"""A piece of a reply's text and the tokens that it is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChosenToken:
    """A token of a reply, or of a prompt that is scored.

    `raw` is what of the text it is, in UTF-8, perhaps only a part of a character; a special token
    is no text and has none. Logprobs are the model's own (`swarm.client.logprobs`): of the token
    (None where they were not asked for, or where nothing comes before it), and of the likeliest in
    its place, as `(id, raw, logprob)`, where `raw` of a special token is its name.
    """

    id: int
    raw: bytes
    logprob: float | None = None
    top: tuple[tuple[int, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that has become certain, and its tokens, whose bytes together are that text.

    Bytes that form no character are a replacement character in the text, and themselves in the
    tokens. A piece of special tokens alone has no text.
    """

    text: str
    tokens: tuple[ChosenToken, ...]
