"""Talking: what is sent, what is shown, and what can be done with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarm.gateway.events import Ending
from swarm.gateway.keys import Keys, given
from swarm.gateway.refusals import Reason, Refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT = """() => new Promise((resolve) => {
  const opening = indexedDB.open("homeswarm");
  opening.onsuccess = () => {
    const store = opening.result.transaction("conversations").objectStore("conversations");
    const request = store.getAll();
    request.onsuccess = () => resolve(JSON.stringify(request.result));
  };
})"""
"""What the browser's database holds."""


def said(speaker: Any) -> list[tuple[str, str]]:
    """The conversation that the last request was about."""
    messages = speaker.asks[-1].prompt.messages
    return [(message["role"], message["content"]) for message in messages]


async def shows(page: Any, text: str) -> None:
    await page.get_by_text(text, exact=False).first.wait_for()


async def done(page: Any, number: int = 1) -> None:
    """So many answers are whole."""
    await page.wait_for_function(
        "n => document.querySelectorAll('.answer[aria-busy=false]').length === n", arg=number
    )


async def test_an_answer_is_shown_as_it_comes(page, speaker, ask) -> None:
    await ask(page, "Hello")
    speaker.say("One **two** ", "three.\n\n```python\nprint(1)\n")
    await page.locator("strong", has_text="two").wait_for()
    assert await page.locator(".answer").get_attribute("aria-busy") == "true"
    await page.locator(".code", has_text="print(1)").wait_for()
    speaker.answer("print(2)\n```\n\nThe end.")
    await done(page)
    assert await page.locator(".code-head span").inner_text() == "python"
    assert await page.locator("pre .hljs-built_in").count() == 2
    assert "tokens/s" in await page.locator(".facts").inner_text()
    assert said(speaker) == [("user", "Hello")]
    # It is heard as a whole, not token by token.
    await page.locator("[role=status]", has_text="The answer is complete.").wait_for()
    assert "print(2)" in await page.locator("[role=status]").inner_text()
    await page.get_by_role("button", name="Copy").last.wait_for()


async def test_escape_stops_an_answer_which_can_go_on(page, speaker, ask, until) -> None:
    await ask(page, "Count")
    speaker.say("One, ")
    await shows(page, "One,")
    await page.keyboard.press("Escape")
    await shows(page, "Stopped.")

    async def has_ended() -> bool:
        return speaker.num_ended == 1

    await until(has_ended)
    await page.get_by_role("button", name="Continue").click()
    speaker.answer("two.")
    await shows(page, "One, two.")
    assert said(speaker) == [("user", "Count"), ("assistant", "One, ")]


async def test_another_try_and_another_question_replace_what_follows(page, speaker, ask) -> None:
    for question, answer in (("First", "A1"), ("Second", "A2")):
        speaker.answer(answer)
        await ask(page, question)
        await shows(page, answer)
        await done(page, int(answer[1]))
    speaker.answer("A3")
    await page.get_by_role("button", name="Try again").last.click()
    await shows(page, "A3")
    assert said(speaker) == [("user", "First"), ("assistant", "A1"), ("user", "Second")]
    await done(page, 2)
    await page.locator(".question").first.hover()
    await page.get_by_role("button", name="Edit").first.click()
    await page.get_by_role("textbox", name="Edit").fill("Other")
    speaker.answer("A4")
    await page.keyboard.press("Enter")
    await shows(page, "A4")
    assert said(speaker) == [("user", "Other")]
    await done(page, 1)
    assert await page.locator(".message").count() == 2


async def test_conversations_outlive_a_reload(page, speaker, ask) -> None:
    for question in ("Bread", "Cheese"):
        speaker.answer(f"{question} is good.")
        await ask(page, question)
        await shows(page, f"{question} is good.")
        await done(page)
        await page.keyboard.press("Control+k")
        await page.get_by_role("heading", name="What is on your mind?").wait_for()
    await page.reload()
    entries = page.locator(".entry-open")
    await entries.first.wait_for()
    assert await entries.all_inner_texts() == ["Cheese", "Bread"]
    await page.get_by_label("Search conversations").fill("bread is")
    await page.wait_for_function("document.querySelectorAll('.entry').length === 1")
    await entries.first.click()
    await shows(page, "Bread is good.")
    await page.get_by_role("button", name="Rename, export or delete “Bread”").click()
    await page.get_by_role("textbox", name="Name").fill("Baking")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Baking").wait_for()
    await page.get_by_role("button", name="Rename, export or delete “Baking”").click()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    await page.get_by_label("Search conversations").fill("")
    await page.wait_for_function("document.querySelectorAll('.entry').length === 1")
    await page.get_by_role("button", name="Delete all").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    await page.reload()
    await shows(page, "What you talk about will be listed here.")


