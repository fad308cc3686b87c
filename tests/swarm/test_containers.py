"""The compose files and the Dockerfile: what they say to our commands, and what they give away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from swarm import cli

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(cli.build()).commands  # type: ignore[attr-defined]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RUNNING = [name for name in SERVICES if name != "invites"]


def calls() -> list[list[str]]:
    """Every command of ours that the file runs."""
    (script,) = SERVICES["invites"]["command"]
    written = [line.split()[1:] for line in script.splitlines()]
    return [*(SERVICES[name]["command"] for name in RUNNING), *written]


@pytest.mark.parametrize("call", calls(), ids=lambda call: call[0])
def test_its_commands_exist(call: list[str]) -> None:
    command = COMMANDS[call[0]]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    assert not [word for word in call if word.startswith("--") and word not in known]


@pytest.mark.parametrize("name", RUNNING)
def test_they_are_stopped_as_slowly_as_they_promise(name: str) -> None:
    (command,) = [SERVICES[name]["command"][0]]
    promised = {each.name: each.default for each in COMMANDS[command].params}
    longest = max(promised.get(option) or 0.0 for option in ("grace", "drain"))
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= longest + 10


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_down_and_no_right_is_given(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"] and "privileged" not in service
    for key, value in service.get("environment", {}).items():
        if key.endswith(("KEY", "TOKEN")):
            assert value.startswith("${"), f"{key} is said in the file"
        assert key != "HOMESWARM_INVITE", "docker inspect shows it"


def test_who_joins_reads_what_was_written_for_it() -> None:
    (script,) = SERVICES["invites"]["command"]
    mounts = dict(each.split(":", 1) for each in SERVICES["invites"]["volumes"])
    for name in ("peer", "gateway"):
        assert SERVICES[name]["environment"]["HOMESWARM_INVITE_FILE"] == "/data/invite"
        assert f"{name}:/data" in SERVICES[name]["volumes"]
        assert f"--file {mounts[name]}/invite" in script


def test_the_image_takes_code_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line.removeprefix("!") for line in rules if line.startswith("!")}
    assert all((ROOT / each).exists() for each in let_in)
    parts = re.findall(r'^"?swarm\.?(\w*)"? = "', (ROOT / "pyproject.toml").read_text(), re.M)
    assert {part or "swarm" for part in parts} - {"cli:main"} <= let_in
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "\nUSER swarm" in dockerfile and "\nSTOPSIGNAL SIGTERM" in dockerfile
