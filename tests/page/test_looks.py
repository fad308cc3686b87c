"""How it looks and feels: colours, a phone, the keyboard, readers of screens, languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

STATIC = Path(__file__).parents[2] / "swarm" / "web" / "static"

RICH = """\
# Soup

A **bold** word, `code`, [a link](https://soup.example/), and

| long column of a table | another long column | a third one | a fourth |
|---|---|---|---|
| leeks and potatoes | cream | a little nutmeg | thyme |

> quoted

```python
# A comment in a line that is much longer than a telephone is wide, so that it has to be scrolled
def cook(minutes: int = 40) -> str:
    return f"{minutes} minutes"
```

averyveryverylongwordwithoutanyplacetobreakitinthemiddleaveryveryverylongword
"""

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => {
    const [r, g, b] = rgba(color).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const probe = document.body.appendChild(document.createElement("i"));
  const value = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(value(a)), light(value(b))].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const ground = ["--bg", "--bg-side", "--surface", "--surface-hover"];
  const inks = ["--text", "--text-soft", "--accent", "--bad"];
  const pairs = inks.flatMap((t) => ground.map((g) => [t, g]));
  pairs.push(["--on-accent", "--accent-fill"], ["--text", "--accent-soft"],
    ["--text", "--bad-soft"],
    ["--bad", "--bad-soft"], ["--text-soft", "--bad-soft"], ["--text-soft", "--code-head"]);
  for (const name of ["comment", "keyword", "string", "number", "title", "type"])
    pairs.push([`--hl-${name}`, "--code-bg"]);
  const found = pairs.map(([t, g]) => [`${t} on ${g}`, ratio(t, g)]);
  probe.remove();
  return found;
}"""


async def talk(page: Any, speaker: Any, ask: Any, text: str = RICH) -> None:
    speaker.answer(text)
    await ask(page, "Soup?")
    await page.locator(".answer[aria-busy=false]").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read_in_both_themes(looks, serve_page, speaker, scheme) -> None:
    page = await looks.at(await serve_page(speaker), color_scheme=scheme)
    await page.get_by_label("Your message").wait_for()
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", ground)[:3])) > 380
    assert bright is (scheme == "light")
    low = {what: ratio for what, ratio in await page.evaluate(CONTRAST) if ratio < 4.5}
    assert not low
    # The switch goes from the system's theme over light to dark, and is remembered.
    await page.get_by_role("button", name="Colours").click()
    await page.get_by_role("button", name="Colours: light").click()
    await page.get_by_role("button", name="Colours: dark").wait_for()
    await page.reload()
    await page.get_by_role("button", name="Colours: dark").wait_for()
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 380


async def test_a_phone_needs_no_sideways_scrolling(looks, serve_page, speaker, ask) -> None:
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
    page = await looks.at(await serve_page(speaker), **phone)
    await talk(page, speaker, ask)
    width = """() => ["html", ".scroll"]
      .map((name) => document.querySelector(name).scrollWidth)"""
    assert await page.evaluate(width) == [360, 360]
    assert not await page.get_by_role("button", name="New chat").is_visible()
    await page.get_by_role("button", name="Conversations").click()
    await page.get_by_role("button", name="New chat").wait_for()
    assert await page.evaluate(width) == [360, 360]
    assert await page.evaluate("document.activeElement.closest('.side') !== null")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="New chat").wait_for(state="hidden")
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("dialog").wait_for()
    assert await page.evaluate(width) == [360, 360]
    await page.get_by_role("button", name="Done").click()
    small = await page.evaluate(
        """() => [...document.querySelectorAll("button, select, summary, input, textarea")]
          .filter((node) => node.checkVisibility({ visibilityProperty: true }))
          .filter((node) => node.getBoundingClientRect().height < 24)
          .map((node) => node.outerHTML)"""
    )
    assert not small


