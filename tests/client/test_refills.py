"""What peers compute again for all of a client's sessions."""

from __future__ import annotations

from swarm.client.refills import Refills


def test_a_session_waits_for_what_all_have_the_busiest_peer_compute():
    refills = Refills()
    assert refills.ahead(["a"]) == refills.ahead([]) == 0
    refills.begin("1", ["a", "b"], 100)
    refills.begin("2", ["b", "c"], 50)
    assert refills.ahead(["a"]) == 100
    assert refills.ahead(["a", "b"]) == refills.ahead(["b"]) == 150
    assert refills.ahead(["d"]) == 0


def test_what_has_come_out_is_waited_for_no_more():
    refills = Refills()
    refills.begin("1", ["a"], 100)
    refills.begin("2", ["a"], 50)
    refills.end("1")
    refills.end("3")
    assert refills.ahead(["a"]) == 50


def test_a_session_that_goes_elsewhere_is_waited_for_there():
    refills = Refills()
    refills.begin("1", ["a"], 100)
    refills.begin("1", ["b"], 70)
    assert (refills.ahead(["a"]), refills.ahead(["b"])) == (0, 70)
    refills.begin("1", ["b"], 0)
    assert refills.ahead(["b"]) == 0
