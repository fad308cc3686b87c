"""A browser that looks at the page of a gateway, whose answers the test says word by word.

Everything here lives in the session's event loop, with the one browser:
modules say `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.config import PageConfig
from swarm.bootstrap.page import Page
from swarm.bootstrap.page_keys import Right
from swarm.client import Swarm
from swarm.directory import Announcement, State
from swarm.directory.memory import Registry
from swarm.gateway.answer import Answer, Answerer, Caller, ModelCard, Source
from swarm.gateway.app import create_app
from swarm.gateway.ask import Ask, Prompt
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.events import Ended, Ending, Event, Said, Usage
from swarm.gateway.keys import Keys
from swarm.gateway.page import add_page
from swarm.gateway.refusals import Refusal
from swarm.invite import Invite
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Station

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

_LONG = 60_000
"""Milliseconds that nothing takes here, however busy the machine is."""

playwright.expect.set_options(timeout=_LONG)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WHOLE = Path(__file__).parents[1] / "whole" / "conftest.py"
FETCH_FAILED = "Failed to load resource"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """Debian's Chromium, started once."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        await browser.close()


@dataclass
class Looks:
    """Opens pages, each as in a browser of its own, and notes what goes wrong in them."""

    browser: Any
    stack: AsyncExitStack
    problems: list[str] = field(default_factory=list)

    async def at(self, url: str, **options: Any) -> Any:
        """A page that shows this address; `options` are those of a Playwright context."""
        settings = {"locale": "en-US", "viewport": {"width": 1200, "height": 800}, **options}
        context = await self.browser.new_context(**settings)
        self.stack.push_async_callback(context.close)
        page = await context.new_page()
        page.set_default_timeout(_LONG)
        self.watch(page)
        await page.goto(url)
        await page.locator("main").wait_for()
        return page

    def watch(self, page: Any) -> None:
        """Notes errors, and what the content security policy forbade; the console tells both."""
        page.on("pageerror", lambda error: self.problems.append(f"thrown: {error}"))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        # A refusal is an answer: what the page makes of it is what tests look at.
        if message.type in ("error", "warning") and not message.text.startswith(FETCH_FAILED):
            self.problems.append(f"{message.type}: {message.text}")


@pytest_asyncio.fixture(loop_scope="session")
async def looks(browser: Any) -> AsyncIterator[Looks]:
    """`await looks.at(url)`: a page. At the end nothing may have gone wrong in any."""
    async with AsyncExitStack() as stack:
        looks = Looks(browser, stack)
        yield looks
    assert not looks.problems


@dataclass
class Speaker:
    """Answers what the test puts into `script`, at once or as it goes on.

    A `Refusal` comes in its place: as the first, instead of an answer.
    """

    names: tuple[str, ...] = ("tiny",)
    source: Source = Source.SWARM
    replies: tuple[Any, ...] = ()
    asks: list[Ask] = field(default_factory=list)
    num_ended: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    script: asyncio.Queue[Event | Refusal] = field(default_factory=asyncio.Queue)

    def say(self, *texts: str) -> None:
        """More of the answer."""
        for text in texts:
            self.script.put_nowait(Said(0, text))

    def end(self, ending: Ending = Ending.END) -> None:
        """The answer is whole."""
        self.script.put_nowait(Ended(0, ending))

    def answer(self, *texts: str) -> None:
        """A whole answer."""
        self.say(*texts)
        self.end()

    def refuse(self, refusal: Refusal) -> None:
        """No answer, or not the rest of it."""
        self.script.put_nowait(refusal)

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        self.asks.append(ask)
        first = await self.script.get()
        if isinstance(first, Refusal):
            self.num_ended += 1
            raise first
        try:
            work = _Work(self.script, first)
            yield Answer(ask.model, self.source, work, 0.0, self.replies)
        finally:
            self.num_ended += 1

    async def models(self) -> tuple[ModelCard, ...]:
        gap = self.missing
        return tuple(
            ModelCard(name, 1_700_000_000, 2048, has_route=not gap, missing=gap)
            for name in self.names
        )

    async def count(self, model: str, prompt: Prompt) -> int:
        return 7


@dataclass
class _Work:
    script: asyncio.Queue[Event | Refusal]
    first: Event
    num_said: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(7, 2, self.num_said)

    async def events(self) -> AsyncIterator[Event]:
        event: Event | Refusal = self.first
        while not isinstance(event, Refusal):
            self.num_said += 1
            yield event
            if isinstance(event, Ended):
                return
            event = await self.script.get()
        raise event


