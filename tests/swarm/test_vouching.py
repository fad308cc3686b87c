"""What two members tell each other of memberships, while their links live."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from swarm.background import background
from swarm.errors import Lapse, Misbehaved, NotAMember, PeerError, RemoteProtocolError, Unreachable
from swarm.membership.certificate import Role
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership, certify_process
from swarm.membership.revocation import RevocationList, sign_list
from swarm.transport import Buffer
from swarm.transport.link import Link, LinkConfig
from swarm.transport.memory import MemoryTransport, Network
from swarm.transport.neighbours import PROTOCOL, Neighbours
from swarm.wire.linking import Denied, Hello, Ping, Renewed, Revoked
from swarm.wire.messages import AnyMessage, Close, decode, encode

pytestmark = pytest.mark.simulated_time

CONFIG = LinkConfig()
SESSION = "s" * 16
BEAT = CONFIG.interval + 0.01


def now() -> float:
    return 1e9 + asyncio.get_running_loop().time()


class Node:
    """A member with its links."""

    def __init__(
        self, transport: MemoryTransport, membership: Membership, tasks: asyncio.TaskGroup
    ) -> None:
        self.transport, self.membership = transport, membership
        self.messages: asyncio.Queue[tuple[str, AnyMessage, Buffer]] = asyncio.Queue()
        self.lost: asyncio.Queue[tuple[str, PeerError]] = asyncio.Queue()
        self.doubts: list[float] = []
        membership.watch(lambda: self.doubts.append(now()))
        self.neighbours = Neighbours(
            transport, membership, tasks, self._on_message, self._on_lost, CONFIG
        )

    @property
    def trust(self) -> Any:
        return self.membership.trust

    async def _on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        self.messages.put_nowait((link.peer, message, payload))

    def _on_lost(self, link: Link, error: PeerError) -> None:
        self.lost.put_nowait((link.peer, error))

    async def link(self, other: str) -> Link:
        return await self.neighbours.link(other)


class Quarter:
    """Members of one group in one network, and all frames that pass between them."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        self.network = Network()
        self.network.drop = self._see
        self.founder = self.found("group")
        self.nodes: dict[str, Node] = {}
        self.frames: list[tuple[str, str, AnyMessage]] = []

    def found(self, group: str, authority: str = "authority") -> Founder:
        return Founder(self.network.signer(group), self.network.signer(authority), clock=now)

    async def node(self, name: str, membership: Membership | None = None) -> Node:
        transport = self.network.transport(name)
        membership = membership or self.founder.admit(transport.signer)
        node = self.nodes[name] = Node(transport, membership, self.tasks)
        await transport.serve(PROTOCOL, node.neighbours.accept)
        return node

    async def chain(self, names: str) -> list[Node]:
        """Members in a row, each linked to the next."""
        nodes = [await self.node(name) for name in names]
        for one, other in pairwise(names):
            await self.nodes[one].link(other)
        return nodes

    def count(self, kind: type[AnyMessage]) -> Counter[tuple[str, str]]:
        return Counter((one, to) for one, to, message in self.frames if isinstance(message, kind))

    def sent(self, one: str, other: str) -> list[AnyMessage]:
        return [message for frm, to, message in self.frames if (frm, to) == (one, other)]

    def _see(self, sender: str, receiver: str, header: bytes, payload: Buffer) -> bool:
        with suppress(RemoteProtocolError):
            self.frames.append((sender, receiver, decode(header)))
        return False


@pytest.fixture
async def quarter() -> AsyncIterator[Quarter]:
    async with background() as tasks:
        quarter = Quarter(tasks)
        yield quarter
        for node in quarter.nodes.values():
            await node.neighbours.aclose()
            await node.transport.aclose()


async def lost(node: Node, seconds: float) -> tuple[str, PeerError]:
    async with asyncio.timeout(seconds):
        return await node.lost.get()


