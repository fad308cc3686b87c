"""What the packages hide: every byte of requests and answers, over plain sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

TALK = [{"role": "user", "content": "Tell a story of bees."}]
CHAT = {"model": "smol", "messages": TALK, "temperature": 0, "max_tokens": 4}
CHATS = "/v1/chat/completions"
MESSAGES = "/v1/messages"


@dataclass
class Answered:
    """One answer; `pieces` are the chunks of its body, if it came in any."""

    status: int
    headers: dict[str, str]
    body: bytes
    pieces: list[bytes]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found = self.json["error"]
        assert isinstance(found, dict)
        return found


class Wire:
    """A connection to a gateway, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def ask(self, path: str, body: Any, *headers: str) -> Answered:
        await self.send(post(path, json.dumps(body).encode(), *headers))
        return await self.answer()

    async def answer(self, *, bodiless: bool = False) -> Answered:
        async with asyncio.timeout(60):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")[:-2]
            version, status, _ = first.split(" ", 2)
            assert version in ("HTTP/1.1", "HTTP/1.0")
            headers = {name.lower(): value for name, value in (x.split(": ", 1) for x in lines)}
            assert len(headers) == len(lines), "a header came twice"
            pieces: list[bytes] = []
            if headers.get("transfer-encoding") == "chunked":
                pieces = [piece async for piece in self._chunks()]
            elif not bodiless and "content-length" in headers:
                pieces = [await self._reader.readexactly(int(headers["content-length"]))]
            return Answered(int(status), headers, b"".join(pieces), pieces)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            assert await self._reader.readline() == b"\r\n"
        assert await self._reader.readline() == b"\r\n"

    async def rest(self) -> bytes:
        """All that comes until the gateway hangs up."""
        async with asyncio.timeout(60):
            return await self._reader.read()

    async def ended(self) -> bool:
        return not await self.rest()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request as curl sends it."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


Dial = Callable[..., Any]


@pytest.fixture
def dial(shared: Any) -> Dial:
    """`async with dial() as wire`: a new connection, to the strict gateway if it says so."""

    @asynccontextmanager
    async def dialling(*, strict: bool = False) -> AsyncIterator[Wire]:
        place = urlsplit(shared.strict if strict else shared.plain)
        tls = shared.trust if strict else None
        reader, writer = await asyncio.open_connection(place.hostname, place.port, ssl=tls)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()

    return dialling


async def test_a_chats_stream(dial: Dial) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with dial() as wire:
        whole = await wire.ask(CHATS, CHAT)
        answer = await wire.ask(CHATS, CHAT | options)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["server"] == "homeswarm"
    assert answer.headers["x-homeswarm-answered-by"] == "swarm"
    assert "content-length" not in answer.headers
    assert answer.headers["x-request-id"] != whole.headers["x-request-id"]
    # Each event is sent by itself, and whole.
    assert answer.pieces[-1] == b"data: [DONE]\n\n"
    for piece in answer.pieces:
        assert piece.startswith(b"data: ") and piece.endswith(b"\n\n") and piece.count(b"\n") == 2
    *chunks, usage = [json.loads(piece[6:]) for piece in answer.pieces[:-1]]
    keys = {"id", "object", "created", "model", "choices", "usage"}
    assert all(set(chunk) == keys and chunk["usage"] is None for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in chunks[1:-1])
    assert chunks[-1]["choices"] == [
        {"index": 0, "delta": {}, "finish_reason": "length", "logprobs": None}
    ]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 4
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == whole.json["choices"][0]["message"]["content"]


async def test_messages_stream(dial: Dial) -> None:
    async with dial() as wire:
        answer = await wire.ask(MESSAGES, CHAT | {"stream": True}, "anthropic-version: 2023-06-01")
    assert "request-id" in answer.headers and "x-request-id" not in answer.headers
    kinds = []
    for piece in answer.pieces:
        event, data, *rest = piece.split(b"\n")
        assert rest == [b"", b""]
        kinds.append(event.removeprefix(b"event: ").decode())
        assert json.loads(data.removeprefix(b"data: "))["type"] == kinds[-1]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_a_trace_is_told_to_who_asks_for_it(dial: Dial) -> None:
    async with dial() as wire:
        whole = await wire.ask(CHATS, CHAT, "X-Homeswarm-Trace: 1")
        stream = await wire.ask(CHATS, CHAT | {"stream": True}, "X-Homeswarm-Trace: 1")
        silent = await wire.ask(CHATS, CHAT)
    trace = json.loads(whole.headers["x-homeswarm-trace"])
    assert trace["completion"] == 4 and len(trace["hops"]) == 2
    assert stream.pieces[-2] == b"data: [DONE]\n\n"
    assert stream.pieces[-1].startswith(b": trace {")
    assert "x-homeswarm-trace" not in silent.headers and "server-timing" in silent.headers


