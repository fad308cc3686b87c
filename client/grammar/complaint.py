"""What llguidance does not like about a grammar, in words for whoever asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swarm.quoting import shortened

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PLACE = re.compile(r"^(?:at \d+\(\d+\): |failed to compile JSON schema: )+")
"""Lines of what we have written for it, which nobody else has seen."""

_INNER = re.compile(r"\s*(?:<backtrace>|<non-verbose/>|\n *\d+ \| ).*", re.DOTALL)
"""Its own stack, and those lines themselves."""

_OVERLAP = "oneOf constraints are not supported"

_OTHER_WORDS = {
    _OVERLAP: "oneOf is supported where its choices exclude one"
    " another, as by a `const`; anyOf always is",
    "assertion failed: grammar.symbols.len()": "it is too large",
}


def is_overlap(failed: LLMatcher) -> bool:
    """Whether it is that some choices of a `oneOf` do not exclude one another."""
    return failed.is_error() and _OVERLAP in failed.get_error()


def reason(failed: LLMatcher) -> str:
    """Why a grammar was not taken, or a text cannot go on."""
    error = _INNER.sub("", _PLACE.sub("", failed.get_error()))
    for theirs, ours in _OTHER_WORDS.items():
        if theirs in error:
            return ours
    return shortened(error or failed.stop_reason())
