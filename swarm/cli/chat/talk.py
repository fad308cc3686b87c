"""The conversation itself: questions go to the model, commands to who carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from swarm.errors import RequestError, SwarmError

from .._changes import ranges
from .._options import shown
from ..runner import interruptible
from . import document, settings
from .answering import Answer, Terms, TooLong, begin, mended, summary, write
from .commands import COMMANDS, parse
from .conversation import Conversation, Turn
from .tally import Tally

if TYPE_CHECKING:
    from swarm.client import RemoteModel, Swarm

    from .models import Models
    from .screen import Screen
    from .source import Source

_KEYS = """\
Enter asks; Alt+Enter (or Escape, then Enter, or \\ at the end) begins another line.
Ctrl-C stops an answer; at the prompt it clears the line, and twice it leaves, as Ctrl-D does.
Up and Ctrl-R find what was asked before; Tab completes; Ctrl-X Ctrl-E opens the editor."""


class Talk:
    """One conversation until its end; `run` is it."""

    def __init__(
        self, swarm: Swarm, models: Models, source: Source, screen: Screen, terms: Terms
    ) -> None:
        self._swarm = swarm
        self._models = models
        self._source = source
        self._screen = screen
        self._terms = terms
        self._conversation = Conversation()
        self._tally = Tally()
        self._model: RemoteModel
        self._last: Answer | None = None
        self._broken: Answer | None = None
        """An answer that an error has cut short, and that can go on."""
        self._draft = ""
        """What stands at the next prompt, to be changed and asked."""
        self._replaces = False
        """Whether the next question takes the place of the last one."""
        self._open = True
        self._told_of: set[str] = set()
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "help": self._help,
            "model": self._choose_model,
            "route": self._route,
            "stats": self._stats,
            "retry": self._retry,
            "edit": self._edit,
            "new": self._new,
            "drop": self._drop,
            "system": self._system,
            "set": self._set,
            "save": self._save,
            "save!": self._save_over,
            "load": self._load,
            "quit": self._quit,
        }

    async def run(self, model: RemoteModel, system: str = "") -> None:
        """Talks until there is nothing more to read, or somebody says that it is enough.

        Where somebody sits there, what goes wrong is shown, and the conversation goes on; elsewhere
        it is raised as a `SwarmError`.
        """
        self._model, self._conversation.system = model, system
        # From one question to the next: what comes between them would stand before the prompt.
        with self._source.undisturbed():
            await self._converse()

    async def _converse(self) -> None:
        while self._open:
            draft, self._draft = self._draft, ""
            if (line := await self._source.read(draft)) is None:
                return
            try:
                async with interruptible() as scope:
                    await self._take(line)
                if scope.expired():
                    self._screen.note("Stopped.")
            except SwarmError as error:
                if not self._source.interactive:
                    raise
                self._screen.error(f"{error}")

    async def _take(self, line: str) -> None:
        replaces, self._replaces = self._replaces, False
        if not line.strip():
            return
        meant = parse(line.strip() if line.lstrip().startswith("/") else line)
        if isinstance(meant, tuple):
            command, rest = meant
            await self._commands[command.name](rest)
        else:
            if replaces:
                self._conversation.take_back()
            await self._ask(meant)
        self._warn()

    async def _ask(self, question: str) -> None:
        self._broken = None
        while True:
            messages = self._conversation.messages(question)
            try:
                answer = await begin(self._model, messages, question, self._terms)
                break
            except TooLong as error:
                if not self._conversation.turns or not await self._may_drop(error):
                    self._draft = question if self._source.interactive else ""
                    raise TooLong(f"{error}; /drop forgets the oldest turns, /new all") from error
                self._conversation.drop(1)
        await self._answer(answer)

    async def _may_drop(self, error: TooLong) -> bool:
        if not self._source.interactive:
            return False
        self._screen.note(f"{error}.", "yellow")
        return await self._source.agree("Forget the oldest turn?")

    async def _answer(self, answer: Answer) -> None:
        """Writes it, and takes it into the conversation unless nothing came."""
        self._last = answer
        try:
            await write(self._swarm, self._model, answer, self._screen)
        except SwarmError:
            self._broken = answer
            raise
        reply = answer.reply
        if not reply.text:
            self._screen.note("Stopped before a word had come." if answer.stopped else "No words.")
            self._broken = answer if answer.stopped else None
            return
        whole = not answer.stopped
        self._conversation.turns.append(Turn(answer.asked, reply.text, whole))
        self._tally.add(answer)
        if self._source.interactive:
            self._screen.note(summary(answer, self._model.key.context_length))
        if told := mended(answer):
            self._screen.note(told)

    def _warn(self) -> None:
        """Peers whose work was found wrong, perhaps since the answer was read."""
        for peer in self._last.reply.distrusted if self._last else ():
            if peer not in self._told_of:
                self._told_of.add(peer)
                line = f"Peer …{peer[-6:]} was found to compute wrongly: do not trust the last"
                self._screen.note(f"{line} answer; /retry asks others.", "bold red")

    async def _help(self, _: str) -> None:
        table = Table.grid(padding=(0, 2))
        for command in COMMANDS:
            table.add_row(shown(command.usage), shown(command.help))
        self._screen.show(table)
        self._screen.note(_KEYS)

    async def _choose_model(self, name: str) -> None:
        if not name:
            await self._list_models()
            return
        if (model := await self._models.open(name)) is None:
            self._screen.note(f"Still talking to {self._model.checkpoint.name}.")
            return
        self._model.checkpoint.close()
        self._model, self._broken = model, None
        turns = len(self._conversation.turns)
        kept = f"; it is told all {turns} turns with the next question" if turns else ""
        self._screen.note(f"Talking to {model.checkpoint.name}{kept}.")

    async def _list_models(self) -> None:
        table = Table.grid(padding=(0, 2))
        for each in await self._models.offered():
            mark = "*" if each.fingerprint == self._model.key.fingerprint else " "
            peers = f"{len(each.holders)} peer{'s' * (len(each.holders) != 1)}"
            gap = f"lacks blocks {ranges(each.missing)}" if each.missing else "complete"
            table.add_row(mark, shown(each.name), peers, gap)
        if table.row_count:
            self._screen.show(table)
        else:
            self._screen.note("Nobody serves any model at the moment.")

    async def _route(self, _: str) -> None:
        if self._last is None or not self._last.reply.route:
            raise RequestError("there is no answer yet whose route could be shown")
        names = {entry.peer: entry.name for entry in await self._swarm.announcements()}
        self._screen.end()
        self._last.report(names).show(self._screen.console)

    async def _stats(self, _: str) -> None:
        self._screen.note(self._tally.told(), "")

    async def _retry(self, _: str) -> None:
        if self._broken is not None:
            answer, self._broken = self._broken, None
            # What has been read stays above; the reply goes on behind it.
            await self._answer(answer)
            return
        await self._ask(self._taken_back().asked)

    async def _edit(self, _: str) -> None:
        if self._broken is not None:
            self._draft, self._broken = self._broken.asked, None
            return
        turn = self._taken_back()
        # Until another question is asked it is still there.
        self._conversation.turns.append(turn)
        self._draft, self._replaces = turn.asked, True

    def _taken_back(self) -> Turn:
        if (turn := self._conversation.take_back()) is None:
            raise RequestError("nothing has been asked yet")
        return turn

    async def _new(self, _: str) -> None:
        self._conversation.turns.clear()
        self._broken = None
        self._screen.note("A new conversation.")

    async def _drop(self, number: str) -> None:
        if number and not (number.isdecimal() and int(number)):
            raise RequestError("write /drop N with how many of the oldest turns to forget")
        dropped = self._conversation.drop(int(number or 1))
        left = len(self._conversation.turns)
        self._screen.note(f"Forgot the {dropped} oldest turns; {left} are left.")

    async def _system(self, text: str) -> None:
        if text:
            self._conversation.system = "" if text == "-" else text
        told = self._conversation.system
        self._screen.note(f"Before all else it is told: {told}" if told else "It is told nothing.")

    async def _set(self, text: str) -> None:
        name, _, value = text.partition(" ")
        if value:
            sampling = settings.changed(self._terms.sampling, name, value.strip())
            self._terms = replace(self._terms, sampling=sampling)
        elif name:
            raise RequestError(f"write /set {name} VALUE")
        self._screen.note("\n".join(settings.told(self._terms.sampling)), "")

    async def _save(self, text: str, *, over: bool = False) -> None:
        name, talk = self._model.checkpoint.name, self._conversation
        path = await asyncio.to_thread(document.save, text, talk, name, over=over)
        self._screen.note(f"Saved {len(talk.turns)} turns to {path}.")

    async def _save_over(self, text: str) -> None:
        await self._save(text, over=True)

    async def _load(self, text: str) -> None:
        self._conversation = await asyncio.to_thread(document.load, text)
        self._broken = None
        self._screen.note(f"Going on after {len(self._conversation.turns)} turns.")

    async def _quit(self, _: str) -> None:
        self._open = False
