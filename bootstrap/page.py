"""The page of a bootstrap: its swarm and its members, for those who have a key.

It stands beside the authority and asks it as any caller does; what it takes is bounded, and where
it fails the group goes on.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from swarm import __version__
from swarm.directory import Directory
from swarm.errors import ConfigError, SwarmError
from swarm.overview import Overview
from swarm.web.connection import Connections, keep_busy
from swarm.web.door import Door, listening
from swarm.web.metrics import PATH as METRICS
from swarm.web.pages import About, add_pages
from swarm.web.swarm_feed import MOST_PEERS, SwarmFeed, tell_events, tell_overview

from .authority import Authority
from .config import PageConfig
from .metrics import BootstrapMetrics
from .page_admin import PageAdmin
from .page_door import PageDoor
from .page_keys import PageKeys, Right

logger = logging.getLogger(__name__)


class Starting(SwarmError):
    """There is nobody to be asked yet, or for the moment."""


class Page:
    """A page that is shown. Made by `Page.shown`."""

    def __init__(self, door: Door[PageConfig], keys: PageKeys) -> None:
        self._door = door
        self._keys = keys
        self._behind: tuple[Authority, Directory] | None = None
        self._metrics: BootstrapMetrics | None = None
        self.feed = SwarmFeed(self._look, most=door.config.most_watching)

    @classmethod
    @asynccontextmanager
    async def shown(cls, config: PageConfig, folder: Path) -> AsyncIterator[Page]:
        """Shows the page of the bootstrap in this folder for the length of the block.

        Raises `ConfigError` for addresses, certificates and keys.
        """
        keys = PageKeys(folder)
        for right in Right:
            keys.text(right)
        with ExitStack() as stack:
            door = _opened(config, keys, stack)
            page = cls(door, keys)
            app = page.app()
            async with listening(app, door, Connections(door.config.most_connections)):
                logger.info("page shown url=%s", page.url)
                try:
                    yield page
                finally:
                    page.feed.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._door.url

    @property
    def sealed(self) -> bool:
        """Whether nobody on the way reads the keys: over TLS, or where there is no way."""
        return self._door.tls is not None or self._door.config.is_local

    def address(self, right: Right) -> str:
        """What somebody opens in a browser to have this right, with the key."""
        return f"{self.url}/#key={self._keys.text(right)}"

    @contextmanager
    def beside(
        self,
        authority: Authority,
        directory: Directory,
        metrics: BootstrapMetrics | None = None,
    ) -> Iterator[None]:
        """Whom it asks for the length of the block; between two it says that it waits."""
        self._behind, self._metrics = (authority, directory), metrics
        try:
            yield
        finally:
            self._behind = self._metrics = None

    def app(self) -> web.Application:
        """All that is answered."""
        config = self._door.config
        guard = PageDoor(config, self._keys)
        app = web.Application(
            client_max_size=config.most_body, middlewares=[keep_busy, guard.answer]
        )
        app.on_response_prepare.append(_head)
        # Without a key nobody learns what the group is called.
        about = About(("swarm", "group"), "needed", __version__)
        guard.open.update(add_pages(app, lambda: about))
        app.router.add_get(METRICS, self._tell_metrics)
        app.router.add_get("/page/api/swarm", self._tell)
        app.router.add_get("/page/api/swarm/events", self._tell_events)
        PageAdmin(self._office).add(app.router)
        return app

    async def _tell(self, _: web.Request) -> web.StreamResponse:
        return await tell_overview(self.feed)

    async def _tell_events(self, request: web.Request) -> web.StreamResponse:
        return await tell_events(request, self.feed)

    async def _tell_metrics(self, request: web.Request) -> web.StreamResponse:
        if self._metrics is None:
            raise Starting("the bootstrap is starting; it will be there in a moment")
        return await self._metrics.answer(request)

    async def _look(self) -> Overview:
        _, directory = self._office()
        return await Overview.seen(directory, most=MOST_PEERS)

    def _office(self) -> tuple[Authority, Directory]:
        if self._behind is None:
            raise Starting("the bootstrap is starting; it will be there in a moment")
        return self._behind


def _opened(config: PageConfig, keys: PageKeys, stack: ExitStack) -> Door[PageConfig]:
    """Takes the address; another port where nobody has asked for just this one."""
    try:
        return stack.enter_context(Door.opened(config, keys))
    except ConfigError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
            raise
        if config.asked:
            where = f"{config.host}:{config.port}"
            raise ConfigError(
                f"another program listens at {where}: choose another --page, or --no-page"
            ) from error
    return stack.enter_context(Door.opened(replace(config, port=0), keys))


async def _head(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "homeswarm"  # Not which versions of what.
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