async def test_a_renewed_certificate_is_shown_and_counts(quarter: Quarter) -> None:
    short = quarter.founder.admit(quarter.network.signer("a"), lifetime=10)
    a, b = await quarter.node("a", short), await quarter.node("b")
    there, back = await a.link("b"), await b.link("a")
    await asyncio.sleep(6)
    short.adopt(quarter.founder.certify("a", Role.ADMIN, lifetime=20))
    await asyncio.sleep(BEAT)
    assert back.standing.may(Role.ADMIN)
    assert back.standing.expires == pytest.approx(now() + 20, abs=2)
    await asyncio.sleep(10)
    assert not there.closed and not back.closed
    assert quarter.count(Renewed) == {("a", "b"): 2}, "once on each of two links"
    assert not a.doubts


async def test_a_certificate_that_ends_ends_the_link_on_time(quarter: Quarter) -> None:
    short = quarter.founder.admit(quarter.network.signer("a"), lifetime=10)
    a, b = await quarter.node("a", short), await quarter.node("b")
    await quarter.node("c")
    await a.link("b")
    await b.link("c")
    started = now()
    peer, error = await lost(b, 11)
    assert (peer, isinstance(error, NotAMember)) == ("a", True)
    assert isinstance(error, NotAMember) and error.lapse is Lapse.EXPIRED
    assert 10 <= now() - started <= 10 + BEAT
    peer, error = await lost(a, 1)
    assert (peer, isinstance(error, Unreachable)) == ("b", True)
    assert quarter.sent("b", "a")[-1] == Denied(Lapse.EXPIRED)
    assert a.doubts, "it asks whether it still is a member"
    with pytest.raises(Unreachable, match="expired"):
        await a.link("b")
    assert b.neighbours.get("c")


async def test_a_renewal_that_is_none_ends_the_link(quarter: Quarter) -> None:
    a, b = await quarter.node("a"), await quarter.node("b")
    stranger = quarter.found("another group").certify("a")
    for credential in (quarter.founder.certify("c"), stranger, b"", b"\xc1"):
        link = await a.link("b")
        link.post(Renewed(credential))
        peer, error = await lost(b, 1)
        assert (peer, isinstance(error, NotAMember)) == ("a", True)
        await lost(a, 1)


async def test_whoever_gets_a_lesser_certificate_is_less(quarter: Quarter) -> None:
    a, b = await quarter.node("a"), await quarter.node("b")
    await a.link("b")
    back = await b.link("a")
    a.membership.adopt(quarter.founder.certify("a", Role.CLIENT))
    await asyncio.sleep(BEAT)
    assert not back.standing.may(Role.PEER)


async def test_nobody_becomes_another_member_while_its_link_lives(quarter: Quarter) -> None:
    """What it takes is counted by member: two that lend each other names would owe nothing."""
    a, b = await quarter.node("a"), await quarter.node("b")
    accomplice = quarter.founder.admit(quarter.network.signer("x"))
    link = await a.link("b")
    link.post(Renewed(certify_process(accomplice, "a", now)))
    peer, error = await lost(b, 1)
    assert (peer, isinstance(error, NotAMember)) == ("a", True)
    assert "another member" in str(error)


async def test_a_revocation_reaches_the_end_of_a_chain(quarter: Quarter) -> None:
    """By links alone, while no bootstrap is up: each member tells the next within a beat."""
    a, b, c, d = await quarter.chain("abcd")
    x = await quarter.node("x")
    await x.link("d")
    await d.link("x")
    await asyncio.sleep(3)
    started = now()
    a.trust.learn(quarter.founder.revoke("x"))
    ended = [await lost(d, 2), await lost(d, 2)]
    assert now() - started < 2.0
    for peer, error in ended:
        assert peer == "x"
        assert isinstance(error, NotAMember) and error.lapse is Lapse.REVOKED
    await lost(x, 0.1)
    assert x.doubts
    assert Denied(Lapse.REVOKED) in quarter.sent("d", "x")
    await asyncio.sleep(5)
    for node in (a, b, c, d):
        assert node.lost.empty(), "no other link ends"
        assert node.trust.has_revoked("x")
    with pytest.raises(Unreachable, match="revoked"):
        await x.link("a")
    with pytest.raises(NotAMember):
        await a.link("x")


async def test_a_list_goes_over_each_link_once(quarter: Quarter) -> None:
    a, *_ = await quarter.chain("abcd")
    await quarter.nodes["d"].link("a")
    signed = quarter.founder.revoke("x")
    a.trust.learn(signed)
    await asyncio.sleep(30)
    counts = quarter.count(Revoked)
    pairs = {frozenset(pair) for pair in ("ab", "bc", "cd", "da")}
    assert {frozenset(pair) for pair in counts} == pairs
    # Two that hear of it at the same moment may both tell each other.
    assert all(number == 1 for number in counts.values())
    assert sum(counts.values()) <= 5