async def test_what_is_exported_can_be_imported_elsewhere(page, speaker, ask, looks) -> None:
    speaker.answer("**Yes**, and it *keeps*.")
    await ask(page, "Can bread be frozen?")
    await done(page)
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export all").click()
    file = await (await download.value).path()
    assert json.loads(file.read_text())["conversations"][0]["title"] == "Can bread be frozen?"
    other = await looks.at(page.url)
    await other.get_by_label("Import", exact=True).set_input_files(file)
    await other.locator(".entry-open").click()
    await other.locator("strong", has_text="Yes").wait_for()
    bad = {"name": "x.json", "mimeType": "application/json", "buffer": b'{"format": 1}'}
    await other.get_by_label("Import", exact=True).set_input_files(bad)
    await shows(other, "This is no file of exported conversations.")
    await page.get_by_role("button", name="Rename, export or delete").click()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export as Markdown").click()
    text = (await (await download.value).path()).read_text()
    assert text == (
        "# Can bread be frozen?\n\n**You**\n\nCan bread be frozen?\n\n"
        "**The model**\n\n**Yes**, and it *keeps*.\n"
    )


async def test_an_answer_that_broke_off_can_be_imported(page) -> None:
    said = [
        {"role": "user", "text": "Hello?"},
        {"role": "assistant", "text": "Well", "state": "broken", "error": {"code": "no_route"}},
    ]
    one = {"title": "Broken", "model": "$(reboot)", "messages": said}
    file = {"format": "homeswarm-conversations", "version": 1, "conversations": [one]}
    raw = {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(file).encode()}
    await page.get_by_label("Import", exact=True).set_input_files(raw)
    await page.locator(".entry-open").click()
    await page.locator(".problem").get_by_role("button", name="Continue").wait_for()
    assert await page.locator(".command").count() == 0


async def test_settings_reach_the_model_and_can_be_reset(page, speaker, ask) -> None:
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_label("Instructions").fill("Be brief.")
    for label, value in {"Temperature": "7", "Most tokens": "12", "Seed": "5"}.items():
        await page.get_by_label(label, exact=True).fill(value)
    await page.get_by_label("Stop at").fill("END\n\nSTOP")
    await page.get_by_role("button", name="Done").click()
    speaker.say("Well")
    speaker.end(Ending.LENGTH)
    await ask(page, "Hello")
    await shows(page, "as many tokens as it may")
    sampling = speaker.asks[-1].sampling
    assert (sampling.temperature, sampling.max_new_tokens, sampling.seed) == (2.0, 12, 5)
    assert sampling.stop == ("END", "STOP")
    assert said(speaker) == [("system", "Be brief."), ("user", "Hello")]
    await page.get_by_role("button", name="Settings (changed)").click()
    await page.get_by_role("button", name="Reset all").click()
    await page.keyboard.press("Escape")
    speaker.answer("Fine")
    await ask(page, "Again")
    await shows(page, "Fine")
    assert speaker.asks[-1].sampling.seed is None and said(speaker)[0] == ("user", "Hello")


@pytest.mark.parametrize(
    ("refusal", "text", "helps"),
    [
        (Refusal(Reason.BUSY, "32 wait", retry_after=4), "again in 4 seconds", "Try again"),
        (Refusal(Reason.NO_ROUTE, "blocks 2:4 are missing"), "served by nobody", "Try again"),
        (Refusal(Reason.TOO_LONG, "2048 tokens"), "too long for the model", "Open the settings"),
        (Refusal(Reason.STOPPING, "stopping"), "being stopped", "Try again"),
    ],
    ids=lambda value: value.reason if isinstance(value, Refusal) else "",
)
async def test_a_refusal_says_what_to_do(page, speaker, ask, refusal, text, helps) -> None:
    speaker.missing = ((2, 4),)
    speaker.refuse(refusal)
    await ask(page, "Hello")
    await shows(page, text)
    await page.get_by_role("button", name=helps).first.wait_for()
    if refusal.reason is Reason.NO_ROUTE:
        await shows(page, "swarm peer --join INVITE --model tiny")
        await shows(page, "Missing blocks: 2–3.")
        speaker.answer("It is back.")
        await page.get_by_role("button", name="Try again").first.click()
        await shows(page, "It is back.")


