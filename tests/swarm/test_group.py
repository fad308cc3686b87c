from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.group import Group


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_id_follows_from_the_key_alone(key: str, other: str) -> None:
    group = Group(key, "friends")
    assert group.id == Group(key, "another name").id
    assert (group.id == Group(other, "friends").id) == (key == other)


def test_the_id_is_fit_for_folders_and_keys() -> None:
    assert len(Group("key").id) == 16
    assert all(letter in "0123456789abcdef" for letter in Group("../key").id)


def test_the_id_stays_what_it_is() -> None:
    """Members keep their papers in a folder of this name: it must not change between versions."""
    group = Group("12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZiTUVDn7k")
    assert group.id == "e7f7f3a96ab1116c"
