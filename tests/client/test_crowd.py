from __future__ import annotations

from collections import Counter

import pytest

from swarm.client.crowd import SPREAD, Crowd


def test_clients_differ_in_which_of_equal_peers_they_take() -> None:
    peers = ["a", "b", "c", "d"]
    chosen = Counter(
        min(peers, key=lambda peer: Crowd(f"client-{n}").weight(peer, 0.0)) for n in range(200)
    )
    assert set(chosen) == set(peers) and max(chosen.values()) < 80


def test_a_client_stays_with_its_choice() -> None:
    weights = {Crowd("client").weight("a", now) for now in (0.0, 5.0, 1e6)}
    assert len(weights) == 1 and 1 <= weights.pop() < 1 + SPREAD


def test_who_has_no_name_leans_nowhere() -> None:
    crowd = Crowd()
    crowd.send(["a"], 0.0)
    assert crowd.weight("a", 0.0) == crowd.weight("b", 0.0) == 1.0


def test_sessions_that_are_about_to_be_opened_count_at_once() -> None:
    crowd = Crowd("client")
    first = crowd.weight("a", 0.0)
    crowd.send(["a", "b"], 0.0)
    crowd.send(["a"], 1.5)
    assert crowd.weight("a", 1.6) == pytest.approx(first + 2 * SPREAD)
    assert crowd.weight("a", 3.0) == pytest.approx(first + SPREAD)
    assert crowd.weight("a", 4.0) == first


def test_open_sessions_count_until_announcements_tell() -> None:
    crowd = Crowd("client")
    first = crowd.weight("a", 0.0)
    crowd.send("ab", 0.0)
    crowd.enter("one", "ab", 0.1)
    assert crowd.weight("a", 1.0) == pytest.approx(first + SPREAD), "it counts once"
    crowd.enter("one", "a", 8.0)
    assert crowd.weight("a", 9.0) == pytest.approx(first + SPREAD)
    assert crowd.weight("a", 11.0) == first


def test_one_reply_after_the_other_is_no_crowd() -> None:
    """What the first has left in the peers' memory is of use to the next."""
    crowd = Crowd("client")
    first = crowd.weight("a", 0.0)
    crowd.send("a", 0.0)
    crowd.enter("one", "a", 0.1)
    crowd.leave("one")
    crowd.leave("one")
    assert crowd.weight("a", 3.0) == first
