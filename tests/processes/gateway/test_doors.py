"""A gateway with keys, TLS, pages that may ask, and little room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

PAGE = "https://chat.example"
TALK: Any = [{"role": "user", "content": "Tell a story of bees."}]
CHAT: Any = {"model": "smol", "messages": TALK, "temperature": 0, "max_tokens": 4}
Keyed = Callable[[str], openai.OpenAI]


@pytest.fixture(scope="module")
def keys(shared: Any) -> Iterator[dict[str, str]]:
    """Keys of three callers, for as long as these tests go on."""
    names = ("ann", "bob", "cleo")
    yield {name: shared.key(name) for name in names}
    for name in names:
        shared.revoke(name)


@pytest.fixture
def claude_at(shared: Any) -> Iterator[Callable[[str], anthropic.Anthropic]]:
    """`claude_at(key)`: the `anthropic` package, asking the strict gateway."""
    with anthropic.DefaultHttpxClient(verify=shared.trust) as http:
        yield lambda key: anthropic.Anthropic(
            base_url=shared.strict, api_key=key, max_retries=0, http_client=http
        )


def test_a_key_is_asked_for(
    keyed: Keyed, claude_at: Callable[[str], anthropic.Anthropic], keys: dict[str, str]
) -> None:
    answer = keyed(keys["ann"]).chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    said = claude_at(keys["bob"]).messages.create(model="smol", messages=TALK, max_tokens=2)
    assert said.content
    for wrong in ("wrong", keys["ann"][:-1], keys["ann"] + "x"):
        with pytest.raises(openai.AuthenticationError) as refused:
            keyed(wrong).models.list()
        assert refused.value.code == "invalid_api_key"
        assert refused.value.response.headers["www-authenticate"] == "Bearer"
        with pytest.raises(anthropic.AuthenticationError) as denied:
            claude_at(wrong).messages.create(model="smol", messages=TALK, max_tokens=2)
        assert denied.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]


def test_a_key_comes_and_goes_while_it_runs(shared: Any, keyed: Keyed) -> None:
    key = shared.key("passing")
    program = keyed(key)
    assert program.models.list().data
    stream = program.chat.completions.create(**CHAT | {"max_tokens": 200}, stream=True)
    next(iter(stream))
    shared.revoke("passing")
    with pytest.raises(openai.AuthenticationError):
        program.models.list()
    # What it was let in for goes on.
    assert list(stream)[-1].choices[0].finish_reason
    other = shared.key("passing")
    assert other != key and keyed(other).models.list().data
    shared.revoke("passing")


async def test_what_is_told_without_a_key(shared: Any, keys: dict[str, str]) -> None:
    async with aiohttp.ClientSession(connector=_connector(shared)) as client:
        async with client.get(f"{shared.strict}/health") as health:
            assert await health.json() == {"status": "no_route"}  # Nobody serves `mute`.
        for path in ("/metrics", "/v1/models", "/v1/models/smol", "/v1/nothing"):
            async with client.get(f"{shared.strict}{path}") as refused:
                assert refused.status == 401, path
        headers = {"Authorization": f"bearer {keys['ann']}"}
        async with client.get(f"{shared.strict}/metrics", headers=headers) as metrics:
            assert metrics.status == 200
        async with client.get(f"{shared.strict}/health", headers=headers) as health:
            assert (await health.json())["models"]["smol"]["has_route"]


def _connector(shared: Any) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(ssl=shared.trust)


async def test_tls_is_checked(shared: Any, keys: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await stranger.get(f"{shared.strict}/health")
        with pytest.raises(aiohttp.ClientError):
            await stranger.get(f"{shared.strict}/health".replace("https", "http"))


async def test_a_page_that_may_ask(shared: Any, keys: dict[str, str]) -> None:
    url = f"{shared.strict}/v1/chat/completions"
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    async with aiohttp.ClientSession(connector=_connector(shared)) as client:
        async with client.options(url, headers=asked) as beforehand:
            assert beforehand.status == 204
            allowed = beforehand.headers
            assert allowed["Access-Control-Allow-Origin"] == PAGE
            assert "POST" in allowed["Access-Control-Allow-Methods"]
            assert allowed["Access-Control-Allow-Headers"] == "authorization,content-type"
            assert allowed["Vary"] == "Origin"
        async with client.options(url, headers=asked | {"Origin": "https://other"}) as other:
            assert "Access-Control-Allow-Origin" not in other.headers
        for body, status in ((CHAT, 200), (CHAT | {"stream": True}, 200), ({}, 400)):
            headers = {"Origin": PAGE, "Authorization": f"Bearer {keys['ann']}"}
            async with client.post(url, json=body, headers=headers) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == PAGE
                await answer.read()
        async with client.post(url, json=CHAT, headers={"Origin": PAGE}) as keyless:
            # The page may see why.
            assert keyless.status == 401
            assert keyless.headers["Access-Control-Allow-Origin"] == PAGE


def test_a_body_that_is_too_large(
    keyed: Keyed, claude_at: Callable[[str], anthropic.Anthropic], keys: dict[str, str]
) -> None:
    large: Any = [{"role": "user", "content": "bee " * 6000}]
    with pytest.raises(openai.APIStatusError) as refused:
        keyed(keys["ann"]).chat.completions.create(model="smol", messages=large)
    assert refused.value.status_code == 413
    with pytest.raises(anthropic.RequestTooLargeError) as denied:
        claude_at(keys["ann"]).messages.create(model="smol", messages=large, max_tokens=1)
    assert denied.value.body["error"]["type"] == "request_too_large"  # type: ignore[index]


async def test_a_body_that_does_not_come(shared: Any, keys: dict[str, str]) -> None:
    async def trickle() -> Any:
        for _ in range(60):
            yield b" "
            await asyncio.sleep(0.2)

    url, headers = f"{shared.strict}/v1/responses", {"Authorization": f"Bearer {keys['ann']}"}
    headers["Content-Type"] = "application/json"
    async with aiohttp.ClientSession(connector=_connector(shared)) as client:
        async with client.post(url, data=trickle(), headers=headers) as answer:
            assert answer.status == 408


async def test_who_comes_while_all_places_are_taken(shared: Any, keys: dict[str, str]) -> None:
    """One is answered, two may wait, and of each caller one."""
    long = CHAT | {"max_tokens": 4000, "temperature": 1.5}
    with ExitStack() as stack:
        http = stack.enter_context(openai.DefaultHttpxClient(verify=shared.trust))

        def program(name: str) -> openai.OpenAI:
            return openai.OpenAI(
                base_url=f"{shared.strict}/v1", api_key=keys[name], max_retries=0, http_client=http
            )

        running = program("ann").chat.completions.create(**long, stream=True)
        next(iter(running))
        waits = [asyncio.create_task(_wait(shared, keys["ann"]))]
        await shared.until("strict", "waiting", 1)
        _refused(program("ann"), "1 of your requests")
        waits.append(asyncio.create_task(_wait(shared, keys["bob"])))
        await shared.until("strict", "waiting", 2)
        _refused(program("cleo"), "2 requests wait")
        with anthropic.DefaultHttpxClient(verify=shared.trust) as other:
            claude = anthropic.Anthropic(
                base_url=shared.strict, api_key=keys["cleo"], max_retries=0, http_client=other
            )
            with pytest.raises(anthropic.RateLimitError) as denied:
                claude.messages.create(model="smol", messages=TALK, max_tokens=1)
        assert int(denied.value.response.headers["retry-after"]) >= 1
        running.close()
        answers = await asyncio.gather(*waits)
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1] > answers[1][1], "who had nothing yet is next"
    await shared.released()


async def _wait(shared: Any, key: str) -> tuple[int, float]:
    """The status of an answer that was waited for, and when it was there."""
    async with aiohttp.ClientSession(connector=_connector(shared)) as client:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{shared.strict}/v1/chat/completions"
        async with client.post(url, json=CHAT, headers=headers) as answer:
            return answer.status, asyncio.get_running_loop().time()


def _refused(program: openai.OpenAI, why: str) -> None:
    with pytest.raises(openai.RateLimitError, match=why) as refused:
        program.chat.completions.create(**CHAT)
    assert refused.value.code == "rate_limit_exceeded"
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_what_nobody_serves(
    keyed: Keyed, claude_at: Callable[[str], anthropic.Anthropic], keys: dict[str, str]
) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        keyed(keys["ann"]).completions.create(model="mute", prompt="a")
    assert refused.value.status_code == 503 and refused.value.code == "no_route"
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert "0" in str(refused.value) and "2" in str(refused.value)
    with pytest.raises(openai.InternalServerError):
        list(keyed(keys["ann"]).completions.create(model="mute", prompt="a", stream=True))


def test_choices_are_no_more_than_places(keyed: Keyed, keys: dict[str, str]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        keyed(keys["ann"]).chat.completions.create(**CHAT, n=2)
    assert refused.value.param == "n"