async def test_newcomers_hear_of_it_from_anybody(quarter: Quarter) -> None:
    a, _ = await quarter.chain("ab")
    a.trust.learn(quarter.founder.revoke("x"))
    await asyncio.sleep(3)
    late = await quarter.node("late")
    await late.link("b")
    await asyncio.sleep(BEAT)
    assert late.trust.has_revoked("x")


async def test_with_a_member_go_its_programs(quarter: Quarter) -> None:
    machine = quarter.founder.admit(quarter.network.signer("x"))
    trust, sign = quarter.founder.trust(), quarter.network.signer("program").sign
    program = Membership(trust, certify_process(machine, "program", now), sign)
    a = await quarter.node("a")
    await (await quarter.node("program", program)).link("a")
    a.trust.learn(quarter.founder.revoke("x"))
    peer, error = await lost(a, BEAT)
    assert peer == "program"
    assert isinstance(error, NotAMember) and error.lapse is Lapse.REVOKED


async def test_with_an_authority_go_those_whom_it_let_in(quarter: Quarter) -> None:
    signer = quarter.network.signer
    second = Founder(signer("group"), signer("second"), clock=now)
    a, b = await quarter.node("a"), await quarter.node("b", second.admit(signer("b")))
    await a.link("b")
    await asyncio.sleep(1)
    a.trust.learn(quarter.founder.revoke("second"))
    assert (await lost(a, BEAT))[0] == "b"
    await lost(b, 1)
    assert b.doubts, "it hears that its certificate is worthless, and asks for another one"


async def test_lists_that_nobody_may_write_end_the_link(quarter: Quarter) -> None:
    a, b, _ = await quarter.node("a"), await quarter.node("b"), await quarter.node("c")
    await b.link("c")
    good = quarter.founder.revoke("x")
    by_a = sign_list(
        RevocationList(9), quarter.founder.group, a.membership.sign, a.membership.credential
    )
    foreign = quarter.found("another group").revoke("c")
    for garbage in (b"", b"\xc1", good[:-1], bytes(10**6), by_a, foreign):
        link = await a.link("b")
        link.post(Revoked(), garbage)
        peer, error = await lost(b, 1)
        assert (peer, isinstance(error, Misbehaved)) == ("a", True)
        await lost(a, 1)
    assert b.trust.revoked == b.trust.lists == ()
    assert b.neighbours.get("c")


async def test_old_lists_are_nobodys_fault(quarter: Quarter) -> None:
    """Members hear of things in different orders."""
    signer = quarter.network.signer
    second = Founder(signer("group"), signer("second"), clock=now)
    short = quarter.founder.certify("brief", Role.AUTHORITY, lifetime=5)
    brief = sign_list(RevocationList(1), quarter.founder.group, signer("brief").sign, short)
    old = quarter.founder.revoke("x")
    by_second = second.revoke("y")
    a, b = await quarter.chain("ab")
    b.trust.learn(quarter.founder.revoke("second"))
    await asyncio.sleep(6)
    link = await a.link("b")
    # An older one, one by somebody who is out by now, and one whose author's time is over.
    for signed in (old, by_second, brief):
        link.post(Revoked(), signed)
    await asyncio.sleep(3)
    assert not link.closed and a.lost.empty() and b.lost.empty()
    assert not b.trust.has_revoked("y")
    assert a.trust.has_revoked("second")


async def test_whom_one_has_heard_of_first_does_not_decide_who_is_blamed(quarter: Quarter) -> None:
    """One passes on a list whose author the other has already thrown out."""
    signer = quarter.network.signer
    second = Founder(signer("group"), signer("second"), clock=now)
    a, b = await quarter.chain("ab")
    a.trust.learn(second.revoke("y"))
    b.trust.learn(quarter.founder.revoke("second"))
    await asyncio.sleep(3)
    assert a.lost.empty() and b.lost.empty()
    assert a.trust.has_revoked("second")


OUTSIDE = "outsider"


