"""`swarm status --watch`: the group again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from swarm.background import background
from swarm.errors import SwarmError
from swarm.overview import Overview

from . import _board
from ._belonging import Belonging, look
from ._changes import Change, Kind, changes
from ._options import plain

if TYPE_CHECKING:
    from swarm.directory import Announcement
    from swarm.invite import Invite
    from swarm.member import Member

_RECENT = 10.0
"""Seconds for which a change stands out."""

_NEWS = 6
"""Changes that stay on the screen."""

_BELONGING_INTERVAL = 15.0
_LOOK_TIMEOUT = 10.0

_STYLES = {
    Kind.CAME: "green",
    Kind.STATE: "yellow",
    Kind.MOVED: "yellow",
    Kind.REPORTED: "bold red",
    Kind.LEFT: "red",
    Kind.GAP: "bold red",
    Kind.WHOLE: "bold green",
}

Pick = Callable[["Announcement"], bool]
"""Whether an announcement is to be shown."""


@dataclass(frozen=True)
class Frame:
    """One look: what is served, what has happened since the look before, and who we are.

    Where the group does not answer, `trouble` says so, and the rest is what it said last.
    """

    overview: Overview
    news: tuple[Change, ...] = ()
    belonging: Belonging | None = None
    trouble: str = ""
    time: float = field(default_factory=time.time)


async def watch(member: Member, invite: Invite, pick: Pick, every: float, as_json: bool) -> None:
    """Shows the group every so many seconds: in place on a terminal, else whenever it changes."""
    with _display(as_json) as show:
        async for frame in _frames(member, invite, pick, every):
            show(frame)


async def _frames(member: Member, invite: Invite, pick: Pick, every: float) -> AsyncIterator[Frame]:
    belongings: list[Belonging] = []
    async with background() as tasks:
        tasks.create_task(_keep_belonging(member, invite, belongings))
        overview = await _seen(member, pick)
        frame = Frame(overview)
        with _resized() as redraw:
            while True:
                yield replace(frame, belonging=belongings[0] if belongings else None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await redraw.wait()
                if redraw.is_set():
                    redraw.clear()
                    frame = Frame(overview, trouble=frame.trouble)
                    continue
                frame = await _next(member, pick, overview)
                overview = frame.overview


async def _next(member: Member, pick: Pick, before: Overview) -> Frame:
    try:
        overview = await _seen(member, pick)
    except (SwarmError, TimeoutError) as error:
        return Frame(before, trouble=f"the group does not answer: {error or 'it takes too long'}")
    return Frame(overview, changes(before, overview))


async def _seen(member: Member, pick: Pick) -> Overview:
    from swarm.auditing.report import num_reporters
    from swarm.directory import Shelf

    async with asyncio.timeout(_LOOK_TIMEOUT):
        found = await member.directory.find()
        reporters = num_reporters(await member.directory.read(Shelf.REPORTS))
    return Overview.of(filter(pick, found), reporters)


async def _keep_belonging(member: Member, invite: Invite, found: list[Belonging]) -> None:
    """Looks apart from the rest: whom the bootstraps know takes long to ask where they are gone."""
    while True:
        with contextlib.suppress(SwarmError):
            found[:] = [await look(member, invite)]
        await asyncio.sleep(_BELONGING_INTERVAL)


@contextmanager
def _resized() -> Iterator[asyncio.Event]:
    """Is set whenever the terminal's size has changed."""
    changed = asyncio.Event()
    if not hasattr(signal, "SIGWINCH"):
        yield changed
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        yield changed
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextmanager
def _display(as_json: bool) -> Iterator[Callable[[Frame], None]]:
    if as_json:
        yield _JsonLines().show
    elif not sys.stdout.isatty():
        yield _Blocks().show
    else:
        board = _Board(Console())
        try:
            with Live(console=board.console, screen=True, auto_refresh=False) as live:
                yield lambda frame: live.update(board.drawn(frame), refresh=True)
        finally:
            # The screen of before is back: what was seen last stays on it.
            if board.last is not None:
                board.console.print(board.last)


class _JsonLines:
    """One line for the first look, and one for each in which something has changed."""

    def __init__(self) -> None:
        self._first = True

    def show(self, frame: Frame) -> None:
        if not self._first and not frame.news:
            return
        self._first = False
        told = {"time": frame.time, "changes": [change.as_json() for change in frame.news]}
        _write(json.dumps(told | frame.overview.as_json()))


class _Blocks:
    """The same, for people who read a log."""

    def __init__(self) -> None:
        self._first = True
        self._trouble = False
        self._console = Console(width=200)

    def show(self, frame: Frame) -> None:
        if frame.trouble and not self._trouble:
            _write(f"{_clock(frame.time)} {plain(frame.trouble)}")
        self._trouble = bool(frame.trouble)
        if not self._first and not frame.news:
            return
        for change in frame.news:
            _write(f"{_clock(frame.time)} {plain(change.text)}")
        if self._first:
            _write(_clock(frame.time))
        self._first = False
        for part in _models(frame.overview, 200):
            self._console.print(part, soft_wrap=True)
        sys.stdout.flush()


class _Board:
    """A whole screen, in which what happened a moment ago stands out."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last: RenderableType | None = None
        self._news: list[tuple[float, Change]] = []

    def drawn(self, frame: Frame) -> Group:
        """The frame, and what the ones before have told."""
        self._news += [(frame.time, change) for change in frame.news]
        self._news = self._news[-_NEWS:]
        recent = [change for when, change in self._news if frame.time - when < _RECENT]
        told: list[RenderableType] = [_head(frame)]
        if frame.trouble:
            told.append(Text(plain(frame.trouble), "bold yellow"))
        for when, change in reversed(self._news):
            style = _STYLES[change.kind] if change in recent else "dim"
            told.append(Text(f"{_clock(when)} {plain(change.text)}", style))
        told += [Text(), *_models(frame.overview, self.console.width, recent)]
        group = Group(*told)
        self.last = group
        return group


def _head(frame: Frame) -> Text:
    head = Text(f"{_clock(frame.time)}  ")
    if (belonging := frame.belonging) is not None:
        head.append(f"{plain(belonging.group or 'the group')}", "bold")
        head.append(f", as {plain(belonging.machine.name)}. ")
        if not belonging.bootstraps:
            head.append("No bootstrap is heard: nobody can join. ", "yellow")
        elif belonging.silent:
            head.append(f"Bootstraps that are not heard: {len(belonging.silent)}. ", "yellow")
    entries = [entry for model in frame.overview.models for entry in model.entries]
    head.append(_board.summed(entries))
    head.append(". Ctrl-C ends.", "dim")
    return head


def _models(
    overview: Overview, width: int, recent: list[Change] | None = None
) -> list[RenderableType]:
    """All models, with the rows of peers to which something has happened just now."""
    marks, gone = {}, []
    for change in recent or ():
        if change.entry is None:
            continue
        if change.kind is Kind.LEFT:
            gone.append(change.entry)
        else:
            marks[change.entry.peer] = _STYLES[change.kind]
    told: list[RenderableType] = []
    for model in overview.models:
        here = {entry.peer for entry in model.entries}
        left = [e for e in gone if e.model == model.fingerprint and e.peer not in here]
        told += _board.parts(model, width, marks, left)
    return told or [Text("Nobody serves anything.")]


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
