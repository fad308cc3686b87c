"""Services that the system runs: what is written down, and what is done with it."""

from __future__ import annotations

import os
import plistlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swarm import cli
from swarm.errors import ConfigError
from swarm.service import Service, named
from swarm.service.installation import Launchd, Systemd, manager
from swarm.service.launchd import plist
from swarm.service.systemd import BACKS_OFF, unit

AWKWARD = "a b%h$HOME\"c\\d'e;f #g"
"""What is special to systemd, to a shell, or to both."""


def service(folder: Path, *arguments: str, **changes: object) -> Service:
    values = {
        "name": "homeswarm-peer",
        "description": "Homeswarm: peer",
        "command": (sys.executable, *arguments),
        "environment": {"HOMESWARM_INVITE": "hs1secret"},
        "folder": folder,
        "stop_timeout": 60.0,
        "yields": True,
    }
    return Service(**{**values, **changes})  # type: ignore[arg-type]


class System:
    """Stands for the system's own programs."""

    def __init__(self, *, answers: bool = True, lingers: bool = False) -> None:
        self.calls: list[str] = []
        self.answers = answers
        self.lingers = lingers

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.calls.append(" ".join(command))
        if command[0] == "loginctl":
            return 0, f"Linger={'yes' if self.lingers else 'no'}"
        if "--version" in command:
            return 0, "systemd 255 (255.4)\n+PAM"
        return (0, "") if self.answers else (1, "Failed to connect to bus")


def words(text: str) -> list[str]:
    """A command line of a unit as systemd reads it: quotes, backslashes, percent signs."""
    line = next(each for each in text.splitlines() if each.startswith("ExecStart="))
    found, word, quoted, rest = [], "", False, iter(line.removeprefix("ExecStart=:"))
    for each in rest:
        if each == "\\":
            word += next(rest)
        elif each == '"':
            quoted = not quoted
        elif each == " " and not quoted:
            found.append(word)
            word = ""
        else:
            word += each
    return [each.replace("%%", "%") for each in (*found, word)]


