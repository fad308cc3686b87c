"""A service as a launch agent of macOS (launchd.plist(5))."""

from __future__ import annotations

import math
import plistlib
from typing import Any

from . import Service

_THROTTLE_S = 30
"""At least so long between two starts."""

_WITH_ENVIRONMENT = 'set -a; . "$0"; set +a; exec "$@"'
"""launchd reads no environment from a file, and everybody may read a plist."""


def label(service: Service) -> str:
    """What launchd calls it."""
    return f"org.{service.name}"


def plist(service: Service) -> bytes:
    """The agent's property list, in XML."""
    log = str(service.folder / f"{service.name}.log")
    shell = ["/bin/sh", "-c", _WITH_ENVIRONMENT, str(service.environment_file)]
    content: dict[str, Any] = {
        "Label": label(service),
        "ProgramArguments": [*shell, *service.command],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _THROTTLE_S,
        "ExitTimeOut": math.ceil(service.stop_timeout),
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if service.yields:
        content |= {"ProcessType": "Background", "LowPriorityIO": True, "Nice": 10}
    return plistlib.dumps(content)
