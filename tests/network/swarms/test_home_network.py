"""Swarms whose lines are slow, lose packets and are never twice as fast."""

from __future__ import annotations

from home_network.box import Setting

PROMPT = "The three most important things about a swarm are"


def test_a_reply_comes_over_lines_that_lose_packets(box, group, greedy):
    box.apply(Setting(rtt=20, uplink=20, jitter=10, loss=0.01))
    group.bootstrap(box.host("bootstrap"))
    one, two = box.host("one"), box.host("two")
    group.serve({one: "0:15", two: "15:30"})
    reply = group.ask(box.host("client"), PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)
    lost = [machine["lost"] for machine in box.report()["machines"].values()]
    assert all(lost), lost
