from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.bootstrap import names
from swarm.membership.certificate import MAX_NAME


@pytest.mark.parametrize(
    ("wish", "shown"),
    [
        ("garage-pc", "garage-pc"),
        ("  Lena's  laptop\n", "Lena's laptop"),
        ("\x1b[31mred\x07", "[31mred"),
        ("left\u202eright", "left right"),
        ("u\u0308ber", "über"),
        ("x" * 99, "x" * 64),
        ("\u200b\t", ""),
    ],
)
def test_what_can_be_shown_of_a_name(wish: str, shown: str) -> None:
    assert names.clean(wish) == shown


@given(st.text())
def test_a_clean_name_is_printable_and_stays(wish: str) -> None:
    shown = names.clean(wish)
    assert shown.isprintable() and len(shown) <= MAX_NAME
    assert names.clean(shown) == shown


def test_a_taken_name_gets_a_number() -> None:
    taken: set[str] = set()
    for expected in ("pc", "pc-2", "pc-3"):
        name = names.unique("pc", taken.__contains__)
        assert name == expected
        taken.add(name)


def test_a_number_has_room_in_a_long_name() -> None:
    longest = "x" * MAX_NAME
    assert names.unique(longest, {longest}.__contains__) == "x" * (MAX_NAME - 2) + "-2"
