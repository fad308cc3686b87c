"""The page at the gateway, where people chat with what programs ask, too."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from aiohttp import web

from swarm.client import Swarm
from swarm.web.pages import About, Tab, add_pages
from swarm.web.swarm_feed import SwarmFeed

from .app import OPEN
from .keys import Keys
from .swarm_page import add_swarm


def add_page(
    app: web.Application, keys: Keys, group: str = "", swarm: Swarm | None = None
) -> SwarmFeed | None:
    """Shows the page at `/`. Its files need no key: what they ask for does.

    Of a `swarm` it shows who serves what: that is what is returned, to be closed at the end. Only
    those who need no key read what the `group` is called.
    """
    tabs: tuple[Tab, ...] = ("chat",) if swarm is None else ("chat", "swarm")

    def about() -> About:
        key: Literal["none", "needed"] = "needed" if keys.required else "none"
        return About(tabs, key, version("homeswarm"), "" if keys.required else group)

    app[OPEN].update(add_pages(app, about))
    return None if swarm is None else add_swarm(app, swarm)
