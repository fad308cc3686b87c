from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from swarm import identity
from swarm.background import background
from swarm.errors import ConfigError, Misbehaved, Unreachable
from swarm.membership.founder import Founder
from swarm.transport import Stream
from swarm.transport.daemon import _raise_files
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import LinkConfig, connect
from swarm.transport.multiaddresses import multiaddress, reachable
from swarm.wire.frames import FrameLimits, encode_prefix

LOCAL = Libp2pConfig(host="127.0.0.1")

SOONER = 30.0
"""Seconds, within which a busy machine does all of this; libp2p notices nothing for 40 s."""

OTHER = """
import asyncio, sys
from pathlib import Path
from swarm import identity
from swarm.group import Group
from swarm.membership.membership import Membership
from swarm.membership.trust import Trust
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import accept

async def main(key, group, credential):
    config = Libp2pConfig(Path(key), host="127.0.0.1")
    async with Libp2pTransport.start(config) as transport:
        trust = Trust(Group(group), identity.verifies)
        membership = Membership(trust, bytes.fromhex(credential), transport.signer.sign)

        async def echo(stream):
            stream.admit()
            while True:
                await stream.send(*await stream.receive())

        async def link(stream):
            link = await accept(stream, membership)
            async def ignore(*_): pass
            await link.run(ignore)

        await transport.serve("/echo", echo)
        await transport.serve("/link", link)
        print(transport.peer_id, *transport.addresses, flush=True)
        await asyncio.Future()

asyncio.run(main(*sys.argv[1:]))
"""


class Other:
    """A member in another process."""

    def __init__(self, process: Process, peer: str, addresses: list[str]) -> None:
        self.process, self.peer, self.addresses = process, peer, addresses
        self.all = [psutil.Process(process.pid)]
        self.all += self.all[0].children(recursive=True)

    def signal(self, number: int) -> None:
        """Signals the process and its libp2p daemon: the whole machine, as it were."""
        for process in self.all:
            process.send_signal(number)


@pytest.fixture
def founder(tmp_path: Path) -> Founder:
    """A group of real keys."""
    keys = (identity.create(tmp_path / name) for name in ("group", "authority"))
    return Founder(*keys)


@pytest.fixture
async def other(founder: Founder, tmp_path: Path) -> AsyncIterator[Other]:
    key = identity.create(tmp_path / "other")
    arguments = (str(key.path), founder.group.key, founder.certify(key.peer_id).hex())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER, *arguments, stdout=PIPE
    )
    assert process.stdout is not None
    peer, *addresses = (await process.stdout.readline()).decode().split()
    other = Other(process, peer, addresses)
    yield other
    for each in other.all:
        try:
            each.send_signal(signal.SIGCONT)
            each.kill()
        except psutil.NoSuchProcess:
            pass
    await process.wait()


@pytest.fixture
async def near() -> AsyncIterator[Libp2pTransport]:
    async with Libp2pTransport.start(LOCAL) as transport:
        yield transport


def daemons() -> list[psutil.Process]:
    """Our living p2pd processes."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "p2pd" in child.name()
    ]


def leftovers() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("swarm-p2pd-*"))


@pytest.fixture(autouse=True)
def own_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Other programs of this machine do not matter. (pytest's paths are too long for sockets.)"""
    tmp_path_factory.getbasetemp()  # Made in the usual place, not in the one that is removed.
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield


async def gone(process: psutil.Process) -> None:
    """Waits until a process that is not our child has ended."""
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_nothing_is_left_behind() -> None:
    before = leftovers()
    async with Libp2pTransport.start(LOCAL) as transport:
        assert len(daemons()) == 1
        await transport.serve("/test", lambda stream: stream.aclose())
        assert leftovers() != before
    assert daemons() == []
    assert leftovers() == before


def test_streams_do_not_run_out_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 256, "hard": 1024}

    def get(_: int) -> tuple[int, int]:
        return limits["soft"], limits["hard"]

    def set_to(_: int, pair: tuple[int, int]) -> None:
        limits["soft"], limits["hard"] = pair

    monkeypatch.setattr("resource.getrlimit", get)
    monkeypatch.setattr("resource.setrlimit", set_to)
    _raise_files()
    assert limits == {"soft": 1024, "hard": 1024}
    limits["hard"] = resource.RLIM_INFINITY
    _raise_files()
    assert limits["soft"] == 4096
    limits["soft"] = 100_000
    _raise_files()
    assert limits["soft"] == 100_000


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.02, 0.06, 0.12])
async def test_a_cancelled_start_leaves_nothing_behind(delay: float) -> None:
    before = leftovers()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(delay):
            async with Libp2pTransport.start(LOCAL):
                await asyncio.Future()
    assert daemons() == []
    assert leftovers() == before


