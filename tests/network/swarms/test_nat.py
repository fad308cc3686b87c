"""Swarms of machines that are not on one network, and whose lines go dead."""

from __future__ import annotations

PROMPT = "The three most important things about a swarm are"

SOON = 30.0
"""Seconds of a pause, at most, on a machine with other work, too: libp2p notices nothing for 40."""


def test_public_machines_answer_somebody_at_home(internet, group, greedy):
    """The client's router lets nobody in: all that it is told comes over what it opened itself."""
    group.bootstrap(internet.host("bootstrap"))
    one, two = internet.host("one"), internet.host("two")
    group.serve({one: "0:15", two: "15:30"})
    reply = group.ask(internet.home("carol").host("pc"), PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)
    assert [hop["name"] for hop in reply["route"]] == ["one", "two"]


def test_machines_of_one_home_answer_each_other(internet, group, greedy):
    """Only the bootstrap is outside."""
    group.bootstrap(internet.host("bootstrap"))
    home = internet.home("alice")
    one, two = home.host("one"), home.host("two")
    group.serve({one: "0:15", two: "15:30"})
    client = home.host("client")
    reply = group.ask(client, PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)


def test_a_group_is_met_at_a_forwarded_port(internet, group, greedy):
    """Everybody is at home; two have told their routers to let others in, and announce that."""
    alice, bob = internet.home("alice"), internet.home("bob")
    meeting, serving = alice.host("pc"), bob.host("pc")
    group.bootstrap(meeting, "--port", "4001", "--announce", alice.forward(4001, meeting))
    group.serve({serving: "0:30"}, "--port", "4002", "--announce", bob.forward(4002, serving))
    # Whoever is in that home itself comes by the private address: routers seldom lead back in.
    assert group.status(alice.host("laptop"))["bob-pc"]["state"] == "serving"
    reply = group.ask(internet.home("carol").host("pc"), PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)


def test_a_spare_takes_over_from_a_peer_that_lost_its_network(internet, group, greedy):
    """X1 where nobody is told: both ends live, and what is sent vanishes."""
    group.bootstrap(internet.host("bootstrap"))
    hosts = {internet.host("one"): "0:15", internet.host("two"): "15:30"}
    group.serve({**hosts, internet.host("spare"): "15:30"})
    asking = group.start_asking(internet.home("carol").host("pc"), PROMPT, 48)
    first, last = asking.until(8)["route"]
    last.unplug()
    reply = asking.until(48)
    assert reply["ids"] == greedy(reply["prompt_ids"], 48)
    assert reply["recoveries"] and reply["route"][0] is first and reply["route"][1] is not last
    # Silence counts as death after a second; then somebody else has to be told what came before.
    assert 0.7 < asking.longest_pause < SOON
    # The other one has never heard that it was away, and is taken again when it must be.
    last.plug()
    reply["route"][1].unplug()
    again = group.ask(internet.host("stranger"), PROMPT, 8)
    assert again["ids"] == reply["ids"][:8]
    assert group.peers[again["route"][-1]["peer"]] is last


def test_a_public_spare_answers_where_nobody_reaches_a_peer(internet, group, greedy):
    """X11: a peer at home announces itself as loudly as the one that everybody reaches."""
    group.bootstrap(internet.host("bootstrap"))
    one, spare, alice = internet.host("one"), internet.host("spare"), internet.home("alice")
    group.serve({one: "0:15", spare: "15:30", alice.host("pc"): "15:30"})
    alice.router.unplug()
    reply = group.ask(internet.home("carol").host("pc"), PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)
    assert [hop["name"] for hop in reply["route"]] == ["one", "spare"]


def test_machines_at_home_answer_somebody_at_home(internet, group, greedy):
    """X10: no two of the three can dial each other; all of them reach the bootstrap."""
    group.bootstrap(internet.host("bootstrap"))
    alice, bob, carol = (
        internet.home(name, scatters=True).host("pc") for name in ("alice", "bob", "carol")
    )
    group.serve({alice: "0:15", bob: "15:30"})
    reply = group.ask(carol, PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)
    assert [hop["name"] for hop in reply["route"]] == ["alice-pc", "bob-pc"]
    for peer in group.status(carol).values():
        assert peer["reach"] == "relayed"
        assert any("/p2p-circuit/" in address for address in peer["addresses"])


def test_a_home_works_beside_public_machines(internet, group, greedy):
    """Each kind of hop has to reach the other, and each has to reach a client of either kind."""
    group.bootstrap(internet.host("bootstrap"))
    alice, public = internet.home("alice").host("pc"), internet.host("public")
    group.serve({alice: "10:20", public: "0:10", internet.host("last"): "20:30"})
    reply = group.ask(internet.home("carol").host("pc"), PROMPT, 16)
    assert reply["ids"] == greedy(reply["prompt_ids"], 16)
    assert [hop["name"] for hop in reply["route"]] == ["public", "alice-pc", "last"]
    client = internet.host("client")
    assert group.ask(client, PROMPT, 16)["ids"] == reply["ids"]
    reach = {name: peer["reach"] for name, peer in group.status(client).items()}
    assert reach == {"public": "direct", "alice-pc": "relayed", "last": "direct"}


def test_a_reply_outlives_its_relay(internet, group, greedy):
    """The bootstrap carried what one home said to the other; a public peer can as well."""
    bootstrap = group.bootstrap(internet.host("bootstrap"))
    alice, bob, carol = (
        internet.home(name, scatters=True).host("pc") for name in ("alice", "bob", "carol")
    )
    group.serve({internet.host("public"): "0:10", alice: "10:20", bob: "20:30"})
    asking = group.start_asking(carol, PROMPT, 48)
    route = asking.until(8)["route"]
    assert route[1:] == [alice, bob]
    bootstrap.kill()
    reply = asking.until(48)
    assert reply["ids"] == greedy(reply["prompt_ids"], 48)
    assert asking.longest_pause < SOON


def test_homes_talk_past_the_relay(internet, group, greedy):
    """X10 with routers that can be had to let somebody in: the relay only sees to that."""
    relay = internet.host("bootstrap")
    group.bootstrap(relay)
    alice, bob, carol = (internet.home(name).host("pc") for name in ("alice", "bob", "carol"))
    group.serve({alice: "0:15", bob: "15:30"})
    asking = group.start_asking(carol, PROMPT, 600)
    asking.until(8)
    # How soon they meet, goes by what else this machine does.
    for num_tokens in range(128, 600, 120):
        before = relay.num_bytes, bob.num_bytes
        reply = asking.until(num_tokens)
        # Bob hears of each token from Alice, and tells Carol; beside that, the relay carries all
        # that members say when nobody asks anything.
        passed, answered = relay.num_bytes - before[0], bob.num_bytes - before[1]
        if passed < answered / 3:
            break
    assert passed < answered / 3
    assert reply["ids"] == greedy(reply["prompt_ids"], len(reply["ids"]))
    assert reply["route"] == [alice, bob]
