"""How a token is spelled: the bytes that it stands for, also where they are no whole characters.

A tokenizer's own `decode` shows what is no whole character as a replacement character. Vocabularies
write bytes down in one of two ways: each byte as a letter of an alphabet of 256 (GPT-2's, which has
many heirs), or text as it is with `▁` for a space, and bytes that are no text as `<0x0A>`
(sentencepiece's byte fallback, as llama's). What a tokenizer is follows from its decoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


class _Script(Enum):
    BYTES = auto()
    PIECES = auto()
    UNKNOWN = auto()


def _alphabet() -> dict[str, int]:
    """GPT-2's letters: bytes that are visible in Latin-1 are themselves, others follow 255."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    letters = {chr(byte): byte for byte in visible}
    return letters | {chr(256 + index): byte for index, byte in enumerate(hidden)}


_LETTERS = _alphabet()


class Spelled(NamedTuple):
    """A token and what of a text it is, in bytes."""

    id: int
    raw: bytes


class Spelling:
    """Tokens to bytes, for one transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._script = _script(tokenizer)
        self.known = self._script is not _Script.UNKNOWN
        """Whether the vocabulary is written in one of those ways; else spellings may be guesses."""
        added = tokenizer.added_tokens_decoder
        self._added: dict[int, str] = {token: word.content for token, word in added.items()}
        special = {token for token, word in added.items() if word.special}
        special |= set(tokenizer.all_special_ids)
        self._hidden = {token: self._added.get(token, "") for token in special}
        self._known: dict[int, bytes] = {}

    def spell(self, tokens: Sequence[int], text: str) -> tuple[Spelled, ...]:
        """What of `text` each of these tokens is, which together read as it without special ones.

        Whatever a decoder makes of them besides: most strip the first space, some change others.
        """
        raws = [b"" if token in self._hidden else self.raw(token) for token in tokens]
        whole = b"".join(raws)
        if whole.decode(errors="replace") != text:
            if whole[:1] == b" " and whole[1:].decode(errors="replace") == text:
                first = next(index for index, raw in enumerate(raws) if raw)
                raws[first] = raws[first][1:]
            else:
                raws = [*[b""] * (len(raws) - 1), text.encode(errors="replace")]
        return tuple(map(Spelled, tokens, raws))

    @property
    def names(self) -> Iterable[str]:
        """Those of all special tokens."""
        return self._hidden.values()

    def hidden(self, token: int) -> str | None:
        """The name of a special token, which is no text; None for others."""
        return self._hidden.get(token)

    def raw(self, token: int) -> bytes:
        """The bytes of a token; of a special one, its name. Empty for an id without a token."""
        if token not in self._known:
            self._known[token] = self._spell(token)
        return self._known[token]

    def _spell(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode(errors="replace")
        word: str | None = self._tokenizer.convert_ids_to_tokens(token)
        if word is None:
            return b""
        match self._script:
            case _Script.BYTES if all(letter in _LETTERS for letter in word):
                return bytes(_LETTERS[letter] for letter in word)
            case _Script.PIECES if found := _BYTE.fullmatch(word):
                return bytes([int(found[1], 16)])
            case _Script.PIECES:
                return word.replace(_SPACE, " ").encode(errors="replace")
        text = str(self._tokenizer.decode([token]))
        return text.encode(errors="replace")


def _script(tokenizer: Any) -> _Script:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _Script.PIECES if hasattr(tokenizer, "sp_model") else _Script.UNKNOWN
    # The decoder alone: a whole tokenizer is megabytes of JSON.
    decoder = backend.decoder
    steps = [] if decoder is None else list(_steps(json.loads(decoder.__getstate__())))
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return _Script.BYTES
    return _Script.PIECES if kinds & {"ByteFallback", "Metaspace"} else _Script.UNKNOWN


def _steps(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if decoder["type"] != "Sequence":
        yield decoder
    for inner in decoder.get("decoders", ()):
        yield from _steps(inner)