async def test_what_a_killed_process_left_is_swept_up(near: Libp2pTransport) -> None:
    old = time.time() - 3600
    living = Path(near.daemon.p2p.daemon_listen_maddr["unix"]).parent
    dead = Path(tempfile.mkdtemp(prefix="swarm-p2pd-"))
    for folder in (living, dead):
        os.utime(folder, (old, old))
    async with Libp2pTransport.start(LOCAL):
        kept = leftovers()
    assert living in kept
    assert dead not in kept


async def test_a_port_in_use_is_named(near: Libp2pTransport) -> None:
    # libp2p itself would share the port with the other one.
    with pytest.raises(ConfigError, match=f"port {near.port} is in use"):
        await Libp2pTransport.create(Libp2pConfig(host="127.0.0.1", port=near.port))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use"):
            await Libp2pTransport.create(Libp2pConfig(host="127.0.0.1", port=port))


async def test_a_port_is_free_again_after_closing(near: Libp2pTransport) -> None:
    port = near.port
    await near.aclose()
    config = Libp2pConfig(host="127.0.0.1", port=port)
    async with Libp2pTransport.start(config) as transport:
        assert transport.port == port


async def test_all_interfaces_put_loopback_last() -> None:
    async with Libp2pTransport.start(Libp2pConfig(map_port=False)) as transport:
        assert transport.addresses[-1].startswith("/ip4/127.")
        assert sum("/ip4/127." in address for address in transport.addresses) == 1


