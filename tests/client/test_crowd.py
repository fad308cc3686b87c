from __future__ import annotations

from collections import Counter

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


def test_sessions_sent_just_now_count_until_announcements_tell() -> None:
    crowd = Crowd("client")
    first = crowd.weight("a", 0.0)
    crowd.send(["a", "b"], 0.0)
    crowd.send(["a"], 6.0)
    assert crowd.weight("a", 7.0) > first + 1.9 * SPREAD
    assert first + 0.9 * SPREAD < crowd.weight("a", 11.0) < first + 1.1 * SPREAD
    assert crowd.weight("a", 17.0) == first
