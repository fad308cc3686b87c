"""TCP ports of this machine."""

from __future__ import annotations

import errno
import socket
import sys

from swarm.errors import ConfigError

from .multiaddresses import IPAddress


def family(ip: IPAddress) -> socket.AddressFamily:
    """The kind of sockets that have this address."""
    return socket.AF_INET6 if ip.version == 6 else socket.AF_INET


def check(ip: IPAddress, port: int) -> None:
    """Raises `ConfigError` where we cannot listen.

    libp2p shares ports (SO_REUSEPORT): without this two members would take turns at one address.
    """
    try:
        with socket.socket(family(ip), socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":  # There it would let us in beside others.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((str(ip), port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is in use by another program") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"{ip} is no address of this machine") from error
        raise ConfigError(f"cannot listen at {ip} port {port}: {error.strerror}") from error
