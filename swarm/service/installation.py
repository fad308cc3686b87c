"""Puts a service into place, starts it, and takes it away again."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swarm import state
from swarm.errors import ConfigError

from . import Service
from .launchd import label, plist
from .systemd import unit

_TIMEOUT_S = 150.0

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command; its exit code and what it printed. 127, where there is no such command."""


def run(command: Sequence[str]) -> tuple[int, str]:
    """See `Run`."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return 127, f"{command[0]}: not found"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]}: no answer"
    return done.returncode, (done.stdout + done.stderr).strip()


class Manager(Protocol):
    """What runs services on this system, for one user."""

    def text(self, service: Service) -> str:
        """What is written down of it."""
        ...

    def install(self, service: Service) -> list[str]:
        """Writes it down, replacing what was there, and starts it; returns what to tell.

        Where nobody can start it now, that tells how. Raises `ConfigError`.
        """
        ...

    def uninstall(self, service: Service) -> list[str]:
        """Stops it and removes it; `ConfigError` where it is not installed."""
        ...


def manager(platform: str = sys.platform, run: Run = run) -> Manager:
    """This system's; `ConfigError` where there is none that we know."""
    if platform == "darwin":
        return Launchd(Path.home() / "Library" / "LaunchAgents", run)
    if platform.startswith("linux"):
        home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Systemd(Path(home) / "systemd" / "user", run)
    if platform == "win32":
        raise ConfigError(
            "on Windows a service is installed within WSL2, by the same command; or have the Task"
            " Scheduler run `wsl -- swarm …` when you log on"
        )
    raise ConfigError(f"services are installed for systemd and launchd, not on {platform}")


@dataclass(frozen=True)
class Systemd:
    """The user's manager of systemd, which reads units in `folder`."""

    folder: Path
    run: Run = run

    def text(self, service: Service) -> str:
        """The unit."""
        return unit(service, self._version())

    def install(self, service: Service) -> list[str]:
        """See `Manager`."""
        path = self.folder / f"{service.name}.service"
        _write(service, path, self.text(service).encode())
        told = [f"Written: {path}"]
        steps = [["daemon-reload"], ["enable", path.name], ["restart", path.name]]
        if not self._is_there():
            told.append("No systemd of yours answers here. Where it does, start it with:")
            return told + [f"  systemctl --user {shlex.join(step)}" for step in steps]
        for step in steps:
            code, said = self._systemctl(*step)
            if code:
                raise ConfigError(f"systemctl --user {shlex.join(step)} failed: {said}")
        told.append("It runs, and starts again with your session. What it says:")
        told.append(f"  journalctl --user -u {path.name} -f")
        return told + self._lingering()

    def uninstall(self, service: Service) -> list[str]:
        """See `Manager`."""
        path = self.folder / f"{service.name}.service"
        if not path.exists():
            raise ConfigError(f"not installed: there is no {path}")
        there = self._is_there()
        if there:
            code, said = self._systemctl("disable", "--now", path.name)
            if code:
                raise ConfigError(f"systemctl --user disable --now {path.name} failed: {said}")
        _remove(service, path)
        if there:
            self._systemctl("daemon-reload")
        return [f"Stopped and removed: {path}" if there else f"Removed: {path}"]

    def _lingering(self) -> list[str]:
        """How it runs without its owner being logged in, unless it does."""
        user = getpass.getuser()
        _, said = self.run(["loginctl", "show-user", user, "--property=Linger"])
        if "Linger=yes" in said:
            return []
        hint = "It ends when you log out, unless you allow it to stay, from the machine's start on:"
        return [hint, f"  loginctl enable-linger {shlex.quote(user)}"]

    def _is_there(self) -> bool:
        return self._systemctl("show-environment")[0] == 0

    def _systemctl(self, *arguments: str) -> tuple[int, str]:
        return self.run(["systemctl", "--user", *arguments])

    def _version(self) -> int:
        """0 where nobody says: then nothing is written that an old one would not know."""
        _, said = self.run(["systemctl", "--version"])
        found = re.match(r"systemd (\d+)", said)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Launchd:
    """launchd, for the user who is logged in at the screen; agents stand in `folder`."""

    folder: Path
    run: Run = run

    def text(self, service: Service) -> str:
        """The property list."""
        return plist(service).decode()

    def install(self, service: Service) -> list[str]:
        """See `Manager`."""
        path = self._path(service)
        _write(service, path, plist(service))
        told = [f"Written: {path}"]
        # Not loaded yet, most of the time: that is no failure.
        self.run(["launchctl", "bootout", f"{self._domain()}/{label(service)}"])
        start = ["launchctl", "bootstrap", self._domain(), str(path)]
        code, said = self.run(start)
        if code:
            told.append(f"launchctl does not start it here ({said}). When you are logged in:")
            return [*told, f"  {shlex.join(start)}"]
        log = service.folder / f"{service.name}.log"
        told.append("It runs, and starts again when you log in. What it says:")
        return [*told, f"  tail -f {shlex.quote(str(log))}"]

    def uninstall(self, service: Service) -> list[str]:
        """See `Manager`."""
        path = self._path(service)
        if not path.exists():
            raise ConfigError(f"not installed: there is no {path}")
        self.run(["launchctl", "bootout", f"{self._domain()}/{label(service)}"])
        _remove(service, path)
        return [f"Stopped and removed: {path}"]

    def _path(self, service: Service) -> Path:
        return self.folder / f"{label(service)}.plist"

    def _domain(self) -> str:
        return f"gui/{os.getuid() if sys.platform != 'win32' else 0}"


def _write(service: Service, path: Path, content: bytes) -> None:
    """The private file first: a service never starts without what it needs."""
    state.make_folder(service.folder)
    state.make_folder(path.parent)
    state.replace(service.environment_file, service.environment_text().encode())
    state.replace(path, content)


def _remove(service: Service, path: Path) -> None:
    try:
        path.unlink()
        service.environment_file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot remove {error.filename}: {error.strerror}") from error
