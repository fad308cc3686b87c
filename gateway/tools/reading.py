"""Reads a choice in which a model may call tools, as it comes.

What may still become a call is held back until it is certain; nothing of what stands around names
and arguments is ever text. Where the model is held to the syntax, a call is told as soon as its
name is known, and its arguments letter by letter; where it is not, a call is told once it is whole,
and what only began like one is text after all.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.client import Finish

from ..events import CallBegun, CallPart, Ended, Ending, Event
from ..reading import ENDINGS
from .arguments import read_object, read_pairs
from .head import Head, NoCall, Over, Reads
from .saying import Saying, overlap
from .syntax import Syntax
from .tape import Spoken, Tape

if TYPE_CHECKING:
    from collections.abc import Generator

    from swarm.client import ChosenToken, Piece

_MOST_SPACES = 64
"""Spaces before a call that are held back, as they belong to it."""

_LONGEST_NAME = 256


@dataclass(frozen=True)
class Manner:
    """How a model calls, and which tools it has: their schemas by name.

    `letters` are the coded ones of special tokens, by id. With `assured` the model cannot break the
    syntax. It makes `most` calls. It begins in a thought if `is_thinking`. `stop` ends its words.
    """

    syntax: Syntax
    tools: Mapping[str, Mapping[str, Any]]
    letters: Mapping[int, str] = field(default_factory=dict)
    assured: bool = False
    most: int | None = None
    is_thinking: bool = False
    stop: tuple[str, ...] = ()


class CallReading:
    """Reads one choice; see `swarm.gateway.reading.Reading`. After `Ended` it reads no more."""

    def __init__(self, choice: int, manner: Manner) -> None:
        self._choice = choice
        self._manner = manner
        self._syntax = manner.syntax
        self._tape = Tape()
        self._head = Head(self._tape)
        self._saying = Saying(choice, manner.stop, manner.syntax.words)
        self._events: list[Event] = []
        self._call: _Call | None = None
        self._num_calls = 0
        self._only_words = False
        self._in_markup = False
        self._ended = False
        self._reads = self._read()

    def push(self, piece: Piece) -> list[Event]:
        """See `Reading.push`. A stop string, or the last call that is wanted, makes it `Ended`."""
        for spoken in self._spoken(piece):
            self._tape.push(spoken)
            next(self._reads, None)
        return self._taken()

    def end(self, finish: Finish | None, stopped_by: str | None) -> list[Event]:
        """See `Reading.end`."""
        assert finish is not None, "a choice ends for a reason"
        self._head.closed = True
        for _ in self._reads:
            raise AssertionError("it waits for more")
        if not self._ended:
            self._close(ENDINGS[finish])
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _spoken(self, piece: Piece) -> Iterator[Spoken]:
        """The piece, coded: parted at the special tokens that matter."""
        letters, tokens = self._manner.letters, piece.tokens
        places = [at for at, token in enumerate(tokens) if token.id in letters]
        if not places:
            yield Spoken(piece.text, tokens)
            return
        start = 0
        for place in places:
            yield _joined(tokens[start:place])
            yield Spoken(letters[tokens[place].id], tokens[place : place + 1])
            start = place + 1
        yield _joined(tokens[start:])

    # What follows reads the tape from its beginning to its end, and waits where there is no more.

    def _read(self) -> Reads:
        try:
            if self._manner.is_thinking:
                yield from self._thought()
            while not self._ended:
                yield from self._words()
                self._in_markup = True
                try:
                    yield from self._calls()
                except NoCall:
                    self._undo()
                self._in_markup = False
        except Over:
            return

    def _words(self) -> Reads:
        """Says all up to what begins a call."""
        opening = self._syntax.thoughts[0] if self._syntax.thoughts else ""
        if not self._syntax.trigger:
            yield from self._start(opening)
            return
        marks = [mark for mark in (self._syntax.trigger, opening) if mark]
        while True:
            text = self._tape.unread
            found = [(at, mark) for mark in marks if (at := text.find(mark, self._tape.at)) >= 0]
            if not found:
                held = max(overlap(text[self._tape.at :], mark) for mark in marks)
                self._say_to(len(text) - held, but_spaces=True)
                yield from self._head.more()
                continue
            at, mark = min(found)
            self._say_to(at, but_spaces=mark != opening)
            if mark != opening:
                return
            yield from self._thought()

    def _start(self, opening: str) -> Reads:
        """A call that only its place tells from text: nothing but spaces stands before it."""
        first = self._syntax.begin.lstrip()[:1]
        while not self._only_words and self._tape.num_read <= _MOST_SPACES:
            letter = yield from self._head.letter()
            if letter == first:
                self._only_words = True
                return
            if letter.isspace():
                self._tape.read(self._tape.at + 1)
            elif opening and (yield from self._head.comes(opening)):
                yield from self._thought()
            else:
                break
        self._only_words = True
        while True:
            self._say_to(len(self._tape.unread))
            yield from self._head.more()

    def _thought(self) -> Reads:
        """Says all up to the end of a thought: what a model considers calling, it does not call."""
        assert self._syntax.thoughts is not None
        closing, tape = self._syntax.thoughts[1], self._tape
        while (at := tape.unread.find(closing, tape.at)) < 0:
            self._say_to(len(tape.unread) - overlap(tape.unread[tape.at :], closing))
            yield from self._head.more()
        self._say_to(at + len(closing))

    def _calls(self) -> Reads:
        """Reads calls up to their end. Raises `NoCall` where they are none."""
        syntax, head = self._syntax, self._head
        yield from head.literal(syntax.begin)
        ends = [syntax.end]
        if syntax.again is not None and syntax.is_framed:
            ends.append(syntax.again)
        found = None
        while found != syntax.end:
            call = _Call(self._num_calls, (yield from self._name()))
            if syntax.pairs is None:
                yield from head.literal(syntax.middle, *syntax.variants)
                self._begin(call)
                yield from read_object(head, self._add)
                call.is_whole = True
                found = yield from head.literal(*ends)
            else:
                self._begin(call)
                schema = self._manner.tools[call.name]
                found = yield from read_pairs(head, syntax, ends, schema, self._add)
            self._complete(call)

    def _name(self) -> Generator[None, None, str]:
        syntax = self._syntax
        behind = [syntax.middle + "{", *syntax.variants]
        if syntax.pairs is not None:
            behind.append(syntax.pairs.none + syntax.end)
        firsts = frozenset(text.lstrip()[:1] for text in behind)
        name = (yield from self._head.until(firsts, _LONGEST_NAME)).strip()
        if name not in self._manner.tools:
            raise NoCall
        return name

    # Calls on their way out.

    def _begin(self, call: _Call) -> None:
        self._call = call
        if self._manner.assured:
            self._tell(call)

    def _tell(self, call: _Call) -> None:
        """The call is certain: its text is no longer kept, and never said."""
        call.is_told = True
        self._num_calls += 1
        self._tape.take(self._tape.num_read)
        self._events += self._saying.flush()
        self._events.append(CallBegun(self._choice, call.index, call.id, call.name))
        if call.parts:
            self._events.append(CallPart(self._choice, call.index, "".join(call.parts)))

    def _add(self, part: str) -> None:
        call = self._call
        assert call is not None
        if call.is_told:
            self._tape.take(self._tape.num_read)
            if part:
                self._events.append(CallPart(self._choice, call.index, part))
        else:
            call.parts.append(part)

    def _complete(self, call: _Call) -> None:
        if not call.is_told:
            _check(call)
            self._tell(call)
        self._tape.take(self._tape.num_read)
        self._call = None
        if self._num_calls == self._manner.most and not self._manner.assured:
            self._finish(Ended(self._choice, Ending.CALLS))

    def _undo(self) -> None:
        """It was no call: what was kept of it is text."""
        self._call = None
        self._say_to(self._tape.at)

    def _say_to(self, end: int, *, but_spaces: bool = False) -> None:
        """Says what is kept, and what is unread up to this place; not the last spaces of it."""
        tape = self._tape
        if but_spaces:
            spaces = len(tape.unread[tape.at : end]) - len(tape.unread[tape.at : end].rstrip())
            end -= min(spaces, _MOST_SPACES)
        tape.read(end)
        self._events += self._saying.say(tape.take(tape.num_read))
        if self._saying.stopped_by is not None:
            self._finish(Ended(self._choice, Ending.STOP, self._saying.stopped_by))

    def _finish(self, ended: Ended) -> None:
        self._events.append(ended)
        self._ended = True
        self._head.closed = True
        raise Over

    def _close(self, ending: Ending) -> None:
        """No more comes: what is kept is a call's, or words."""
        try:
            self._close_call(ending)
            rest = self._tape.unread[self._tape.at :]
            if self._num_calls and not rest.strip():
                self._tape.read(len(self._tape.unread))
                self._tape.take(self._tape.num_read)
            self._say_to(len(self._tape.unread))
        except Over:
            return
        self._events += self._saying.flush()
        if ending is not Ending.LENGTH and self._num_calls:
            ending = Ending.CALLS
        self._events.append(Ended(self._choice, ending))

    def _close_call(self, ending: Ending) -> None:
        call = self._call
        if call is not None and not call.is_told:
            try:
                if call.is_whole:
                    _check(call)
                if call.is_whole or ending is Ending.LENGTH:
                    self._tell(call)
            except NoCall:
                pass
        is_cut = self._manner.assured and ending is Ending.LENGTH and self._in_markup
        if is_cut or (call is not None and call.is_told):
            self._tape.read(len(self._tape.unread))
            self._tape.take(self._tape.num_read)


class _Call:
    """One call, told or not yet."""

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self.id = f"call_{secrets.token_hex(12)}"
        self.parts: list[str] = []
        self.is_told = False
        self.is_whole = False


def _check(call: _Call) -> None:
    """Raises `NoCall` for arguments that are no JSON object."""
    try:
        held = json.loads("".join(call.parts))
    except (ValueError, RecursionError) as error:
        raise NoCall from error
    if not isinstance(held, dict):
        raise NoCall


def _joined(tokens: tuple[ChosenToken, ...]) -> Spoken:
    return Spoken(b"".join(token.raw for token in tokens).decode(errors="replace"), tokens)
