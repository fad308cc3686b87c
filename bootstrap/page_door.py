"""Who may come to a bootstrap's page: its files are for everybody, what they ask for is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler

from swarm.errors import ConfigError, MembershipError, RequestError, SwarmError
from swarm.web.attempts import Attempts
from swarm.web.origin import is_named_here, is_our_page
from swarm.web.swarm_feed import Full

from .config import PageConfig
from .denial import NotGranted
from .page_keys import PageKeys, Right

logger = logging.getLogger(__name__)

RIGHT = web.RequestKey("right", Right)

_AWAY = 3
"""Seconds after which who was told to come back may."""


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class PageDoor:
    """Decides on each request, and says no in one form."""

    def __init__(self, config: PageConfig, keys: PageKeys) -> None:
        self.open: set[web.AbstractResource | None] = set()
        """What may be asked for without a key."""
        self._config = config
        self._names: Collection[str] = {config.host.lower(), "localhost"}
        self._keys = keys
        self._attempts = Attempts(asyncio.get_running_loop().time)

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The answer to a request, whatever happens on the way."""
        try:
            self._check_origin(request)
            if request.match_info.route.resource not in self.open:
                request[RIGHT] = await self._right(request)
            return await handler(request)
        except Refused as error:
            return refused(error.status, str(error))
        except Full as error:
            return refused(503, str(error))
        except web.HTTPException as error:
            return refused(error.status, error.reason)
        except NotGranted as error:
            return refused(409, str(error))
        except RequestError as error:
            return refused(400, str(error))
        except (ConfigError, MembershipError) as error:
            logger.error("page cannot work why=%s", error)
            return refused(503, str(error))
        except SwarmError as error:
            return refused(503, str(error))
        except ConnectionError:
            raise  # Who asked has gone.
        except Exception:
            logger.exception("page failed")
            return refused(500, "the bootstrap failed; its log says more")

    def _check_origin(self, request: web.Request) -> None:
        """Keys are what protects: nobody else's page has one. This says no before they matter."""
        if self._config.is_local and not is_named_here(request, self._names):
            raise Refused(403, "this page is shown to this machine alone, under its own name")
        if not is_our_page(request):
            raise Refused(403, "web pages of others may not ask")

    async def _right(self, request: web.Request) -> Right:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refused(401, "a key is needed: send it as `Authorization: Bearer KEY`")
        if (right := self._keys.right(key.strip())) is not None:
            return right
        # Who has a right key is never held up by others at the same address.
        if not await self._attempts.failed(request.remote or ""):
            raise Refused(429, "too many wrong keys came from there; try again in a minute")
        raise Refused(401, "this key is not known here, or was changed")


def administers(request: web.Request) -> None:
    """Raises `Refused` where who asks has the other key."""
    if request[RIGHT] is not Right.ADMINISTER:
        raise Refused(403, "this key is for those who look; members and invites need the other one")


def refused(status: int, why: str) -> web.Response:
    """A refusal, as programs and pages read it."""
    headers = {"Cache-Control": "no-store", "Server": "homeswarm"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = str(_AWAY)
    return web.json_response({"error": {"message": why}}, status=status, headers=headers)