async def test_announced_addresses_come_first_and_ours_stay() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = Libp2pConfig(port=port, announce=("example.org:4000",), map_port=False)
    async with Libp2pTransport.start(config) as transport:
        assert transport.addresses[0] == f"/dns/example.org/tcp/4000/p2p/{transport.peer_id}"
        assert transport.addresses[-1].startswith(f"/ip4/127.0.0.1/tcp/{port}/")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_ipv6() -> None:
    config = Libp2pConfig(host="::1")
    async with Libp2pTransport.start(config) as one, Libp2pTransport.start(config) as other:
        await other.serve("/test", lambda stream: stream.send(b"six", b""))
        stream = await one.open(other.peer_id, "/test", other.addresses)
        assert bytes((await stream.receive())[0]) == b"six"


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "localhost"},
        {"port": 65536},
        {"port": -1},
        {"announce": ("example.org:1",)},
        {"port": 1, "announce": ("example.org",)},
        {"port": 1, "announce": ("example.org:99999",)},
    ],
)
def test_settings_that_cannot_work(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Libp2pConfig(**settings)  # type: ignore[arg-type]


async def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match="no address of this machine"):
        await Libp2pTransport.create(Libp2pConfig(host="192.0.2.77"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/ip4/1.2.3.4/tcp/5", "/ip4/1.2.3.4/tcp/5"),
        ("/ip4/1.2.3.4/udp/5/quic-v1", "/ip4/1.2.3.4/udp/5/quic-v1"),
        ("/ip4/1.2.3.4/tcp/5/p2p/12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5", "/ip4/1.2.3.4/tcp/5"),
        ("1.2.3.4:5", "/ip4/1.2.3.4/tcp/5"),
        ("[fd00::1]:5", "/ip6/fd00::1/tcp/5"),
        ("home.example.org:5", "/dns/home.example.org/tcp/5"),
    ],
)
def test_addresses_as_people_write_them(text: str, meant: str) -> None:
    assert multiaddress(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", "home", "1.2.3.4", "1.2.3.4:0", "/ip4/1.2.3.4", "a b:1", "/foo/tcp/1", "/ip4/1.2.3/tcp/1"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        multiaddress(text)


def test_no_more_addresses_than_a_message_may_name() -> None:
    outside = [f"/ip4/10.0.0.{n}/tcp/7" for n in range(1, 60)]
    places = reachable(["/ip4/127.0.0.1/tcp/7", "/ip4/169.254.1.1/tcp/7", *outside])
    assert places == [*outside[:31], "/ip4/127.0.0.1/tcp/7"]
    assert reachable(outside[:32]) == outside[:32]


async def test_a_dead_address_costs_no_more_than_patience() -> None:
    config = Libp2pConfig(host="127.0.0.1", patience=0.5)
    async with Libp2pTransport.start(config) as transport:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            place = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
            peer = "12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZiTUVDn7k"
            clock = asyncio.get_running_loop().time
            started = clock()
            with pytest.raises(Unreachable, match="in time"):
                await transport.open(peer, "/test", [place])
            assert 0.4 < clock() - started < SOONER


async def test_who_does_not_answer_over_a_connection_is_dialled_anew(
    near: Libp2pTransport, other: Other
) -> None:
    """Who is in another network now leaves a connection that libp2p believes in for 40 s."""
    async with asyncio.timeout(SOONER):
        stream = await near.open(other.peer, "/echo", other.addresses)
        stream.admit()
        await stream.send(b"", b"hello")
        await stream.receive()
        await stream.aclose()
        other.signal(signal.SIGSTOP)
        # libp2p knows the protocol already, and so does not wait for the other side.
        stream = await near.open(other.peer, "/echo", other.addresses)
        await stream.send(b"", b"hello")
        with pytest.raises(Unreachable):
            await stream.receive()
        assert other.peer not in await near.daemon.peers()
        other.signal(signal.SIGCONT)
        stream = await near.open(other.peer, "/echo", other.addresses)
        stream.admit()
        await stream.send(b"", b"hello")
        assert (await stream.receive())[1] == b"hello"


async def test_a_connection_that_has_died_silently_is_made_anew(
    near: Libp2pTransport, other: Other
) -> None:
    async with asyncio.timeout(SOONER):
        stream = await near.open(other.peer, "/echo", other.addresses)
        other.signal(signal.SIGSTOP)
        await near.hang_up(other.peer)
        with pytest.raises(Unreachable):
            await stream.receive()
        other.signal(signal.SIGCONT)
        again = await near.open(other.peer, "/echo", other.addresses)
        await again.send(b"back", b"")
        assert bytes((await again.receive())[0]) == b"back"
        await near.hang_up("12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZiTUVDn7k")


@pytest.mark.parametrize("peer", ["", "nonsense!", "12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZ"])
async def test_ids_and_addresses_from_others_may_be_nonsense(
    near: Libp2pTransport, peer: str
) -> None:
    places = ["", "/", "nonsense", "/ip4/999.1.1.1/tcp/1", "/foo/bar", "/ip4/1.1.1.1/tcp/x"]
    with pytest.raises(Unreachable):
        await near.open(peer, "/test", places)


async def test_somebody_else_at_the_address_is_not_taken_for_the_peer(
    near: Libp2pTransport,
) -> None:
    async with Libp2pTransport.start(LOCAL) as wrong:
        place = wrong.addresses[0].partition("/p2p/")[0]
        peer = "12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZiTUVDn7k"
        with pytest.raises(Unreachable):
            await near.open(peer, "/test", [f"{place}/p2p/{peer}"])


async def test_a_frame_that_claims_too_much_takes_no_memory(near: Libp2pTransport) -> None:
    seen: asyncio.Queue[tuple[BaseException, int]] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        stream.admit()
        tracemalloc.start()
        try:
            await stream.receive()
        except Misbehaved as error:
            seen.put_nowait((error, tracemalloc.get_traced_memory()[1]))
        finally:
            tracemalloc.stop()

    huge = FrameLimits(payload=2**32 - 1)
    config = Libp2pConfig(host="127.0.0.1", limits=huge)
    await near.serve("/test", handler)
    async with Libp2pTransport.start(config) as liar:
        await liar.connect(near.peer_id, near.addresses)
        _, writer = await liar.daemon.open(near.peer_id, "/test")
        writer.write(encode_prefix(10, 2**32 - 1, huge) + bytes(100_000))
        error, peak = await asyncio.wait_for(seen.get(), SOONER)
        assert liar.peer_id == error.peer  # type: ignore[attr-defined]
        assert peak < 2_000_000
        writer.close()


async def test_what_has_arrived_of_a_long_frame_shows(near: Libp2pTransport) -> None:
    seen: asyncio.Queue[Stream] = asyncio.Queue()
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        stream.admit()
        seen.put_nowait(stream)
        got.put_nowait(bytes((await stream.receive())[1]))

    await near.serve("/test", handler)
    async with Libp2pTransport.start(LOCAL) as slow, asyncio.timeout(SOONER):
        await slow.connect(near.peer_id, near.addresses)
        _, writer = await slow.daemon.open(near.peer_id, "/test")
        payload = bytes(range(250)) * 4000
        writer.write(encode_prefix(1, len(payload)) + b"h" + payload[:300_000])
        stream = await seen.get()
        while stream.arrived_bytes < 300_000:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert got.empty()
        writer.write(payload[300_000:])
        assert await got.get() == payload
        writer.close()


async def test_a_slow_reader_slows_the_sender(near: Libp2pTransport) -> None:
    proceed = asyncio.Event()
    total = 40

    async def handler(stream: Stream) -> None:
        stream.admit()
        await proceed.wait()
        for _ in range(total):
            await stream.receive()
        await stream.send(b"all", b"")

    async with Libp2pTransport.start(LOCAL) as far:
        await far.serve("/test", handler)
        stream = await near.open(far.peer_id, "/test", far.addresses)
        sent = 0

        async def pour() -> None:
            nonlocal sent
            for _ in range(total):
                await stream.send(b"", bytes(2**20))
                sent += 1

        async with asyncio.TaskGroup() as tasks:
            pouring = tasks.create_task(pour())
            done, _ = await asyncio.wait({pouring}, timeout=1.0)
            assert not done
            assert sent < total // 2
            proceed.set()
        assert bytes((await stream.receive())[0]) == b"all"


async def test_kill_9_of_the_other_side_is_noticed_at_once(
    near: Libp2pTransport, other: Other
) -> None:
    stream = await near.open(other.peer, "/echo", other.addresses)
    await stream.send(b"1", b"")
    await stream.receive()
    # Only Python: its libp2p daemon must not outlive it.
    other.process.kill()
    with pytest.raises(Unreachable):
        await asyncio.wait_for(stream.receive(), SOONER)
    async with asyncio.timeout(SOONER):
        for process in other.all[1:]:
            await gone(process)
    with pytest.raises(Unreachable):
        await near.open(other.peer, "/echo", other.addresses)


@pytest.mark.parametrize("whole_machine", [True, False])
async def test_a_frozen_process_is_noticed_after_patience(
    near: Libp2pTransport, other: Other, founder: Founder, whole_machine: bool
) -> None:
    config = LinkConfig(0.5, 3.0, 0.2, 3.0)
    stream = await near.open(other.peer, "/link", other.addresses)
    link = await connect(stream, founder.admit(near.signer), config)

    async def ignore(*_: object) -> None:
        pass

    async with background() as tasks:
        ending = tasks.create_task(asyncio.wait_for(_end(link.run(ignore)), SOONER))
        measured = tasks.create_task(link.measured.wait())
        # On a busy machine the other process may stand still by itself.
        await asyncio.wait({ending, measured}, return_when=asyncio.FIRST_COMPLETED)
        if whole_machine:
            other.signal(signal.SIGSTOP)
        else:
            other.process.send_signal(signal.SIGSTOP)
        assert isinstance(await ending, Unreachable)


async def _end(running: object) -> BaseException:
    with pytest.raises(Unreachable) as caught:
        await running  # type: ignore[misc]
    return caught.value


async def test_the_death_of_our_own_daemon_is_told_everywhere(
    near: Libp2pTransport, caplog: pytest.LogCaptureFixture
) -> None:
    async with Libp2pTransport.start(LOCAL) as far:

        async def wait(stream: Stream) -> None:
            await stream.receive()

        await far.serve("/test", wait)
        stream = await near.open(far.peer_id, "/test", far.addresses)
        failed = asyncio.create_task(_end(near.wait_failed()))
        reading = asyncio.create_task(_end(stream.receive()))
        mine = next(p for p in daemons() if p.pid == near.daemon.p2p._child.pid)
        mine.send_signal(signal.SIGKILL)
        async with asyncio.timeout(SOONER):
            assert isinstance(await failed, Unreachable)
            assert isinstance(await reading, Unreachable)
            with pytest.raises(Unreachable, match="our own"):
                await near.open(far.peer_id, "/test", far.addresses)
            with pytest.raises(Unreachable):
                await near.serve("/test", wait)
    assert "libp2p daemon ended" in caplog.text
    caplog.clear()


async def test_ctrl_c_in_a_terminal_does_not_reach_the_daemon(near: Libp2pTransport) -> None:
    (daemon,) = daemons()
    assert os.getpgid(daemon.pid) != os.getpgid(0)


async def test_who_stopped_reading_does_not_hold_up_closing(
    near: Libp2pTransport, other: Other
) -> None:
    stream = await near.open(other.peer, "/echo", other.addresses)
    other.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                await stream.send(b"", bytes(2**20))
    async with asyncio.timeout(SOONER):
        await near.aclose()


def test_importing_the_transport_loads_neither_torch_nor_hivemind() -> None:
    code = (
        "import sys, swarm.transport.libp2p, swarm.directory.dht, swarm.member;"
        "print(*(name for name in ('torch', 'hivemind') if name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_a_running_transport_needs_no_torch_and_hivemind_still_works() -> None:
    code = """
import asyncio, sys
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
async def main():
    async with Libp2pTransport.start(Libp2pConfig(host="127.0.0.1")):
        assert "torch" not in sys.modules
asyncio.run(main())
import hivemind
assert hivemind.DHT.__name__ == "DHT"
assert "torch" in sys.modules
from hivemind.utils import MPFuture
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
