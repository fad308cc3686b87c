"""Makes the pictures of the page in docs/pictures/, from the page itself over a scripted swarm.

    python tools/pictures.py [NAME …]

Needs playwright and Debian's chromium. What the answers say is written below; the page, the
gateway and its API are the real ones.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from swarm.client.reply import Reply
from swarm.client.timing import HopTiming, RouteChange, Timing
from swarm.gateway.answer import Answer, Caller, ModelCard, Source
from swarm.gateway.app import create_app
from swarm.gateway.ask import Ask, Prompt
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.events import Ended, Ending, Event, Said, Usage
from swarm.gateway.keys import Keys
from swarm.gateway.page import add_page

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
MODEL = "Qwen/Qwen3-32B"

DUPLICATES = '''\
Two files are duplicates when their **contents** are the same, so compare digests, and only of \
files that have the same size: most never need to be read.

```python
from collections import defaultdict
from hashlib import file_digest
from pathlib import Path


def duplicates(folder: Path) -> list[list[Path]]:
    """Groups of files below a folder that have the same contents."""
    by_size = defaultdict(list)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            by_size[path.stat().st_size].append(path)
    groups = defaultdict(list)
    for size, paths in by_size.items():
        if len(paths) > 1:
            for path in paths:
                with path.open("rb") as file:
                    groups[size, file_digest(file, "sha256").digest()].append(path)
    return [paths for paths in groups.values() if len(paths) > 1]
```

It reads each candidate once. For a photo collection of 200 GB that is a few minutes on an SSD.
'''
BALCONY = """\
Plenty grows without direct sun, as long as it is **bright**:

| plant | height | water |
|---|---|---|
| Ferns | 40–80 cm | keep moist |
| Heuchera | 30 cm | moderate |
| Fuchsia | 60 cm | daily in summer |
| Mint, chives | 30 cm | moderate |

Two things to mind:

1. Pots in the shade dry slowly. Water when the top *two centimetres* are dry.
2. Feed half of what the label says; growth is slower there.
"""
BOMBA = """\
Imagina una nevera **al revés**. La nevera saca el calor de dentro y lo echa por detrás, en la \
cocina. Una bomba de calor hace lo mismo con tu casa:

1. Fuera, un líquido muy frío se calienta con el aire y se vuelve **gas**.
2. Un compresor aprieta ese gas, y al apretarlo se pone **muy caliente**.
3. Dentro, el gas da su calor a los radiadores y vuelve a ser líquido.

> El aire de invierno también tiene calor: hasta a −10 °C queda algo que sacar.

