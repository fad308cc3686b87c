"""A service as a unit of systemd's user manager (systemd.service(5), systemd.exec(5))."""

from __future__ import annotations

from . import Service

BACKS_OFF = 254
"""The version from which on a unit may wait longer after each failure."""

_CONFINEMENT = """\
# What a user's own manager can promise without a user namespace, which some systems refuse:
# rights that are never gained, and system calls that have no place here.
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""

_GOES_ON = "\\"
"""What has the next line belong to the one that it ends."""

_COURTESY = """\
# The owner's own programs go first.
Nice=10
CPUWeight=20
IOWeight=20
IOSchedulingClass=idle
OOMScoreAdjust=500
"""


def unit(service: Service, version: int) -> str:
    """The text of the unit file, for this version of systemd."""
    backing_off = "RestartSteps=6\nRestartMaxDelaySec=5min\n" if version >= BACKS_OFF else ""
    return f"""\
[Unit]
Description={_specified(service.description).rstrip(_GOES_ON)}
# Where the user manager knows of the network; elsewhere it is tried again until there is one.
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
# The colon: dollars are dollars.
ExecStart=:{" ".join(_argument(each) for each in _command(service))}
EnvironmentFile={_specified(str(service.environment_file))}
WorkingDirectory=%h
UMask=0077
Restart=on-failure
RestartSec=5
{backing_off}# Wrong arguments get no better.
RestartPreventExitStatus=2
# To the command alone: the network's process is needed until all has been handed over.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={service.stop_timeout:g}
{_COURTESY if service.yields else ""}{_CONFINEMENT if service.confined else ""}
[Install]
WantedBy=default.target
"""


def _command(service: Service) -> tuple[str, ...]:
    """The command; through a shell where systemd takes no program of that name, however quoted."""
    if set(service.command[0]) & set("\"'\\"):
        return ("/bin/sh", "-c", 'exec "$0" "$@"', *service.command)
    return service.command


def _argument(text: str) -> str:
    """One word of a command line."""
    return '"' + _specified(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _specified(text: str) -> str:
    """`text` without specifiers: a percent sign is one."""
    return text.replace("%", "%%")
