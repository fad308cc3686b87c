"""Machines that are in another network all of a sudden, in the middle of an answer."""

from __future__ import annotations

import time

PROMPT = "The three most important things about a swarm are"
NUM_TOKENS = 64
SOON = 30.0
"""Seconds within which everything works again: about 6 where nobody else needs the machine."""


def until_seen(group, host, name, condition):
    """Waits until `host` is told of peer `name` what it must be."""
    begun = time.monotonic()
    while time.monotonic() - begun < SOON:
        peer = group.status(host).get(name)
        if peer is not None and peer["state"] == "serving" and condition(peer["addresses"]):
            return
    raise AssertionError(f"not seen in {SOON:g} s: {group.status(host)}")


def test_a_peer_gets_another_address(internet, group, greedy):
    """Nobody else has its blocks: the answer waits for it, and finds it where it is now."""
    group.bootstrap(internet.host("bootstrap"))
    one, two, client = internet.host("one"), internet.host("two"), internet.host("client")
    group.serve({one: "0:15", two: "15:30"})
    asking = group.start_asking(client, PROMPT, NUM_TOKENS)
    asking.until(8)
    old = two.address
    internet.readdress(two)
    reply = asking.until(NUM_TOKENS)
    assert reply["ids"] == greedy(reply["prompt_ids"], NUM_TOKENS)
    assert reply["recoveries"] and asking.longest_pause < SOON

    def moved(addresses):
        return any(two.address in each for each in addresses) and not any(
            f"/{old}/" in each for each in addresses
        )

    until_seen(group, internet.host("stranger"), "two", moved)


def test_a_client_moves_to_another_home(internet, group, greedy):
    """With the same private address as before: only silence tells it."""
    group.bootstrap(internet.host("bootstrap"))
    group.serve({internet.host("one"): "0:15", internet.host("two"): "15:30"})
    client = internet.home("carol").host("pc")
    asking = group.start_asking(client, PROMPT, NUM_TOKENS)
    asking.until(8)
    internet.home("dave").take(client)
    reply = asking.until(NUM_TOKENS)
    assert reply["ids"] == greedy(reply["prompt_ids"], NUM_TOKENS)
    assert asking.longest_pause < SOON


def test_a_peer_moves_to_another_home(internet, group, greedy):
    """Where nobody can dial it: its places at relays are those of the home before."""
    group.bootstrap(internet.host("bootstrap"))
    one, alice = internet.host("one"), internet.home("alice", scatters=True).host("pc")
    group.serve({one: "0:15", alice: "15:30"})
    asking = group.start_asking(internet.host("client"), PROMPT, NUM_TOKENS)
    asking.until(8)
    internet.home("bob", scatters=True).take(alice)
    reply = asking.until(NUM_TOKENS)
    assert reply["ids"] == greedy(reply["prompt_ids"], NUM_TOKENS)
    assert asking.longest_pause < SOON


def test_a_line_is_dead_for_a_while(internet, group, greedy):
    """Longer than links live without a word, and nothing is different afterwards."""
    group.bootstrap(internet.host("bootstrap"))
    one, two = internet.host("one"), internet.host("two")
    group.serve({one: "0:15", two: "15:30"})
    asking = group.start_asking(internet.home("carol").host("pc"), PROMPT, NUM_TOKENS)
    asking.until(8)
    two.unplug()
    time.sleep(10)
    two.plug()
    reply = asking.until(NUM_TOKENS)
    assert reply["ids"] == greedy(reply["prompt_ids"], NUM_TOKENS)
    assert asking.longest_pause < 10 + SOON
