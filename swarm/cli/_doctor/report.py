"""Findings as they come: a list that grows on a terminal, lines elsewhere; or JSON at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.text import Text

from .finding import Finding, Verdict

_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
    Verdict.SKIPPED: "dim",
}
_WIDTHS = (9, 18)


class Silent:
    """Says nothing: for those who want JSON at the end."""

    def begin(self, name: str) -> None:
        """See `Report`."""

    def end(self) -> None:
        """See `Report`."""

    def say(self, line: str) -> None:
        """See `Report`."""

    def add(self, finding: Finding) -> None:
        """See `Report`."""

    def close(self, findings: Sequence[Finding]) -> None:
        """See `Report`."""


class Report:
    """For people, on standard output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def begin(self, name: str) -> None:
        """Something is looked at now: shown on a terminal, until the next finding."""
        if not self._console.is_terminal:
            return
        self.end()
        self._status = self._console.status(f"{name} …", spinner="dots")
        self._status.start()

    def end(self) -> None:
        """Nothing is looked at now."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def say(self, line: str) -> None:
        """A line that is no finding."""
        self._console.print(line, style="dim", highlight=False, soft_wrap=True)

    def add(self, finding: Finding) -> None:
        """One finding; of what is well, one line."""
        self.end()
        head = Text(f"{finding.verdict:<{_WIDTHS[0]}}", style=_STYLES[finding.verdict])
        head.append(f"{_plain(finding.subject):<{_WIDTHS[1]}} ", style="bold")
        self._print(head, _plain(finding.found))
        for title, text in (("means", finding.means), ("do", finding.do)):
            if text:
                lead = Text(" " * (_WIDTHS[0]) + f"{title:>{_WIDTHS[1]}} ", style="dim")
                self._print(lead, _plain(text))

    def close(self, findings: Sequence[Finding]) -> None:
        """What it comes to."""
        problems, warnings = (count(findings, each) for each in (Verdict.PROBLEM, Verdict.WARNING))
        self._console.print()
        if not problems:
            words = f", with {_number(warnings, 'warning')}" if warnings else ""
            self._console.print(f"No problems{words}.", style="green", highlight=False)
        else:
            line = f"{_number(problems, 'problem')}, {_number(warnings, 'warning')}."
            self._console.print(line, style="bold red", highlight=False)

    def _print(self, lead: Text, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(Text.assemble(lead, text), soft_wrap=True)
            return
        left = len(lead.plain)
        lines = Text(text).wrap(self._console, max(20, self._console.width - left - 1))
        for number, line in enumerate(lines):
            if number:
                self._console.print(Padding(line, (0, 0, 0, left)), highlight=False)
            else:
                self._console.print(Text.assemble(lead, line), highlight=False)


def count(findings: Sequence[Finding], verdict: Verdict) -> int:
    """How many there are of a kind."""
    return sum(each.verdict is verdict for each in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """For programs."""
    problems = count(findings, Verdict.PROBLEM)
    return json.dumps(
        {"ok": not problems, "findings": [asdict(each) for each in findings]}, indent=2
    )


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
