"""A model's tokens as llguidance wants them: the bytes of each, and how a text is cut into them.

The library could read a tokenizer's file itself; but it takes all added tokens that look like
`<this>` for special, as many models have them that are text all the same (Qwen's `<tool_call>`),
and reads the name of a special token in a text as that token. So it is told what our own reading
of replies goes by (`swarm.client.spelling`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from swarm.errors import ConfigError, RequestError

from ..spelling import Spelling

if TYPE_CHECKING:
    from llguidance import LLTokenizer, TokenizerWrapper

_SPECIAL = b"\xff"
"""Before the name of a token that is no text; no UTF-8 has such a byte."""


class Vocabulary:
    """The tokens of one model, `size` of which have logits. Takes 0.6 s to make for 50 000 tokens.

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
        backend, spelling = getattr(tokenizer, "backend_tokenizer", None), Spelling(tokenizer)
        if backend is None:
            raise RequestError("this model's tokenizer has no fast form, which grammars need")
        if not spelling.known:
            raise RequestError(
                "grammars cannot read this model's tokenizer: its decoder is unknown"
            )
        count = min(size, backend.get_vocab_size(with_added_tokens=True))
        self.size = size
        self.ends = sorted(each for each in ends if each < count)
        hidden = {token: spelling.hidden(token) for token in range(count)}
        hidden |= {token: spelling.raw(token).decode() for token in self.ends}
        self._special = {name: token for token, name in hidden.items() if name}
        tokens = [
            spelling.raw(token) if hidden[token] is None else _SPECIAL + spelling.raw(token)
            for token in range(count)
        ]
        tokens += [b""] * (size - count)
        self.barred: int | None = None
        """A token that is never drawn, whatever the library says."""
        if not self.ends:
            # The library needs one that ends a text.
            self.barred = count
            tokens[count:] = [_SPECIAL + b"no end", *tokens[count + 1 :]]
        cutting = _Cutting(backend, set(self._special.values()), tokens)
        cutting.eos_token_id = (self.ends or [count])[0]
        wrapped = cast("TokenizerWrapper", cutting)
        self.tokens: LLTokenizer = LLTokenizer(wrapped, eos_token=self.ends or [count])
        cutting.greedy = self.tokens.greedy_tokenize

    def special(self, name: str) -> int | None:
        """The id of the special token of this name."""
        return self._special.get(name)


class _Cutting:
    """A text in tokens, as the model's tokenizer cuts it where it stands within a reply.

    The attributes are those by which the library knows a tokenizer that is written in Python.
    """

    is_tokenizer_wrapper = True
    bos_token_id: int | None = None
    special_token_ids: tuple[int, ...] = ()  # Their bytes say so already.

    def __init__(self, backend: Any, special: set[int], tokens: list[bytes]) -> None:
        from tokenizers import Tokenizer

        self._backend = Tokenizer.from_str(
            json.dumps(_inner(json.loads(backend.to_str()), special))
        )
        self._backend.encode_special_tokens = True  # So that their names are text.
        self.tokens = tokens
        self.eos_token_id = 0
        self.greedy: Callable[[str], list[int]]

    def __call__(self, text: str) -> list[int]:
        """Never raises anything, as the library has nobody to tell.

        A normalizer may change a text, and a text may need what has no logits: then in the longest
        tokens that there are.
        """
        try:
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        except Exception:  # There is no other class of tokenizers' errors.
            return self.greedy(text)
        known = all(token < len(self.tokens) for token in ids)
        if known and b"".join(map(self.tokens.__getitem__, ids)) == text.encode():
            return ids
        return self.greedy(text)


def _inner(held: dict[str, Any], special: set[int]) -> dict[str, Any]:
    """The tokenizer of texts that others precede: no space is put before them."""
    held["truncation"] = held["padding"] = None
    for token in held["added_tokens"]:
        # A tokenizer's file need not say of all that end a reply that they are special.
        token["special"] = token["special"] or token["id"] in special
    for part, steps in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        whole = held[part] or {"type": "Sequence", steps: []}
        each = whole[steps] if whole["type"] == "Sequence" else [whole]
        kept = [_unspaced(step) for step in each if step["type"] != "Prepend"]
        held[part] = {"type": "Sequence", steps: kept}
    return held


def _unspaced(step: dict[str, Any]) -> dict[str, Any]:
    changed = dict(step)
    if "add_prefix_space" in step:
        changed["add_prefix_space"] = False
    if step["type"] == "Metaspace":
        changed["prepend_scheme"] = "never"
        changed.pop("add_prefix_space", None)
    return changed
