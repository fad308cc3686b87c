from __future__ import annotations

import asyncio

import msgspec
import pytest

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.correspondence import Correspondence
from swarm.bootstrap.denial import NotGranted
from swarm.bootstrap.desk import Desk
from swarm.bootstrap.notices import Notices
from swarm.directory import Shelf
from swarm.directory.memory import Registry
from swarm.errors import MembershipError, Misbehaved
from swarm.membership.certificate import ROLES, Role
from swarm.membership.membership import Membership
from swarm.membership.revocation import read_list
from swarm.membership.trust import Trust
from swarm.transport import Stream
from swarm.transport.memory import Network
from swarm.wire.enrolment import (
    PROTOCOL,
    Answer,
    Decline,
    Declined,
    Entry,
    Members,
    Station,
    Synced,
    decode_answer,
    encode,
)

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""


class Post:
    """One authority as its service runs it, over the in-memory twins."""

    def __init__(self, town, network: Network, registry: Registry, authority: Authority) -> None:
        self.authority = authority
        self.trust = Trust(authority.group, identity.verifies, clock=town.clock)
        self.membership = Membership(self.trust, authority.credential, authority.me.sign)
        self.transport = network.transport(authority.peer_id)
        self.directory = registry.directory(authority.peer_id)
        self.station = Station(authority.peer_id, self.transport.addresses)
        authority.meet(self.station)
        self.letters = Correspondence(authority, self.membership, self.transport, self.directory)
        self.notices = Notices(authority, self.membership, self.transport, self.directory)

    async def open(self) -> Post:
        await Desk(self.authority, self.trust).serve(self.transport)
        return self

    @property
    def living(self) -> set[str]:
        return {each.name for each in self.authority.members() if not each.revoked}

    @property
    def listed(self) -> set[str]:
        _, content = read_list(
            self.authority.revocations(), self.authority.group, identity.verifies
        )
        return {each.name for each in content.revoked}


class County:
    """A group with several authorities that reach one another."""

    def __init__(self, town) -> None:
        self.town = town
        self.network = Network()
        self.registry = Registry()

    async def open(self, authority: Authority) -> Post:
        return await Post(self.town, self.network, self.registry, authority).open()

    def joins(self, post: Post, name: str, role: Role = Role.PEER) -> bytes:
        """A new member's credential."""
        ticket = post.authority.invite(role, name=name).ticket
        return post.authority.redeem(ticket, self.town.machine(name).peer_id)


@pytest.fixture
def county(town) -> County:
    return County(town)


@pytest.fixture
async def posts(county: County, town, authority) -> tuple[Post, Post]:
    """The first authority, and a second one that knows where the first is."""
    first = await county.open(authority)
    second = await county.open(town.deputy(authority, "second"))
    second.authority.meet(first.station)
    return first, second


async def test_authorities_tell_one_another(county: County, posts) -> None:
    first, second = posts
    county.joins(first, "one")
    county.joins(second, "two")
    await second.letters.round()
    # It has said where it is when it asked.
    assert second.station in first.authority.stations()
    await first.letters.round()
    assert first.living == second.living == {"bootstrap", "second", "one", "two"}
    second.authority.revoke("one")
    await first.letters.round()
    assert first.living == {"bootstrap", "second", "two"}
    assert first.listed == {"one"}


async def test_only_what_has_changed_is_told(county: County, posts) -> None:
    first, second = posts
    for name in ("one", "two"):
        county.joins(first, name)
    await second.letters.round()
    told: list[int] = []

    def listen(sender: str, receiver: str, header: bytes, payload: object) -> bool:
        if sender == first.authority.peer_id:
            told.append(len(decode_answer(header).members))
        return False

    county.network.drop = listen
    await second.letters.round()
    county.joins(first, "three")
    await second.letters.round()
    assert told == [0, 1]


