"""Members come and go by the commands of people: `swarm invite`, `members` and `revoke`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from swarm.checkpoint.progress import Silent
from swarm.client.benchmark.shapes import Shape, write_random

HERE = ["--host", "127.0.0.1", "--no-map-port"]
SECONDS = 30
"""Within which somebody who was thrown out is out; it is promised for a minute."""


class Town:
    """One group, and machines of their own: each keeps its state in another folder."""

    def __init__(self, processes, model: Path) -> None:
        self.processes, self.model = processes, model
        self.folder = str(processes.folder / "bootstrap")

    def on(self, machine: str) -> Town:
        """Commands from now on run on this machine."""
        state = self.processes.folder / machine
        self.processes.environment["XDG_STATE_HOME"] = str(state)
        return self

    def run(self, *arguments: str, code: int = 0) -> str:
        """Runs a command; what it says on stdout, or on stderr if it is to fail."""
        done = self.processes.command(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if code:
            assert not done.stdout and len(self.processes.told(done)) == 1, done.stderr
        return self.processes.told(done)[0] if code else done.stdout.strip()

    def invite(self, *options: str) -> str:
        """A new invite of the bootstrap's."""
        return self.run("invite", "--dir", self.folder, *options)

    def states(self, *place: str) -> dict[str, str]:
        """How each member stands."""
        told = json.loads(self.run("members", "--json", *(place or ("--dir", self.folder))))
        return {each["name"]: each["state"] for each in told["members"]}

    def peer(self, name: str, invite: str) -> None:
        """Starts a peer that serves the whole model, on a machine of its own."""
        arguments = ["--join", invite, "--model", str(self.model), *HERE]
        options = ["--threads", "1", "--kv-memory", "16MB"]
        self.on(name).processes.start(name, "peer", *arguments, *options)
        assert self.processes.line(name).startswith("serving blocks 0:3")


@pytest.fixture
def town(processes, tmp_path) -> Town:
    model = tmp_path / "tiny"
    write_random(model, Shape("llama", 64, 96, 3, 4, 2, 16, 500).config, Silent())
    processes.bootstrap()
    return Town(processes, model)


def test_every_wrong_invite_is_told_as_what_it_is(town):
    """A fresh machine each time: one that is a member needs no invite."""
    spent = town.invite("--role", "client", "--name", "first")
    town.on("first").run("status", "--join", spent)
    town.run("status", "--join", spent)
    expired = town.invite("--expires", "1s")
    taken_back = town.invite("--name", "nobody")
    assert town.run("revoke", "nobody", "--dir", town.folder) == "1 invite is void."
    good = town.invite()
    told = {}
    for kind, invite in {
        "spent": spent,
        "expired": expired,
        "revoked": taken_back,
        "damaged": good[:40] + ("a" if good[40] != "a" else "b") + good[41:],
        "cut": good[:-9],
        "none": "hello",
    }.items():
        told[kind] = town.on(kind).run("status", "--join", invite, code=1)
    assert told == {
        "spent": "swarm: error: this invite has been used up; ask for a new one",
        "expired": "swarm: error: this invite has expired; ask for a new one",
        "revoked": "swarm: error: this invite was taken back; ask for a new one",
        "damaged": "swarm: error: the invite is damaged: copy the whole line again",
        "cut": "swarm: error: the invite is damaged: copy the whole line again",
        "none": "swarm: error: this is no Homeswarm invite: it must begin with hs1",
    }
    town.on("last").run("status", "--join", good.upper())


def test_a_foreign_invite_is_told(town):
    """Another group has taken the bootstrap's place at the same address."""
    invite = town.invite("--role", "client")
    port = Path(town.folder, "port").read_text().strip()
    town.processes.kill("bootstrap")
    elsewhere = str(town.processes.folder / "elsewhere")
    town.processes.start("other", "bootstrap", "--dir", elsewhere, "--port", port, *HERE)
    foreign = town.processes.line("other")
    assert foreign != invite
    said = town.on("guest").run("status", "--join", invite, code=1)
    assert "another one answers at" in said and f"/{port} " in said
    town.processes.kill("other")
    said = town.run("status", "--join", invite, code=1)
    assert "does not answer at" in said and f"/{port};" in said


def test_a_client_serves_nothing(town):
    said = town.on("guest").run(
        *("peer", "--join", town.invite("--role", "client"), "--model", str(town.model), *HERE),
        code=1,
    )
    assert "not the role peer" in said and "--role peer" in said


def test_who_is_thrown_out_ends_and_stays_out(town):
    bens = town.invite("--role", "peer", "--name", "garage-pc")
    carols = town.invite("--role", "client", "--name", "laptop")
    town.peer("garage", bens)
    status = json.loads(town.on("laptop").run("status", "--join", carols, "--json"))
    assert status["member"]["name"] == "laptop" and status["member"]["roles"] == ["client"]
    (model,) = status["models"]
    assert [each["name"] for each in model["peers"]] == ["garage-pc"]
    assert town.states() == {"bootstrap": "ok", "garage-pc": "ok", "laptop": "ok"}

    started = time.monotonic()
    assert "garage-pc is removed" in town.run("revoke", "garage-pc", "--dir", town.folder)
    assert town.processes.wait("garage", SECONDS) == 1
    assert time.monotonic() - started < SECONDS
    log = (town.processes.folder / "garage.log").read_text()
    assert log.endswith("swarm: error: garage-pc was removed from the group\n")
    assert town.states()["garage-pc"] == "revoked"
    again = ["peer", "--join", town.invite(), "--model", str(town.model), *HERE]
    assert "removed from the group" in town.on("garage").run(*again, code=1)
    assert "removed already" in town.run("revoke", "garage-pc", "--dir", town.folder, code=1)
    assert "is called nobody" in town.run("revoke", "nobody", "--dir", town.folder, code=1)

    town.run("revoke", "laptop", "--dir", town.folder)
    said = town.on("laptop").run("status", "--join", carols, code=1)
    assert "laptop was removed from the group" in said


def test_an_admin_does_it_from_anywhere(town):
    admins = town.invite("--role", "admin", "--name", "anna")
    join = ["--join", admins]
    guests = town.on("anna").run("invite", *join, "--role", "client", "--name", "guest")
    town.on("guest").run("status", "--join", guests)
    assert "not the role admin" in town.run("members", "--join", guests, code=1)
    assert town.on("anna").states(*join) == {"bootstrap": "ok", "anna": "ok", "guest": "ok"}
    assert "guest is removed" in town.run("revoke", "guest", *join)
    assert town.states(*join)["guest"] == "revoked"
    assert "guest was removed" in town.on("guest").run("status", "--join", guests, code=1)
    # What it has invited is known where the folder is.
    assert town.states()["guest"] == "revoked"


def test_a_folder_without_a_bootstrap_is_told(town, tmp_path):
    said = town.run("members", "--dir", str(tmp_path / "nowhere"), code=1)
    assert "nowhere" in said and "swarm bootstrap" in said
    assert not (tmp_path / "nowhere").exists()
