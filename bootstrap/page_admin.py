"""What the page's owner does on it: looks at members, writes invites, takes back and throws out.

All of it is what the authority does for whoever has its folder: its rules are there, not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from aiohttp import web

from swarm import qr
from swarm.auditing.report import num_reporters
from swarm.directory import Directory, Shelf
from swarm.invite import Invite
from swarm.membership.administration import Roll
from swarm.membership.book import Book
from swarm.membership.certificate import MAX_NAME, Role
from swarm.wire.enrolment import Expelled

from .authority import Authority
from .config import MAX_USES, MAX_VALIDITY
from .page_door import Refused, administers

_BODY_SECONDS = 10.0


class NewInvite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invite that is wanted, which can be used for so many `seconds`."""

    role: Role
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    uses: Annotated[int, msgspec.Meta(ge=1, le=MAX_USES)] = 1
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_VALIDITY)] = 7 * 86400.0


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member that is to be thrown out, by its whole id."""

    member: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class PageAdmin:
    """The requests of admins; `office` is the authority and the directory, while they are there."""

    def __init__(self, office: Callable[[], tuple[Authority, Directory]]) -> None:
        self._office = office

    def add(self, router: web.UrlDispatcher) -> None:
        """Adds its paths."""
        router.add_get("/page/api/group", self._show)
        router.add_post("/page/api/group/invites", self._invite)
        router.add_delete("/page/api/group/invites/{number:[0-9a-f]{16}}", self._withdraw)
        router.add_post("/page/api/group/revoke", self._revoke)

    async def _show(self, request: web.Request) -> web.Response:
        administers(request)
        authority, directory = self._office()
        roll = await asyncio.to_thread(lambda: Roll(authority.members(), authority.invites()))
        reports = num_reporters(await directory.read(Shelf.REPORTS))
        book = Book(Roll(roll.members, roll.invites, reports=reports), authority.now)
        group = {"name": authority.group.name, "id": authority.group.id, "self": authority.peer_id}
        return _told({"group": group, "now": book.now, **book.as_json()})

    async def _invite(self, request: web.Request) -> web.Response:
        administers(request)
        wanted = await _read(request, NewInvite)
        authority, _ = self._office()

        def write() -> Invite:
            expires = authority.now + wanted.seconds
            return authority.invite(
                wanted.role, name=wanted.name, uses=wanted.uses, expires=expires
            )

        invite = await asyncio.to_thread(write)
        line = invite.encode()
        told = {"id": invite.ticket.number.hex(), "invite": line, "qr": qr.data_uri(line)}
        return _told({**told, "role": str(invite.role), "expires": invite.expires}, status=201)

    async def _withdraw(self, request: web.Request) -> web.Response:
        administers(request)
        return _expelled(await self._remove(request.match_info["number"]))

    async def _revoke(self, request: web.Request) -> web.Response:
        administers(request)
        return _expelled(await self._remove((await _read(request, Revoke)).member))

    async def _remove(self, name: str) -> Expelled:
        # The bootstrap looks into its ledger twice a second, and tells the group.
        authority, _ = self._office()
        return await asyncio.to_thread(lambda: authority.revoke(name, exact=True))


async def _read(request: web.Request, kind: type[Any]) -> Any:
    """A request's body; raises `Refused` where it is too large, too slow, or not of this kind."""
    if request.content_type != "application/json":
        raise Refused(415, "bodies are JSON: say so in `Content-Type`")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await request.read()
    except TimeoutError as error:
        raise Refused(408, "the body did not come in time") from error
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"not understood: {error}") from error


def _expelled(done: Expelled) -> web.Response:
    return _told({"members": list(done.members), "invites": done.invites})


def _told(what: dict[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    body = msgspec.json.encode(what)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
