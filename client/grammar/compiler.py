"""Grammars of one model: compiled once, in a thread, and kept for the next reply that asks."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from swarm.errors import RequestError

from .complaint import is_overlap, reason
from .grammar import Grammar, Kind
from .lark import Writer
from .matcher import Matcher
from .overlap import overlapping
from .schema import at
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits

logger = logging.getLogger(__name__)

MAX_KEPT = 64
"""Compiled grammars that are kept."""

MAX_KEPT_CHARS = 1 << 20
"""Characters that these are made of, together."""


class Compiler:
    """Compiles grammars for a model whose logits are `size` wide and whose replies `ends` end.

    Nothing is read or started before the first grammar comes.
    """

    def __init__(
        self, tokenizer: Callable[[], Any], size: int, ends: Callable[[], Iterable[int]]
    ) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._ends = ends
        self._vocabulary: Vocabulary | None = None
        self._kept: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        # One thread of its own: grammars that take long hold up other grammars and nothing else.
        self._thread = ThreadPoolExecutor(1, "grammar")

    async def matcher(self, grammar: Grammar) -> Matcher:
        """Somebody who follows a new reply through `grammar`.

        Raises `RequestError` for one that says nothing, or takes too much to be followed, and
        `ConfigError` where llguidance is not installed.
        """
        if grammar not in self._kept:
            loop = asyncio.get_running_loop()
            compiled = await loop.run_in_executor(self._thread, self._compile, grammar)
            self._keep(grammar, compiled)
        self._kept.move_to_end(grammar)
        assert self._vocabulary is not None
        followed = self._kept[grammar].deep_copy()
        matcher = Matcher(followed, self._vocabulary)
        if matcher.finished:
            raise RequestError("this grammar allows nothing but the empty text")
        return matcher

    def _keep(self, grammar: Grammar, compiled: LLMatcher) -> None:
        self._kept[grammar] = compiled
        num_chars = sum(each.num_chars for each in self._kept)
        while len(self._kept) > MAX_KEPT or (num_chars > MAX_KEPT_CHARS and len(self._kept) > 1):
            dropped, _ = self._kept.popitem(last=False)
            num_chars -= dropped.num_chars

    def _compile(self, grammar: Grammar) -> LLMatcher:
        started = time.perf_counter()
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self._tokenizer(), self._size, self._ends())
        compiled = self._tried(grammar)
        if compiled.is_error():
            where = self._where(grammar) if is_overlap(compiled) else ""
            raise RequestError(f"this grammar cannot be followed: {where}{reason(compiled)}")
        logger.debug(
            "grammar_compiled chars=%d seconds=%.3f",
            grammar.num_chars,
            time.perf_counter() - started,
        )
        return compiled

    def _tried(self, grammar: Grammar) -> LLMatcher:
        from llguidance import LLMatcher

        assert self._vocabulary is not None
        text = Writer(self._vocabulary.special).write(grammar)
        return LLMatcher(self._vocabulary.tokens, text, log_level=0, limits=_limits())

    def _where(self, grammar: Grammar) -> str:
        """The place of choices that do not exclude one another, for the beginning of an error."""

        def fails(schema: dict[str, Any]) -> bool:
            return is_overlap(self._tried(Grammar(Kind.JSON, json.dumps(schema))))

        for part in dict.fromkeys(grammar.walk()):
            if part.kind is Kind.JSON and '"oneOf"' in part.text and is_overlap(self._tried(part)):
                place = overlapping(json.loads(part.text), fails)
                return f"{at(place)}: " if place else ""
        return ""


def _limits() -> LLParserLimits:
    """What a grammar may take to be compiled and followed."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        # Work on regular expressions, about 50 000 a millisecond: 20 ms.
        initial_lexer_fuel=1_000_000,
        # The same for one token's mask. Four times as much was seen to take 0.4 s.
        step_lexer_fuel=50_000,
        # Parser items for one token, about 20 000 a millisecond.
        step_max_items=50_000,
        max_items_in_row=4_000,
        # Each takes one or two kilobytes, in each reply.
        max_lexer_states=20_000,
        # Symbols; the library fails at twice as many.
        max_grammar_size=30_000,
        # Errors are for people: without the parser's inner state.
        verbose_errors=False,
    )
