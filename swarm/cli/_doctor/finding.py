"""What a check has found: said so that it can be pasted into a chat."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

_SECRETS = (
    (re.compile(r"hs1[a-z2-7]{16,}", re.IGNORECASE), "(invite)"),
    (re.compile(r"(?:/(?:ip4|ip6|dns|dns4|dns6)/[^\s,;)]+)"), "(address)"),
    (re.compile(r"\b(?:12D3Koo|Qm)[1-9A-HJ-NP-Za-km-z]{20,}"), "(id)"),
    (re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"), "(address)"),
    (re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:){3,}[0-9a-f:]*[0-9a-f]", re.IGNORECASE), "(address)"),
)
"""What others' words may hold: invites, multiaddresses, ids, addresses that are not loopback."""


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What was `found` about a `subject`, what that `means`, and what to `do` about it.

    Nobody's address, key, id or invite is in it, and no name of a home folder: people show these
    lines to others. Whatever it is made with is cleaned of them.
    """

    subject: str
    verdict: Verdict
    found: str
    means: str = ""
    do: str = ""

    def __post_init__(self) -> None:
        for name in ("found", "means", "do"):
            object.__setattr__(self, name, cleaned(getattr(self, name)))

    def about(self, subject: str) -> Finding:
        """The same of another subject."""
        return replace(self, subject=subject)


def ok(found: str) -> Finding:
    """All is well; the check's name is put in later."""
    return Finding("", Verdict.OK, found)


def warning(found: str, means: str, do: str) -> Finding:
    """It works, but could be better, or soon does not."""
    return Finding("", Verdict.WARNING, found, means, do)


def problem(found: str, means: str, do: str) -> Finding:
    """Something does not work."""
    return Finding("", Verdict.PROBLEM, found, means, do)


def skipped(why: str) -> Finding:
    """It could not be looked at, or need not be."""
    return Finding("", Verdict.SKIPPED, why)


def cleaned(text: str) -> str:
    """The text as one line without what is nobody's business."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    return " ".join(text.split())