@pytest.mark.parametrize(
    "knock",
    ["nothing", "foreign", "stolen", "garbage", "ping", "denied", "session", "list", "twice"],
)
async def test_who_knocks_learns_nothing(quarter: Quarter, knock: str) -> None:
    """Whoever has no certificate of ours gets not one byte: neither our credential nor a reason."""
    a = await quarter.node("a")
    a.trust.learn(quarter.founder.revoke("x"))
    outsider = quarter.network.transport(OUTSIDE)
    stolen = Hello(quarter.founder.certify("b"))
    foreign = Hello(quarter.found("another group").certify(OUTSIDE))
    frames = {
        "nothing": [],
        "foreign": [encode(foreign)],
        "stolen": [encode(stolen)],
        "garbage": [b"\xc1" * 50],
        "ping": [encode(Ping(1))],
        "denied": [encode(Denied(Lapse.REVOKED))],
        "session": [encode(Close(SESSION))],
        "list": [encode(Revoked())],
        "twice": [encode(foreign), encode(stolen)],
    }[knock]
    stream = await outsider.open("a", PROTOCOL)
    for frame in frames:
        await stream.send(frame, b"")
    with pytest.raises(Unreachable):
        async with asyncio.timeout(CONFIG.handshake + 1):
            await stream.receive()
    assert quarter.sent("a", OUTSIDE) == []
    assert stream.arrived_bytes == 0
    assert not a.doubts, "a stranger cannot have it run to the authority"
    assert a.messages.empty() and a.neighbours.num_links == 0
    await outsider.aclose()


@pytest.mark.parametrize("lapse", [Lapse.EXPIRED, Lapse.REVOKED])
async def test_who_was_a_member_is_told_that_it_is_over(quarter: Quarter, lapse: Lapse) -> None:
    """It must ask for a new certificate; more it does not get."""
    a = await quarter.node("a")
    expired = lapse is Lapse.EXPIRED
    former = quarter.founder.admit(quarter.network.signer("b"), lifetime=1 if expired else 100)
    b = await quarter.node("b", former)
    await asyncio.sleep(2)
    if not expired:
        a.trust.learn(quarter.founder.revoke("b"))
    with pytest.raises(Unreachable, match=str(lapse)):
        await b.link("a")
    assert quarter.sent("a", "b") == [Denied(lapse)]
    assert len(b.doubts) == 1
    assert not a.doubts


async def test_a_captured_greeting_is_worth_nothing_later(quarter: Quarter) -> None:
    """All bytes that a member has sent, sent again by somebody who has seen them."""
    captured: list[tuple[bytes, bytes]] = []
    a, b = await quarter.node("a"), await quarter.node("b")
    see = quarter.network.drop

    def capture(sender: str, receiver: str, header: bytes, payload: Buffer) -> bool:
        if (sender, receiver) == ("b", "a"):
            captured.append((bytes(header), bytes(payload)))
        return see is not None and see(sender, receiver, header, payload)

    quarter.network.drop = capture
    link = await b.link("a")
    link.post(Close(SESSION), b"a payload")
    await a.messages.get()
    await asyncio.sleep(2)
    thief = quarter.network.transport("thief")
    stream = await thief.open("a", PROTOCOL)
    for header, payload in list(captured):
        try:
            await stream.send(header, payload)
        except Unreachable:
            break
    with pytest.raises(Unreachable):
        await stream.receive()
    assert quarter.sent("a", "thief") == []
    assert a.messages.empty() and not link.closed
    assert len(captured) > 3
    await thief.aclose()


async def test_a_bootstrap_cannot_speak_for_a_member(quarter: Quarter) -> None:
    """It can admit anybody; but it does not have the key by which a member proves to be itself."""
    a = await quarter.node("a")
    authority = quarter.network.transport("authority")
    for subject in ("b", "authority"):
        stream = await authority.open("a", PROTOCOL)
        await stream.send(encode(Hello(quarter.founder.certify(subject, name="b"))), b"")
        if subject == "authority":
            header, _ = await stream.receive()
            assert isinstance(decode(header), Hello), "under its own key it may come in"
        else:
            with pytest.raises(Unreachable):
                await stream.receive()
    assert a.neighbours.num_links == 1
    await authority.aclose()