async def test_everything_can_be_done_with_the_keyboard(page, speaker) -> None:
    # It gets the focus just after it is there.
    await page.locator("#question:focus").wait_for()
    for _ in range(4):  # Out of the page's end, and in again at its beginning.
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.className") == "skip":
            break
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    reached: list[str] = []
    for _ in range(14):
        await page.keyboard.press("Tab")
        ring, name = await page.evaluate(
            """() => {
              const node = document.activeElement;
              const ringed = node.closest(".composer") ?? node;
              const name = node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent;
              return [getComputedStyle(ringed).outlineStyle, name ?? node.textContent];
            }"""
        )
        reached.append(name)
        assert ring != "none", name
        if name == "Your message":
            break
    assert {"New chat", "Search conversations", "Import", "Model", "Settings"} <= {*reached}
    await page.keyboard.type("One")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("Two")
    speaker.answer("Fine.")
    await page.keyboard.press("Enter")
    await page.get_by_text("Fine.").first.wait_for()
    assert speaker.asks[-1].prompt.messages[-1]["content"] == "One\nTwo"
    await page.keyboard.press("Control+k")
    await page.get_by_role("heading", name="What is on your mind?").wait_for()
    await page.locator("#question:focus").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_barriers(looks, serve_page, speaker, ask, axe, scheme) -> None:
    # Evaluated by the driver, so that the page's policy need not allow it.
    page = await looks.at(await serve_page(speaker), color_scheme=scheme)
    await page.get_by_label("Your message").wait_for()
    await page.evaluate(axe)
    assert await barriers(page) == []
    await talk(page, speaker, ask)
    assert await barriers(page) == []
    await page.get_by_role("button", name="Settings").click()
    assert await barriers(page) == []


async def barriers(page: Any) -> list[str]:
    found = await page.evaluate(
        """async () => (await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a",
          "wcag21aa", "wcag22aa", "best-practice"] })).violations"""
    )
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


async def test_the_language_is_the_readers(looks, serve_page, speaker, ask) -> None:
    page = await looks.at(await serve_page(speaker), locale="es-MX")
    await page.get_by_role("heading", name="¿En qué piensas?").wait_for()
    assert await page.evaluate("document.documentElement.lang") == "es"
    await page.get_by_label("Idioma").select_option("en")
    await page.get_by_role("heading", name="What is on your mind?").wait_for()
    await page.reload()
    await page.get_by_role("heading", name="What is on your mind?").wait_for()
    await talk(page, speaker, ask, "مرحبا بكم")
    direction = "getComputedStyle(document.querySelector('.prose p')).direction"
    assert await page.evaluate(direction) == "rtl"


@pytest.mark.parametrize("folder", ["lib", "chat"])
async def test_both_languages_say_everything_and_nothing_else(page, folder) -> None:
    tables = await page.evaluate(
        """async (folder) => {
          const read = async (tag) => (await import(`/page/${folder}/${tag}.js`)).default;
          return [await read("en"), await read("es")];
        }""",
        folder,
    )
    english, spanish = tables
    assert list(english) == list(spanish)
    for key, text in english.items():
        values = re.findall(r"\{\w+\}", text)
        assert sorted(values) == sorted(re.findall(r"\{\w+\}", spanish[key])), key
    sources = [p.read_text() for p in STATIC.rglob("*.js") if p.name not in ("en.js", "es.js")]
    code = "\n".join(text for text in sources if len(text) < 100_000)
    made = re.findall(r"`([a-z_]*)\$\{[\w.]+\}([a-z_]*)`", code)
    patterns = [re.compile(f"{a}[a-z_0-9]+{b}") for a, b in made if a or b]
    for key in english:
        base = key.removesuffix("_one")
        used = f'"{base}"' in code or any(pattern.fullmatch(base) for pattern in patterns)
        assert used, f"{key} is not used"
    if folder == "lib":
        return
    (shell,) = [await page.evaluate("async () => (await import('/page/lib/en.js')).default")]
    chat = "\n".join(p.read_text() for p in (STATIC / "chat").glob("*.js"))
    for key in re.findall(r'\bt\("(\w+)"', chat):
        assert key in english or key in shell, key
