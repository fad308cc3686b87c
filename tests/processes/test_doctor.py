"""`swarm doctor` beside a real bootstrap, by what it says and by its exit code."""

from __future__ import annotations

import json
import socket

HERE = ["--host", "127.0.0.1", "--no-map-port"]


def test_what_is_broken_is_told_as_what_it_is(processes):
    invite = processes.bootstrap()
    folder = str(processes.folder / "bootstrap")

    def doctor(machine: str, line: str, *options: str) -> dict[str, str]:
        """What is a problem on a machine of its own, by subject."""
        processes.environment["XDG_STATE_HOME"] = str(processes.folder / machine)
        done = processes.command("doctor", "--join", line, *HERE, "--json", *options)
        assert "Traceback" not in done.stderr
        told = json.loads(done.stdout)
        wrong = {
            each["subject"]: f"{each['found']} {each['means']}"
            for each in told["findings"]
            if each["verdict"] == "problem"
        }
        # How much memory and disk this machine has at the moment is no part of this.
        wrong = {name: what for name, what in wrong.items() if name[:4] not in ("memo", "disk")}
        assert told["ok"] == (done.returncode == 0)
        assert line not in done.stdout and "12D3Koo" not in done.stdout
        return wrong

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wrong = doctor("one", invite, "--port", str(taken.getsockname()[1]))
    assert list(wrong) == ["port"]
    expired = processes.command("invite", "--dir", folder, "--expires", "1s").stdout.strip()
    assert "expired" in doctor("two", expired)["certificate"]
    told = processes.command("members", "--dir", folder, "--json").stdout
    (member,) = [each for each in json.loads(told)["members"] if "authority" not in each["roles"]]
    assert processes.command("revoke", member["name"], "--dir", folder).returncode == 0
    assert "thrown this machine out" in doctor("one", invite)["certificate"]
