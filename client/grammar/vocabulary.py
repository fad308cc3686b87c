"""A model's tokens as the bytes that they stand for, as llguidance wants them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from swarm.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from llguidance import LLTokenizer


class Vocabulary:
    """The tokens of one model, `size` of which have logits. Takes 0.4 s to make for 50 000 tokens.

    `ends` are the tokens that end a reply; there may be none. Raises `RequestError` for a tokenizer
    that cannot be read, `ConfigError` where llguidance is not installed.
    """

    def __init__(self, tokenizer: Any, size: int, ends: Iterable[int]) -> None:
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise ConfigError("grammars need the package llguidance: pip install llguidance") from (
                error
            )
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise RequestError("this model's tokenizer has no fast form, which grammars need")
        held = json.loads(backend.to_str())
        count = backend.get_vocab_size(with_added_tokens=True)
        self.size = size
        self.ends = sorted(each for each in ends if each < min(size, count))
        self._special = _hidden(held, {*self.ends, *tokenizer.all_special_ids})
        self.barred: int | None = None
        """A token that is never drawn, whatever the library says."""
        if not self.ends:
            # The library needs one that ends a text.
            held["added_tokens"].append(_end(count))
            count, self.barred = count + 1, count
        eos, width = self.ends or [count - 1], max(size, count)
        try:
            self.tokens: LLTokenizer = LLTokenizer(json.dumps(held), n_vocab=width, eos_token=eos)
        except ValueError as error:
            raise RequestError(f"grammars cannot read this model's tokenizer: {error}") from error

    def special(self, name: str) -> int | None:
        """The id of the special token of this name."""
        token = self._special.get(name)
        return token if token is not None and token < self.size else None


def _end(token: int) -> dict[str, Any]:
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {"id": token, "content": "<|no end|>", "special": True, **flags}


def _hidden(held: dict[str, Any], special: set[int]) -> dict[str, int]:
    """Marks special tokens as such, so that they are in no text; returns them all by name.

    A tokenizer's file need not say of all that end a reply that they are special.
    """
    held["truncation"] = held["padding"] = None
    names = {}
    for token in held["added_tokens"]:
        token["special"] = token["special"] or token["id"] in special
        if token["special"]:
            names[token["content"]] = token["id"]
    return names
