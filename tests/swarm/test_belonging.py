"""What `swarm status` says of who we are, and of who is away."""

from __future__ import annotations

import io
import json
import time

import msgspec
import pytest
from rich.console import Console

from swarm.cli._belonging import Belonging, look
from swarm.cli.status import View
from swarm.directory import Announcement, Shelf, State
from swarm.directory.memory import Registry
from swarm.invite import Bootstrap, Invite
from swarm.member import Member
from swarm.membership.certificate import ROLES, Role, Standing
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership, certify_process
from swarm.transport.memory import MemorySigner, Network
from swarm.wire.enrolment import PROTOCOL, Entry, Members, Station, Ticket, encode

HOUR = 3600.0
STANDING = Standing(
    "p", "m", "[b]garage", frozenset({Role.CLIENT, Role.PEER}), 0.0, 1_000_000.0 + 26 * HOUR
)


class Group:
    """A group on a memory network, with one machine of a role and a program of it that asks."""

    def __init__(self, role: Role) -> None:
        self.network, self.registry = Network(), Registry()
        founder = Founder(self.signer("key"), self.signer("bootstrap"), "home")
        machine = founder.admit(self.signer("machine"), role, "garage")
        credential = certify_process(machine, "program")
        membership = Membership(founder.trust(), credential, self.signer("program").sign)
        directory = self.registry.directory("program")
        self.member = Member(self.network.transport("program"), directory, membership)
        place = Bootstrap(bytes(32), ("/ip4/127.0.0.1/tcp/1",))
        self.invite = Invite(bytes(32), (place,), Ticket(bytes(8), bytes(16)), role, 9e9)

    def signer(self, name: str) -> MemorySigner:
        return MemorySigner(self.network, name)

    async def open_bootstrap(self, *members: Entry) -> None:
        """Puts a bootstrap on its shelf that knows these members."""
        (bootstrap,) = self.invite.bootstraps
        transport = self.network.transport(bootstrap.peer)

        async def answer(stream) -> None:
            await stream.receive()
            await stream.send(encode(Members(len(members), members)), b"")

        await transport.serve(PROTOCOL, answer)
        record = msgspec.msgpack.encode(Station(bootstrap.peer, ("/ip4/127.0.0.1/tcp/1",)))
        await self.registry.directory(bootstrap.peer).publish(Shelf.AUTHORITIES, record)

    async def look(self) -> Belonging:
        return await look(self.member, self.invite)


def entry(name: str, role: Role, **changes) -> Entry:
    return Entry(
        **{"member": f"id of {name}", "name": name, "roles": ROLES[role]},
        **{"joined": 1.0, "renewed": 2.0, "expires": 9e9, **changes},
    )


async def test_a_program_tells_what_its_machine_is():
    group = Group(Role.PEER)
    seen = await group.look()
    assert (seen.machine.name, seen.machine.peer) == ("garage", "machine")
    assert seen.machine.may(Role.PEER) and not group.member.membership.standing.may(Role.PEER)
    assert not seen.bootstraps and seen.silent == (group.invite.bootstraps[0].peer,)


async def test_a_bootstrap_is_heard_by_what_it_publishes():
    group = Group(Role.PEER)
    await group.open_bootstrap()
    seen = await group.look()
    assert seen.bootstraps == (group.invite.bootstraps[0].peer,) and not seen.silent
    assert seen.idle is None, "only admins may know the members"


async def test_an_admin_hears_who_is_away():
    group = Group(Role.ADMIN)
    await group.open_bootstrap(
        entry("here", Role.PEER),
        entry("asks", Role.CLIENT),
        entry("bootstrap", Role.AUTHORITY),
        entry("gone", Role.PEER, revoked=5.0),
        entry("away", Role.PEER),
    )
    here = Announcement("id of here", "here", "f" * 32, "a/model", 4, 0, 4, State.SERVING)
    await group.registry.directory("id of here").announce(here)
    assert (await group.look()).idle == ("away",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["You are [b]garage of home (client, peer)", "(26 hours)"]),
        ({"bootstraps": ()}, ["No bootstrap is heard"]),
        ({"silent": ("12D3KooWabcdef",)}, ["Not heard: the bootstrap …abcdef"]),
        ({"idle": ("attic", "[i]x")}, ["Away, or only asking: attic, [i]x."]),
    ],
)
def test_it_is_told_in_words(changes, words, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    values = {"group": "home", "machine": STANDING, "bootstraps": ("b",), "silent": ()}
    console = Console(width=60, file=io.StringIO())
    Belonging(**{**values, **changes}).show(console)
    told = console.file.getvalue()
    assert all(word in told for word in words), told


def test_programs_read_it_beside_the_models():
    seen = Belonging("home", STANDING, ("b",), ("c",), ("attic",))
    told = json.loads(json.dumps(View((), None, seen).as_json()))
    assert told["member"]["roles"] == ["client", "peer"] and told["models"] == []
    assert told["bootstraps"] == {"heard": ["b"], "silent": ["c"]} and told["idle"] == ["attic"]
