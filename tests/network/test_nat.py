"""Swarms across routers that translate addresses, lines that go dead, and relays that die."""

from __future__ import annotations

PROMPT = "The three most important things about a swarm are"


def test_a_public_swarm_answers(internet, group, greedy):
    group.bootstrap(internet.host("bootstrap"))
    one, two = internet.host("one"), internet.host("two")
    group.serve({one: "0:15", two: "15:30"})
    reply = group.ask(internet.host("client"), PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)
    assert [hop["name"] for hop in reply["route"]] == ["one", "two"]
