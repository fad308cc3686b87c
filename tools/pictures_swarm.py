"""Makes the pictures of the swarm and group tabs in docs/pictures/, from the page itself.

    python tools/pictures_swarm.py [NAME …]

Needs playwright and Debian's chromium. The group is made up below; the bootstrap's page, its
authority and the map are the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.config import PageConfig
from swarm.bootstrap.page import Page
from swarm.bootstrap.page_keys import Right
from swarm.directory import Announcement, State
from swarm.directory.memory import Registry
from swarm.membership.certificate import Role
from swarm.transport.reach import Reach
from swarm.wire.enrolment import Station

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
QWEN, SMOL = ("Qwen/Qwen3-32B", 64), ("HuggingFaceTB/SmolLM2-135M-Instruct", 30)
GIB = 2**30


def _holder(
    name: str, model: tuple[str, int], span: tuple[int, int], device: str, **known: Any
) -> dict[str, Any]:
    """A peer: milliseconds per token, memory used and whole, power, sessions."""
    told = {"name": name, "model": model, "span": span, "device": device, "energy": "nvml"}
    return {**told, **known}


HOLDERS: tuple[dict[str, Any], ...] = (
    _holder("attic-4090", QWEN, (0, 28), "cuda", ms=19, gib=(21.4, 24), watts=238, joules=4.6, n=3),
    _holder("garage-pc", QWEN, (20, 38), "cuda", ms=24, gib=(13.1, 16), watts=151, joules=3.7, n=2)
    | {"reach": Reach.RELAYED},
    _holder("mac-studio", QWEN, (36, 64), "mps", ms=27, gib=(19.2, 64), watts=64, joules=1.8, n=3)
    | {"energy": "apple"},
    _holder("carols-3060", QWEN, (0, 14), "cuda", ms=23, gib=(9.8, 12), watts=122, joules=2.9, n=1),
    _holder("living-room", SMOL, (0, 18), "cpu", ms=11, gib=(0.6, 16), watts=34, joules=0.41, n=0)
    | {"energy": "estimate"},
    _holder("old-thinkpad", SMOL, (0, 12), "cpu", ms=16, gib=(0.4, 8), watts=19, joules=0.36, n=0)
    | {"energy": "rapl", "reach": Reach.RELAYED},
    _holder("study-laptop", SMOL, (22, 30), "cpu", ms=12, gib=(0.3, 32), watts=28, joules=0, n=0)
    | {"energy": "estimate", "state": State.LOADING},
)
ROUTE = (("attic-4090", 0, 28), ("garage-pc", 28, 38), ("mac-studio", 38, 64))
MEMBERS = (
    ("carols-laptop", Role.CLIENT),
    ("garage-pc", Role.PEER),
    ("mac-studio", Role.PEER),
    ("dora", Role.ADMIN),
    ("lost-phone", Role.CLIENT),
)


def announcement(holder: dict[str, Any]) -> Announcement:
    """What a peer of the list announces."""
    name, blocks = holder["model"]
    used, whole = holder["gib"]
    sessions = holder["n"]
    start, end = holder["span"]
    return Announcement(
        peer_id(holder["name"]),
        holder["name"],
        name.encode().hex()[:32].ljust(32, "0"),
        name,
        blocks,
        start,
        end,
        holder.get("state", State.SERVING),
        decode_seconds=holder["ms"] / 1e3,
        prefill_seconds=holder["ms"] / 2e4,
        free_positions=40_000 - 6_500 * sessions,
        total_positions=40_000,
        dtype="float32" if holder["device"] == "cpu" else "bfloat16",
        device=holder["device"],
        quantize="int4" if name == QWEN[0] else "none",
        reach=holder.get("reach", Reach.DIRECT),
        num_sessions=sessions,
        used_bytes=int(used * GIB),
        memory_bytes=whole * GIB,
        watts=holder["watts"],
        joules=holder["joules"],
        energy=holder["energy"],
    )


def peer_id(name: str) -> str:
    """The same id for the same name."""
    return f"12D3KooW{hashlib.sha256(name.encode()).hexdigest()[:44]}"


@asynccontextmanager
async def group(folder: Path) -> AsyncIterator[Page]:
    """The page of a bootstrap with these members and peers."""
    office.found(folder, "maple street", time.time)
    registry = Registry()
    for holder in HOLDERS:
        entry = announcement(holder)
        await registry.directory(entry.peer).announce(entry, 1e6)
    with Authority.open(folder) as authority:
        authority.enter()
        authority.meet(Station(authority.peer_id, ("/ip4/198.51.100.7/tcp/7700",)))
        for name, role in MEMBERS:
            ticket = authority.invite(role, name=name).ticket
            subject = identity.load_or_create(folder / f"{name}.identity").peer_id
            authority.redeem(ticket, subject)
        authority.revoke("lost-phone")
        authority.invite(Role.PEER, name="bens-desktop")
        authority.invite(Role.CLIENT, uses=5)
        async with Page.shown(PageConfig(port=0), folder) as page:
            with page.beside(authority, registry.directory(authority.peer_id)):
                yield page


def tell_path(page: Page) -> None:
    """A token has gone as far as there are blocks."""
    hops = [
        {
            "peer": peer_id(name),
            "start": start,
            "end": end,
            "queue_ms": 0.8,
            "compute_ms": 17.2 + n,
            "wire_ms": 3.1,
        }
        for n, (name, start, end) in enumerate(ROUTE)
    ]
    model = announcement(HOLDERS[0]).model
    page.feed.tell_path({"model": model, "hops": hops, "back_ms": 2.2})


async def swarm(view: Any, page: Page) -> None:
    """The map, with a token on its way."""
    await view.get_by_role("heading", name=QWEN[0]).wait_for()
    await view.wait_for_timeout(700)
    tell_path(page)
    await view.locator(".way").wait_for()
    await view.wait_for_timeout(650)


async def table(view: Any, page: Page) -> None:
    """The peers as a table."""
    await view.get_by_role("button", name="Table").click()
    await view.locator(".table-frame").scroll_into_view_if_needed()
    await view.wait_for_timeout(700)


async def members(view: Any, page: Page) -> None:
    """Members and invites."""
    await view.get_by_role("link", name="Group").click()
    await view.get_by_label("What they are called").fill("annas-sister")
    await view.get_by_role("button", name="Write the invite").click()
    await view.locator(".qr").wait_for()
    await view.wait_for_timeout(300)


Scene = Callable[[Any, Page], Awaitable[None]]

PICTURES: dict[str, tuple[Scene, dict[str, Any]]] = {
    "swarm-map": (swarm, {"viewport": {"width": 1060, "height": 860}}),
    "swarm-dark": (swarm, {"viewport": {"width": 1060, "height": 860}, "color_scheme": "dark"}),
    "swarm-phone": (swarm, {"viewport": {"width": 380, "height": 820}, "color_scheme": "dark"}),
    "swarm-table": (table, {"viewport": {"width": 1060, "height": 640}}),
    "swarm-group": (members, {"viewport": {"width": 1000, "height": 900}}),
    "swarm-group-phone": (members, {"viewport": {"width": 380, "height": 820}}),
}


async def take(names: list[str]) -> None:
    """Makes these pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with async_playwright() as driver, group(Path(folder)) as page:
            browser = await driver.chromium.launch(executable_path=chromium, args=args)
            for name in names:
                scene, options = PICTURES[name]
                context = await browser.new_context(locale="en-US", **options)
                view = await context.new_page()
                view.on("console", lambda message: sys.stderr.write(f"{message.text}\n"))
                view.on("pageerror", lambda error: sys.stderr.write(f"{error}\n"))
                await view.goto(page.address(Right.ADMINISTER))
                await scene(view, page)
                await view.screenshot(path=FOLDER / f"{name}.png")
                await context.close()
            await browser.close()


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1:] or list(PICTURES)))
