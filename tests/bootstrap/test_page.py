"""A bootstrap's page over HTTP: who may see and do what."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from swarm.bootstrap.authority import Authority
from swarm.bootstrap.config import PageConfig
from swarm.bootstrap.page import Page
from swarm.bootstrap.page_keys import PageKeys, Right
from swarm.directory import Announcement, State
from swarm.directory.memory import Registry
from swarm.errors import ConfigError
from swarm.invite import Invite
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Ticket

INVITES = "/page/api/group/invites"
REVOKE = "/page/api/group/revoke"


@dataclass
class Visitor:
    """Somebody who asks the page, with the key of `right`."""

    page: Page
    keys: PageKeys
    session: aiohttp.ClientSession
    registry: Registry

    async def ask(
        self,
        path: str,
        right: Right | str | None = Right.ADMINISTER,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> tuple[int, Any]:
        """Status and JSON."""
        key = self.keys.text(right) if isinstance(right, Right) else right
        told = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.session.request(
            method, self.page.url + path, headers=told | (headers or {}), **options
        ) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text

    async def post(self, path: str, body: Any, right: Right = Right.ADMINISTER) -> tuple[int, Any]:
        return await self.ask(path, right, "POST", json=body)


@asynccontextmanager
async def visited(
    authority: Authority, folder: Path, config: PageConfig | None = None, *, ready: bool = True
) -> AsyncIterator[Visitor]:
    registry = Registry()
    async with (
        Page.shown(config or PageConfig(port=0), folder) as page,
        aiohttp.ClientSession() as session,
    ):
        visitor = Visitor(page, PageKeys(folder), session, registry)
        if not ready:
            yield visitor
            return
        with page.beside(authority, registry.directory(authority.peer_id)):
            yield visitor


@pytest.fixture
async def visitor(town: Any, authority: Authority) -> AsyncIterator[Visitor]:
    async with visited(authority, town.folder / "first") as visitor:
        yield visitor


def announcement(start: int, end: int) -> Announcement:
    return Announcement("peer", "garage", "f" * 32, "a/model", 10, start, end, State.SERVING)


async def test_files_are_for_all_and_what_they_ask_for_is_not(visitor: Visitor) -> None:
    assert (await visitor.ask("/", None))[0] == 200
    status, about = await visitor.ask("/page/about", None)
    assert status == 200 and about["key"] == "needed" and about["group"] == ""
    for path in ("/page/api/swarm", "/page/api/swarm/events", "/page/api/group", "/nothing"):
        assert (await visitor.ask(path, None))[0] == 401, path
        assert (await visitor.ask(path, "x" * 43))[0] == 401, path


async def test_who_looks_sees_the_swarm_and_not_the_members(visitor: Visitor) -> None:
    await visitor.registry.directory("peer").announce(announcement(0, 4))
    status, swarm = await visitor.ask("/page/api/swarm", Right.LOOK)
    assert status == 200
    (gap,) = swarm["models"][0]["gaps"]
    assert gap["command"] == "swarm peer --join INVITE --model a/model --blocks 4:10"
    assert (await visitor.ask("/page/api/group", Right.LOOK))[0] == 403
    assert (await visitor.post(INVITES, {"role": "client"}, Right.LOOK))[0] == 403
    assert (await visitor.post(REVOKE, {"member": "x"}, Right.LOOK))[0] == 403
    path = f"{INVITES}/{'0' * 16}"
    assert (await visitor.ask(path, Right.LOOK, "DELETE"))[0] == 403


async def test_what_changes_is_told_as_it_does(visitor: Visitor) -> None:
    key = visitor.keys.text(Right.LOOK)
    headers = {"Authorization": f"Bearer {key}"}
    url = visitor.page.url + "/page/api/swarm/events"
    async with visitor.session.get(url, headers=headers) as answer, asyncio.timeout(60):
        assert await answer.content.readline() == b"event: overview\n"
        assert json.loads((await answer.content.readline())[6:])["models"] == []
        await visitor.registry.directory("peer").announce(announcement(0, 10))
        await answer.content.readline()
        assert await answer.content.readline() == b"event: overview\n"
        assert json.loads((await answer.content.readline())[6:])["models"][0]["complete"]
        assert visitor.page.feed.num_watchers == 1


async def test_an_invite_that_is_written_here_lets_somebody_in(
    visitor: Visitor, authority: Authority, machine: Any, clock: Any
) -> None:
    wanted = {"role": "peer", "name": "attic", "uses": 2, "seconds": 600}
    status, written = await visitor.post(INVITES, wanted)
    assert status == 201, written
    invite = Invite.decode(written["invite"])
    assert written["qr"].startswith("data:image/svg+xml") and written["role"] == "peer"
    authority.redeem(invite.ticket, machine("attic").peer_id)
    _, group = await visitor.ask("/page/api/group")
    assert "attic" in [member["name"] for member in group["members"]]
    (left,) = [each for each in group["invites"] if each["id"] == written["id"]]
    assert (left["name"], left["uses"], left["expires"]) == ("attic", 1, clock() + 600)
    assert (await visitor.ask(f"{INVITES}/{written['id']}", method="DELETE"))[0] == 200
    _, group = await visitor.ask("/page/api/group")
    assert written["id"] not in [each["id"] for each in group["invites"]]


def admit(authority: Authority, machine: Any, name: str) -> str:
    """A new member; its id."""
    ticket: Ticket = authority.invite(Role.PEER, name=name).ticket
    subject: str = machine(name).peer_id
    authority.redeem(ticket, subject)
    return subject


async def test_a_member_is_thrown_out_by_its_whole_id_and_nobody_else(
    visitor: Visitor, authority: Authority, machine: Any
) -> None:
    victim = admit(authority, machine, "garage")
    admit(authority, machine, victim)  # Somebody calls itself by the other's id.
    assert (await visitor.post(REVOKE, {"member": "garage"}))[0] == 409
    assert (await visitor.post(REVOKE, {"member": victim[-8:]}))[0] == 409
    assert (await visitor.post(REVOKE, {"member": victim})) == (
        200,
        {"members": ["garage"], "invites": 0},
    )
    assert [entry.name for entry in authority.members() if entry.revoked] == ["garage"]
    status, refused = await visitor.post(REVOKE, {"member": authority.peer_id})
    assert status == 409 and "cannot remove" in refused["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"role": "king"},
        {"role": "peer", "uses": 0},
        {"role": "peer", "uses": 1001},
        {"role": "peer", "seconds": -1},
        {"role": "peer", "seconds": 1e9},
        {"role": "peer", "name": "x" * 65},
        {"role": "peer", "group": "other"},
        [],
    ],
)
async def test_what_is_no_invite_is_refused(visitor: Visitor, body: Any) -> None:
    status, answer = await visitor.post(INVITES, body)
    assert status == 400 and answer["error"]["message"]


async def test_bodies_are_small_and_json(visitor: Visitor) -> None:
    large = {"role": "peer", "name": "x" * 5000}
    assert (await visitor.post(INVITES, large))[0] == 413
    # What a form of another page could send without being asked first.
    form = {"Content-Type": "text/plain"}
    body = b'{"role": "admin"}'
    assert (await visitor.ask(INVITES, method="POST", data=body, headers=form))[0] == 415


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:7780", "Origin": "http://evil.example:7780"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_pages_of_others_are_refused_even_with_a_key(
    visitor: Visitor, headers: dict[str, str]
) -> None:
    for path in ("/", "/page/about", "/page/api/swarm"):
        assert (await visitor.ask(path, headers=headers))[0] == 403
    ours = {"Origin": visitor.page.url}
    assert (await visitor.ask("/page/api/swarm", headers=ours))[0] == 200


async def test_who_guesses_is_put_off_and_who_knows_is_not(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.web.attempts._DELAY", 0.0)
    answers = [(await visitor.ask("/page/api/swarm", f"guess-{n:040}"))[0] for n in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert (await visitor.ask("/page/api/swarm", Right.LOOK))[0] == 200


async def test_keys_are_private_and_change_when_their_file_does(visitor: Visitor) -> None:
    old = {right: visitor.keys.text(right) for right in Right}
    assert len(set(old.values())) == 2 and all(len(key) == 43 for key in old.values())
    for right in Right:
        assert stat.S_IMODE(visitor.keys.path(right).stat().st_mode) == 0o600
    visitor.keys.path(Right.ADMINISTER).unlink()
    assert (await visitor.ask("/page/api/group", old[Right.ADMINISTER]))[0] == 401
    assert (await visitor.ask("/page/api/group"))[0] == 200, "there is a new one"
    assert visitor.keys.text(Right.LOOK) == old[Right.LOOK]
    visitor.keys.path(Right.LOOK).write_text("short\n")
    assert (await visitor.ask("/page/api/swarm", "short"))[0] == 401


async def test_a_key_that_is_changed_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, old, new = PageKeys(tmp_path), "o" * 40, "n" * 40
    keys.path(Right.LOOK).write_text(old)
    real = keys.text

    def text(right: Right) -> str:
        found = real(right)
        if found == old:
            keys.path(right).unlink()
            keys.path(right).write_text(f"{new}\n")
        return found

    monkeypatch.setattr(keys, "text", text)
    keys.right(old)
    assert keys.right(old) is None and keys.right(new) is Right.LOOK


async def test_no_more_watch_than_may(town: Any, authority: Authority) -> None:
    config = PageConfig(port=0, most_watching=1)
    async with visited(authority, town.folder / "first", config) as visitor:
        headers = {"Authorization": f"Bearer {visitor.keys.text(Right.LOOK)}"}
        url = visitor.page.url + "/page/api/swarm/events"
        async with visitor.session.get(url, headers=headers) as answer:
            await answer.content.readline()
            assert (await visitor.ask("/page/api/swarm/events"))[0] == 503
            assert (await visitor.ask("/page/api/swarm"))[0] == 200


async def test_while_the_bootstrap_starts_it_says_so(town: Any, authority: Authority) -> None:
    async with visited(authority, town.folder / "first", ready=False) as visitor:
        status, answer = await visitor.ask("/page/api/group")
        assert status == 503 and "starting" in answer["error"]["message"]


async def test_a_port_that_is_taken_is_told_only_to_who_has_asked_for_it(
    town: Any, authority: Authority
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        folder = town.folder / "first"
        async with visited(authority, folder, PageConfig(port=port)) as visitor:
            assert not visitor.page.url.endswith(f":{port}")
        with pytest.raises(ConfigError, match="choose another --page, or --no-page"):
            async with visited(authority, folder, PageConfig(port=port, asked=True)):
                pass


async def test_over_tls(town: Any, authority: Authority, certificate: tuple[Path, Path]) -> None:
    config = PageConfig(port=0, certificate=certificate[0], private_key=certificate[1])
    async with visited(authority, town.folder / "first", config) as visitor:
        assert visitor.page.url.startswith("https://") and visitor.page.sealed
        assert (await visitor.ask("/page/api/swarm", ssl=False))[0] == 200
        origin = {"Origin": visitor.page.url}
        assert (await visitor.ask("/page/api/swarm", headers=origin, ssl=False))[0] == 200
