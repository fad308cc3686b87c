"""What a model says is nobody's word: none of it runs or loads, and the page stays awake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = r"""
<script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 1"><svg onload="window.hacked = 1"></svg>
<iframe srcdoc="<script>parent.hacked = 1</script>"></iframe>

<style>body { display: none }</style> <b style="position:fixed;inset:0">over all</b>

[script](javascript:window.hacked=1) [tab](java	script:window.hacked=1) <javascript:hacked=1>
[data](data:text/html,<script>window.hacked=1</script>)
[vb](VbScript:x) [file](file:///etc/passwd)
[entity](&#106;avascript:window.hacked=1) [quote](https://good.example/"onclick="window.hacked=1)
![pixel](https://evil.example/pixel.png) ![a](javascript:window.hacked=1)
![d](data:image/png;base64,AA)

[good](https://good.example/path) https://plain.example/ main.rs

| <script>window.hacked = 1</script> | b |
|:--|--:|
| `<img onerror=window.hacked=1 src=x>` | **x** |

```js"><script>window.hacked = 1</script>
</code></pre><script>window.hacked = 1</script>
```

a‮b⁦c

~~~ <img src=x onerror=window.hacked=1>
never closed <script>window.hacked = 1</script>
"""


async def finished(page: Any) -> None:
    await page.locator(".answer[aria-busy=false]").wait_for()


async def test_nothing_runs_and_nothing_is_loaded(page, speaker, ask) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    await ask(page, EVIL)
    for start in range(0, len(EVIL), 40):
        speaker.say(EVIL[start : start + 40])
    speaker.end()
    await finished(page)
    assert await page.evaluate("window.hacked") is None
    home = page.url.split("#")[0]
    assert requests and not [each for each in requests if not each.startswith(home)]
    prose = page.locator(".prose")
    for tag in ("script", "img", "svg", "iframe", "style", "b", "[style]", "[onclick]"):
        assert await prose.locator(tag).count() == 0, tag
    links = await prose.locator("a").evaluate_all(
        "nodes => nodes.map(n => [n.getAttribute('href'), n.rel, n.target, n.title])"
    )
    safe = "noopener noreferrer nofollow"
    assert {link[0].split("/")[2] for link in links} == {
        "good.example",
        "evil.example",
        "plain.example",
    }
    assert all(link[1:3] == [safe, "_blank"] and link[3] == link[0] for link in links)
    text = await prose.inner_text()
    assert "a⟨U+202E⟩b⟨U+2066⟩c" in text and "<script>window.hacked = 1</script>" in text
    # What was asked is text, too.
    assert await page.locator(".bubble").text_content() == EVIL


FLOODS = (
    "x" * 100_000,
    "> " * 100_000,
    ">" * 1_000_000,
    "[" * 50_000,
    "*a **" * 20_000,
    "`" * 30_001 + "a",
    "![](" * 20_000,
    "- " * 30_000,
    "a\n\n" * 60_000,
    "```\n" + "code\n" * 60_000,
    # Some grammars of languages take quadratic time.
    "```java\n" + "1_" * 9_990,
    "```java\n" + "1_" * 3_900,
    "|" * 30_000 + "\n" + "|-" * 15_000 + "\n" + "|" * 30_000,
)


async def test_the_page_stays_awake(page, speaker, ask) -> None:
    await page.evaluate(
        """() => new PerformanceObserver((list) => {
          for (const { duration } of list.getEntries())
            window.longest = Math.max(window.longest, duration);
        }).observe({ type: "longtask" })"""
    )
    for text in FLOODS:
        await page.evaluate("window.longest = 0")
        size = max(1000, len(text) // 50)
        await ask(page, "Go")
        for start in range(0, len(text), size):
            speaker.say(text[start : start + size])
            await asyncio.sleep(0)
        speaker.end()
        await finished(page)
        assert await page.evaluate("document.querySelector('.prose').textContent.length") > 0
        # On a busy machine a task of 100 ms takes several times as long, or stands still for
        # seconds; a parser that has run away would take minutes.
        assert await page.evaluate("window.longest") < 15_000, f"{text[:6]!r} x {len(text)}"
        await page.keyboard.press("Control+k")
        await page.locator(".welcome").wait_for()
