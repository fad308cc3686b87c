"""One JSON value in a text that is still coming: where it ends, and that it could be one."""

from __future__ import annotations

import re

_IN_STRING = re.compile(r'["\\\ud800-\udfff]')
_OUTSIDE = re.compile(r'["{}\[\]\ud800-\udfff]')
_SCALAR = re.compile(r"[-+.\w]*")
_DEEPEST = 256


class NoJson(Exception):
    """What comes is no JSON value, as the letter `at` shows."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at


class JsonText:
    """Follows a JSON value from its first letter; brackets and strings alone are looked at."""

    def __init__(self, *, is_object: bool = True) -> None:
        self._is_object = is_object
        self._open: list[str] = []
        self._in_string = False
        self._is_escaped = False
        self._is_scalar = False
        self._begun = False
        self.finished = False

    def feed(self, text: str, at: int) -> int:
        """Where in `text` from `at` the value ends, or how far it has come. Raises `NoJson`."""
        while at < len(text) and not self.finished:
            at = self._step(text, at)
        return at

    def _step(self, text: str, at: int) -> int:
        if not self._begun:
            return self._begin(text, at)
        if self._is_scalar:
            found = _SCALAR.match(text, at)
            assert found is not None
            self.finished = found.end() < len(text)
            return found.end()
        if self._is_escaped:
            self._is_escaped = False
            return at + 1
        found = (_IN_STRING if self._in_string else _OUTSIDE).search(text, at)
        if found is None:
            return len(text)
        if not self._takes(found[0]):
            raise NoJson(found.start())
        self.finished = not self._open and not self._in_string and not self._is_escaped
        return found.end()

    def _begin(self, text: str, at: int) -> int:
        letter = text[at]
        if self._is_object and letter != "{":
            raise NoJson(at)
        self._begun = True
        self._is_scalar = letter not in '{["'
        if self._is_scalar and not _SCALAR.fullmatch(letter):
            raise NoJson(at)
        return at

    def _takes(self, sign: str) -> bool:
        """Whether this may stand here."""
        match sign:
            case '"':
                self._in_string = not self._in_string
            case "\\":
                self._is_escaped = True
            case "{" | "[":
                self._open.append("}" if sign == "{" else "]")
                return len(self._open) <= _DEEPEST
            case _:
                return bool(self._open) and self._open.pop() == sign
        return True
