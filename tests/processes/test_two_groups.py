"""Two groups on one machine: whatever addresses are mixed up, neither sees the other."""

from __future__ import annotations

import json

import msgspec
import pytest

from swarm.invite import Invite


@pytest.fixture
def two(processes):
    """Processes of two groups with a peer each, of the same model; the two invites."""
    processes.start(
        "neighbours", "bootstrap", "--dir", str(processes.folder / "neighbours"),
        "--host", "127.0.0.1", "--no-map-port",
    )  # fmt: skip
    theirs = processes.line("neighbours")
    processes.invite = theirs
    processes.peers(theirs="0:2")
    ours = processes.bootstrap()
    processes.peers(ours="0:2")
    return processes, ours, theirs


def names(processes, invite):
    """Who is seen with this invite, by a machine that has never joined anything."""
    home = processes.folder / f"home-{len(list(processes.folder.glob('home-*')))}"
    home.mkdir()
    processes.environment["XDG_STATE_HOME"] = str(home)
    done = processes.command("status", "--join", invite, "--json")
    assert done.stdout, done.stderr
    return [peer["name"] for model in json.loads(done.stdout)["models"] for peer in model["peers"]]


def test_two_groups_never_see_each_others_models(two):
    processes, ours, theirs = two
    assert names(processes, ours) == ["ours"]
    assert names(processes, theirs) == ["theirs"]
    # One list of addresses for both, as when somebody copies a line too many.
    one, other = Invite.decode(ours), Invite.decode(theirs)
    mixed = msgspec.structs.replace(one, bootstraps=one.bootstraps + other.bootstraps)
    assert names(processes, mixed.encode()) == ["ours"]
    mixed = msgspec.structs.replace(other, bootstraps=other.bootstraps + one.bootstraps)
    assert names(processes, mixed.encode()) == ["theirs"]


def test_an_invite_at_another_groups_address_says_so(two):
    processes, ours, theirs = two
    one, other = Invite.decode(ours), Invite.decode(theirs)
    wrong = msgspec.structs.replace(one, bootstraps=other.bootstraps)
    done = processes.command("status", "--join", wrong.encode())
    assert done.returncode == 1
    assert "another group" in done.stderr and "Traceback" not in done.stderr
