"""The HTTP side of a fallback: a request, its answer's parts, and what refusals mean here."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec

from swarm import __version__

from ..refusals import Reason, Refusal
from .chunks import broken, said
from .config import FallbackConfig
from .parts import Parts, TooLong
from .question import Question

logger = logging.getLogger(__name__)

_DONE = b"[DONE]"
_MOST_WORDS = 64 * 1024
"""Bytes of a refusal that are read."""

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)

_RETRY = 10.0
_LONGEST_RETRY = 3600.0


class Upstream:
    """Asks an endpoint. Made by `Upstream.opened`."""

    def __init__(self, config: FallbackConfig, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._session = session

    @classmethod
    @asynccontextmanager
    async def opened(cls, config: FallbackConfig) -> AsyncIterator[Upstream]:
        """Connections are kept until the block is left."""
        headers = {
            "User-Agent": f"homeswarm/{__version__}",
            # What is packed may be a thousand times larger.
            "Accept-Encoding": "identity",
            "Accept": "text/event-stream",
        }
        if config.key:
            headers["Authorization"] = f"Bearer {config.key}"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=config.connect, sock_read=config.patience
        )
        async with aiohttp.ClientSession(
            headers=headers,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=config.most_running),
            auto_decompress=False,
        ) as session:
            yield cls(config, session)

    @asynccontextmanager
    async def asking(self, question: Question) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """The data of the answer's events, up to its end; leaving the block ends the request.

        Raises `Refusal` where there is no answer, as does whoever reads it.
        """
        request = self._session.post(
            self._config.endpoint(question.path),
            data=msgspec.json.encode(question.body),
            headers={"Content-Type": "application/json"},
            # Whoever sent us elsewhere would get the prompt, and perhaps the key.
            allow_redirects=False,
        )
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(request)
                await self._check(response)
            except _FAILURES as error:
                raise self._silent(error) from error
            yield self._data(response)

    async def _data(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        parts, size = Parts(self._config.most_part), 0
        try:
            async for received in response.content.iter_any():
                size += len(received)
                if size > self._config.most_bytes:
                    raise broken("it is too long")
                for data in parts.feed(received):
                    if data.strip() == _DONE:
                        return
                    yield data
        except TooLong as error:
            raise broken("a part of it has no end") from error
        except _FAILURES as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> Refusal:
        logger.warning("fallback failed why=%s", type(error).__name__)
        return _out_of_order("does not answer")

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status == 200:
            if response.content_type != "text/event-stream":
                raise _out_of_order("does not answer in a stream")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise _out_of_order("sends what was not asked for")
            return
        logger.warning("fallback refuses status=%d", status)
        if status == 429:
            after = _retry_after(response.headers.get("Retry-After"))
            text = "the swarm cannot answer now, and its fallback has too much to do"
            raise Refusal(Reason.BUSY, text, retry_after=after)
        if status in (401, 402, 403):
            raise _out_of_order("does not let this gateway in")
        if status == 404:
            raise _out_of_order("does not know this model")
        if 300 <= status < 400:
            raise _out_of_order("sends us elsewhere, where we do not go")
        if 400 <= status < 500:
            words = await self._words(response)
            text = f"the swarm cannot answer now, and its fallback refuses this request{words}"
            raise Refusal(Reason.INVALID, text)
        raise _out_of_order("is out of order", _retry_after(response.headers.get("Retry-After")))

    async def _words(self, response: aiohttp.ClientResponse) -> str:
        """What a refusal says."""
        raw = bytearray()
        async with asyncio.timeout(self._config.connect):
            async for part in response.content.iter_any():
                raw += part
                if len(raw) > _MOST_WORDS:
                    return ""
        try:
            told = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
        error = told.get("error") if isinstance(told, dict) else None
        return f": {said(error)}" if error else ""


def _out_of_order(how: str, retry_after: float = _RETRY) -> Refusal:
    text = f"the swarm cannot answer now, and its fallback {how}"
    return Refusal(Reason.NO_ROUTE, text, retry_after=retry_after)


def _retry_after(value: str | None) -> float:
    """Seconds, from a number of them or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return _RETRY
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return _RETRY
    return min(max(seconds, 1.0), _LONGEST_RETRY) if math.isfinite(seconds) else _RETRY
