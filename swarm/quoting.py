"""What a stranger wrote, as an error message quotes it: no longer than a person reads."""

from __future__ import annotations

import reprlib

_LONGEST = 200
_LONGEST_ERROR = 600


class _Quote(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _LONGEST

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write down the longest ones.
        digits = value.bit_length() * 3 // 10
        return repr(value) if digits < _LONGEST else f"an integer of about {digits} digits"


_QUOTE = _Quote()


def quoted(value: object) -> str:
    """`repr(value)` where that is short; else some of its items, or only its beginning."""
    text = _QUOTE.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shortened(error: object) -> str:
    """What an error of somebody else's code says, which may quote all that it was given."""
    text = str(error)
    return text if len(text) <= _LONGEST_ERROR else f"{text[: _LONGEST_ERROR - 3]}..."