async def test_long_news_come_in_pages(county: County, posts) -> None:
    first, second = posts
    entries = [
        Entry(f"{number:052d}", f"member {number}", (Role.PEER,), 1, 2, 3) for number in range(700)
    ]
    first.authority.merge(first.authority.credential, entries)
    await second.letters.pull(first.station)
    assert len(second.authority.members()) == len(first.authority.members()) == 702


async def test_authorities_find_one_another_in_the_directory(county: County, town, posts) -> None:
    first, second = posts
    third = await county.open(town.deputy(first.authority, "third"))
    await third.notices.publish()
    county.joins(third, "pc")
    await second.letters.round()
    assert third.station in second.authority.stations()
    assert "pc" in second.living


async def test_losing_the_first_one_loses_nothing(county: County, town, posts) -> None:
    first, second = posts
    one = town.machine("one")
    credential = county.joins(first, "one")
    county.joins(first, "gone")
    first.authority.revoke("gone")
    await second.letters.round()
    await county.network.kill(first.authority.peer_id)
    await second.letters.round()
    assert second.living == {"bootstrap", "second", "one"}
    assert second.listed == {"gone"}
    second.trust.check(second.authority.renew(one.peer_id, credential), one.peer_id)
    third = await county.open(town.deputy(second.authority, "third"))
    second.trust.check(county.joins(third, "new"), town.machine("new").peer_id)


async def test_a_lost_ledger_fills_again(county: County, town, posts) -> None:
    """A new, empty one (as its owner wished) learns from the others, and what is new is heard."""
    first, second = posts
    county.joins(first, "one")
    county.joins(first, "gone")
    first.authority.revoke("gone")
    await second.letters.round()
    await county.network.kill(first.authority.peer_id)
    first.authority.close()
    for name in ("ledger", "authority"):
        (town.folder / "first" / name).unlink()
    town.clock.pass_by(1)
    again = await county.open(town.found())
    again.authority.meet(second.station)
    await again.letters.round()
    assert again.living == {"bootstrap", "second", "one"}
    assert again.listed == {"gone"}
    county.joins(again, "two")
    await second.letters.round()
    assert "two" in second.living


async def test_one_that_does_not_answer_holds_nobody_up(county: County, town, posts) -> None:
    first, second = posts
    gone = Station(town.machine("gone").peer_id, ("/memory/gone",))
    second.authority.meet(gone)
    county.joins(first, "one")
    await second.letters.round()
    assert "one" in second.living


async def answers(county: County, name: str, answer: Answer) -> Station:
    """Somebody who answers every question like this."""
    transport = county.network.transport(county.town.machine(name).peer_id)

    async def serve(stream: Stream) -> None:
        await stream.receive()
        await stream.send(encode(answer), b"")

    await transport.serve(PROTOCOL, serve)
    return Station(transport.peer_id, transport.addresses)


@pytest.mark.parametrize("shown", ["a member's", "another's", "nothing", "another answer", "no"])
async def test_only_authorities_are_believed(county: County, town, posts, shown: str) -> None:
    first, second = posts
    credential = county.joins(first, "liar", Role.ADMIN)
    lie = Entry(town.machine("liar").peer_id, "liar", ROLES[Role.AUTHORITY], 1, 2, 9e9)
    station = await answers(
        county,
        "liar",
        {
            "a member's": Synced(credential, 1, (lie,)),
            "another's": Synced(first.authority.credential, 1, (lie,)),
            "nothing": Synced(b"", 1, (lie,)),
            "another answer": Members(1, (lie,)),
            "no": Declined(Decline.FORBIDDEN, "I know you not"),
        }[shown],
    )
    with pytest.raises(Misbehaved):
        await second.letters.pull(station)
    assert "liar" not in second.living


