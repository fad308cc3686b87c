from __future__ import annotations

import base64
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.group import SECRET_LEN
from swarm.invite import PREFIX, Invite

INVITE = Invite(b"s" * SECRET_LEN, ("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWabc",), "friends")


@given(
    st.binary(min_size=SECRET_LEN, max_size=SECRET_LEN),
    st.lists(st.text(min_size=1, max_size=100), min_size=1, max_size=16),
    st.text(max_size=64),
)
def test_an_invite_survives(secret: bytes, addresses: list[str], name: str) -> None:
    invite = Invite(secret, tuple(addresses), name)
    assert Invite.decode(invite.encode()) == invite


def test_it_is_one_line_that_survives_chat_programs() -> None:
    line = INVITE.encode()
    assert line.startswith(PREFIX)
    assert line.isalnum() and line == line.lower()
    wrapped = f"  {line[:30].upper()}\n {line[30:]}\t\n"
    assert Invite.decode(wrapped) == INVITE


def test_it_opens_its_group() -> None:
    assert INVITE.group.secret == INVITE.secret
    assert INVITE.group.name == "friends"


@given(st.text(max_size=200))
def test_any_text_is_an_invite_or_a_clear_error(text: str) -> None:
    try:
        Invite.decode(text)
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


@pytest.mark.parametrize(
    "body",
    [
        [b"s" * SECRET_LEN, []],
        [b"short", ["/a"]],
        [b"s" * SECRET_LEN, ["/a"] * 17],
        [b"s" * SECRET_LEN],
        {"secret": 1},
    ],
)
def test_contents_that_no_bootstrap_writes(body: object) -> None:
    raw = msgspec.msgpack.encode(body)
    raw += hashlib.sha256(raw).digest()[:4]
    line = PREFIX + base64.b32encode(raw).decode().rstrip("=").lower()
    with pytest.raises(ConfigError, match="cannot read"):
        Invite.decode(line)
