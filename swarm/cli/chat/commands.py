"""What begins with a slash: told apart from what is meant for the model."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from swarm.errors import RequestError


@dataclass(frozen=True)
class Command:
    """One command: its name, what it takes (in brackets where it may be left out), what it does."""

    name: str
    takes: str
    help: str

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"/{self.name} {self.takes}".strip()


COMMANDS = (
    Command("help", "", "show what can be typed here"),
    Command("model", "[NAME]", "list the group's models, or go on with another"),
    Command("route", "", "which peers computed the last answer, and how long each took"),
    Command("stats", "", "tokens, speed and bytes of this conversation"),
    Command("retry", "", "ask the last question again; go on with an answer that broke off"),
    Command("edit", "", "change the last question, and ask it instead"),
    Command("new", "", "begin another conversation; /system and /set stay"),
    Command("drop", "[N]", "forget the oldest turn, or the N oldest"),
    Command("system", "[TEXT]", "what the model is told before all else; - for nothing"),
    Command(
        "set", "[NAME VALUE]", "show how tokens are chosen, or change it: /set temperature 0.7"
    ),
    Command("save", "FILE", "write the conversation as .json or .md, never over a file"),
    Command("save!", "FILE", "the same, over a file that is there"),
    Command("load", "FILE", "go on with a conversation that was saved"),
    Command("quit", "", "leave; so does Ctrl-D"),
)
"""In the order in which they are shown."""

_BY_NAME = {command.name: command for command in COMMANDS} | {"exit": COMMANDS[-1]}


def parse(line: str) -> tuple[Command, str] | str:
    """A command and what follows it, or what the model is to be asked.

    `//` at the beginning is one slash of a question. Raises `RequestError` for a command that there
    is not, or that is given too much or too little.
    """
    if line.startswith("//"):
        return line[1:]
    if not line.startswith("/"):
        return line
    name, _, rest = line[1:].partition(" ")
    command, rest = _BY_NAME.get(name.strip().lower()), rest.strip()
    if command is None:
        near = get_close_matches(name, _BY_NAME, 1)
        hint = f"perhaps /{near[0]}" if near else "/help shows all"
        raise RequestError(f"there is no /{name} ({hint}); a question may begin with //")
    if rest and not command.takes:
        raise RequestError(f"/{command.name} takes nothing after it")
    if not rest and command.takes and not command.takes.startswith("["):
        raise RequestError(f"write {command.usage}")
    return command, rest