async def test_an_authority_that_always_has_more_is_left(county: County, town, posts) -> None:
    first, second = posts
    town.deputy(first.authority, "babbler")
    babbler = office.reopen(town.folder / "babbler")
    transport = county.network.transport(babbler.me.peer_id)
    asked = 0

    async def babble(stream: Stream) -> None:
        nonlocal asked
        asked += 1
        await stream.receive()
        await stream.send(encode(Synced(babbler.credential, 5, (), more=True)), b"")

    await transport.serve(PROTOCOL, babble)
    async with asyncio.timeout(HANGING):
        await second.letters.pull(Station(babbler.me.peer_id))
    assert asked == 2


async def test_an_authority_that_was_removed_is_not_believed(county: County, town, posts) -> None:
    first, second = posts
    county.joins(second, "pc")
    await first.letters.pull(second.station)
    first.authority.revoke("second")
    await first.notices.learn()
    with pytest.raises(Misbehaved, match="was removed"):
        await first.letters.pull(second.station)
    # Whoever stands above it is believed, and others do not pass anything on to it.
    for ask in (second.letters.pull(first.station), second.letters.round(), second.letters.run()):
        with pytest.raises(MembershipError, match="second was removed"):
            await ask


async def test_who_stands_elsewhere_ends_no_authority(county: County, town, posts) -> None:
    first, second = posts
    said = Declined(Decline.REVOKED, "you were removed")
    await county.network.kill(second.authority.peer_id)
    station = await answers(county, "liar", said)
    with pytest.raises(Misbehaved, match="tells us nothing"):
        await first.letters.pull(station)


# Notices


async def test_a_revocation_of_another_process_is_published(county: County, town, posts) -> None:
    first, _ = posts
    running = asyncio.create_task(first.notices.run())
    county.joins(first, "pc")
    with Authority.open(town.folder / "first", clock=town.clock) as command:
        command.revoke("pc")
    async with asyncio.timeout(HANGING):
        while not first.trust.revoked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        signed = first.authority.revocations()
        published: dict[str, bytes] = {}
        while signed not in published.values():
            published = await first.directory.read(Shelf.REVOCATIONS)
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_lists_of_other_authorities_reach_the_ledger_and_our_own_list(
    county: County, posts
) -> None:
    first, second = posts
    county.joins(first, "pc")
    await second.letters.round()
    second.authority.revoke("pc")
    await second.notices.learn()
    await second.notices.publish()
    await first.letters.round()
    assert await first.notices.learn()
    assert first.listed == {"pc"}
    assert not await first.notices.learn()


async def test_an_authority_ends_when_it_is_removed(county: County, posts) -> None:
    first, second = posts
    first.authority.revoke("second")
    second.trust.learn(first.authority.revocations())
    async with asyncio.timeout(HANGING):
        with pytest.raises(MembershipError, match="second was removed"):
            await second.notices.run()


async def test_it_says_where_it_is(county: County, posts) -> None:
    first, _ = posts
    await first.notices.publish()
    (record,) = (await first.directory.read(Shelf.AUTHORITIES)).values()
    assert msgspec.msgpack.decode(record, type=Station) == first.station


async def test_a_folder_from_a_copy_hears_whom_it_had_removed(county: County, town, posts) -> None:
    """Others still hold the list that it had signed before, and show it."""
    first, second = posts
    one = town.machine("one")
    credential = county.joins(first, "one")
    copy = (town.folder / "first" / "ledger").read_bytes()
    first.authority.revoke("one")
    signed = first.authority.revocations()
    await county.network.kill(first.authority.peer_id)
    first.authority.close()
    (town.folder / "first" / "ledger").write_bytes(copy)
    again = await county.open(town.found())
    assert again.listed == set()
    again.trust.learn(signed)
    await again.notices.learn()
    assert again.listed == {"one"}
    with pytest.raises(NotGranted, match="one was removed"):
        again.authority.renew(one.peer_id, credential)
    # Its new list counts at those who had the old one.
    town.clock.pass_by(1)
    county.joins(again, "two")
    again.authority.revoke("two")
    second.trust.learn(signed)
    assert second.trust.learn(again.authority.revocations())
