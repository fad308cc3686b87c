"""What every request passes, whichever endpoint it is for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.anthropic.dialect import ANTHROPIC
from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoint import Call, Endpoint
from swarm.gateway.keys import Keys, given
from swarm.gateway.openai.dialect import OPENAI
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.traffic import Traffic, stopping

KEY = "a-key-of-twenty-and-more"
PAGE = "https://page.example"


class Order(msgspec.Struct, forbid_unknown_fields=True):
    dish: str


async def cook(call: Call) -> web.Response:
    match call.body.dish if call.body else "tea":
        case "fish":
            raise Refusal(Reason.BUSY, "no fish now", retry_after=2.6)
        case "stone":
            raise ZeroDivisionError("a secret of ours")
        case "nothing":
            call.request.app[COOKING].set()
            await asyncio.Future()
    return web.json_response({"for": call.caller.name})


COOKING = web.AppKey("cooking", asyncio.Event)

ENDPOINTS = (
    Endpoint("POST", "/v1/orders", "Order", OPENAI, cook, body=Order),
    Endpoint("POST", "/v1/messages", "Order", ANTHROPIC, cook, body=Order),
    Endpoint("GET", "/v1/menu", "Look", OPENAI, cook),
    Endpoint("GET", "/v1/dishes/{dish:.+}", "Look", OPENAI, cook, open=True),
)


class House:
    """A gateway that cooks."""

    def __init__(self, scripted: Any, *, keys: Keys | None = None, **options: Any) -> None:
        self.traffic = Traffic()
        config = GatewayConfig(**options)
        app = create_app(ENDPOINTS, scripted, config, keys, self.traffic)
        self.cooking = app[COOKING] = asyncio.Event()
        self.client = TestClient(TestServer(app))

    async def __aenter__(self) -> House:
        await self.client.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def ask(
        self, path: str = "/v1/menu", method: str = "GET", **options: Any
    ) -> tuple[int, Any, Any]:
        """Status, headers and body (JSON, if there is any)."""
        async with self.client.request(method, path, **options) as answer:
            return (
                answer.status,
                answer.headers,
                await answer.json() if answer.content_length else {},
            )

    async def order(self, dish: Any, path: str = "/v1/orders", **options: Any) -> Any:
        return await self.ask(path, "POST", json={"dish": dish}, **options)


def keyed() -> Keys:
    return Keys(given([f"editor={KEY}"]))


@pytest.fixture
async def house(scripted: Any) -> House:
    return House(scripted)


async def test_where_no_key_is_needed_this_machine_asks(house: House) -> None:
    async with house:
        for header in ({}, {"Authorization": "Bearer any"}, {"x-api-key": "any"}):
            status, _, body = await house.ask(headers=header)
            assert (status, body) == (200, {"for": "local"})


@pytest.mark.parametrize(
    "header",
    [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY} "}, {"x-api-key": KEY}],
)
async def test_a_key_has_a_name(scripted: Any, header: dict[str, str]) -> None:
    async with House(scripted, keys=keyed()) as house:
        assert (await house.ask(headers=header))[2] == {"for": "editor"}


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"x-api-key": ""},
        {"x-api-key": "\u00e4"},
    ],
)
async def test_without_the_key_nobody_asks(scripted: Any, header: dict[str, str]) -> None:
    async with House(scripted, keys=keyed()) as house:
        for path in ("/v1/menu", "/v1/nothing"):
            status, headers, body = await house.ask(path, headers=header)
            assert status == 401 and headers["WWW-Authenticate"] == "Bearer"
            assert body["error"]["code"] == "invalid_api_key"
        status, _, body = await house.ask("/v1/dishes/a", headers=header)
        assert (status, body) == (200, {"for": ""}), "open to all"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "[::2]:1"]
)
async def test_a_page_whose_name_leads_here_is_refused(house: House, host: str) -> None:
    async with house:
        status, _, body = await house.ask(headers={"Host": host})
        assert status == 403 and "host" in body["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "LocalHost:80", "127.0.0.1:8000", "[::1]:8000"])
async def test_this_machines_names_are_known(house: House, host: str) -> None:
    async with house:
        assert (await house.ask(headers={"Host": host}))[0] == 200


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost:3000"])
async def test_without_a_key_no_page_may_ask(house: House, origin: str) -> None:
    async with house:
        status, headers, _ = await house.order("tea", headers={"Origin": origin})
        assert status == 403 and "Access-Control-Allow-Origin" not in headers


async def test_a_page_that_was_named_may_ask_and_see(scripted: Any) -> None:
    async with House(scripted, origins=(PAGE,)) as house:
        for dish, expected in (("tea", 200), ("fish", 429)):
            status, headers, _ = await house.order(dish, headers={"Origin": PAGE})
            assert status == expected
            assert headers["Access-Control-Allow-Origin"] == PAGE
            assert headers["Vary"] == "Origin"
        status, headers, _ = await house.order("tea", headers={"Origin": f"{PAGE}.other"})
        assert status == 403 and "Access-Control-Allow-Origin" not in headers


async def test_browsers_ask_beforehand_without_a_key(scripted: Any) -> None:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with House(scripted, origins=(PAGE,), keys=keyed()) as house:
        status, headers, _ = await house.ask("/v1/orders", "OPTIONS", headers=asked)
        assert status == 204
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert headers["Access-Control-Allow-Headers"] == "authorization,content-type"
        foreign = asked | {"Origin": "https://other.example"}
        _, headers, _ = await house.ask("/v1/orders", "OPTIONS", headers=foreign)
        assert not [name for name in headers if name.startswith("Access-Control")]


async def test_without_cors_nothing_is_said_of_it(scripted: Any) -> None:
    async with House(scripted, keys=keyed()) as house:
        header = {"Origin": PAGE, "x-api-key": KEY}
        status, headers, _ = await house.ask(headers=header)
        assert status == 200, "who has the key may ask; the browser keeps the answer to itself"
        assert not [name for name in headers if name.startswith("Access-Control")]


async def test_unknown_paths_and_methods_are_told_in_the_apis_words(house: House) -> None:
    async with house:
        for path, version, form in (
            ("/v1/nothing", {}, "openai"),
            ("/", {}, "openai"),
            ("/v1/messages/nothing", {}, "anthropic"),
            ("/v1/nothing", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ):
            status, _, body = await house.ask(path, headers=version)
            assert status == 404
            assert (body.get("type") == "error") == (form == "anthropic"), path
        status, headers, body = await house.ask("/v1/messages", "DELETE")
        assert status == 405 and body["error"]["type"] == "invalid_request_error"
        assert headers["Allow"] == "OPTIONS, POST"


async def test_head_and_options(house: House) -> None:
    async with house:
        status, headers, _ = await house.ask("/v1/menu", "HEAD")
        assert status == 200 and int(headers["Content-Length"]) > 0
        status, headers, _ = await house.ask("/v1/menu", "OPTIONS")
        assert status == 204 and headers["Allow"] == "GET, HEAD, OPTIONS"
        assert (await house.ask("/v1/nothing", "OPTIONS"))[0] == 404
        assert (await house.ask("/v1/orders", "HEAD"))[0] == 405


async def test_every_answer_has_an_id_and_a_line_in_the_log(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "swarm")
    async with house:
        ids = set()
        for path, method, name in (
            ("/v1/menu", "GET", "x-request-id"),
            ("/v1/nothing", "GET", "x-request-id"),
            ("/v1/menu", "DELETE", "x-request-id"),
            ("/v1/messages", "POST", "request-id"),
        ):
            _, headers, _ = await house.ask(path, method)
            ids.add(headers[name])
    assert len(ids) == 4
    for name in ids:
        assert f"request={name} " in caplog.text


async def test_what_is_asked_is_not_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "swarm")
    async with house:
        await house.order("a private dish")
        await house.ask("/v1/menu?word=a-private-dish")
    assert "private" not in caplog.text


async def test_refusals_say_when_to_come_back(house: House) -> None:
    async with house:
        status, headers, body = await house.order("fish")
        assert (status, headers["Retry-After"]) == (429, "3")
        assert body["error"]["message"] == "no fish now"


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/messages"])
async def test_our_own_errors_are_logged_and_not_told(
    house: House, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with house:
        status, headers, body = await house.order("stone", path)
    assert status == 500
    assert "secret" not in str(body) and body["error"]["type"] in ("server_error", "api_error")
    assert "ZeroDivisionError" in caplog.text
    assert (headers.get("x-request-id") or headers["request-id"]) in caplog.text
    caplog.clear()


async def test_bodies_are_json_and_not_too_large(scripted: Any) -> None:
    async with House(scripted, most_body=100) as house:
        status, _, body = await house.order("x" * 200)
        assert status == 413 and "100 bytes" in body["error"]["message"]

        async def parts() -> Any:
            for _ in range(20):
                yield b"x" * 10

        header = {"Content-Type": "application/json"}
        assert (await house.ask("/v1/orders", "POST", data=parts(), headers=header))[0] == 413
        text = {"Content-Type": "text/plain"}
        told = await house.ask("/v1/orders", "POST", data=b'{"dish": "tea"}', headers=text)
        assert told[0] == 415
        assert (await house.ask("/v1/orders", "POST", data=b"{", headers=header))[0] == 400


async def test_packed_bodies_count_as_what_they_become(scripted: Any) -> None:
    import zlib

    packed = zlib.compress(b'{"dish": "' + b"x" * 1_000_000 + b'"}')
    header = {"Content-Type": "application/json", "Content-Encoding": "deflate"}
    async with House(scripted, most_body=100_000) as house:
        assert len(packed) < 100_000
        assert (await house.ask("/v1/orders", "POST", data=packed, headers=header))[0] == 413


async def test_a_body_that_trickles_in_is_not_waited_for(scripted: Any) -> None:
    async with House(scripted, patience=0.2) as house:
        reader, writer = await asyncio.open_connection(house.client.host, house.client.port)
        writer.write(
            b"POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"dish'
        )
        assert b" 408 " in await reader.readline()
        writer.close()


async def test_who_comes_while_it_stops_is_told_so(house: House) -> None:
    async with house:
        running = asyncio.ensure_future(house.order("nothing"))
        await house.cooking.wait()
        house.traffic.close()
        status, headers, _ = await house.ask()
        assert status == 503 and headers["Retry-After"]
        assert house.traffic.num_running == 1, "what runs goes on"
        running.cancel()


def test_stopping_has_a_reason_of_its_own() -> None:
    assert stopping().reason is Reason.STOPPING
