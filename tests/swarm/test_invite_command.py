"""`swarm invite`, `members` and `revoke`: what they ask for, and what they tell."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from swarm import cli
from swarm.cli import _registrar, _wording
from swarm.errors import ConfigError
from swarm.invite import Bootstrap, Invite
from swarm.membership.administration import Roll
from swarm.membership.certificate import ROLES, Role
from swarm.wire.enrolment import Entry, Expelled, OpenInvite, Station, Ticket

KEY = bytes(range(32))
DAY = 86_400


def some_invite(role: Role = Role.PEER, expires: float = 9e9) -> Invite:
    place = Bootstrap(KEY, ("/ip4/5.0.1.2/tcp/7700",))
    return Invite(KEY, (place,), Ticket(bytes(8), bytes(16)), role, expires, "home")


def member(name: str, end: str, **changes) -> Entry:
    values = {"member": f"12D3KooW{end}", "name": name, "roles": ROLES[Role.PEER]}
    times = {"joined": 1e9, "renewed": 2e9, "expires": 8e9}
    return Entry(**{**values, **times, **changes})


def invitation(number: int, **changes) -> OpenInvite:
    values = {"number": bytes([number]) * 8, "role": Role.CLIENT, "name": "", "uses": 1}
    return OpenInvite(**{**values, "expires": 9e9, **changes})


ROLL = Roll(
    (
        member("garage-pc", "aaaaaaaa"),
        member("[b]away", "bbbbbbbb", expires=1.5e9),
        member("stolen", "cccccccc", revoked=1.6e9),
        member("twins", "ddddddd1"),
        member("twins", "ddddddd2"),
    ),
    (
        invitation(1, name="laptop", uses=3),
        invitation(2, uses=0),
        invitation(3, expires=1.0),
        invitation(4, revoked=5.0),
        invitation(5, name="garage-pc"),
    ),
    (Station("12D3KooWfaraway"),),
)


class Recorder:
    """Stands for the authority; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.places: list[_registrar.Place] = []
        self.known = ROLL

    @asynccontextmanager
    async def registrar(self, place):
        self.places.append(place)
        yield self

    async def invite(self, role, *, name, uses, expires):
        self.asked.append((role, name, uses, expires))
        return some_invite(role, expires)

    async def roll(self):
        return self.known

    async def revoke(self, name):
        self.asked.append((name,))
        members = tuple(each.name for each in ROLL.members if each.name == name)
        return Expelled(members, 0 if members else 1)


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(_registrar, "registrar", recorder.registrar)
    monkeypatch.delenv("HOMESWARM_INVITE", raising=False)
    return recorder


def run(*arguments: str):
    return CliRunner().invoke(cli.build(), arguments)


def test_the_invite_alone_stands_on_standard_output(recorder, tmp_path):
    before = time.time()
    options = ["--role", "peer", "--name", "garage-pc", "--uses", "2", "--expires", "7d"]
    done = run("invite", "--dir", str(tmp_path), *options)
    assert done.exit_code == 0, done.output
    ((role, name, uses, expires),) = recorder.asked
    assert (role, name, uses) == (Role.PEER, "garage-pc", 2)
    assert before + 7 * DAY <= expires <= time.time() + 7 * DAY
    assert recorder.places == [_registrar.Place(tmp_path, None)]
    assert done.stdout == some_invite(role, expires).encode() + "\n"
    assert '2 machines can join with it as "garage-pc"' in done.stderr
    assert "(7 days)" in done.stderr and "swarm peer --join" in done.stderr


@pytest.mark.parametrize("role", Role)
def test_each_role_is_said_in_words(recorder, tmp_path, role):
    done = run("invite", "--dir", str(tmp_path), "--role", role.value)
    assert done.exit_code == 0, done.output
    assert f"may then {_wording.MAY[role]}." in done.stderr
    assert ("swarm peer" in done.stderr) == (role in (Role.PEER, Role.ADMIN))
    assert ("swarm bootstrap" in done.stderr) == (role is Role.AUTHORITY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--role", "king"], "'client', 'peer', 'admin'"),
        (["--uses", "0"], "greater than or equal to 1"),
        (["--expires", "soon"], "no duration"),
        (["--name", "x" * 65], "at most 64"),
        (["--join", "hs1aa"], "not both"),
    ],
)
def test_wrong_wishes_are_told(recorder, tmp_path, options, words):
    done = run("invite", "--dir", str(tmp_path), *options)
    assert done.exit_code == 2 and not recorder.asked
    assert words in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", [["invite"], ["members"], ["revoke", "garage-pc"]])
def test_who_is_asked(recorder, tmp_path, monkeypatch, command):
    done = run(*command)
    assert done.exit_code == 2 and "--dir" in done.stderr and "--join" in done.stderr
    admin = some_invite(Role.ADMIN)
    assert run(*command, "--join", admin.encode()).exit_code == 0
    monkeypatch.setenv("HOMESWARM_INVITE", admin.encode().upper())
    assert run(*command).exit_code == 0
    assert run(*command, "--dir", str(tmp_path)).exit_code == 0
    by_invite, by_folder = _registrar.Place(None, admin), _registrar.Place(tmp_path, None)
    assert recorder.places == [by_invite, by_invite, by_folder]
    monkeypatch.setenv("HOMESWARM_INVITE", "hello")
    assert isinstance(run(*command).exception, ConfigError)


