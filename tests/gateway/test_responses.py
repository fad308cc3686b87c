"""The Responses API over HTTP, without a client library that would hide what is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from swarm.client import ChosenToken, Grammar
from swarm.gateway.app import create_app
from swarm.gateway.ask import Talk, Tool, ToolUse
from swarm.gateway.config import GatewayConfig
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said
from swarm.gateway.keys import KeyFile, Keys
from swarm.gateway.openai.responses import Store, endpoints
from swarm.gateway.openai.responses.store import Kept
from swarm.gateway.refusals import Reason, Refusal

WORDS = [Said(0, "Blue"), Said(0, " sky."), Ended(0, Ending.END)]
CALL = [
    CallBegun(0, 0, "call_1", "look"),
    CallPart(0, 0, '{"at":'),
    CallPart(0, 0, '"sky"}'),
    Ended(0, Ending.CALLS),
]
LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def client(serve: Any, store: Store) -> AsyncIterator[TestClient]:
    async with serve(endpoints(store)) as client:
        yield client


async def _post(client: TestClient, **body: Any) -> dict[str, Any]:
    async with client.post("/v1/responses", json={"model": "tiny", "input": "?", **body}) as got:
        assert got.status == 200, await got.text()
        told: dict[str, Any] = await got.json()
        return told


async def _refusal(client: TestClient, **body: Any) -> dict[str, Any]:
    async with client.post("/v1/responses", json={"model": "tiny", "input": "?", **body}) as got:
        assert got.status == 400, await got.text()
        told: dict[str, Any] = (await got.json())["error"]
        assert told["type"] == "invalid_request_error"
        return told


async def _events(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    body = {"model": "tiny", "input": "?", "stream": True, **body}
    async with client.post("/v1/responses", json=body) as got:
        assert got.status == 200, await got.text()
        assert got.content_type == "text/event-stream"
        blocks = (await got.text()).strip().split("\n\n")
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert events[-1]["type"] == name.removeprefix("event: ")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def _talk(scripted: Any) -> Talk:
    talk = scripted.asks[-1].prompt
    assert isinstance(talk, Talk)
    return talk


async def test_an_answer_in_words(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    told = await _post(client)
    assert told["object"] == "response"
    assert told["status"] == "completed"
    assert told["id"].startswith("resp_")
    assert told["error"] is told["incomplete_details"] is None
    assert told["completed_at"] >= told["created_at"]
    (message,) = told["output"]
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "Blue sky.", "annotations": [], "logprobs": []}
        ],
    }
    assert told["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    }
    assert scripted.num_ended == 1


async def test_what_is_asked_for_is_repeated(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    told = await _post(client)
    defaults = {
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": None},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }
    assert {name: told[name] for name in defaults} == defaults
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "c",
        "safety_identifier": "d",
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "medium"},
        "tool_choice": "none",
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "e",
    }
    told = await _post(client, **asked)
    assert {name: told[name] for name in asked} == asked


async def test_sampling(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    await _post(client)
    asked = scripted.ask
    assert not asked.bounded
    assert (asked.sampling.temperature, asked.sampling.top_p) == (1, 1)
    assert asked.sampling.logprobs is asked.sampling.grammar is None
    await _post(client, temperature=0, top_p=0.25, max_output_tokens=5, top_logprobs=4)
    asked = scripted.asks[-1]
    assert asked.bounded
    assert asked.sampling.max_new_tokens == 5
    assert (asked.sampling.temperature, asked.sampling.top_p) == (0, 0.25)
    assert asked.sampling.logprobs == 4
    await _post(client, top_p=0, include=["message.output_text.logprobs"])
    asked = scripted.asks[-1]
    assert 0 < asked.sampling.top_p < 1e-6
    assert asked.sampling.logprobs == 0


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("format", "grammar"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar.json_object()),
        (
            {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True},
            Grammar.json_schema(SCHEMA),
        ),
    ],
)
async def test_formats(
    client: TestClient, scripted: Any, format: dict[str, Any], grammar: Grammar | None
) -> None:
    scripted.events = WORDS
    told = await _post(client, text={"format": format})
    assert scripted.ask.sampling.grammar == grammar
    assert {**told["text"]["format"], **format} == told["text"]["format"]


async def test_a_schema_that_cannot_be_kept_to_is_refused(client: TestClient) -> None:
    schema = {"type": "array", "uniqueItems": True}
    told = await _refusal(
        client, text={"format": {"type": "json_schema", "name": "a", "schema": schema}}
    )
    assert told["param"] == "text.format"


async def test_a_call(client: TestClient, scripted: Any) -> None:
    scripted.events = CALL
    told = await _post(client, tools=[LOOK], tool_choice="required", parallel_tool_calls=False)
    (call,) = told["output"]
    assert call.pop("id").startswith("fc_")
    assert call == {
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "look",
        "arguments": '{"at":"sky"}',
    }
    assert told["tools"][0]["strict"] is True
    talk = _talk(scripted)
    assert talk.tools == (Tool("look", "Looks.", LOOK["parameters"], strict=True),)
    assert talk.tool_choice.use is ToolUse.REQUIRED
    assert talk.tool_choice.name is None
    assert not talk.tool_choice.parallel


@pytest.mark.parametrize("strict", [None, False])
async def test_a_schema_that_cannot_be_enforced_may_be_followed(
    client: TestClient, scripted: Any, strict: bool | None
) -> None:
    scripted.events = WORDS
    loose = {"type": "array", "uniqueItems": True}
    told = await _post(client, tools=[{**LOOK, "parameters": loose, "strict": strict}])
    assert told["tools"][0]["strict"] is False
    assert not _talk(scripted).tools[0].strict
    tools = [LOOK, {**LOOK, "name": "b", "parameters": loose, "strict": True}]
    assert (await _refusal(client, tools=tools))["param"] == "tools[1].parameters"


async def test_which_tools_may_be_called(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    tools = [LOOK, {**LOOK, "name": "listen"}]
    choice: Any = {"type": "function", "name": "listen"}
    told = await _post(client, tools=tools, tool_choice=choice)
    assert told["tool_choice"] == choice
    assert [tool.name for tool in _talk(scripted).tools] == ["look", "listen"]
    assert _talk(scripted).tool_choice.name == "listen"
    assert _talk(scripted).tool_choice.use is ToolUse.REQUIRED
    choice = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "listen"}],
    }
    assert (await _post(client, tools=tools, tool_choice=choice))["tool_choice"] == choice
    assert [tool.name for tool in _talk(scripted).tools] == ["listen"]
    assert _talk(scripted).tool_choice.use is ToolUse.AUTO
    for wrong in [
        {"type": "function", "name": "smell"},
        {**choice, "tools": [{"type": "function", "name": "smell"}]},
        {**choice, "mode": "required", "tools": []},
    ]:
        assert (await _refusal(client, tools=tools, tool_choice=wrong))["param"] == "tool_choice"
    assert (await _refusal(client, tool_choice="required"))["param"] == "tool_choice"
    assert (await _refusal(client, tools=[LOOK, LOOK]))["param"] == "tools[1].name"


async def test_a_reply_that_was_cut(client: TestClient, scripted: Any) -> None:
    scripted.events = [*CALL[:3], Said(0, "and"), Ended(0, Ending.LENGTH)]
    told = await _post(client)
    assert told["status"] == "incomplete"
    assert told["incomplete_details"] == {"reason": "max_output_tokens"}
    assert told["completed_at"] is None
    assert [item["status"] for item in told["output"]] == ["completed", "incomplete"]


async def test_a_reply_without_words_is_an_empty_message(client: TestClient, scripted: Any) -> None:
    scripted.events = [Ended(0, Ending.END)]
    told = await _post(client)
    assert [part["text"] for part in told["output"][0]["content"]] == [""]


TOKENS = [
    ChosenToken(1, "ü".encode()[:1], -0.5, ((1, "ü".encode()[:1], -0.5),)),
    ChosenToken(2, "ü".encode()[1:], float("-inf"), ((3, b"a", -1.0),)),
    ChosenToken(0, b"", -0.25, ()),
]


async def test_logprobs(client: TestClient, scripted: Any) -> None:
    scripted.events = [Said(0, "ü", tuple(TOKENS)), Ended(0, Ending.END)]
    expected = [
        {
            "token": "\\xc3",
            "bytes": [0xC3],
            "logprob": -0.5,
            "top_logprobs": [{"token": "\\xc3", "bytes": [0xC3], "logprob": -0.5}],
        },
        {
            "token": "\\xbc",
            "bytes": [0xBC],
            "logprob": -9999.0,
            "top_logprobs": [{"token": "a", "bytes": [97], "logprob": -1.0}],
        },
    ]
    told = await _post(client, include=["message.output_text.logprobs"], top_logprobs=1)
    assert told["output"][0]["content"][0]["logprobs"] == expected
    events = await _events(client, top_logprobs=1)
    by_type = {event["type"]: event for event in events}
    assert by_type["response.output_text.delta"]["logprobs"] == expected
    assert by_type["response.output_text.done"]["logprobs"] == expected
    assert (await _post(client))["output"][0]["content"][0]["logprobs"] == []


async def test_a_stream_of_words(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    events = await _events(client)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    assert events[0]["response"]["usage"] is None
    assert events[2]["item"]["content"] == []
    assert [event["delta"] for event in events[4:6]] == ["Blue", " sky."]
    assert events[6]["text"] == "Blue sky."
    assert events[8]["item"] == events[9]["response"]["output"][0]
    assert events[9]["response"]["usage"]["total_tokens"] == 10
    item = events[2]["item"]["id"]
    assert {event["item_id"] for event in events[3:8]} == {item} == {events[8]["item"]["id"]}


async def test_a_stream_of_words_and_calls(client: TestClient, scripted: Any) -> None:
    scripted.events = [Said(0, "Let me see."), *CALL]
    events = await _events(client, tools=[LOOK])
    assert [event["type"].removeprefix("response.") for event in events[5:]] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["output_index"] for event in events[5:-1]] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert events[8]["item"]["arguments"] == ""
    assert events[8]["item"]["status"] == "in_progress"
    assert events[11]["arguments"] == '{"at":"sky"}'
    assert events[11]["name"] == "look"
    assert events[12]["item"] == events[13]["response"]["output"][1]


async def test_deltas_hide_how_long_they_are(client: TestClient, scripted: Any) -> None:
    scripted.events = [Said(0, "a"), Said(0, "bcdef"), Said(0, "g" * 40), Ended(0, Ending.END)]

    async def sizes(**body: Any) -> list[int]:
        return [
            len(event["delta"]) + len(event.get("obfuscation", ""))
            for event in await _events(client, **body)
            if "delta" in event
        ]

    assert await sizes() == [32, 32, 64]
    assert await sizes(stream_options={"include_obfuscation": False}) == [1, 5, 40]


async def test_a_stream_that_breaks_off(client: TestClient, scripted: Any, store: Store) -> None:
    scripted.events = [Said(0, "Blue"), Refusal(Reason.NO_ROUTE, "nobody has block 3")]
    events = await _events(client)
    last = events[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "nobody has block 3"}
    (message,) = last["response"]["output"]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "Blue")
    assert store.find("local", last["response"]["id"]) is None
    assert scripted.num_ended == 1


async def test_what_is_refused_before_the_stream_begins_has_a_status(
    client: TestClient, scripted: Any
) -> None:
    scripted.events = [Refusal(Reason.BUSY, "too many wait", retry_after=3)]
    body = {"model": "tiny", "input": "?", "stream": True}
    async with client.post("/v1/responses", json=body) as got:
        assert got.status == 429
        assert got.headers["Retry-After"] == "3"
        assert (await got.json())["error"]["code"] == "rate_limit_exceeded"


async def test_a_conversation_that_is_too_long_is_called_input(
    client: TestClient, scripted: Any
) -> None:
    scripted.events = [Refusal(Reason.TOO_LONG, "too long", param="messages")]
    told = await _refusal(client)
    assert (told["param"], told["code"]) == ("input", "context_length_exceeded")


async def test_an_unknown_model(client: TestClient) -> None:
    async with client.post("/v1/responses", json={"model": "huge", "input": "?"}) as got:
        assert got.status == 404
        assert (await got.json())["error"]["code"] == "model_not_found"


async def test_a_turn_after_another(client: TestClient, scripted: Any) -> None:
    scripted.events = CALL
    first = await _post(client, instructions="Be brief.", tools=[LOOK])
    scripted.events = WORDS
    output = {"type": "function_call_output", "call_id": "call_1", "output": "blue"}
    second = await _post(
        client, input=[output], instructions="Be long.", previous_response_id=first["id"]
    )
    assert second["previous_response_id"] == first["id"]
    call = {"name": "look", "arguments": {"at": "sky"}}
    turns = [
        {"role": "system", "content": "Be long."},
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "name": "look", "content": "blue"},
    ]
    assert list(_talk(scripted).messages) == turns
    await _post(client, input="And now?", previous_response_id=second["id"])
    assert list(_talk(scripted).messages) == [
        *turns[1:],
        {"role": "assistant", "content": "Blue sky."},
        {"role": "user", "content": "And now?"},
    ]


async def test_an_output_without_its_call_is_refused(client: TestClient, scripted: Any) -> None:
    scripted.events = CALL
    output = {"type": "function_call_output", "call_id": "call_1", "output": "blue"}
    assert "No tool call found" in (await _refusal(client, input=[output]))["message"]
    first = await _post(client, tools=[LOOK])
    told = await _refusal(client, previous_response_id=first["id"])
    assert "No tool output found" in told["message"]


async def test_what_is_kept_can_be_read_and_deleted(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    told = await _post(client)
    path = f"/v1/responses/{told['id']}"
    async with client.get(path) as got:
        assert got.content_type == "application/json"
        assert await got.json() == told
    async with client.delete(path) as got:
        assert await got.json() == {"id": told["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        async with client.request(method, path) as got:
            assert got.status == 404
            assert told["id"] in (await got.json())["error"]["message"]
    gone = await _refusal(client, previous_response_id=told["id"])
    assert gone["param"] == "previous_response_id"


async def test_what_was_streamed_is_kept_too(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    told = (await _events(client))[-1]["response"]
    async with client.get(f"/v1/responses/{told['id']}") as got:
        assert await got.json() == told


async def test_nothing_is_kept_unasked(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    told = await _post(client, store=False)
    async with client.get(f"/v1/responses/{told['id']}") as got:
        assert got.status == 404


async def test_nobody_reads_what_is_anothers(
    client: TestClient, scripted: Any, store: Store
) -> None:
    item = b'{"type":"message","id":"msg_1","role":"user","content":"secret"}'
    store.keep(
        "somebody", "resp_1", Kept(b'{"output":[]}', b"[" + item + b"]", frozenset(["msg_1"]))
    )
    for path in ("/v1/responses/resp_1", "/v1/responses/resp_1/input_items"):
        async with client.get(path) as got:
            assert got.status == 404
    async with client.delete("/v1/responses/resp_1") as got:
        assert got.status == 404
    assert store.find("somebody", "resp_1") is not None
    assert (await _refusal(client, previous_response_id="resp_1"))["param"]
    told = await _refusal(client, input=[{"type": "item_reference", "id": "msg_1"}])
    assert told["param"] == "input[0].id"


async def test_a_key_with_a_name_that_was_anothers_reads_nothing_of_it(
    scripted: Any, tmp_path: Path
) -> None:
    scripted.events = WORDS
    file = KeyFile(tmp_path)
    first = await file.add("alice")
    app = create_app(endpoints(), scripted, GatewayConfig(), Keys(file=file))
    async with TestClient(TestServer(app)) as client:

        async def ask(method: str, path: str, key: str, **options: Any) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {key}"}
            async with client.request(method, path, headers=headers, **options) as got:
                return got.status, await got.json()

        _, told = await ask("POST", "/v1/responses", first, json={"model": "tiny", "input": "?"})
        path = f"/v1/responses/{told['id']}"
        assert (await ask("GET", path, first))[0] == 200
        await file.revoke("alice")
        second = await file.add("alice")
        assert (await ask("GET", path, second))[0] == 404


async def test_items_are_listed_page_by_page(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    given = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
    ]
    told = await _post(client, input=given)
    path = f"/v1/responses/{told['id']}/input_items"

    async def page(**query: Any) -> dict[str, Any]:
        async with client.get(path, params=query) as got:
            listed: dict[str, Any] = await got.json()
            return listed

    def texts(listed: dict[str, Any]) -> list[str]:
        return [item["content"][0]["text"] for item in listed["data"]]

    whole = await page()
    assert texts(whole) == ["three", "two", "one"]
    assert whole["object"] == "list"
    assert not whole["has_more"]
    assert [item["content"][0]["type"] for item in whole["data"]] == [
        "input_text",
        "output_text",
        "input_text",
    ]
    first = await page(order="asc", limit=2)
    assert (texts(first), first["has_more"]) == (["one", "two"], True)
    assert first["last_id"] == first["data"][1]["id"]
    second = await page(order="asc", limit=2, after=first["last_id"])
    assert (texts(second), second["has_more"]) == (["three"], False)
    for query in ({"limit": 0}, {"limit": "x"}, {"order": "up"}, {"after": "no"}, {"before": 1}):
        assert (await page(**query))["error"]["param"] in query
    async with client.get(f"/v1/responses/{told['id']}?stream=true") as got:
        assert got.status == 400
    async with client.get(f"/v1/responses/{told['id']}?include[]=x") as got:
        assert (await got.json())["error"]["param"] == "include"


async def test_items_are_referred_to(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS
    told = await _post(client)
    name = told["output"][0]["id"]
    for reference in ({"type": "item_reference", "id": name}, {"id": name}):
        await _post(client, input=[{"role": "user", "content": "?"}, reference])
        assert _talk(scripted).messages[-1] == {"role": "assistant", "content": "Blue sky."}
    twice = await _refusal(client, input=[reference, reference])
    assert (twice["param"], "Duplicate" in twice["message"]) == ("input[1].id", True)


async def test_thoughts_of_other_models_are_withheld_and_that_is_said(
    client: TestClient, scripted: Any
) -> None:
    scripted.events = WORDS
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "gAAAA",
    }
    told = await _post(client, input=[thought, {"role": "user", "content": "?"}])
    assert told["input_transformations"] == [
        {"type": "reasoning", "id": "rs_1", "action": "removed", "reason": "model_mismatch"}
    ]
    assert list(_talk(scripted).messages) == [{"role": "user", "content": "?"}]


async def test_old_turns_are_dropped_where_asked(client: TestClient, scripted: Any) -> None:
    scripted.events = WORDS

    async def count(model: str, prompt: Talk) -> int:
        return sum(len(message["content"]) for message in prompt.messages)

    scripted.count = count
    turns = [{"role": "user", "content": letter * 1000} for letter in "abc"]
    given = [turns[0], {"role": "assistant", "content": "A"}, turns[1], turns[2]]
    await _post(client, input=given)
    assert len(_talk(scripted).messages) == 4
    await _post(client, input=given, truncation="auto")
    assert [message["content"][0] for message in _talk(scripted).messages] == ["b", "c"]
    given[3] = {"role": "assistant", "content": "B"}
    given.append(turns[2])
    await _post(client, input=given, truncation="auto", instructions="I", max_output_tokens=100)
    assert [message["content"][0] for message in _talk(scripted).messages] == ["I", "c"]


async def test_tokens_are_counted(client: TestClient, scripted: Any) -> None:
    body = {"model": "tiny", "input": "?", "tools": [LOOK], "instructions": "I"}
    async with client.post("/v1/responses/input_tokens", json=body) as got:
        assert await got.json() == {"object": "response.input_tokens", "input_tokens": 7}
    async with client.post("/v1/responses/input_tokens", json={**body, "stream": True}) as got:
        assert (await got.json())["error"]["param"] == "stream"


@pytest.mark.parametrize("given", [{"input": None}, {"input": []}, {"input": None, "store": True}])
async def test_there_has_to_be_an_input(client: TestClient, given: dict[str, Any]) -> None:
    assert (await _refusal(client, **given))["param"] == "input"


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [('{"a": 1}', False), ("{", True), ("[]", True), ("[" * 100_000, True), (" ", False)],
)
async def test_arguments_are_objects(
    client: TestClient, scripted: Any, arguments: str, refused: bool
) -> None:
    scripted.events = WORDS
    given = [
        {"role": "user", "content": "?"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ]
    if refused:
        assert "no JSON object" in (await _refusal(client, input=given))["message"]
    else:
        await _post(client, input=given)
