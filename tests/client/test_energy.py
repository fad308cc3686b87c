"""What a reply has cost, by what the peers on its way say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from swarm.client import Energy, Reply
from swarm.client.energy import energy
from swarm.client.route import Hop
from swarm.directory import Announcement, State


def entry(peer: str, blocks: tuple[int, int], joules: float, source: str) -> Announcement:
    return Announcement(
        peer, peer, "f", "tiny", 4, *blocks, State.SERVING, joules=joules, energy=source
    )


@dataclass
class Case:
    entries: list[Announcement]
    expected: Energy | None


ANN, BOB = ("ann", (0, 2), 1.0, "rapl"), ("bob", (0, 4), 3.0, "rapl")


@pytest.mark.parametrize(
    "case",
    [
        # Of bob's four blocks the reply went through two.
        Case([entry(*ANN), entry(*BOB)], Energy(2.5, "rapl")),
        Case([entry(*ANN), entry("bob", (2, 4), 3.0, "nvml")], Energy(4.0, "nvml+rapl")),
        Case([entry(*ANN), entry("bob", (2, 4), 3.0, "estimate")], Energy(4.0, "estimate")),
        # What peers write there ends up on terminals and as labels.
        Case([entry(*ANN), entry("bob", (2, 4), 3.0, "\x1b]0;owned\a")], Energy(4.0, "estimate")),
        Case([entry(*ANN)], None),
        Case([entry(*ANN), entry("bob", (2, 4), 0.0, "")], None),
        Case([entry(*ANN), entry("bob", (4, 4), 3.0, "rapl")], None),
    ],
)
def test_hops_are_summed_if_all_tell(case: Case) -> None:
    reply = Reply([1, 2], ids=[3, 4, 5], route=(Hop("ann", 0, 2), Hop("bob", 2, 4)), num_steps=2)
    assert energy(reply, case.entries) == case.expected


def test_a_guess_costs_like_a_token() -> None:
    reply = Reply([1], ids=[1, 2, 3, 4, 5], route=(Hop("ann", 0, 2),), num_steps=2, num_drafted=4)
    assert energy(reply, [entry(*ANN)]) == Energy(1.5, "rapl")


def test_what_nobody_has_made_has_no_cost() -> None:
    assert energy(Reply([1]), [entry(*ANN)]) is None