async def test_a_connection_lives_on(dial: Dial) -> None:
    """After answers, streams and refusals alike."""
    async with dial() as wire:
        for body, status in (
            (CHAT, 200),
            (CHAT | {"stream": True}, 200),
            (CHAT | {"functions": []}, 400),
            (CHAT | {"model": "other"}, 404),
            (CHAT, 200),
        ):
            assert (await wire.ask(CHATS, body)).status == status
        await wire.send(post(CHATS, json.dumps(CHAT).encode(), "Connection: close"))
        assert (await wire.answer()).status == 200
        assert await wire.ended()


async def test_older_http_is_closed_after_its_answer(dial: Dial) -> None:
    async with dial() as wire:
        await wire.send(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert await wire.ended()


async def test_requests_sent_at_once_are_answered_in_turn(dial: Dial) -> None:
    models = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chat = post(CHATS, json.dumps(CHAT | {"stream": True}).encode())
    async with dial() as wire:
        await wire.send(chat + models + chat)
        kinds = [(await wire.answer()).headers["content-type"].partition(";")[0] for _ in range(3)]
    assert kinds == ["text/event-stream", "application/json", "text/event-stream"]


async def test_a_body_in_chunks(dial: Dial) -> None:
    head = post(CHATS, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    text = json.dumps(CHAT).encode()
    chunks = b"%x\r\n%s\r\n" % (7, text[:7]) + b"%x;a=b\r\n%s\r\n" % (len(text) - 7, text[7:])
    async with dial() as wire:
        await wire.send(head + chunks[:3])
        await wire.send(chunks[3:] + b"0\r\n\r\n")
        assert (await wire.answer()).status == 200
        await wire.send(head + b"zz\r\n")
        assert (await wire.answer()).status == 400
        assert await wire.ended()


async def test_a_body_that_is_announced_is_waited_for(dial: Dial) -> None:
    text = json.dumps(CHAT).encode()
    head = post(CHATS, text, "Expect: 100-continue").removesuffix(text)
    async with dial() as wire:
        await wire.send(head)
        assert (await wire.answer(bodiless=True)).status == 100
        await wire.send(text)
        assert (await wire.answer()).status == 200


async def test_a_packed_body(dial: Dial) -> None:
    packed = gzip.compress(json.dumps(CHAT).encode())
    async with dial() as wire:
        await wire.send(post(CHATS, packed, "Content-Encoding: gzip"))
        assert (await wire.answer()).status == 200
        await wire.send(post(CHATS, b"no gzip", "Content-Encoding: gzip"))
        assert (await wire.answer()).status == 400


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "smol", "messages": NaN}',
        b'{"model": "smol", "messages": [], "model": 1}',
        b'{"model": "smol"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        json.dumps(CHAT).encode() + b"x",
        json.dumps(CHAT).encode().replace(b"bees", b"be\xc3s"),
        json.dumps(CHAT).encode().replace(b"bees", b"\\ud800"),
        json.dumps(CHAT).encode().replace(b"4", b"1e999"),
    ],
    ids=lambda text: repr(text[:20]),
)
async def test_bodies_that_are_wrong(dial: Dial, text: bytes) -> None:
    async with dial() as wire:
        for path in (CHATS, MESSAGES, "/v1/completions", "/v1/responses"):
            await wire.send(post(path, text))
            answer = await wire.answer()
            assert answer.status == 400, (path, answer.body)
            assert answer.error["type"] == "invalid_request_error"
            assert len(answer.error["message"]) < 1000
            assert answer.headers["content-type"].startswith("application/json")


