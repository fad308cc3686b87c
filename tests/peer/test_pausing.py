"""When a peer has to pause: busy machines, hours, and what others really use of this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.peer.busyness import BusyConfig, Busyness
from swarm.peer.config import PeerConfig
from swarm.peer.others import CpuOfOthers, GpuOfOthers
from swarm.peer.pausing import Pause, Pauses


def level_after(busyness, share, seconds, start=0.0):
    for second in range(int(seconds) + 1):
        busyness.note(share, start + second)
    return start + seconds


def test_a_burst_does_not_count_and_a_game_does():
    busyness = Busyness()
    now = level_after(busyness, 0.0, 10)
    now = level_after(busyness, 1.0, 2, now)
    assert not busyness.busy
    now = level_after(busyness, 0.1, 60, now)
    now = level_after(busyness, 1.0, 6, now)
    assert busyness.busy


def test_a_short_rest_does_not_bring_the_peer_back():
    busyness = Busyness()
    now = level_after(busyness, 1.0, 20)
    now = level_after(busyness, 0.0, 45, now)
    assert busyness.busy
    now = level_after(busyness, 0.9, 3, now)
    now = level_after(busyness, 0.0, 60, now)
    assert busyness.busy, "the calm began again"
    level_after(busyness, 0.0, 30, now)
    assert not busyness.busy


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 30)), min_size=1, max_size=60))
def test_it_never_comes_back_sooner_than_said(looks):
    config = BusyConfig()
    busyness, now, last_high = Busyness(config), 0.0, None
    for share, passed in looks:
        now += passed
        before, busy = busyness.busy, busyness.note(share, now)
        if busyness.level >= config.below:
            last_high = now
        if before and not busy:
            assert last_high is not None and now - last_high >= config.calm
        if busy and not before:
            assert busyness.level >= config.above


def test_wrong_thresholds_are_told():
    with pytest.raises(ConfigError, match="busy"):
        BusyConfig(above=0.2, below=0.3)
    with pytest.raises(ConfigError, match="are no hours"):
        PeerConfig(hours=("whenever",))


class Scripted:
    def __init__(self, share=0.0):
        self.share = share

    def look(self):
        return self.share


def test_pauses_say_why_and_until_when():
    now = [1_772_445_600.0]
    others = Scripted()
    pauses = Pauses(("0-24",), [others], clock=lambda: now[0], monotonic=lambda: now[0])
    assert pauses.any and pauses.look() is None
    others.share = 1.0
    now[0] += 20
    assert pauses.look() == Pause("others use this machine")
    assert not Pauses().any and Pauses().look() is None


def test_outside_hours_a_pause_ends_when_they_begin(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    noon = 1_772_452_800.0  # Monday, 12:00
    pauses = Pauses(("22-08",), clock=lambda: noon)
    assert pauses.look() == Pause("outside its hours", noon + 10 * 3600)


def test_our_own_work_is_not_somebody_elses():
    others = CpuOfOthers()
    before, begun = others._before, time.process_time()
    while time.process_time() - begun < 0.4:
        pass
    share = others.look()
    total, busy, ours = (now - then for now, then in zip(others._before, before, strict=True))
    assert ours >= 0.35
    assert share == pytest.approx(max(0.0, busy - ours) / total)


def test_a_busy_process_beside_us_is_seen():
    others = CpuOfOthers()
    program = (
        "import time\n"
        "while time.process_time() < 0.5: pass\n"
        "print('worked', flush=True); import sys; sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as worker:
        others._children = {}
        others._num_looks = 1  # Our own children are not looked for: this one plays a stranger.
        before = others._before
        assert worker.stdout.readline() == "worked\n"
        share = others.look()
        passed = others._before[0] - before[0]
        assert share * passed >= 0.4
        worker.stdin.close()


def test_a_gpus_other_users_are_added_up():
    samples = [
        SimpleNamespace(pid=1, timeStamp=5, smUtil=30),
        SimpleNamespace(pid=1, timeStamp=9, smUtil=50),
        SimpleNamespace(pid=2, timeStamp=7, smUtil=20),
        SimpleNamespace(pid=os.getpid(), timeStamp=8, smUtil=99),
    ]
    asked = []

    class Nvml:
        NVMLError = RuntimeError

        @staticmethod
        def nvmlDeviceGetHandleByIndex(index):
            return index

        @staticmethod
        def nvmlDeviceGetProcessUtilization(handle, seen):
            asked.append(seen)
            if seen:
                raise RuntimeError("not found")
            return samples

    gpu = GpuOfOthers(Nvml, 0)
    assert gpu.look() == pytest.approx(0.6)
    assert gpu.look() == 0.0 and asked == [0, 9]
