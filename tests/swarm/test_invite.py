from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import identity
from swarm.errors import ConfigError
from swarm.group import Group
from swarm.invite import PREFIX, Bootstrap, Invite
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Ticket

KEY, OTHER_KEY = b"g" * 32, b"b" * 32
TICKET = Ticket(b"n" * 8, b"s" * 16)
HOME = Bootstrap(OTHER_KEY, ("/ip4/127.0.0.1/tcp/1", "/dns/example.org/tcp/2"))
INVITE = Invite(KEY, (HOME,), TICKET, Role.PEER, 1.8e9, "friends")

keys = st.binary(min_size=32, max_size=32)
bootstraps = st.builds(
    Bootstrap,
    keys,
    st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=16).map(tuple),
)
invites = st.builds(
    Invite,
    keys,
    st.lists(bootstraps, min_size=1, max_size=4).map(tuple),
    st.builds(Ticket, st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16)),
    st.sampled_from(Role),
    st.floats(0, 1e11),
    st.text(max_size=64),
)


@given(invites)
def test_an_invite_survives(invite: Invite) -> None:
    line = invite.encode()
    if len(line) <= 8192:
        assert Invite.decode(line) == invite


def test_it_is_one_line_that_survives_chat_programs() -> None:
    line = INVITE.encode()
    assert line.startswith(PREFIX)
    assert line.isalnum() and line == line.lower()
    wrapped = f"  {line[:30].upper()}\n {line[30:]}\t\n"
    assert Invite.decode(wrapped) == INVITE


def test_in_capitals_it_is_as_valid() -> None:
    """QR codes hold capitals in less room."""
    assert Invite.decode(INVITE.encode().upper()) == INVITE


def test_it_opens_its_group() -> None:
    assert INVITE.group == Group(identity.peer_id(KEY), "friends")


def test_it_says_where_to_dial() -> None:
    peer = identity.peer_id(OTHER_KEY)
    assert INVITE.bootstraps[0].peer == peer
    assert INVITE.addresses == (
        f"/ip4/127.0.0.1/tcp/1/p2p/{peer}",
        f"/dns/example.org/tcp/2/p2p/{peer}",
    )


def test_a_usual_one_is_short_enough_to_be_sent() -> None:
    assert len(INVITE.encode()) < 320


@given(st.text(max_size=200))
def test_any_text_is_an_invite_or_a_clear_error(text: str) -> None:
    try:
        Invite.decode(text)
    except ConfigError as error:
        assert "invite" in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_under_a_right_checksum_are_an_invite_or_a_clear_error(body: bytes) -> None:
    try:
        Invite.decode(line_of(body))
    except ConfigError as error:
        assert "invite" in str(error)


@given(st.integers(0, 10_000), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_wrong_character_is_noticed(place: int, letter: str) -> None:
    line = INVITE.encode()
    place = len(PREFIX) + place % (len(line) - len(PREFIX))
    damaged = line[:place] + letter + line[place + 1 :]
    if damaged == line:
        return
    try:
        # The last character may carry bits that mean nothing.
        assert Invite.decode(damaged) == INVITE
        assert place == len(line) - 1
    except ConfigError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "HOMESWARM_INVITE"),
        ("https://example.org", "must begin with hs1"),
        ("hs1", "damaged"),
        ("hs1" + "!" * 20, "characters that no invite has"),
        (INVITE.encode()[:-1], "damaged"),
        ("hs1" + "a" * 10_000, "longer than"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Invite.decode(text)


@pytest.mark.parametrize("missing", range(1, 17))
def test_a_line_that_was_cut_is_to_be_copied_whole(missing: int) -> None:
    """Base32 refuses some lengths by the words that it has for letters that are none."""
    with pytest.raises(ConfigError, match="copy the whole line again"):
        Invite.decode(INVITE.encode()[:-missing])


def line_of(body: bytes) -> str:
    """A line whose checksum is right."""
    raw = body + hashlib.sha256(body).digest()[:4]
    return PREFIX + base64.b32encode(raw).decode().rstrip("=").lower()


def fields(**changes: Any) -> list[Any]:
    """An invite's fields as msgpack has them, with some replaced."""
    names = Invite.__struct_fields__
    return [
        changes.get(name, value)
        for name, value in zip(names, msgspec.to_builtins(INVITE), strict=True)
    ]


def test_the_fields_of_this_test_are_an_invite() -> None:
    raw = dict(key=KEY, ticket=[TICKET.number, TICKET.secret], bootstraps=[[OTHER_KEY, ["/a"]]])
    assert Invite.decode(line_of(msgspec.msgpack.encode(fields(**raw)))).ticket == TICKET


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"short"},
        {"bootstraps": []},
        {"bootstraps": [[OTHER_KEY, []]]},
        {"bootstraps": [[b"short", ["/a"]]]},
        {"bootstraps": [[OTHER_KEY, [""]]]},
        {"bootstraps": [[OTHER_KEY, ["/a"]]] * 5},
        {"bootstraps": [[OTHER_KEY, ["/a"] * 17]]},
        {"ticket": [b"n" * 7, b"s" * 16]},
        {"ticket": [b"n" * 8, b"s" * 15]},
        {"role": "king"},
        {"expires": -1.0},
        {"expires": float("inf")},
        {"expires": float("nan")},
        {"group_name": "n" * 65},
    ],
)
def test_contents_that_no_bootstrap_writes(changes: dict[str, Any]) -> None:
    raw: dict[str, Any] = {
        "key": KEY,
        "ticket": [TICKET.number, TICKET.secret],
        "bootstraps": [[OTHER_KEY, ["/a"]]],
        **changes,
    }
    line = line_of(msgspec.msgpack.encode(fields(**raw)))
    with pytest.raises(ConfigError, match="cannot read"):
        Invite.decode(line)


def test_an_invite_of_an_older_version_is_named() -> None:
    line = line_of(msgspec.msgpack.encode([b"s" * 32, ["/ip4/127.0.0.1/tcp/1/p2p/x"], "friends"]))
    with pytest.raises(ConfigError, match="of a kind that this version cannot read"):
        Invite.decode(line)
