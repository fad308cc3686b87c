"""What Tab, or a slash, offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from .commands import COMMANDS
from .settings import NAMES


class CommandCompleter(Completer):
    """Completes commands, settings, models by `models()`, and files."""

    def __init__(self, models: Callable[[], Iterable[str]]) -> None:
        self._models = models
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """See `Completer`."""
        text = document.text_before_cursor
        if not text.startswith("/") or text.startswith("//") or "\n" in text:
            return
        name, space, rest = text[1:].partition(" ")
        if not space:
            for command in COMMANDS:
                if command.name.startswith(name.lower()):
                    yield Completion(
                        command.name, -len(name), display=command.usage, display_meta=command.help
                    )
        elif name in ("save", "save!", "load"):
            part = Document(rest, len(rest))
            yield from self._paths.get_completions(part, complete_event)
        else:
            offered = {"set": NAMES, "model": self._models()}.get(name, ())
            for each in offered:
                if each.startswith(rest):
                    yield Completion(each, -len(rest))
