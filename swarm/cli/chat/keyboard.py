"""A person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from .completer import CommandCompleter


class Keyboard:
    """Reads with history, completion and several lines; see `Source`.

    Ctrl-C clears the line, and on an empty one says how to leave; twice it leaves, as Ctrl-D does.
    """

    interactive = True

    def __init__(
        self,
        say: Callable[[str], None],
        models: Callable[[], Iterable[str]],
        history: History | None = None,
    ) -> None:
        self._say = say
        # Else a menu's room would be kept free below every question.
        self._is_command = Condition(lambda: self._session.default_buffer.text.startswith("/"))
        # Where answers go to a file, the person still sees standard error.
        self._output = create_output(always_prefer_tty=True)
        self._session: PromptSession[str] = PromptSession(
            output=self._output,
            history=history or InMemoryHistory(),
            completer=CommandCompleter(models),
            complete_while_typing=self._is_command,
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation=FormattedText([("class:prompt", "… ")]),
            enable_open_in_editor=True,
        )

    async def read(self, default: str = "") -> str | None:
        """See `Source.read`."""
        warned = False
        while True:
            try:
                return await self._prompt("> ", default)
            except EOFError:
                return None
            except KeyboardInterrupt:
                if warned and not self._typed:
                    return None
                warned, default = not self._typed, ""
                if warned:
                    self._say("Ctrl-C again leaves, and so does Ctrl-D.")

    async def agree(self, question: str) -> bool:
        """See `Source.agree`; Enter alone is no."""
        asking: PromptSession[str] = PromptSession(output=self._output)
        try:
            answer = await asking.prompt_async(
                f"{question} [y/N] ", handle_sigint=False, set_exception_handler=False
            )
        except (EOFError, KeyboardInterrupt):
            return False
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """See `Source.undisturbed`; it is there at the next prompt. Ctrl-C works meanwhile."""
        try:
            import termios
        except ImportError:  # Windows shows nothing that nobody reads
            yield
            return
        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
        quiet = [*before]
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(handle, termios.TCSADRAIN, quiet)
        try:
            yield
        finally:
            termios.tcsetattr(handle, termios.TCSADRAIN, before)

    async def _prompt(self, mark: str, default: str) -> str:
        return await self._session.prompt_async(
            FormattedText([("bold", mark)]),
            default=default,
            # Signals and errors of the loop are those of the program around us.
            handle_sigint=False,
            set_exception_handler=False,
        )

    @property
    def _typed(self) -> bool:
        return bool(self._session.default_buffer.text)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        """Asks, unless the line goes on."""
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        """Alt+Enter, or Escape and then Enter: another line."""
        event.current_buffer.newline(copy_margin=False)

    return keys