def test_members_and_open_invites_are_listed(recorder, tmp_path):
    done = run("members", "--dir", str(tmp_path))
    assert done.exit_code == 0, done.output
    rows = [line.split("│") for line in done.stdout.splitlines() if "│" in line]
    table = {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows}
    assert table["[b]away"][0] == "…bbbbbbbb" and table["[b]away"][-1] == "expired"
    assert table["stolen"][-1] == "revoked"
    assert "client peer" in done.stdout
    assert table["laptop"][1:3] == ["client", "3"]
    # Spent, expired and revoked ones are not open.
    assert {row[2].strip() for row in rows} >= {"01" * 8, "05" * 8}
    assert not any(number * 8 in done.stdout for number in ("02", "03", "04"))
    assert "…araway does not answer" in done.stdout


def test_the_same_as_json(recorder, tmp_path):
    told = json.loads(run("members", "--dir", str(tmp_path), "--json").stdout)
    states = {each["name"]: each["state"] for each in told["members"]}
    assert states == {"garage-pc": "ok", "[b]away": "expired", "stolen": "revoked", "twins": "ok"}
    assert {(each["id"], each["uses"]) for each in told["invites"]} == {
        ("01" * 8, 3),
        ("05" * 8, 1),
    }
    assert told["silent"] == ["12D3KooWfaraway"]


def test_reports_are_counted_where_they_can_be_seen(recorder, tmp_path):
    done = run("members", "--dir", str(tmp_path))
    assert "reported by" not in done.stdout
    told = json.loads(run("members", "--dir", str(tmp_path), "--json").stdout)
    assert {each["reports"] for each in told["members"]} == {None}

    recorder.known = replace(ROLL, reports={"12D3KooWaaaaaaaa": 3})
    rows = run("members", "--dir", str(tmp_path)).stdout.splitlines()
    assert any("reported by" in row for row in rows)
    (row,) = (row for row in rows if "…aaaaaaaa" in row)
    assert row.rstrip("│ ").endswith("3")
    told = json.loads(run("members", "--dir", str(tmp_path), "--json").stdout)
    assert {each["name"]: each["reports"] for each in told["members"]}["garage-pc"] == 3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "stolen",
            ["stolen is removed: within a minute nobody of the group deals with it any more."],
        ),
        ("010101", ["1 invite is void."]),
    ],
)
def test_what_was_revoked_is_told(recorder, tmp_path, name, told):
    done = run("revoke", name, "--dir", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert recorder.asked == [(name,)] and done.stdout.splitlines() == told


PROGRAM = """
import sys
from contextlib import asynccontextmanager
from swarm.cli import _registrar, main
from swarm.wire.enrolment import Expelled

class Authority:
    async def revoke(self, name):
        return Expelled(("garage-pc",))

@asynccontextmanager
async def registrar(place):
    yield Authority()

_registrar.registrar = registrar
sys.argv = ["swarm", "revoke", "garage-pc", "--dir", ".", *sys.argv[1:]]
main()
"""


def on_terminal(answer: bytes, *options: str) -> tuple[int, str]:
    """Exit code, and what a user at a terminal sees who answers this when something is asked."""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, *options]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while select.select([mine], [], [], 60)[0] and (more := os.read(mine, 4096)):
                seen += more
                if answer and b"?" in seen:
                    os.write(mine, answer)
                    answer = b""
        except OSError:  # Linux: the other side of the terminal is closed.
            pass
    os.close(mine)
    return process.returncode, seen.decode()


@pytest.mark.parametrize(
    ("answer", "options", "code", "removed"),
    [
        (b"y\n", [], 0, True),
        (b"n\n", [], 1, False),
        (b"", ["--yes"], 0, True),
    ],
)
def test_somebody_at_a_terminal_is_asked(answer, options, code, removed):
    returned, seen = on_terminal(answer, *options)
    assert returned == code, seen
    assert ('Remove "garage-pc"' in seen) == (not options) and "Traceback" not in seen
    assert ("garage-pc is removed" in seen) == removed


def test_an_invite_may_go_into_a_file_of_its_own(tmp_path, monkeypatch):
    @asynccontextmanager
    async def opened(_place):
        yield Writer()

    class Writer:
        written = 0

        async def invite(self, role, **_terms):
            Writer.written += 1
            return some_invite(role)

    monkeypatch.setattr(_registrar, "registrar", opened)
    path = tmp_path / "invite"
    words = ["invite", "--dir", str(tmp_path), "--file", str(path)]
    for _ in range(2):
        result = CliRunner().invoke(cli.build(), words)
        assert result.exit_code == 0, result.output
        assert "hs1" not in result.stdout
    assert Writer.written == 1, "a second one was written over the first"
    assert Invite.decode(path.read_text()).role is Role.PEER
    assert path.stat().st_mode & 0o777 == 0o600