def test_a_units_command_line_is_what_was_meant(tmp_path: Path) -> None:
    wanted = service(tmp_path, "-c", AWKWARD, "", "--name=x y")
    assert tuple(words(unit(wanted, BACKS_OFF))) == wanted.command


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize(("place", "confined"), [(AWKWARD, True), ("a b%h$HOME=", False)])
def test_systemd_finds_nothing_wrong(tmp_path: Path, place: str, confined: bool) -> None:
    # Its own interpreter in an awkward place: systemd looks whether that is there.
    folder = tmp_path / place
    folder.mkdir()
    program = folder / "python"
    program.symlink_to(sys.executable)
    meant = service(folder, command=(str(program), AWKWARD), confined=confined)
    path = tmp_path / "homeswarm-peer.service"
    path.write_text(unit(meant, installed_version()))
    command = ["systemd-analyze", "verify", "--user", str(path)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert "homeswarm" not in done.stderr + done.stdout, done.stderr
    path.write_text(path.read_text().replace("python", "pyth0n").replace("/bin/sh", "/bin/hs"))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert "homeswarm" in done.stderr, "it did not look"


def test_no_line_swallows_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "mine\\"
    told = unit(service(folder, "\\", description=f"Homeswarm: {folder.name}"), BACKS_OFF)
    assert not [line for line in told.splitlines() if line.endswith("\\")]


def installed_version() -> int:
    said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    return int(said.split()[1])


def test_only_a_systemd_that_can_is_told_to_back_off(tmp_path: Path) -> None:
    assert "RestartMaxDelaySec" in unit(service(tmp_path), BACKS_OFF)
    assert "RestartMaxDelaySec" not in unit(service(tmp_path), BACKS_OFF - 1)


def test_the_environment_is_what_a_shell_reads(tmp_path: Path) -> None:
    wanted = service(tmp_path, environment={"ONE": AWKWARD, "TWO": "`date`$(date)"})
    path = tmp_path / "environment"
    path.write_text(wanted.environment_text())
    script = 'set -a; . "$0"; set +a; printf "%s\\0%s" "$ONE" "$TWO"'
    said = subprocess.run(["/bin/sh", "-c", script, str(path)], capture_output=True, text=True)
    assert said.stdout.split("\0") == [AWKWARD, "`date`$(date)"]


def test_a_plist_says_it_all_and_no_secret(tmp_path: Path) -> None:
    wanted = service(tmp_path, AWKWARD)
    content = plistlib.loads(plist(wanted))
    assert content["KeepAlive"] == {"SuccessfulExit": False}
    assert content["ProcessType"] == "Background" and content["ThrottleInterval"] > 0
    assert content["ExitTimeOut"] == 60
    assert content["ProgramArguments"][-2:] == list(wanted.command)
    assert b"hs1secret" not in plist(wanted)


def test_an_agents_command_gets_its_environment(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['HOMESWARM_INVITE'], *sys.argv[1:], sep='\\n')"
    wanted = service(tmp_path / AWKWARD, "-c", code, AWKWARD)
    Launchd(tmp_path / "agents", System()).install(wanted)
    (path,) = (tmp_path / "agents").iterdir()
    command = plistlib.loads(path.read_bytes())["ProgramArguments"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said.stdout.splitlines() == ["hs1secret", AWKWARD], said.stderr


@pytest.mark.parametrize("text", ["two\nlines", "\udc80"])
def test_what_cannot_be_written_down_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="control characters"):
        service(tmp_path, text)


def test_installing_twice_replaces_and_removing_leaves_nothing(tmp_path: Path) -> None:
    system = System()
    systemd = Systemd(tmp_path / "units", system)
    systemd.install(service(tmp_path / "peer", "alpha"))
    told = systemd.install(service(tmp_path / "peer", "beta"))
    (path,) = (tmp_path / "units").iterdir()
    assert "beta" in path.read_text() and "alpha" not in path.read_text()
    assert "hs1secret" not in path.read_text()
    (secrets,) = (tmp_path / "peer").iterdir()
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert system.calls.count("systemctl --user restart homeswarm-peer.service") == 2
    assert any("enable-linger" in line for line in told)
    systemd.uninstall(service(tmp_path / "peer"))
    assert "systemctl --user disable --now homeswarm-peer.service" in system.calls
    assert not path.exists() and not secrets.exists()
    with pytest.raises(ConfigError, match="not installed"):
        systemd.uninstall(service(tmp_path / "peer"))


def test_without_a_manager_the_commands_are_told(tmp_path: Path) -> None:
    system = System(answers=False)
    told = Systemd(tmp_path / "units", system).install(service(tmp_path / "peer"))
    assert "  systemctl --user enable homeswarm-peer.service" in told
    assert "systemctl --user enable homeswarm-peer.service" not in system.calls


def test_who_stays_needs_no_hint(tmp_path: Path) -> None:
    told = Systemd(tmp_path / "units", System(lingers=True)).install(service(tmp_path / "peer"))
    assert not any("linger" in line for line in told)


@pytest.mark.parametrize(("platform", "says"), [("win32", "WSL2"), ("freebsd14", "freebsd14")])
def test_elsewhere_says_what_to_do(platform: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        manager(platform)


def test_each_folder_has_a_name_of_its_own(tmp_path: Path) -> None:
    usual, one, two = tmp_path / "peer", tmp_path / "a" / "Ünser PC", tmp_path / "b" / "Ünser PC"
    names = [named("peer", each, usual) for each in (usual, one, two)]
    assert names[0] == "homeswarm-peer" and len(set(names)) == 3
    assert all(name.isascii() and " " not in name for name in names)
    assert named("serve", usual, usual, "81") != named("serve", usual, usual, "82")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Types a command in a folder of its own, on a Linux that answers; says what it printed."""
    system = System()
    systemd = Systemd(tmp_path / "units", system)
    monkeypatch.setattr("swarm.cli._service.manager", lambda: systemd)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("HOMESWARM_INVITE", "HOMESWARM_INVITE_FILE", "HOMESWARM_ANNOUNCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def type_(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli.build(), words)
        assert result.exit_code == code, result.output
        return result.output

    return type_


def test_what_was_typed_is_what_runs(typed, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    options = ["--dir", "my peer", "--grace", "5", "--no-relay", "--quantize", "int8"]
    options += ["--announce", "a:1", "--announce", "b:2", "--name", "-x"]
    text = typed("peer", "--join", "hs1x", "--model", "model.gguf", *options, "--print-service")
    command = words(text)
    assert command[:5] == [sys.executable, "-P", "-m", "swarm.cli", "peer"]
    assert "hs1x" not in text
    pairs = dict(pairwise(command))
    assert pairs["--model"] == str(tmp_path / "model.gguf")
    assert pairs["--dir"] == str(tmp_path / "my peer")
    assert pairs["--quantize"] == "int8" and "--name=-x" in command and "--no-relay" in command
    assert "TimeoutStopSec=35" in text
    assert not (tmp_path / "my peer").exists(), "printing wrote something"


@pytest.mark.parametrize("command", ["peer", "bootstrap", "serve"])
def test_a_removal_asks_for_nothing_else(typed, tmp_path: Path, command: str) -> None:
    typed(command, "--dir", "here", *needed(command), "--print-service")
    name = named(command, tmp_path / "here", tmp_path)
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / f"{name}.service").touch()
    assert "removed" in typed(command, "--dir", "here", "--uninstall-service").lower()
    assert not list((tmp_path / "units").iterdir())


def needed(command: str) -> list[str]:
    joining = [] if command == "bootstrap" else ["--join", "hs1x"]
    return [*joining, *(["--model", "a/b"] if command == "peer" else [])]


def test_nothing_is_installed_that_cannot_run(typed, tmp_path: Path) -> None:
    typed("peer", "--join", "hs1x", "--model", "a/b", "--install-service", code=1)
    typed("peer", "--model", "a/b", "--install-service", code=2)
    typed("serve", "--join", "hs1x", "--print-service", "keys", "list", code=2)
    assert not (tmp_path / "units").exists()


def test_an_invite_may_stand_in_a_file(typed, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "invite").write_text("hs1x\n")
    monkeypatch.setenv("HOMESWARM_INVITE", "")
    monkeypatch.setenv("HOMESWARM_INVITE_FILE", "invite")
    assert "hs1x" not in typed("peer", "--model", "a/b", "--print-service")
    assert os.environ["HOMESWARM_INVITE"] == "hs1x"
    monkeypatch.setenv("HOMESWARM_INVITE", "")
    monkeypatch.setenv("HOMESWARM_INVITE_FILE", "nowhere")
    typed("peer", "--model", "a/b", "--print-service", code=1)
