"""The page at the gateway, where people chat with what programs ask, too."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web

from swarm.web.pages import About, add_pages

from .app import OPEN
from .keys import Keys


def add_page(app: web.Application, keys: Keys, group: str = "") -> None:
    """Shows the page at `/`. Its files need no key: what they ask for does."""

    def about() -> About:
        key = "needed" if keys.required else "none"
        return About(("chat", "swarm"), key, version("homeswarm"), group)

    app[OPEN].update(add_pages(app, about))