Por cada kilovatio de electricidad, la casa recibe tres o cuatro de calor.
"""

ANSWERS = {
    "Write a Python function": DUPLICATES,
    "What should I plant": BALCONY,
    "Explica cómo": BOMBA,
}
OTHERS = (
    "Plan a week of dinners without meat",
    "Why is my sourdough flat?",
    "A letter to the landlord about the heating",
)


class Scripted:
    """Answers what is written above, a few words at a time."""

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        question = ask.prompt.messages[-1]["content"]  # type: ignore[union-attr]
        text = next((text for key, text in ANSWERS.items() if question.startswith(key)), BALCONY)
        mended = "Python" in question
        # What is seen of a picture's other conversations is their title.
        pause = 0.0 if question in OTHERS else 0.05
        await asyncio.sleep(8 * pause)
        reply = scripted_reply(mended=mended)
        yield Answer(ask.model, Source.SWARM, Words(text, pause), 0.0, (reply,))

    async def models(self) -> tuple[ModelCard, ...]:
        """The one that is served."""
        return (ModelCard(MODEL, 1_780_000_000, 32_768, has_route=True),)

    async def count(self, model: str, prompt: Prompt) -> int:
        """See `Answerer.count`."""
        return 31


@dataclass
class Words:
    """A text as events."""

    text: str
    pause: float

    @property
    def usage(self) -> Usage:
        return Usage(31, 16, len(self.text) // 4)

    async def events(self) -> AsyncIterator[Event]:
        for start in range(0, len(self.text), 4):
            await asyncio.sleep(self.pause)
            yield Said(0, self.text[start : start + 4])
        yield Ended(0, Ending.END)


def scripted_reply(*, mended: bool) -> Reply:
    """A reply that three peers have made, perhaps after one of them was lost."""
    hops = [("den", 0, 22, 214, 0.4, 14.2, 2.1), ("attic", 22, 44, 214, 0.7, 17.9, 3.4)]
    if mended:
        hops[1] = ("attic", 22, 44, 41, 0.7, 17.9, 3.4)
        hops.insert(2, ("study", 22, 44, 172, 0.3, 15.1, 2.9))
    hops.append(("cellar", 44, 64, 214, 1.1, 15.4, 6.2))
    timing = Timing(num_steps=214, back=214 * 0.0028, head=214 * 0.0041, sampling=214 * 0.0003)
    for name, start, end, steps, *spent in hops:
        queue, compute, wire = (steps * each / 1000 for each in spent)
        hop = HopTiming(name, name, start, end, steps, queue, compute, wire)
        timing.hops[name, start, end] = hop
    if mended:
        timing.changes.append(RouteChange("recovery", 41, ("attic",), ("study",)))
    reply = Reply([0] * 31, timing=timing, prefill_seconds=0.41)
    reply.num_recoveries = int(mended)
    return reply


@asynccontextmanager
async def shown() -> AsyncIterator[str]:
    """The address of a gateway over the script."""
    app: web.Application = create_app(all_endpoints(), Scripted(), GatewayConfig())
    add_page(app, Keys(), "Casa Roble")
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def chat_light(page: Any) -> None:
    """A conversation with code, whose route was mended."""
    for title in OTHERS:
        await ask(page, title)
        await page.keyboard.press("Control+k")
    await ask(page, "Write a Python function that finds duplicate files in a folder.")


async def chat_dark(page: Any) -> None:
    """The same in the dark, with the route opened."""
    await chat_light(page)
    await page.locator("details.facts summary").click()
    await page.locator(".scroll").evaluate("node => node.scrollTo(0, node.scrollHeight)")


async def chat_phone(page: Any) -> None:
    """On a phone."""
    await ask(page, "What should I plant on a shady balcony?")


async def chat_spanish(page: Any) -> None:
    """In Spanish."""
    await ask(page, "Explica cómo funciona una bomba de calor, como a una niña curiosa.")


async def chat_welcome(page: Any) -> None:
    """Nothing said yet."""


DESKTOP = {"viewport": {"width": 1180, "height": 780}}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
PICTURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat-welcome": (chat_welcome, DESKTOP),
    "chat-light": (chat_light, DESKTOP),
    "chat-dark": (chat_dark, {**DESKTOP, "color_scheme": "dark"}),
    "chat-phone": (chat_phone, PHONE),
    "chat-spanish": (chat_spanish, {**DESKTOP, "locale": "es-ES"}),
}


async def ask(page: Any, text: str) -> None:
    """Asks, and waits for the answer's end."""
    await page.locator("#question").fill(text)
    await page.keyboard.press("Enter")
    await page.locator(".answer .facts").last.wait_for(timeout=60_000)


async def main(names: list[str]) -> None:
    """Makes these pictures, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(shown())
        driver = await stack.enter_async_context(async_playwright())
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        path = shutil.which("chromium")
        browser = await driver.chromium.launch(executable_path=path, args=args)
        for name in names or PICTURES:
            prepare, options = PICTURES[name]
            context = await browser.new_context(**{"locale": "en-US", **options})
            page = await context.new_page()
            page.on("console", lambda message: sys.stderr.write(f"{message.text}\n"))
            page.on("pageerror", lambda error: sys.stderr.write(f"{error}\n"))
            await page.goto(url)
            await page.locator("#question").wait_for()
            await prepare(page)
            await page.mouse.move(0, 0)
            await page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
            await context.close()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
