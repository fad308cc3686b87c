"""A TLS certificate, which may be renewed while it runs."""

from __future__ import annotations

import logging
import os
import ssl
import time
from pathlib import Path

from swarm.errors import ConfigError

logger = logging.getLogger(__name__)

_INTERVAL = 5.0
"""Seconds between two looks at the files."""


def tls_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Serves with these files, and with what they become; raises `ConfigError` if that fails."""
    return _Renewal(certificate, private_key).context


class _Renewal:
    """Looks at the files when somebody connects: only then does it matter."""

    def __init__(self, certificate: Path, private_key: Path) -> None:
        self._certificate = certificate
        self._private_key = private_key
        self._mark = self._stamp()
        self._looked = time.monotonic()
        self._current = _load(certificate, private_key)
        self.context = _load(certificate, private_key)
        self.context.sni_callback = self._greet

    def _greet(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        now = time.monotonic()
        if now - self._looked >= _INTERVAL:
            self._looked = now
            self._look()
        connection.context = self._current

    def _look(self) -> None:
        if (mark := self._stamp()) == self._mark:
            return
        self._mark = mark
        try:
            self._current = _load(self._certificate, self._private_key)
        except ConfigError as error:
            # The one before goes on: what is being written now may be whole at the next look.
            logger.warning("certificate not renewed why=%s", error)
        else:
            logger.info("certificate renewed file=%s", self._certificate)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = [os.stat(path) for path in (self._certificate, self._private_key)]
        except OSError:
            return ()
        return tuple(number for each in found for number in (each.st_ino, each.st_mtime_ns))


def _load(certificate: Path, private_key: Path) -> ssl.SSLContext:
    for path in (certificate, private_key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])

    def refuse() -> str:
        # Otherwise OpenSSL would ask for it on the terminal.
        raise ConfigError(f"{private_key} is locked with a password; write it without one")

    try:
        context.load_cert_chain(certificate, private_key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"the private key {private_key} does not belong to the certificate {certificate}"
            raise ConfigError(what) from error
        what = f"{certificate} and {private_key} are no certificate and private key in PEM form"
        raise ConfigError(f"{what} ({error.reason or error})") from error
    return context
