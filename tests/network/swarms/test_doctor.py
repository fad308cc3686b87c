"""`swarm doctor` behind a router that lets nobody in."""

from __future__ import annotations

import json
import sys

SWARM = [sys.executable, "-m", "swarm.cli"]


def reachability(host, invite: str) -> dict[str, str]:
    done = host.run([*SWARM, "doctor", "--json", "--join", invite, "--no-bandwidth"])
    told = json.loads(done.stdout)["findings"]
    return next(each for each in told if each["subject"] == "reachability")


def test_who_is_behind_a_router_is_told_so(internet):
    public, pc = internet.host("public"), internet.home("alice").host("pc")
    bootstrap = [*SWARM, "bootstrap", "--dir", str(public.folder / "bootstrap")]
    invite = public.popen(bootstrap).line()
    found = reachability(pc, invite)
    assert found["verdict"] == "warning" and "visitors: 1" in found["found"], found
    assert "--announce" in found["do"]
