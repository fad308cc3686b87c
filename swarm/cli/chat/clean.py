"""Words of a model for a terminal, which obeys some of what it is shown."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{SOFT HYPHEN}"
_DIRECTIONS = "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}\N{ARABIC LETTER MARK}"
_DROPPED = "\r\N{ZERO WIDTH NO-BREAK SPACE}"
_SEPARATORS = "\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"
_TRANSLATED = str.maketrans(dict.fromkeys(_SEPARATORS, "\n") | dict.fromkeys(_DROPPED, ""))


def clean(text: str) -> str:
    """`text` without anything that a terminal acts upon.

    Escape sequences begin with a control character (C0 or C1): they set titles and colours, move
    the cursor, write to the clipboard (OSC 52), and some terminals answer them as if the user had
    typed. What overrides the direction of text makes it read otherwise than it is (Trojan Source,
    CVE-2021-42574). Each of these becomes a replacement character; what scripts and emoji are
    joined with stays.
    """
    text = text.translate(_TRANSLATED)
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _harmless(each) else "\N{REPLACEMENT CHARACTER}" for each in text)


def _harmless(character: str) -> bool:
    if character in _KEPT or character.isprintable():
        return True
    kind = unicodedata.category(character)
    if kind == "Cf":
        return character in _JOINERS or character in _DIRECTIONS
    # Letters that are newer than this Python, somebody's own, and other spaces.
    return kind in ("Cn", "Co", "Zs")