async def test_a_body_of_another_type(dial: Dial) -> None:
    text = json.dumps(CHAT).encode()
    async with dial() as wire:
        for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"):
            await wire.send(post(CHATS, text).replace(b"application/json", kind))
            assert (await wire.answer()).status == 415
        await wire.send(post(CHATS, text).replace(b"/json", b"/json; charset=utf-8"))
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("length", [b"-1", b"1x", b"", b"1, 2", b"9" * 30])
async def test_lengths_that_are_none(dial: Dial, length: bytes) -> None:
    async with dial() as wire:
        request = post(CHATS, b"").replace(b"Content-Length: 0", b"Content-Length: " + length)
        await wire.send(request)
        assert (await wire.answer()).status in (400, 413)


async def test_a_length_and_chunks_at_once(dial: Dial) -> None:
    """Two programs on the way may disagree on where the request ends."""
    async with dial() as wire:
        await wire.send(post(CHATS, b"0\r\n\r\n", "Transfer-Encoding: chunked"))
        assert (await wire.answer()).status == 400
        assert await wire.ended()


async def test_a_length_that_is_too_small(dial: Dial) -> None:
    """What is left is no request, and nobody is to guess where the next one begins."""
    text = json.dumps(CHAT).encode()
    short = post(CHATS, text).replace(b"Length: %d" % len(text), b"Length: %d" % (len(text) - 3))
    async with dial() as wire:
        await wire.send(short)
        assert (await wire.answer()).status == 400
        assert b" 200 " not in await wire.rest()


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["tls", "ssh", "version", "header", "long header", "long path"],
)
async def test_what_is_no_request(dial: Dial, text: bytes) -> None:
    async with dial() as wire:
        await wire.send(text)
        answer = await wire.answer()
        assert 400 <= answer.status < 500 and answer.error["message"]


async def test_head_and_options(dial: Dial) -> None:
    async with dial() as wire:
        for path in (b"/v1/models", b"/health", b"/openapi.json", b"/metrics"):
            await wire.send(b"HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
            answer = await wire.answer(bodiless=True)
            # Nobody serves one of the models.
            assert answer.status == (503 if path == b"/health" else 200)
        await wire.send(b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await wire.answer(bodiless=True)
        assert (answer.status, answer.headers["allow"]) == (204, "OPTIONS, POST")
        assert "access-control-allow-origin" not in answer.headers
        for method in (b"GET", b"PUT", b"DELETE", b"PATCH"):
            await wire.send(method + b" /v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await wire.answer()
            assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
            assert answer.json["type"] == "error"
        await wire.send(b"HEAD /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.answer(bodiless=True)).status == 405


@pytest.mark.parametrize(
    "path", ["/page", "/v2/models", "/v1/chat/completions/", "/v1/%2e%2e/models"]
)
async def test_paths_that_are_none(dial: Dial, path: str) -> None:
    async with dial() as wire:
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = await wire.answer()
        assert answer.status == 404 and answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "header",
    [
        "Host: chat.example",
        "Host: 192.0.2.1:8000",
        "Host: localhost.example",
        "Origin: https://chat.example",
        "Origin: null",
        "Origin: http://localhost:3000",
    ],
)
async def test_pages_of_a_browser_may_not_ask(dial: Dial, header: str) -> None:
    request = post(CHATS, json.dumps(CHAT).encode(), header).decode()
    if header.startswith("Host"):
        request = request.replace("Host: localhost\r\n", "", 1)
    async with dial() as wire:
        await wire.send(request.encode())
        answer = await wire.answer()
        assert answer.status == 403 and "access-control-allow-origin" not in answer.headers


async def test_the_gateway_describes_itself(dial: Dial) -> None:
    async with dial() as wire:
        assert (await wire.ask(CHATS, CHAT)).status == 200
        await wire.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        described = (await wire.answer()).json
        await wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        health = (await wire.answer()).json
        await wire.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        metrics = (await wire.answer()).body.decode()
    assert {"/v1/chat/completions", "/v1/messages", "/v1/responses"} <= set(described["paths"])
    assert health["models"]["smol"] == {"has_route": True, "missing": []}
    assert health["models"]["mute"] == {"has_route": False, "missing": [[0, 2]]}
    labels = '{endpoint="/v1/chat/completions",model="smol",status="200"}'
    assert f"homeswarm_requests_total{labels}" in metrics
