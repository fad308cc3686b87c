"""Members' names: what people see and type, so printable, short, and each of them once."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable

from swarm.membership.certificate import MAX_NAME


def clean(wish: str) -> str:
    """What can be shown of a name that somebody else has chosen; perhaps nothing."""
    text = unicodedata.normalize("NFC", wish)
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:MAX_NAME].rstrip()


def unique(name: str, is_taken: Callable[[str], bool]) -> str:
    """The name, or `name-2`, `name-3` and so on: the first one that is free."""
    if not is_taken(name):
        return name
    suffixes = (f"-{number}" for number in itertools.count(2))
    candidates = (name[: MAX_NAME - len(suffix)] + suffix for suffix in suffixes)
    return next(candidate for candidate in candidates if not is_taken(candidate))
