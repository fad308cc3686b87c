"""`swarm bench` with real processes, on a tiny model."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import psutil
import pytest

from swarm.checkpoint.progress import Silent
from swarm.client.benchmark.result import Result
from swarm.client.benchmark.shapes import Shape, write_random

SHORT = ["--prompt", "20", "--tokens", "4", "--rounds", "1", "--sessions", "1,3"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks of random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_random(folder, Shape("llama", 64, 96, 3, 4, 2, 16, 500).config, Silent())
    return folder


def test_a_swarm_of_its_own_is_measured_beside_transformers(processes, tiny):
    plot = processes.folder / "out.svg"
    command = ["bench", "--model", str(tiny), "--peers", "2", "--kv-memory", "16MB", *SHORT]
    done = processes.command(*command, "--reference", "--json", "-", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode(done.stdout, type=Result)
    assert (result.model, result.dtype, result.threads) == ("tiny", "bfloat16", 1)
    assert [(hop.name, hop.start, hop.end) for hop in result.hops] == [
        ("peer-1", 0, 1),
        ("peer-2", 1, 3),
    ]
    assert [each.sessions for each in result.aggregate] == [1, 3]
    assert result.reference is not None and result.reference.sessions_ratio.keys() == {"1", "3"}
    assert result.bandwidth is not None and 0 < result.bandwidth.fraction < 1
    # 64 halves in each frame, on every link, counted by who sends it.
    assert [(link.sender, link.measured) for link in result.links] == [
        ("client", True),
        ("peer-1", True),
        ("peer-2", True),
    ]
    assert all(128 < link.bytes_per_token < 900 for link in result.links)
    assert [each.name for each in result.memory] == ["client", "peer-1", "peer-2"]
    assert all(each.resident_mb > 50 and each.daemon_mb > 5 for each in result.memory)
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert "Round 1 of 1" in done.stderr


@pytest.mark.parametrize(("form", "named"), [("int8", "int8"), ("none", None)])
def test_weights_in_fewer_bits_are_less_to_read(processes, tiny, form, named):
    command = ["bench", "--model", str(tiny), "--peers", "1", "--kv-memory", "16MB", *SHORT]
    done = processes.command(*command, "--quantize", form, "--json", "-")
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode(done.stdout, type=Result)
    assert result.quantize == named
    assert result.bandwidth is not None
    # Three blocks of 30,720 weights each, a head of 32,000, and norms: 0.25 MB in bfloat16.
    assert (result.bandwidth.megabytes_per_token < 0.16) is (named is not None)


def test_the_swarm_of_others_is_measured(processes, tiny):
    processes.bootstrap()
    processes.model = tiny
    processes.peers(one="0:2", two="2:3")
    out = processes.folder / "out.json"
    command = ["bench", "--join", processes.invite, "--model", str(tiny), *SHORT]
    done = processes.command(*command, "--dtype", "float32", "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "2 hops" in done.stdout and "3 sessions at once" in done.stdout
    result = json.loads(out.read_text())
    assert [hop["name"] for hop in result["hops"]] == ["one", "two"]
    assert [link["measured"] for link in result["links"]] == [True, False, True]
    assert result["memory"] == [] and result["threads"] is None


def test_ctrl_c_leaves_no_process(processes, tiny):
    processes.start("bench", "bench", "--model", str(tiny), "--tokens", "100000")
    bench = processes.running["bench"]
    log = processes.folder / "bench.log"
    while "Warming up" not in log.read_text():
        assert bench.poll() is None, log.read_text()
        psutil.Process(bench.pid).cpu_percent(interval=0.1)
    family = psutil.Process(bench.pid).children(recursive=True)
    assert len(family) >= 5
    bench.send_signal(signal.SIGINT)
    assert processes.wait("bench") == 128 + signal.SIGINT
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert "Traceback" not in log.read_text()