async def test_what_breaks_off_can_go_on(page, speaker, ask) -> None:
    speaker.say("Half")
    speaker.refuse(Refusal(Reason.NO_ROUTE, "gone"))
    await ask(page, "Hello")
    await shows(page, "served by nobody")
    speaker.answer(" and half.")
    await page.get_by_role("button", name="Continue").click()
    await shows(page, "Half and half.")
    assert said(speaker)[-1] == ("assistant", "Half")


async def test_an_answer_that_was_left_can_go_on(page, speaker, ask, until) -> None:
    speaker.say("Once upon ")
    await ask(page, "A story")
    await shows(page, "Once upon")
    # Growing answers are kept now and then: nobody has to wait for their end.

    async def is_kept() -> bool:
        return "Once" in await page.evaluate(KEPT)

    await until(is_kept)
    await page.reload()
    await shows(page, "when its page was left")
    speaker.answer("a time.")
    await page.get_by_role("button", name="Continue").click()
    await shows(page, "Once upon a time.")


async def test_where_a_key_is_needed_it_is_asked_for(looks, serve_page, speaker, ask) -> None:
    keys = Keys(given(["ann=secret-key-of-ann-alone"]))
    url = await serve_page(speaker, keys=keys)
    page = await looks.at(url)
    await page.get_by_label("Key", exact=True).fill("wrong")
    await page.keyboard.press("Enter")
    await shows(page, "not known here")
    await page.get_by_label("Key", exact=True).fill("secret-key-of-ann-alone")
    await page.keyboard.press("Enter")
    speaker.answer("Hello, Ann.")
    await ask(page, "Hello")
    await shows(page, "Hello, Ann.")
    await page.reload()
    await shows(page, "Hello, Ann.")
    await page.get_by_role("button", name="Forget the key").click()
    await page.get_by_label("Key", exact=True).wait_for()
    other = await looks.at(f"{url}#key=secret-key-of-ann-alone")
    await other.get_by_label("Your message").wait_for()
    assert "secret" not in other.url


async def test_models_that_come_later_can_be_chosen(page, speaker) -> None:
    await page.clock.install()
    await page.reload()
    models = page.get_by_label("Model", exact=True)
    await models.get_by_role("option", name="tiny").wait_for(state="attached")
    speaker.names = ("tiny", "large")
    await page.clock.run_for(61_000)
    await models.get_by_role("option", name="large").wait_for(state="attached")
    assert await models.input_value() == "tiny"


async def test_what_was_replaced_can_be_shown_again(page, speaker, ask) -> None:
    for number in range(1, 3):
        speaker.answer(f"Answer {number}.")
        await ask(page, f"Question {number}")
        await done(page, number)
    before = page.get_by_role("button", name="Show what was here before")
    assert not await before.count()
    speaker.answer("Another one.")
    await page.get_by_role("button", name="Try again").first.click()
    await shows(page, "Another one.")
    await done(page)
    await before.click()
    await done(page, 2)
    await shows(page, "Answer 2.")
    assert not await page.locator(".answer", has_text="Another one.").count()
    # It is what the conversation goes on from, and outlives the page; the other is not lost.
    speaker.answer("Answer 3.")
    await ask(page, "Question 3")
    await done(page, 3)
    assert [text for _, text in said(speaker)][-3:] == ["Question 2", "Answer 2.", "Question 3"]
    await page.reload()
    await before.click()
    await shows(page, "Another one.")
    await before.click()
    await shows(page, "Answer 3.")


async def test_an_answer_of_which_nothing_came_replaces_nothing(page, speaker, ask) -> None:
    speaker.answer("Answer 1.")
    await ask(page, "Question 1")
    await done(page)
    again = page.get_by_role("button", name="Try again").first
    speaker.refuse(Refusal(Reason.BUSY, "full"))
    await again.click()
    await shows(page, "Too many ask at the moment.")
    speaker.answer("Answer 2.")
    await again.click()
    await shows(page, "Answer 2.")
    await page.get_by_role("button", name="Show what was here before").click()
    await shows(page, "Answer 1.")
