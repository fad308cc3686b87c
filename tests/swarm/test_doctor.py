"""What `swarm doctor` tells of broken machines and broken ways into a group."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from swarm import acquaintances
from swarm.cli._doctor import report
from swarm.cli._doctor.belonging import (
    Asked,
    BootstrapsCheck,
    CertificateCheck,
    ClockCheck,
    InviteCheck,
)
from swarm.cli._doctor.check import Skip, aside, examine
from swarm.cli._doctor.compute import CoresCheck, DeviceCheck
from swarm.cli._doctor.finding import Finding, Verdict, cleaned, ok, problem
from swarm.cli._doctor.group import LinesCheck, MembersCheck, ReachCheck
from swarm.cli._doctor.machine import (
    Cores,
    Device,
    Machine,
    Memory,
    Room,
    Torch,
)
from swarm.cli._doctor.network import FirewallCheck, NamesCheck, PortCheck, TimeServiceCheck
from swarm.cli._doctor.software import KernelsCheck, PackagesCheck, PythonCheck
from swarm.cli._doctor.storage import BlocksCheck, DiskCheck, MemoryCheck
from swarm.cli._doctor.visit import Visit, VisitConfig
from swarm.directory import Announcement, State
from swarm.errors import ConfigError
from swarm.member import join

GB = 10**9
CPU = Device("cpu", "cpu", 8 * GB, 16 * GB, True)
CARD = Device("cuda", "RTX 3060", 11 * GB, 12 * GB, True)


class Fake(Machine):
    """A machine of which some facts are given, as values or as what is raised."""

    def __init__(self, **facts):
        for name, fact in facts.items():
            setattr(self, name, _saying(fact))


def _saying(fact):
    def say(*_):
        if isinstance(fact, Exception):
            raise fact
        return fact

    return say


async def look(*checks) -> list[Finding]:
    return [finding async for finding in examine(checks)]


async def verdict(one) -> tuple[str, str]:
    """Of a check that finds one thing: its verdict, and all that it says."""
    (finding,) = await look(one)
    return str(finding.verdict), f"{finding.found} {finding.means} {finding.do}"


MACHINES = {
    "python": (PythonCheck, {"python": (3, 9, 2), "least_python": ">=3.11"}, "problem", "3.9.2"),
    "package missing": (PackagesCheck, {"version": None}, "problem", "torch is not installed"),
    "package old": (PackagesCheck, {"version": "0.0.1"}, "problem", "hivemind is 0.0.1"),
    "kernels": (KernelsCheck, {"has_kernels": False, "compiler": None}, "warning", "apt install"),
    "kernels, compiler": (
        KernelsCheck,
        {"has_kernels": False, "compiler": "cc"},
        "warning",
        "--force-reinstall",
    ),
    "torch broken": (DeviceCheck, {"torch": OSError("libcudart")}, "problem", "libcudart"),
    "cpu build": (
        DeviceCheck,
        {"torch": Torch("2.9+cpu", "cpu", CPU, 4), "nvidia": "RTX 3060, 550.1"},
        "problem",
        "--index-url",
    ),
    "old driver": (
        DeviceCheck,
        {"torch": Torch("2.9", "CUDA 12.8", CPU, 4), "nvidia": "RTX 3060, 390.1"},
        "problem",
        "driver",
    ),
    "amd": (
        DeviceCheck,
        {"torch": Torch("2.9", "CUDA 12.8", CPU, 4), "nvidia": None, "amd": True},
        "warning",
        "rocm",
    ),
    "card": (
        DeviceCheck,
        {"torch": Torch("2.9", "CUDA 12.8", CARD, 4), "nvidia": "RTX 3060, 550.1"},
        "ok",
        "RTX 3060, 12.0 GB",
    ),
    "quota": (CoresCheck, {"cores": Cores(8, 8, 1.5)}, "warning", "--threads 2"),
    "affinity": (CoresCheck, {"cores": Cores(8, 2)}, "ok", "2 of 8"),
    "memory": (MemoryCheck, {"memory": Memory(8 * GB, GB, 0, 0)}, "problem", "1.0 GB free"),
    "little memory": (MemoryCheck, {"memory": Memory(8 * GB, 3 * GB, 0, 0)}, "warning", "int4"),
    "container": (
        MemoryCheck,
        {"memory": Memory(64 * GB, 60 * GB, 0, 0, limited=GB)},
        "problem",
        "container",
    ),
    "swapped": (
        MemoryCheck,
        {"memory": Memory(8 * GB, 5 * GB, 4 * GB, GB)},
        "ok",
        "3.0 GB swapped out",
    ),
    "clock service": (TimeServiceCheck, {"synchronised": False}, "warning", "set-ntp"),
    "no clock service": (TimeServiceCheck, {"synchronised": None}, "skipped", "does not tell"),
}


@pytest.mark.parametrize("case", MACHINES)
async def test_a_machine(case):
    kind, facts, expected, words = MACHINES[case]
    found, told = await verdict(kind(Fake(**facts)))
    assert found == expected, told
    assert words in told


async def test_this_machine_has_what_the_package_asks_for():
    machine = Machine()
    found = await look(PythonCheck(machine), PackagesCheck(machine), CoresCheck(machine))
    assert {each.verdict for each in found} <= {Verdict.OK, Verdict.WARNING}
    assert "transformers" in found[1].found


async def test_numbers_that_the_device_does_not_have():
    old = Torch("2.9", "cpu", Device("cpu", "cpu", GB, GB, False), 4)
    _, found = await look(DeviceCheck(Fake(torch=old, nvidia=None, amd=False)))
    assert found.verdict is Verdict.WARNING and "twice the memory" in found.means


async def test_models_that_fit_and_do_not():
    assert (await verdict(BlocksCheck(lambda: (10, 32, "10 of 32"))))[0] == "ok"
    assert "4 machines" in (await verdict(BlocksCheck(lambda: (10, 32, "10 of 32"))))[1]
    assert (await verdict(BlocksCheck(lambda: (0, 32, "none"))))[0] == "problem"

    def unknown():
        raise ConfigError("nobody knows this model")

    assert "nobody knows" in (await verdict(BlocksCheck(unknown)))[1]


async def test_disks(tmp_path):
    assert (await verdict(DiskCheck(Machine(), tmp_path / "new" / "er", "state", little=0)))[
        0
    ] == "ok"
    full = DiskCheck(Fake(room=Room(10_000, GB)), tmp_path, "weights")
    assert await verdict(full) == ("problem", (await verdict(full))[1])
    assert "--cache" in (await verdict(full))[1]
    low = Fake(room=Room(GB, 2 * GB), try_writing=None)
    assert (await verdict(DiskCheck(low, tmp_path, "weights")))[0] == "warning"
    refused = Fake(room=Room(9 * GB, 9 * GB), try_writing=PermissionError(13, "Permission denied"))
    found, told = await verdict(DiskCheck(refused, tmp_path, "weights"))
    assert found == "problem" and "Permission denied" in told


@contextmanager
def tiny_disk(folder: Path):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can make a disk for this")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_full_in_fact(tmp_path):
    with tiny_disk(tmp_path / "disk"):
        found, told = await verdict(DiskCheck(Machine(), tmp_path / "disk", "weights"))
    assert found == "problem" and "0.0 GB free" in told


async def test_ports():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found, told = await verdict(PortCheck(Machine(), "127.0.0.1", port))
        assert found == "problem" and str(os.getpid()) in told and "--port" in told
        ours = PortCheck(Machine(), "127.0.0.1", port, in_use=lambda: True)
        assert (await verdict(ours))[0] == "ok"
        hidden = PortCheck(Fake(holder=None), "127.0.0.1", port)
        assert "does not tell" in (await verdict(hidden))[1]
    assert (await verdict(PortCheck(Machine(), "127.0.0.1", 0)))[0] == "ok"


async def test_firewalls_and_names():
    found, told = await verdict(FirewallCheck(Fake(firewall="ufw"), 4001))
    assert found == "warning" and "ufw allow 4001/tcp" in told
    nowhere = Fake(resolve=socket.gaierror(-2, "Name or service not known"))
    found, told = await verdict(NamesCheck(nowhere, ["boot.example"], "bootstraps"))
    assert found == "problem" and "boot.example" not in told
    assert (await verdict(NamesCheck(nowhere, ["hub"], "model hub")))[0] == "warning"
    assert (await verdict(NamesCheck(Fake(resolve=["x"]), ["hub"], "model hub")))[0] == "ok"


# How checks are run


class Made:
    """A check that does as it is told."""

    seconds = 5.0

    def __init__(self, name, act, seconds=5.0):
        self.name, self._act, self.seconds = name, act, seconds

    async def run(self):
        return await self._act()


async def test_no_check_hides_another():
    async def fails():
        raise ZeroDivisionError("division by zero")

    async def hangs():
        await asyncio.Event().wait()

    async def blocks():
        await aside(lambda: time.sleep(30))

    async def passes_over():
        raise Skip("nothing to see")

    async def works():
        return [ok("well")]

    checks = [Made("a", fails), Made("b", hangs, 0.01), Made("c", blocks, 0.01)]
    found = await look(*checks, Made("d", passes_over), Made("e", works))
    assert [each.subject for each in found] == list("abcde")
    assert [str(each.verdict) for each in found] == ["problem"] * 3 + ["skipped", "ok"]
    assert "longer than 0.01 s" in found[1].found and "division" in found[0].found


def test_nothing_private_is_said():
    invite = "hs1" + "abcdefgh234567" * 9
    text = (
        f"peer 12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN at /ip4/8.0.0.7/tcp/4001/p2p/x"
        f" or 93.184.216.34, 2001:db8:0:1::7, {invite}; {Path.home()}/models; 127.0.0.1 stays\nhere"
    )
    told = cleaned(text)
    for secret in ("12D3", "8.0.0.7", "93.184", "2001:", "hs1", str(Path.home()), "\n"):
        assert secret not in told
    assert "127.0.0.1 stays here" in told and "~/models" in told
    assert problem(invite, invite, invite).do == "(invite)"


def test_versions_and_times_are_no_addresses():
    told = "torch 2.13.0+cpu, CUDA 12.8; holds until 2026-11-29 19:32:05 (7 days), 0.0.0.0"
    assert cleaned(told) == told


def test_findings_as_lines_and_as_json(capsys):
    findings = [ok("well").about("one"), problem("bad", "it hurts", "rest").about("two")]
    shown = report.Report(Console(highlight=False, force_terminal=False))
    for finding in findings:
        shown.begin(finding.subject)
        shown.add(finding)
    shown.close(findings)
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"ok +one +well$", lines[0])
    assert lines[3].strip() == "do rest" and lines[-1] == "1 problem, 0 warnings."
    told = json.loads(report.as_json(findings))
    assert not told["ok"] and told["findings"][1]["means"] == "it hurts"


# The group


def visiting(home, invite=None, clock=time.time, **options) -> Visit:
    settings = {"host": "127.0.0.1", "map_port": False, "name": "me", **options}
    settings.setdefault("state_folder", home.folder / "machine")
    return Visit(invite or home.invite(), VisitConfig(**settings), clock)


async def enter(visit: Visit) -> dict[str, Finding]:
    """What the checks on the way into the group say, by their names."""
    asked = Asked(visit)
    checks = [BootstrapsCheck(visit), ClockCheck(visit, asked), CertificateCheck(visit, asked)]
    return {each.subject: each for each in await look(*checks)}


async def test_a_group_that_is_well(home):
    async with visiting(home) as visit:
        found = await enter(visit)
        assert {str(each.verdict) for each in found.values()} == {"ok"}, found
        assert "agrees" in found["clock"].found and "client, peer" in found["certificate"].found
        reach, members, line = await look(
            ReachCheck(visit, Machine()), MembersCheck(visit), LinesCheck(visit)
        )
    assert "direct" in reach.found
    assert members.verdict is Verdict.WARNING and "no peer" in members.found
    assert line.subject == "line: bootstrap" and "Mbit/s" in line.found


async def test_a_visit_uses_an_invite_once(home):
    invite = home.invite(uses=1)
    for _ in range(2):
        async with visiting(home, invite) as visit:
            assert (await enter(visit))["certificate"].verdict is Verdict.OK
    assert len(home.office.redeemed) == 1
    async with visiting(home, invite, state_folder=home.folder / "another") as visit:
        found = await enter(visit)
    assert "used up" in found["certificate"].found and "swarm invite" in found["certificate"].do
    assert found["clock"].verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("change", "words"),
    [({"lasts": -1.0}, "expired"), ({"unknown": True}, "does not know")],
    ids=["expired", "unknown"],
)
async def test_invites_that_let_nobody_in(home, change, words):
    invite = home.office.invite(lasts=change.get("lasts", 1e6))
    if "unknown" in change:
        home.office.tickets.clear()
    async with visiting(home, invite) as visit:
        found = (await enter(visit))["certificate"]
    assert found.verdict is Verdict.PROBLEM and words in found.found


@pytest.mark.parametrize("seconds", [60.0, -60.0])
async def test_a_clock_that_is_wrong(home, seconds):
    async with visiting(home, clock=lambda: time.time() + seconds) as visit:
        found = (await enter(visit))["clock"]
    assert found.verdict is Verdict.PROBLEM
    assert ("ahead" if seconds > 0 else "behind") in found.found
    assert re.search(r"(59|60)\.\d s", found.found)


async def test_a_bootstrap_that_is_away(home):
    invite = home.invite()
    await home.carrier.aclose()
    async with visiting(home, invite) as visit:
        found = await enter(visit)
        members, line = await look(MembersCheck(visit), LinesCheck(visit))
    assert (
        found["bootstraps"].verdict is Verdict.PROBLEM and "none of 1" in found["bootstraps"].found
    )
    assert found["clock"].verdict is found["certificate"].verdict is Verdict.SKIPPED
    assert members.verdict is line.verdict is Verdict.SKIPPED


async def test_a_member_that_nobody_renews(home):
    async with visiting(home) as visit:
        await enter(visit)
    invite = home.invite()
    await home.carrier.aclose()
    async with visiting(home, invite) as visit:
        assert (await enter(visit))["certificate"].verdict is Verdict.WARNING
    late = time.time() + 1e9
    async with visiting(home, invite, clock=lambda: late) as visit:
        found = (await enter(visit))["certificate"]
    assert found.verdict is Verdict.PROBLEM and "expired" in found.found


async def test_a_member_gets_in_by_others_while_the_bootstrap_is_away(home):
    async with visiting(home) as visit:
        await enter(visit)
    own = home.config(folder=home.folder / "peer", name="peer")
    async with join(home.invite(), own) as peer:
        met = acquaintances.Acquaintance(peer.peer_id, peer.transport.addresses, time.time())
        acquaintances.save(acquaintances.path_for(peer.group, home.folder / "machine"), [met])
        invite = home.invite()
        await home.relay.aclose()
        async with visiting(home, invite) as visit:
            assert (await enter(visit))["bootstraps"].verdict is Verdict.PROBLEM
            reach, members = await look(ReachCheck(visit, Machine()), MembersCheck(visit))
    assert reach.verdict is Verdict.OK and "direct" in reach.found
    assert members.verdict is not Verdict.SKIPPED


async def test_who_was_thrown_out(home):
    async with visiting(home) as visit:
        await enter(visit)
        member = visit.subject().peer_id
    home.office.expel(member)
    async with visiting(home) as visit:
        found = (await enter(visit))["certificate"]
    assert found.verdict is Verdict.PROBLEM and "thrown" in found.means


async def test_peers_of_other_versions(home):
    async with visiting(home) as visit:
        await enter(visit)
        await visit.settle()
        other = Announcement(
            home.peer_id, "other", "m", "m", 4, 0, 4, State.SERVING, version="0.0.1"
        )
        await home.directory.announce(other)
        found, *_ = await look(MembersCheck(visit))
    assert found.verdict is Verdict.WARNING and "0.0.1" in found.found


async def test_invites_that_cannot_be_read():
    found, told = await verdict(InviteCheck("hs1thisisno"))
    assert found == "problem" and "hs1" in told
