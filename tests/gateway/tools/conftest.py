"""Tokenizers with templates of many shapes, and what models taught by them write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from swarm.client import ChatTemplate, ChosenToken, Piece
from swarm.gateway.manners import Manners, find_out

TEMPLATES = Path(__file__).parent / "templates"
ENDS = ("</s>", "<|im_end|>", "<|eot|>", "<|end|>", "<|call|>")


@dataclass(frozen=True)
class Taught:
    """A model's tokenizer with one of the templates of `templates/`, and what is known of it."""

    tokenizer: PreTrainedTokenizerFast
    template: ChatTemplate
    manners: Manners
    ends: frozenset[int]

    def asked(self, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The end of a prompt."""
        return self.template.render([{"role": "user", "content": "Well?"}], tools)

    def said(self, content: str, calls: Sequence[Mapping[str, Any]]) -> str:
        """What the model writes, as its template has it, without what ends the reply."""
        message = {"role": "assistant", "content": content}
        if calls:
            message["tool_calls"] = calls
        talk = [{"role": "user", "content": "Well?"}, message]
        text = self.template.render(talk, asking=False)
        text = _behind(self.asked(), text).rstrip()
        return next((text.removesuffix(end) for end in ENDS if text.endswith(end)), text)

    def pieces(self, text: str, cuts: Iterable[int] = range(1, 100_000)) -> list[Piece]:
        """The text in pieces, cut at these places and around special tokens."""
        special = {
            word.content: token for token, word in self.tokenizer.added_tokens_decoder.items()
        }
        names = "|".join(map(re.escape, special))
        pieces, places, at = [], set(cuts), 0
        for part in re.split(f"({names})", text):
            if part in special:
                pieces.append(Piece("", (ChosenToken(special[part], b""),)))
                at += len(part)
                continue
            start = 0
            for end in range(1, len(part) + 1):
                if at + end in places or end == len(part):
                    word = part[start:end]
                    pieces.append(Piece(word, (ChosenToken(3, word.encode()),)))
                    start = end
            at += len(part)
        return pieces


def _behind(start: str, text: str) -> str:
    """The text from where it differs from another."""
    pairs = enumerate(zip(start, text, strict=False))
    return text[next((at for at, (a, b) in pairs if a != b), min(len(start), len(text))) :]


def teach(tokenizer: Any, source: str) -> Taught:
    """Gives a tokenizer of bytes this template; its control tokens are those that it names."""
    names = sorted(set(re.findall(r"<\|\w+\|>|\[/?[A-Z_]{4,}\]", source)))
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.chat_template = source
    template = ChatTemplate(tokenizer, "tiny")
    known = set(tokenizer.get_vocab())
    ends = {tokenizer.convert_tokens_to_ids(end) for end in ENDS if end in known}
    return Taught(tokenizer, template, find_out(template, tokenizer, ends), frozenset(ends))


@pytest.fixture(scope="session")
def taught(make_byte_level: Callable[..., Any]) -> Callable[[str], Taught]:
    """`taught(name)`: a tokenizer with that template."""

    def known(name: str) -> Taught:
        source = (TEMPLATES / f"{name}.jinja").read_text().rstrip("\n")
        return teach(make_byte_level(), source)

    return cache(known)
