"""The home network in a box does what it was asked for. Machines are busy: so, roughly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from home_network.box import TOP_MBIT, Setting

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "benchmarks" / "home.py")]
SERVE = """
import socket

with socket.create_server(("0.0.0.0", 7000)) as server:
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            while heard := connection.recv(1 << 16):
                connection.sendall(heard)
"""
"""Says back what it hears."""

ASK = """
import json, socket, sys, time

address, size = sys.argv[1], int(sys.argv[2])
with socket.create_connection((address, 7000)) as connection:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        connection.sendall(bytes(100))
        connection.recv(100)
        taken.append(time.perf_counter() - started)
    started, sent, heard = time.perf_counter(), 0, 0
    while heard < size:
        sent += connection.send(bytes(min(1 << 15, size - sent)))
        while heard < sent - (1 << 17) or (sent == size and heard < size):
            heard += len(connection.recv(1 << 16))
    bulk = time.perf_counter() - started
print(json.dumps({"round_trips": taken, "bulk": bulk}))
"""
"""Short round trips, and one that is long: seconds."""


def ask(box, size):
    """Seconds of the quickest round trip, and Mbit/s of `size` bytes there and back.

    Programs of a busy machine stand still now and then, so that most round trips are longer.
    """
    near, far = box.hosts
    done = near.run([sys.executable, "-c", ASK, far.address, str(size)])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return min(told["round_trips"]), size * 8 / 1e6 / told["bulk"]


@pytest.fixture
def pair(box):
    """The box with two hosts, of which one says back what the other says."""
    box.host("near")
    listening = box.host("far").popen([sys.executable, "-c", SERVE])
    assert listening.line() == "listening"
    return box


def test_delay_and_rate_are_as_asked(pair):
    pair.apply(Setting(rtt=50, uplink=20))
    round_trip, _ = ask(pair, 1000)
    assert 0.050 <= round_trip < 0.100, "one delay, not two"
    pair.apply(Setting(rtt=0, uplink=20))
    round_trips, rates = zip(*(ask(pair, 2_000_000) for _ in range(3)), strict=True)
    assert min(round_trips) < 0.050, "without the delay from before"
    assert 5 <= max(rates) <= 20, "bits, and neither bytes nor both ways at once"


def test_each_host_may_have_a_line_of_its_own(pair):
    near, _ = pair.hosts
    pair.apply(Setting(rtt=0, uplink=1000))
    pair.apply(Setting(rtt=40, uplink=1000), near)
    round_trip, _ = ask(pair, 1000)
    assert 0.020 <= round_trip < 0.040, "half of the way is the other's"


def test_what_is_lost_or_late_comes_all_the_same(pair):
    """TCP has to send again, and does."""
    pair.apply(Setting(rtt=10, uplink=100, jitter=5, loss=0.01))
    round_trip, _ = ask(pair, 2_000_000)
    assert 0.010 <= round_trip <= 0.035
    counts = pair.report()["machines"]
    for host in pair.hosts:
        assert 0 < counts[host.name]["lost"] < 0.03 * counts[host.name]["packets"]


def test_packets_for_nobody_are_dropped(pair):
    near, _ = pair.hosts
    ask_nobody = ASK.replace("(address, 7000)", "(address, 7000), timeout=0.2")
    done = near.run([sys.executable, "-c", ask_nobody, "5.0.0.99", "1"])
    assert "TimeoutError" in done.stderr
    assert ask(pair, 1000)


def test_rates_that_nobody_has_seen_are_refused():
    for rate in (0, TOP_MBIT + 1):
        with pytest.raises(ValueError, match="Mbit/s"):
            Setting(uplink=rate)


def test_the_command_runs_programs_in_a_box(box):
    look = "import os; print(*sorted(os.listdir('/sys/class/net'))); exit(7)"
    inside = [*COMMAND, "--", sys.executable, "-c", look]
    done = subprocess.run(inside, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "eth0 lo\n"), done.stderr


def test_the_command_refuses_what_cannot_be():
    done = subprocess.run([*COMMAND, "--uplink", "5000"], capture_output=True, text=True)
    assert done.returncode == 2 and "1000 Mbit/s" in done.stderr
