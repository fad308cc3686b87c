from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.group import SECRET_LEN, Group

GROUP = Group(b"s" * SECRET_LEN, "friends")
OTHER = Group(b"t" * SECRET_LEN, "friends")


def test_new_groups_differ_and_their_ids_follow_from_the_secret() -> None:
    one, other = Group.create(), Group.create()
    assert one.secret != other.secret
    assert one.id != other.id
    assert Group(one.secret, "another name").id == one.id
    assert len(one.id) == 16


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(GROUP)


@pytest.mark.parametrize("length", [0, SECRET_LEN - 1, SECRET_LEN + 1])
def test_a_secret_of_the_wrong_length(length: int) -> None:
    with pytest.raises(ConfigError):
        Group(b"s" * length)


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_a_proof_convinces_whoever_it_was_made_for(me: str, you: str, nonce: bytes) -> None:
    assert GROUP.verifies(GROUP.proof(me, you, nonce), me, you, nonce)


@pytest.mark.parametrize(
    ("prover", "verifier", "nonce"),
    [("b", "v", b"n"), ("p", "w", b"n"), ("p", "v", b"m"), ("pv", "", b"n"), ("v", "p", b"n")],
)
def test_a_proof_is_worth_nothing_elsewhere(prover: str, verifier: str, nonce: bytes) -> None:
    proof = GROUP.proof("p", "v", b"n")
    assert not GROUP.verifies(proof, prover, verifier, nonce)
    assert not OTHER.verifies(proof, "p", "v", b"n")
    assert not GROUP.verifies(b"", "p", "v", b"n")


@given(st.binary(max_size=100), st.text(max_size=20))
def test_a_sealed_record_opens_for_its_owner_only(record: bytes, owner: str) -> None:
    sealed = GROUP.seal(record, owner)
    assert GROUP.unseal(sealed, owner) == record
    assert GROUP.unseal(sealed, owner + "x") is None
    assert OTHER.unseal(sealed, owner) is None


@given(st.binary(max_size=100))
def test_what_nobody_sealed_does_not_open(raw: bytes) -> None:
    assert GROUP.unseal(raw, "owner") is None


@given(st.binary(max_size=50), st.integers(0, 1000), st.integers(1, 255))
def test_every_changed_byte_breaks_the_seal(record: bytes, place: int, change: int) -> None:
    sealed = bytearray(GROUP.seal(record, "owner"))
    sealed[place % len(sealed)] ^= change
    assert GROUP.unseal(bytes(sealed), "owner") is None


def test_a_seal_is_no_proof() -> None:
    seal = GROUP.seal(b"n", "p")[1:]
    assert not GROUP.verifies(seal, "p", "", b"n")
