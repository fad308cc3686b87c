"""A service as it was installed: its own command line and environment, run as the system would."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
from contextlib import aclosing
from pathlib import Path

from swarm.client import ModelOptions, Reply, SamplingConfig, Swarm
from swarm.member import JoinConfig

PROMPT = "The three most important things about a swarm are"
AS_THE_SYSTEM_DOES = 'set -a; . "$0"; set +a; cd; exec "$@"'


async def test_an_installed_peer_serves_and_hands_over_when_it_is_stopped(processes, greedy):
    processes.bootstrap()
    place = processes.folder / "my $peer 100%"
    processes.environment |= {"HOMESWARM_INVITE": processes.invite, "HF_HUB_OFFLINE": "1"}
    options = ["--model", str(processes.model), "--dir", str(place), "--name", "installed"]
    options += ["--threads", "1", "--dtype", "float32", "--kv-memory", "64MB"]
    here = ["--host", "127.0.0.1", "--no-map-port", "--install-service"]
    done = processes.command("peer", *options, *here)
    assert done.returncode == 0, done.stderr
    start(processes, place)
    joining = JoinConfig(asks=True, host="127.0.0.1", map_port=False)
    async with Swarm.join(processes.invite, joining) as swarm:
        model = await swarm.model(str(processes.model), ModelOptions(dtype="float32"))
        reply = Reply(model.encode(PROMPT, raw=True))
        async with model.session() as session:
            sampling = SamplingConfig(max_new_tokens=400, ignore_eos=True)
            async with aclosing(model._tokens(session, reply, sampling)) as tokens:
                async for _ in tokens:
                    if len(reply.ids) == 8:
                        await asyncio.to_thread(processes.peers, spare="0:30")
                        processes.signal("installed", signal.SIGTERM)
                    if session.num_handovers:
                        break
            assert session.num_handovers == 1 and reply.num_recoveries == 0
        assert reply.ids == greedy(reply.prompt_ids, len(reply.ids))
    assert processes.wait("installed") == 0


def start(processes, place: Path) -> None:
    """Runs the unit that was installed, with nothing of ours in its environment."""
    (path,) = (processes.folder / "config" / "systemd" / "user").iterdir()
    unit = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    meant = unit["ExecStart"].removeprefix(":").replace("%%", "%")
    secrets = unit["EnvironmentFile"].replace("%%", "%")
    assert processes.invite not in path.read_text()
    assert processes.invite in Path(secrets).read_text() and str(place) in secrets
    with (processes.folder / "installed.log").open("wb") as log:
        processes.running["installed"] = subprocess.Popen(
            ["/bin/sh", "-c", AS_THE_SYSTEM_DOES, secrets, *shlex.split(meant)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"HOME": str(processes.folder), "PATH": os.defpath},
        )
    assert processes.line("installed").startswith("serving blocks 0:30")
