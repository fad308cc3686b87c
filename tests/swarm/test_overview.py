"""What a group serves at one moment: gaps, copies, and the command that fills a gap."""

from __future__ import annotations

import json
import shlex

import pytest

from swarm.auditing.report import Report, encode_reports
from swarm.directory import MAX_BLOCKS, Announcement, Shelf, State
from swarm.directory.memory import Registry
from swarm.overview import Gap, Overview, replication


def peer(start: int, end: int, state: State = State.SERVING, **changes) -> Announcement:
    values = {
        "peer": f"peer-{start}-{end}",
        "name": "garage",
        "model": "f" * 32,
        "model_name": "owner/model",
        "num_blocks": 10,
        "start": start,
        "end": end,
        "state": state,
    }
    return Announcement(**{**values, **changes})


def only(*entries: Announcement, **options):
    (model,) = Overview.of(entries, **options).models
    return model


def test_blocks_are_counted_by_who_serves_them():
    entries = [peer(0, 6), peer(4, 8), peer(0, 10, State.LOADING), peer(0, 10, State.PAUSED)]
    assert replication(entries, 10) == [(0, 4, 1), (4, 6, 2), (6, 8, 1), (8, 10, 0)]
    assert replication([], 10) == [(0, 10, 0)]
    assert only(*entries).missing == ((8, 10),)


def test_a_gap_says_what_fills_it_how_large_it_is_and_who_is_coming():
    model = only(peer(0, 4), peer(3, 8, State.LOADING), block_bytes={"f" * 32: 1000})
    (gap,) = model.gaps
    assert gap.command == "swarm peer --join INVITE --model owner/model --blocks 4:10"
    assert (gap.num_bytes, gap.coming) == (6000, ("peer-3-8",))
    assert not model.complete and only(peer(0, 10)).complete


@pytest.mark.parametrize(
    "name",
    ["a; rm -rf ~", "$(reboot)", "a\nreboot\n", "\x1b[201~reboot", "-x", "a‮b", "м/odel", "'", ""],
)
def test_what_a_member_calls_its_model_does_no_harm_in_a_shell(name):
    words = shlex.split(Gap(name, 0, 5).command)
    assert words == shlex.split("swarm peer --join INVITE --model MODEL --blocks 0:5")


def test_a_name_with_spaces_is_one_word_for_a_shell():
    assert "my model.gguf" in shlex.split(Gap("my model.gguf", 0, 5).command)


def test_one_peer_alone_does_not_rename_or_stretch_a_model():
    liar = peer(0, 10, model_name="a/lie", num_blocks=MAX_BLOCKS, peer="liar")
    model = only(peer(0, 5), peer(5, 10), liar)
    assert (model.name, model.num_blocks, model.complete) == ("owner/model", 10, True)


def test_many_blocks_cost_no_more_than_few():
    entry = peer(0, 1, num_blocks=MAX_BLOCKS)
    assert len(json.dumps(Overview.of([entry]).as_json())) < 2000


def test_of_too_many_peers_those_that_serve_are_told():
    entries = [peer(0, 1, State.LOADING, peer=f"loading-{n}") for n in range(5)]
    told = Overview.of([*entries, peer(0, 10)], most=2).as_json()
    assert told["left_out"] == 4
    assert "serving" in [each["state"] for each in told["models"][0]["peers"]]


async def test_the_directory_tells_who_is_there_and_who_is_reported():
    registry = Registry()
    entry = peer(0, 10, watts=60.0, joules=1.5, energy="estimate", num_sessions=3)
    await registry.directory(entry.peer).announce(entry)
    report = Report(entry.peer, "f" * 32, 0, 10, 8, 0.5, 0.1, ("witness",), 1.0)
    directory = registry.directory("somebody")
    await directory.publish(Shelf.REPORTS, encode_reports([report]))
    (told,) = (await Overview.seen(directory)).as_json()["models"][0]["peers"]
    assert told["reporters"] == 1 and told["num_sessions"] == 3
    assert told["watts"] == 60.0 and told["joules"] == 1.5 and told["energy_estimated"]
