"""The bootstrap as people run it: a process, its one line, its exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from swarm.bootstrap.authority import Authority
from swarm.bootstrap.config import BootstrapConfig
from swarm.bootstrap.service import serve
from swarm.directory import Announcement, State
from swarm.errors import ConfigError, MembershipError
from swarm.invite import Invite
from swarm.member import JoinConfig, Member, join
from swarm.membership.certificate import Role

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    processes: list[Process] = []

    async def start(folder: Path, *options: str) -> Process:
        command = [sys.executable, "-m", "swarm.cli", "bootstrap", "--dir", str(folder)]
        process = await asyncio.create_subprocess_exec(
            *command, "--host", "127.0.0.1", *options, stdout=PIPE, stderr=PIPE
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def invite_of(process: Process) -> Invite:
    assert process.stdout is not None
    async with asyncio.timeout(HANGING):
        return Invite.decode((await process.stdout.readline()).decode())


async def failure_of(process: Process) -> str:
    """What a process that must fail says, in its one line."""
    async with asyncio.timeout(HANGING):
        out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    (line,) = err.decode().splitlines()
    assert line.startswith("swarm: error: ")
    return line


def settings(folder: Path) -> JoinConfig:
    return JoinConfig(host="127.0.0.1", state_folder=folder)


def announcement(member: Member) -> Announcement:
    return Announcement(
        member.peer_id,
        "name",
        "model",
        "a model",
        8,
        0,
        4,
        State.SERVING,
        addresses=member.transport.addresses,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_prints_one_invite_and_ends_cleanly(
    start: Start, tmp_path: Path, number: int
) -> None:
    process = await start(tmp_path / "new", "--name", "friends")
    invite = await invite_of(process)
    assert invite.group_name == "friends"
    assert all("/ip4/127.0.0.1/tcp/" in address for address in invite.addresses)
    (daemon,) = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    async with asyncio.timeout(HANGING):
        out, err = await process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in err and b"hivemind" not in err
    assert not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE


async def test_a_page_that_is_asked_for_is_shown_and_logs_hold_no_key_of_admins(
    start: Start, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = await start(tmp_path / "one", "--page", port)
        assert f"another program listens at 127.0.0.1:{port}" in await failure_of(failed)
    process = await start(tmp_path / "one", "--page", "0")
    await invite_of(process)
    assert process.stderr is not None
    async with asyncio.timeout(HANGING):
        told = b""
        while b"http://127.0.0.1:" not in told:
            told = await process.stderr.readline()
    url, key = told.decode().strip().split("/#key=")
    assert key == (tmp_path / "one" / "page.key").read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.timeout(HANGING):
        async with session.get(f"{url}/page/api/swarm") as answer:
            assert (await answer.json()) == {"models": [], "left_out": 0}
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert (tmp_path / "one" / "page-admin.key").read_text().strip().encode() not in err


async def test_the_invite_stays_the_same_after_a_restart(start: Start, tmp_path: Path) -> None:
    invites = []
    for _ in range(2):
        process = await start(tmp_path)
        invites.append(await invite_of(process))
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert invites[0] == invites[1]


async def test_a_folder_and_a_port_belong_to_one(start: Start, tmp_path: Path) -> None:
    first = await start(tmp_path / "one")
    invite = await invite_of(first)
    port = invite.addresses[0].split("/")[4]
    same_folder = await start(tmp_path / "one")
    assert f"{tmp_path / 'one'} is in use by process {first.pid}" in await failure_of(same_folder)
    same_port = await start(tmp_path / "two", "--port", port)
    assert f"port {port} is in use" in await failure_of(same_port)


@pytest.mark.parametrize("file", ["group.key", "identity", "ledger", "authority", "port"])
async def test_damaged_files_are_named(start: Start, tmp_path: Path, file: str) -> None:
    process = await start(tmp_path)
    await invite_of(process)
    process.kill()
    await process.communicate()
    (tmp_path / file).write_bytes(b"damaged")
    assert str(tmp_path / file) in await failure_of(await start(tmp_path))


async def test_a_folder_that_cannot_be(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in await failure_of(await start(tmp_path / "file"))


@pytest.mark.parametrize("options", [("--port", "x"), ("--nonsense",)])
async def test_wrong_arguments(start: Start, tmp_path: Path, options: tuple[str, ...]) -> None:
    process = await start(tmp_path, *options)
    await process.communicate()
    assert process.returncode == 2


async def test_it_needs_no_torch(start: Start, tmp_path: Path) -> None:
    process = await start(tmp_path)
    await invite_of(process)
    mapped = {entry.path for entry in psutil.Process(process.pid).memory_maps()}
    assert not any("libtorch" in path for path in mapped)


@pytest.mark.parametrize("remembered", [True, False])
async def test_members_meet_and_a_restart_finds_them_again(
    start: Start, tmp_path: Path, remembered: bool
) -> None:
    process = await start(tmp_path / "bootstrap")
    invite = await invite_of(process)
    members = tmp_path / "bootstrap" / "members.json"
    async with asyncio.timeout(60), join(invite, settings(tmp_path / "state")) as member:
        await member.directory.announce(announcement(member))
        if remembered:
            while not members.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        # kill -9: nothing is saved on the way out.
        process.kill()
        await process.wait()
        assert members.exists() is remembered
        again = await start(tmp_path / "bootstrap")
        assert await invite_of(again) == invite
        async with join(invite, settings(tmp_path / "other")) as newcomer:
            # One that is remembered is found at once; otherwise it has to come by, as a peer does
            # every few seconds.
            while not await newcomer.directory.find():
                assert not remembered
                await member.directory.announce(announcement(member))


async def test_acquaintances_lead_back_while_the_bootstrap_is_away(
    start: Start, tmp_path: Path
) -> None:
    process = await start(tmp_path / "bootstrap")
    invite = await invite_of(process)
    async with asyncio.timeout(60), join(invite, settings(tmp_path / "peer")) as member:
        await member.directory.announce(announcement(member))
        newcomer = JoinConfig(
            folder=tmp_path / "machine", host="127.0.0.1", state_folder=tmp_path / "newcomer"
        )
        async with join(invite, newcomer):
            while not list((tmp_path / "newcomer").glob("groups/*/members.json")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        async with join(invite, newcomer) as returned:
            assert [each.peer for each in await returned.directory.find()] == [member.peer_id]


def daemons() -> list[psutil.Process]:
    """The libp2p daemons of this process, which other tests may have given other children."""
    return [child for child in psutil.Process().children() if "p2pd" in _name(child)]


def _name(child: psutil.Process) -> str:
    try:
        return child.name()
    except psutil.NoSuchProcess:
        return ""


async def test_a_daemon_that_dies_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ready: asyncio.Queue[Invite] = asyncio.Queue()
    running = asyncio.create_task(
        serve(BootstrapConfig(tmp_path, host="127.0.0.1"), ready.put_nowait)
    )
    async with asyncio.timeout(60):
        invite = await ready.get()
        (daemon,) = daemons()
        os.kill(daemon.pid, signal.SIGKILL)
        # A newcomer gets in as soon as the new daemon listens.
        while True:
            with socket.socket() as probe:
                port = int(invite.addresses[0].split("/")[4])
                if daemons() not in ([], [daemon]):
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            await asyncio.sleep(0.02)
        async with join(invite, settings(tmp_path / "state")) as member:
            assert member.group.id == invite.group.id
    assert ready.empty()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    caplog.clear()


async def test_who_is_removed_by_the_command_is_out(start: Start, tmp_path: Path) -> None:
    process = await start(tmp_path / "bootstrap")
    await invite_of(process)
    async with asyncio.timeout(60):
        with Authority.open(tmp_path / "bootstrap") as command:
            invite = command.invite(Role.PEER, name="pc")
            with pytest.raises(MembershipError, match="pc was removed"):
                async with join(invite, settings(tmp_path / "pc")) as member:
                    assert member.membership.standing.name == "pc"
                    assert command.revoke("pc").members == ("pc",)
                    await asyncio.Future()


async def test_a_second_bootstrap_carries_the_group_on(start: Start, tmp_path: Path) -> None:
    process = await start(tmp_path / "first", "--name", "friends")
    await invite_of(process)
    with Authority.open(tmp_path / "first") as command:
        pc = command.invite(Role.PEER, name="pc")
        join_as_authority = command.invite(Role.AUTHORITY, name="second")
    machine = JoinConfig(folder=tmp_path / "pc", host="127.0.0.1", state_folder=tmp_path / "state")
    async with asyncio.timeout(100):
        async with join(pc, machine):
            pass
        for config in (
            BootstrapConfig(tmp_path / "second", host="127.0.0.1", join=join_as_authority),
            # From then on it needs no invite.
            BootstrapConfig(tmp_path / "second", host="127.0.0.1"),
        ):
            ready: asyncio.Queue[Invite] = asyncio.Queue()
            running = asyncio.create_task(serve(config, ready.put_nowait))
            invite = await ready.get()
            assert invite.group == pc.group
            assert invite.bootstraps[0].peer != pc.bootstraps[0].peer
            assert invite.bootstraps[1].peer == pc.bootstraps[0].peer
            with Authority.open(tmp_path / "second") as command:
                # It has heard of the members of the first one.
                heard: set[str] = set()
                while not {"pc", "bootstrap"} <= heard:
                    heard = {each.name for each in command.members()}
                    await asyncio.sleep(0.02)
            if process.returncode is None:
                process.kill()
                await process.wait()
                # The machine knows the second one by the invite; a new one joins there.
                async with join(invite, machine) as member:
                    assert member.membership.standing.name == "pc"
                async with join(invite, settings(tmp_path / "new")) as member:
                    assert member.group.name == "friends"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_bootstrap_joins_only_as_an_authority(start: Start, tmp_path: Path) -> None:
    process = await start(tmp_path / "first")
    invite = await invite_of(process)
    with pytest.raises(ConfigError, match="role authority"):
        BootstrapConfig(tmp_path / "second", join=invite)


@pytest.mark.parametrize("changes", [{"port": 65536}, {"name": "x" * 65}])
def test_settings_that_cannot_work(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BootstrapConfig(tmp_path, **changes)  # type: ignore[arg-type]
