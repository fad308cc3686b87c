"""`swarm demo`: it answers, and leaves nothing behind, however it ends."""

from __future__ import annotations

import signal

import psutil
import pytest


def _family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_the_demo_answers_and_shows_the_route(processes):
    done = processes.command("demo", "What is 2+2?", "--max-tokens", "12", timeout=170)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    for words in ("0:10", "10:20", "20:30", "tokens/s", "Bytes that crossed this client"):
        assert words in done.stderr
    assert "All processes have ended" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demo_leaves_no_process(processes, number):
    processes.start("demo", "demo", "--max-tokens", "400")
    demo = processes.running["demo"]
    log = processes.folder / "demo.log"
    while "Starting 3 peers" not in log.read_text() or len(_family(demo.pid)) < 3:
        assert demo.poll() is None, log.read_text()
        psutil.Process(demo.pid).cpu_percent(interval=0.1)
    family = _family(demo.pid)
    assert len(family) >= 2
    assert not any("hs1" in word for each in family for word in each.cmdline()), "others see these"
    demo.send_signal(number)
    code = processes.wait("demo")
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_a_demo_that_fails_says_why_and_leaves_no_process(processes):
    broken = processes.folder / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    done = processes.command("demo", "--model", str(broken))
    assert done.returncode == 1
    assert "broken.gguf" in done.stderr and "Traceback" not in done.stderr
