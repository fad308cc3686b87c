"""What an admin hears from one or two authorities, whatever becomes of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from swarm import identity
from swarm.errors import Lapse, MembershipError, Misbehaved, RequestError, Unreachable
from swarm.invite import Bootstrap, Invite
from swarm.membership.administration import Administration
from swarm.membership.certificate import ROLES, Role
from swarm.transport.memory import Network
from swarm.wire.enrolment import (
    PROTOCOL,
    Census,
    Decline,
    Declined,
    Entry,
    Expel,
    Expelled,
    Issue,
    Issued,
    Members,
    OpenInvite,
    Station,
    Ticket,
    decode_question,
    encode,
)

CREDENTIAL = b"who I am"


def member(name: str, **changes) -> Entry:
    values = {"member": f"id of {name}", "name": name, "roles": ROLES[Role.PEER]}
    times = {"joined": 1.0, "renewed": 2.0, "expires": 3.0}
    return Entry(**{**values, **times, **changes})


def invitation(number: int) -> OpenInvite:
    return OpenInvite(bytes([number]) * 8, Role.PEER, "", 1, 9e9)


class Authority:
    """Answers on the memory network by what a test sets; remembers what it was asked."""

    def __init__(self, network: Network, peer: str) -> None:
        self.transport = network.transport(peer)
        self.asked = []
        self.members, self.invites, self.page = [member("one")], [], 100
        self.answers = {}

    async def serve(self) -> Authority:
        await self.transport.serve(PROTOCOL, self._answer)
        return self

    async def _answer(self, stream) -> None:
        header, _ = await stream.receive()
        question = decode_question(bytes(header))
        self.asked.append(question)
        answer = self.answers.get(type(question)) or self._census(question)
        await stream.send(answer if isinstance(answer, bytes) else encode(answer), b"")

    def _census(self, question) -> Members:
        page = self.members[question.start : question.start + self.page]
        return Members(len(self.members), tuple(page), tuple(self.invites))


@pytest.fixture
async def authorities():
    network = Network()
    yield [await Authority(network, peer).serve() for peer in ("a", "b")]


@pytest.fixture
def admin(authorities) -> Administration:
    network = authorities[0].transport._network
    stations = [Station(each.transport.peer_id) for each in authorities]
    membership = SimpleNamespace(credential=CREDENTIAL)
    return Administration(network.transport("admin"), membership, stations)


def some_invite() -> Invite:
    key = identity.public_key(identity.peer_id(bytes(32)))
    place = Bootstrap(key, ("/ip4/5.0.1.2/tcp/7700",))
    return Invite(key, (place,), Ticket(bytes(8), bytes(16)), Role.CLIENT, 9e9)


async def test_the_first_authority_that_lives_writes_the_invite(authorities, admin):
    first, second = authorities
    for each in authorities:
        each.answers[Issue] = Issued(some_invite().encode())
    asked = {"name": "laptop", "uses": 2, "expires": 5e9}
    assert await admin.invite(Role.CLIENT, **asked) == some_invite()
    assert first.asked == [Issue(CREDENTIAL, Role.CLIENT, "laptop", 2, 5e9)] and not second.asked
    await first.transport.aclose()
    assert await admin.invite(Role.CLIENT, **asked) == some_invite()
    await second.transport.aclose()
    with pytest.raises(Unreachable):
        await admin.invite(Role.CLIENT, **asked)


async def test_a_long_list_comes_in_pages(authorities, admin):
    first, _ = authorities
    first.members, first.page = [member(f"m{number}") for number in range(7)], 3
    roll = await admin.roll()
    assert {each.name for each in roll.members} == {*(f"m{n}" for n in range(7)), "one"}
    assert [each.start for each in first.asked] == [0, 3, 6]


async def test_what_one_authority_knows_completes_what_another_does(authorities, admin):
    first, second = authorities
    first.members = [member("gone"), member("new", renewed=8.0, expires=9.0), member("mine")]
    second.members = [member("gone", revoked=4.0), member("new")]
    first.invites, second.invites = [invitation(1)], [invitation(2)]
    roll = await admin.roll()
    assert {each.name: each.revoked for each in roll.members} == {"gone": 4.0, "new": 0, "mine": 0}
    assert {each.name: each.expires for each in roll.members}["new"] == 9.0
    assert roll.invites == (invitation(1), invitation(2)) and not roll.silent


async def test_an_authority_that_is_away_is_named(authorities, admin):
    await authorities[0].transport.aclose()
    roll = await admin.roll()
    assert [each.name for each in roll.members] == ["one"]
    assert roll.silent == (Station("a"),)
    await authorities[1].transport.aclose()
    with pytest.raises(Unreachable):
        await admin.roll()


async def test_only_one_authority_knows_the_invite_that_is_taken_back(authorities, admin):
    first, second = authorities
    first.answers[Expel] = Declined(Decline.UNKNOWN, "nobody is called so")
    second.answers[Expel] = Expelled((), 1)
    assert await admin.revoke("laptop") == Expelled((), 1)
    second.answers[Expel] = Expelled(("laptop",), 0)
    first.answers[Expel] = Expelled(("laptop",), 2)
    assert await admin.revoke("laptop") == Expelled(("laptop",), 2)
    first.answers[Expel] = second.answers[Expel] = Declined(Decline.UNKNOWN, "nobody is called so")
    with pytest.raises(RequestError, match="nobody is called so"):
        await admin.revoke("laptop")


async def test_one_authority_has_heard_from_the_other_who_is_gone(authorities, admin):
    first, second = authorities
    first.answers[Expel] = Expelled(("laptop",), 0)
    second.answers[Expel] = Declined(Decline.REVOKED, "laptop was removed already")
    assert await admin.revoke("laptop") == Expelled(("laptop",), 0)
    first.answers[Expel] = second.answers[Expel]
    with pytest.raises(RequestError, match="was removed already"):
        await admin.revoke("laptop")
    for each in authorities:
        each.answers[Expel] = Declined(Decline.FORBIDDEN, "who may do more")
    with pytest.raises(RequestError, match="who may do more"):
        await admin.revoke("laptop")


async def test_who_was_not_asked_is_not_taken_for_one_that_knows_nothing(authorities, admin):
    """Where an authority is away, what another one did is what was done."""
    first, second = authorities
    await first.transport.aclose()
    second.answers[Expel] = Expelled(("laptop",), 0)
    assert await admin.revoke("laptop") == Expelled(("laptop",), 0)
    await second.transport.aclose()
    with pytest.raises(Unreachable):
        await admin.revoke("laptop")


@pytest.mark.parametrize(
    ("why", "kind"),
    [(Decline.FORBIDDEN, RequestError), (Decline.REVOKED, MembershipError)],
)
async def test_a_refusal_is_told_as_what_it_is(authorities, admin, why, kind):
    for question in (Issue, Census):
        authorities[0].answers[question] = Declined(why, "because of this")
    for ask in (admin.invite(Role.PEER, name="", uses=1, expires=1.0), admin.roll()):
        with pytest.raises(kind, match="because of this") as caught:
            await ask
        assert getattr(caught.value, "lapse", Lapse.REVOKED) is Lapse.REVOKED


async def test_an_authority_that_answers_nonsense_is_no_authority(authorities, admin):
    for each in authorities:
        each.answers |= {Issue: Expelled(), Census: b"\xc1", Expel: Issued("hs1")}
    with pytest.raises(Misbehaved):
        await admin.invite(Role.PEER, name="", uses=1, expires=1.0)
    with pytest.raises(Unreachable):
        await admin.roll()
    with pytest.raises(Misbehaved):
        await admin.revoke("x")
