"""TLS files: what is wrong with them is told, and new ones are taken while it runs."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.errors import ConfigError
from swarm.web import certificate as module
from swarm.web.certificate import tls_context

Files = tuple[Path, Path]


def test_files_that_are_not_there(certificate: Files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.pem: No such file"):
        tls_context(certificate[0], tmp_path / "none.pem")


def test_files_that_do_not_belong_together(make_certificate: Callable[[str], Files]) -> None:
    one, other = make_certificate("one"), make_certificate("other")
    with pytest.raises(ConfigError, match="does not belong to"):
        tls_context(one[0], other[1])


def test_files_that_are_something_else(certificate: Files, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("hello")
    with pytest.raises(ConfigError, match="PEM"):
        tls_context(text, certificate[1])
    with pytest.raises(ConfigError, match="PEM"):
        tls_context(certificate[0], text)


def test_a_locked_key_asks_nobody(make_certificate: Callable[..., Files]) -> None:
    with pytest.raises(ConfigError, match="password"):
        tls_context(*make_certificate("locked", password=b"secret"))


async def test_new_files_are_taken_while_it_runs(
    make_certificate: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    old, new = make_certificate("old"), make_certificate("new")
    context = tls_context(*old)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await shown(port) == ssl.PEM_cert_to_DER_cert(old[0].read_text())
        old[1].write_bytes(b"half of a k")
        first = old[0].read_text()
        assert await shown(port) == ssl.PEM_cert_to_DER_cert(first), "the one before goes on"
        os.replace(new[0], old[0])
        os.replace(new[1], old[1])
        assert await shown(port) == ssl.PEM_cert_to_DER_cert(old[0].read_text())
        assert old[0].read_text() != first


async def shown(port: int) -> bytes | None:
    """The certificate that a server shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found