@pytest_asyncio.fixture(loop_scope="session")
async def speaker() -> Speaker:
    """Who answers in this test."""
    return Speaker()


@pytest_asyncio.fixture(loop_scope="session")
async def serve_page() -> AsyncIterator[Callable[..., Any]]:
    """`await serve_page(answerer, config, keys, swarm)`: the address of a gateway with the page."""
    async with AsyncExitStack() as stack:

        async def serve(
            answerer: Answerer,
            config: GatewayConfig | None = None,
            keys: Keys | None = None,
            swarm: Swarm | None = None,
        ) -> str:
            app = create_app(all_endpoints(), answerer, config or GatewayConfig(), keys)
            feed = add_page(app, keys or Keys(), swarm=swarm)
            url = await listen(app, stack)
            if feed is not None:
                stack.callback(feed.close)
            return url

        yield serve


async def listen(app: web.Application, stack: AsyncExitStack) -> str:
    """The address at which an application answers until the end of `stack`."""
    server = TestServer(app, handler_cancellation=True)
    await server.start_server()
    stack.push_async_callback(server.close)
    return str(server.make_url("/"))


@pytest_asyncio.fixture(loop_scope="session")
async def page(looks: Looks, serve_page: Any, speaker: Speaker) -> Any:
    """The page of a gateway that says what `speaker` says."""
    return await looks.at(await serve_page(speaker))


@pytest.fixture(scope="session")
def whole() -> ModuleType:
    """What the tests of whole swarms stand on: `World` and the tiny models."""
    spec = importlib.util.spec_from_file_location("whole_swarms", WHOLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def axe() -> Iterator[str]:
    """axe-core, as a script."""
    return (Path(__file__).parent / "vendor" / "axe.js").read_text()


@dataclass
class House:
    """A bootstrap's page over a real authority, and a directory in memory."""

    page: Page
    authority: Authority
    registry: Registry
    folder: Path

    def address(self, right: Right = Right.LOOK) -> str:
        """Where somebody with this right looks."""
        return self.page.address(right)

    async def announce(self, peer: str, start: int, end: int, **changes: Any) -> Announcement:
        """A peer of a model with ten blocks."""
        values = {"state": State.SERVING, "num_blocks": 10, "model_name": "owner/model", **changes}
        values = {"name": peer, "model": "f" * 32, **values}
        entry = Announcement(peer=peer, start=start, end=end, **values)
        await self.registry.directory(peer).announce(entry, 1e6)
        return entry

    async def die(self, peer: str) -> None:
        """Its announcement has run out."""
        await self.registry.directory(peer).withdraw()

    def admit(self, name: str, role: Role = Role.PEER) -> str:
        """A new member; its id."""
        return self.redeem(self.authority.invite(role, name=name))

    def redeem(self, invite: Invite) -> str:
        """A new machine comes with an invite; its id."""
        name = f"{len(self.authority.members())}.identity"
        subject = identity.load_or_create(self.folder / name).peer_id
        self.authority.redeem(invite.ticket, subject)
        return subject


@pytest_asyncio.fixture(loop_scope="session")
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A bootstrap with its page."""
    office.found(tmp_path, "maple street", time.time)
    registry = Registry()
    with Authority.open(tmp_path) as authority:
        authority.enter()
        authority.meet(Station(authority.peer_id, ("/ip4/192.0.2.1/tcp/4001",)))
        async with Page.shown(PageConfig(port=0), tmp_path) as page:
            with page.beside(authority, registry.directory(authority.peer_id)):
                yield House(page, authority, registry, tmp_path)


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """`await until(holds)`: waits until an async function says so."""

    async def until(holds: Callable[[], Any]) -> None:
        while True:
            if await holds():
                return
            await asyncio.sleep(0.005)

    return until


@pytest.fixture(scope="session")
def ask() -> Callable[..., Any]:
    """`await ask(page, text)`: types and sends a message."""

    async def ask(page: Any, text: str) -> None:
        await page.get_by_label("Your message").fill(text)
        # Nothing is sent before the gateway has told which models there are.
        await page.locator(".send:enabled").wait_for()
        await page.keyboard.press("Enter")

    return ask
