from __future__ import annotations

from typing import Any

import pytest

from swarm.errors import ConfigError
from swarm.transport.gate import Gate, GateLimits, Guest


class Entrance:
    """A gate, and which of its guests had to go."""

    def __init__(self, **limits: int) -> None:
        fields = {"strangers": 4, "stranger_streams": 2, "member_streams": 3, "streams": 6}
        self.gate = Gate(GateLimits(**{**fields, **limits}))
        self.gone: list[str] = []
        self._count = 0

    def enter(self, remote: str) -> Guest | None:
        self._count += 1
        name = f"{remote}{self._count}"
        return self.gate.enter(remote, lambda: self.gone.append(name))


@pytest.mark.parametrize(
    "limits",
    [
        {"stranger_streams": 0},
        {"stranger_streams": 5, "strangers": 4},
        {"strangers": 2000},
        {"member_streams": 2000},
        {"member_streams": 0},
        {"idle_strangers": -1},
    ],
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GateLimits(**limits)


def test_one_stranger_has_few_streams() -> None:
    entrance = Entrance()
    first, second = entrance.enter("x"), entrance.enter("x")
    assert first and second and entrance.enter("x") is None
    entrance.gate.leave(first)
    entrance.gate.leave(first)
    assert entrance.enter("x") is not None
    assert (entrance.gone, entrance.gate.num_refused) == ([], 1)


def test_a_flood_under_many_names_pushes_out_its_own_oldest() -> None:
    entrance = Entrance()
    assert all(entrance.enter(name) for name in "abcd")
    assert entrance.enter("e") is not None and entrance.gone == ["a1"]
    # Who has two gives way to who has one, even if it came later.
    assert entrance.enter("e") is not None and entrance.gone == ["a1", "e5"]
    assert entrance.gate.num_strangers == 4


def test_no_number_of_strangers_pushes_out_a_member() -> None:
    entrance = Entrance()
    entrance.gate.know("m")
    assert all(entrance.enter("m") for _ in range(3))
    for number in range(20):
        entrance.enter(f"x{number}-")
    assert not [name for name in entrance.gone if name.startswith("m")]
    assert len(entrance.gone) == 17, "there were six places, and three members'"


def test_who_proves_to_be_a_member_is_no_stranger_with_all_its_streams() -> None:
    entrance = Entrance()
    first, second = entrance.enter("m"), entrance.enter("m")
    assert first and second
    entrance.gate.know("m")
    assert entrance.gate.num_strangers == 0 and entrance.gate.knows("m")
    assert entrance.enter("m") is not None and entrance.enter("m") is None
    entrance.gate.forget("m")
    assert entrance.gate.num_strangers == 3
    entrance.gate.leave(first)
    assert entrance.gate.num_strangers == 2


def test_among_members_who_has_most_gives_way() -> None:
    entrance = Entrance(member_streams=5)
    for member in "abc":
        entrance.gate.know(member)
    assert all(entrance.enter("a") for _ in range(5)) and entrance.enter("b")
    assert entrance.enter("c") is not None
    assert entrance.gone == ["a5"], "its newest: the others carry what runs"


def test_of_idle_strangers_the_oldest_are_disconnected() -> None:
    entrance = Entrance(idle_strangers=1)
    entrance.gate.know("member")
    entrance.enter("greets")
    connected = {"member": 0.0, "old": 1.0, "new": 3.0, "older": 0.5, "greets": 0.1}
    assert entrance.gate.surplus(connected) == ["older", "old"]
    assert entrance.gate.surplus({"member": 0.0, "new": 3.0}) == []


def test_members_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.transport.gate._MAX_KNOWN", 2)
    gate = Gate()
    for name in ("a", "b", "a", "c"):
        gate.know(name)
    assert [gate.knows(name) for name in "abc"] == [True, False, True]
