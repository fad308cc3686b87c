"""A command that the system runs by itself: from when its owner logs in, or the machine starts.

`Service` says what; `systemd` and `launchd` write it down for Linux and macOS, and `installation`
puts it into place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import ConfigError

PREFIX = "homeswarm"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A command of ours as the system is to run it, for the user who installs it.

    `command` is the program, by its absolute path, and its arguments, which everybody on the
    machine can see. What they may not see is in `environment`, which is kept in a file of
    `folder` that only the owner can read. When it is stopped it gets SIGTERM and `stop_timeout`
    seconds. With `yields` the owner's own programs go first. With `confined` neither it nor what it
    starts can gain rights, or use what it has no need of.
    """

    name: str
    description: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    stop_timeout: float
    yields: bool = False
    confined: bool = True

    def __post_init__(self) -> None:
        for text in (self.description, str(self.folder), *self.command, *self.environment.values()):
            # Neither format has a place for them, and nobody means them.
            if any(ord(each) < 32 or 0xD800 <= ord(each) <= 0xDFFF for each in text):
                raise ConfigError(f"{text!r}: a service takes no control characters")

    @property
    def environment_file(self) -> Path:
        """Where its environment is kept, with mode 600."""
        return self.folder / f"{self.name}.env"

    def environment_text(self) -> str:
        """`environment` as systemd's EnvironmentFile and a shell's `.` both read it."""
        return "".join(f"{name}={_quoted(value)}\n" for name, value in self.environment.items())


def named(command: str, folder: Path, usual: Path, *marks: str) -> str:
    """What a service is called: one for each command and folder, and for other `marks` of it.

    Plain where the folder is the `usual` one and there are no marks.
    """
    place = [str(folder), *marks]
    if folder == usual and not marks:
        return f"{PREFIX}-{command}"
    words = [*([] if folder == usual else [folder.name]), *marks]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:32]
    digest = hashlib.sha256("\0".join(place).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return "-".join(part for part in (PREFIX, command, slug, digest) if part)


def _quoted(value: str) -> str:
    """In double quotes, within which both take a backslash before these four and no others."""
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'
