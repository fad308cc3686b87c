"""The page at a gateway: who gets which file, and which pages may ask."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.keys import Keys, given
from swarm.gateway.page import add_page
from swarm.web import pages
from swarm.web.pages import page_files

STATIC = Path(pages.__file__).parent / "static"
KEY = "a-key-that-nobody-guesses"


@asynccontextmanager
async def shown(scripted: Any, keys: Keys | None = None) -> AsyncIterator[TestClient]:
    app = create_app(all_endpoints(), scripted, GatewayConfig(), keys)
    add_page(app, keys or Keys(), "maple street")
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_files_are_served_as_what_they_are_and_once(scripted) -> None:
    async with shown(scripted) as client:
        for path, file in page_files().items():
            answer = await client.get(path)
            assert (answer.status, await answer.read()) == (200, file.content)
            assert answer.content_type == file.media_type
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            policy = answer.headers["Content-Security-Policy"].split("; ")
            assert "default-src 'none'" in policy and "script-src 'self'" in policy
            head = await client.head(path)
            assert (head.status, await head.read()) == (200, b"")
            assert head.headers["ETag"] == answer.headers["ETag"]
            assert head.content_length == len(file.content)
            tag = {"If-None-Match": f'"other", W/{answer.headers["ETag"]}'}
            again = await client.get(path, headers=tag)
            assert (again.status, await again.read()) == (304, b"")
            other = await client.get(path, headers={"If-None-Match": '"other"'})
            assert other.status == 200


async def test_no_path_leads_anywhere_else(scripted) -> None:
    async with shown(scripted) as client:
        for path in (
            "/page",
            "/page/",
            "/page/none.js",
            "/page/chat",
            "/page/../pages.py",
            "/page/%2e%2e/pages.py",
            "/page/..%2fpages.py",
            "/page/index.html",
            "/index.html",
        ):
            answer = await client.get(path)
            assert answer.status == 404, path
            assert "there is nothing at" in (await answer.json())["error"]["message"]
        answer = await client.post("/", json={})
        assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_the_page_is_no_part_of_the_api(scripted) -> None:
    async with shown(scripted) as client:
        described = await (await client.get("/openapi.json")).json()
    assert not [path for path in described["paths"] if path == "/" or path.startswith("/page")]


async def test_files_need_no_key_and_what_they_ask_for_does(scripted) -> None:
    async with shown(scripted, Keys(given([KEY]))) as client:
        assert (await client.get("/")).status == 200
        about = await (await client.get("/page/about")).json()
        assert (about["key"], about["tabs"], about["group"]) == ("needed", ["chat"], "")
        assert (await client.get("/v1/models")).status == 401
        headers = {"Authorization": f"Bearer {KEY}"}
        assert (await client.get("/v1/models", headers=headers)).status == 200


async def test_who_needs_no_key_reads_what_the_group_is_called(scripted) -> None:
    async with shown(scripted) as client:
        about = await (await client.get("/page/about")).json()
    assert (about["key"], about["group"]) == ("none", "maple street")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("{here}", "http://{here}", 200),
        ("{here}", None, 200),
        ("localhost:{port}", "http://localhost:{port}", 200),
        ("{here}", "https://{here}", 403),
        ("{here}", "http://localhost:{port}", 403),
        ("{here}", "http://127.0.0.1:1", 403),
        ("{here}", "http://{here}.evil.example", 403),
        ("{here}", "null", 403),
        ("{here}", "", 403),
        ("evil.example", "http://evil.example", 403),
        ("evil.example:{port}", "http://evil.example:{port}", 403),
    ],
)
async def test_only_our_own_page_may_ask(scripted, host, origin, status) -> None:
    async with shown(scripted) as client:
        places = {"here": f"127.0.0.1:{client.port}", "port": client.port}
        headers = {"Host": host.format(**places)}
        if origin is not None:
            headers["Origin"] = origin.format(**places)
        assert (await client.get("/v1/models", headers=headers)).status == status
        if status == 403 and "evil" in host:
            assert (await client.get("/", headers=headers)).status == 403


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
        ("cross-site", "navigate", "document", 200),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "no-cors", "image", 403),
        # Another program's page on another port of this machine.
        ("same-site", "no-cors", "script", 403),
        ("same-site", "no-cors", "empty", 403),
    ],
)
async def test_pages_of_others_load_nothing_of_ours(scripted, site, mode, dest, status) -> None:
    """Of what is only loaded browsers tell no origin."""
    told = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    async with shown(scripted) as client:
        answer = await client.get("/v1/models", headers=told)
        assert answer.status == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_is_loaded_from_elsewhere_and_modules_are_short() -> None:
    ours = [path for path in STATIC.rglob("*.js") if path.parent.name != "vendor"]
    assert len(ours) > 30
    for path in (*ours, *STATIC.glob("*.html"), *STATIC.rglob("*.css")):
        text = path.read_text()
        for mark in ('from "http', 'import("http', "url(", "innerHTML", "eval(", '="http'):
            assert mark not in text.replace('xmlns="http', ""), (path.name, mark)
        if path.suffix == ".js":
            assert text.count("\n") < 300, path.name


def test_the_page_weighs_what_its_documentation_says() -> None:
    sizes = {path: len(file.content) for path, file in page_files().items()}
    code = {
        path: size for path, size in sizes.items() if path.endswith((".js", ".css", "/", ".svg"))
    }
    libraries = [size for path, size in code.items() if path.startswith("/page/vendor/")]
    assert sum(code.values()) < 600_000
    assert round(sum(libraries) / 1000) == 296


def test_libraries_are_as_pinned() -> None:
    tool = STATIC.parents[2] / "tools" / "vendor.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
