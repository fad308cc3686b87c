"""Three libraries for constrained decoding, behind one face. All write JSON without spaces."""

from __future__ import annotations

from typing import Any, Protocol


class Follower(Protocol):
    """Follows one text."""

    def mask(self) -> object:
        """Which tokens may come next."""

    def accept(self, token: int) -> bool:
        """Takes a token; False where it may not come."""

    def may_end(self) -> bool:
        """Whether the text may end here."""


class Library(Protocol):
    """One library, for one vocabulary."""

    refusals: tuple[type[BaseException], ...]

    def follower(self, schema: str) -> Follower:
        """Compiles a JSON schema; raises one of `refusals` where it is not supported."""


class LLGuidance:
    """https://github.com/guidance-ai/llguidance"""

    refusals = (ValueError,)

    def __init__(self, tokenizer: Any, width: int) -> None:
        import llguidance

        self._library = llguidance
        self._tokens = llguidance.LLTokenizer(
            tokenizer.backend_tokenizer.to_str(), n_vocab=width, eos_token=tokenizer.eos_token_id
        )

    def follower(self, schema: str) -> Follower:
        """With separators as they are, and no other spaces."""
        matcher = self._library.LLMatcher
        grammar = matcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        made = matcher(self._tokens, grammar, log_level=0)
        if made.is_error():
            raise ValueError(made.get_error())
        return _LLGuidance(made)


class _LLGuidance:
    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self) -> object:
        return self._matcher.compute_bitmask()

    def accept(self, token: int) -> bool:
        return bool(self._matcher.consume_token(token))

    def may_end(self) -> bool:
        return bool(self._matcher.is_accepting())


class XGrammar:
    """https://github.com/mlc-ai/xgrammar"""

    refusals = (RuntimeError, ValueError)

    def __init__(self, tokenizer: Any, width: int) -> None:
        import xgrammar

        self._library = xgrammar
        self._width = width
        known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=width)
        self._compiler = xgrammar.GrammarCompiler(known, max_threads=1, cache_enabled=False)

    def follower(self, schema: str) -> Follower:
        """In its strict mode, which closes objects that leave it open: that is off here."""
        compiled = self._compiler.compile_json_schema(
            schema, any_whitespace=False, separators=(",", ":"), strict_mode=False
        )
        bits = self._library.allocate_token_bitmask(1, self._width)
        return _XGrammar(self._library.GrammarMatcher(compiled), bits)


class _XGrammar:
    def __init__(self, matcher: Any, bits: Any) -> None:
        self._matcher = matcher
        self._bits = bits

    def mask(self) -> object:
        self._matcher.fill_next_token_bitmask(self._bits)
        return self._bits

    def accept(self, token: int) -> bool:
        return bool(self._matcher.accept_token(token))

    def may_end(self) -> bool:
        return bool(self._matcher.is_completed())


class Outlines:
    """https://github.com/dottxt-ai/outlines-core"""

    refusals = (ValueError, TypeError, NotImplementedError, RuntimeError)

    def __init__(self, tokenizer: Any, width: int) -> None:
        import numpy as np
        import outlines_core
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        self._library = outlines_core
        end = tokenizer.eos_token_id
        special = set(tokenizer.added_tokens_decoder)
        letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
        known: dict[bytes, list[int]] = {}
        for token in range(len(tokenizer)):
            if token not in special:
                name = tokenizer.convert_ids_to_tokens(token)
                known.setdefault(bytes(letters[each] for each in name), []).append(token)
        self._tokens = outlines_core.Vocabulary(end, known)
        self._bits = np.zeros((width + 31) // 32, np.int32)

    def follower(self, schema: str) -> Follower:
        """By way of a regular expression, whose automaton is spelled out for the vocabulary."""
        regex = self._library.json_schema.build_regex_from_schema(schema, whitespace_pattern="")
        return _Outlines(self._library.Guide(self._library.Index(regex, self._tokens)), self._bits)


class _Outlines:
    def __init__(self, guide: Any, bits: Any) -> None:
        self._guide = guide
        self._bits = bits

    def mask(self) -> object:
        self._guide.write_mask_into(self._bits.ctypes.data, self._bits.size, 4)
        return self._bits

    def accept(self, token: int) -> bool:
        try:
            self._guide.advance(token, return_tokens=False)
        except ValueError:
            return False
        return True

    def may_end(self) -> bool:
        return bool(self._guide.is_finished())


LIBRARIES = {"llguidance": LLGuidance, "xgrammar": XGrammar, "outlines-core": Outlines}
