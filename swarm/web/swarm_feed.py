"""What pages are told of a swarm: what it serves, live, and which way tokens take through it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from swarm.errors import SwarmError
from swarm.overview import Overview

logger = logging.getLogger(__name__)

MOST_PEERS = 512
"""Peers that pages are told of."""

_LOOK_SECONDS = 1.0
"""Between two looks, however many watch."""

_PATH_SECONDS = 0.1
"""Between two paths that are told."""

_QUIET = 15.0
"""Seconds after which a stream that has nothing to tell says that it lives."""

_PATHS_KEPT = 8

Look = Callable[[], Awaitable[Overview]]


class Full(SwarmError):
    """As many watch as may."""


@dataclass
class _Watcher:
    """What one of those who watch has yet to be told. A slow one loses paths and nothing else."""

    paths: deque[bytes] = field(default_factory=lambda: deque(maxlen=_PATHS_KEPT))
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def has_news(self, seconds: float) -> bool:
        """Waits so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return False
        self.news.clear()
        return True


class SwarmFeed:
    """An overview that all who watch share, made by `look` at most once a second.

    `on_watch` is called with True when the first of them comes, and with False when the last is
    gone. There may be `most` at a time. It is of one event loop.
    """

    def __init__(
        self, look: Look, *, most: int = 32, on_watch: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._look = look
        self._most = most
        self._on_watch = on_watch
        self._watchers: list[_Watcher] = []
        self._looking = asyncio.Lock()
        self._seen = b""
        self._looked = float("-inf")
        self._told_path = float("-inf")
        self._closed = False

    @property
    def num_watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    async def overview(self) -> bytes:
        """The overview as JSON; raises `SwarmError` where nothing can be seen."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked >= _LOOK_SECONDS:
                self._seen = msgspec.json.encode((await self._look()).as_json())
                self._looked = loop.time()
            return self._seen

    @property
    def wants_path(self) -> bool:
        """Whether a path that is told now would be passed on."""
        since = asyncio.get_running_loop().time() - self._told_path
        return bool(self._watchers) and since >= _PATH_SECONDS

    def tell_path(self, path: Mapping[str, Any]) -> None:
        """A step has taken this way: `model`, and `hops` with their times."""
        self._told_path = asyncio.get_running_loop().time()
        encoded = msgspec.json.encode(path)
        for watcher in self._watchers:
            watcher.paths.append(encoded)
            watcher.news.set()

    def close(self) -> None:
        """Ends what is told to those who watch; nobody new is told anything."""
        self._closed = True
        for watcher in self._watchers:
            watcher.news.set()

    async def events(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Events by their names, as JSON: `overview`, `path`, and `trouble` with a `message`.

        `idle` comes where there was nothing to tell for a while. Raises `Full`.
        """
        told, spoke = b"", 0.0
        clock = asyncio.get_running_loop().time
        with self._watching() as watcher:
            while not self._closed:
                event, seen = await self._newest()
                if seen != told:
                    yield event, seen
                    told, spoke = seen, clock()
                look_at = clock() + _LOOK_SECONDS
                while await watcher.has_news(look_at - clock()) and not self._closed:
                    while watcher.paths:
                        yield "path", watcher.paths.popleft()
                        spoke = clock()
                if clock() - spoke >= _QUIET:
                    yield "idle", b""
                    spoke = clock()

    async def _newest(self) -> tuple[str, bytes]:
        try:
            return "overview", await self.overview()
        except SwarmError as error:
            return "trouble", msgspec.json.encode({"message": str(error)})

    @contextmanager
    def _watching(self) -> Iterator[_Watcher]:
        if len(self._watchers) >= self._most:
            raise Full(f"{self._most} pages watch already; close one of them")
        watcher = _Watcher()
        self._watchers.append(watcher)
        if len(self._watchers) == 1:
            self._on_watch(True)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)
            if not self._watchers:
                self._on_watch(False)


async def tell_overview(feed: SwarmFeed) -> web.Response:
    """What a swarm serves now, for one who asks once; raises `SwarmError`."""
    return web.Response(
        body=await feed.overview(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def tell_events(request: web.Request, feed: SwarmFeed) -> web.StreamResponse:
    """The same for one who watches, as server-sent events, until they go or the feed is closed.

    Raises `Full`, before anything is sent.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    async with aclosing(feed.events()) as events:
        async for name, data in events:
            if not response.prepared:
                await response.prepare(request)
            told = b": idle" if name == "idle" else b"event: %s\ndata: %s" % (name.encode(), data)
            await response.write(told + b"\n\n")
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response
