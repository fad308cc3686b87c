"""`/v1/completions`: prompts, echoes and logprobs, and what is refused."""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.completion_create_params import CompletionCreateParamsStreaming

from swarm.client import ChosenToken, SamplingConfig
from swarm.gateway.answer import Answer, Caller, Source
from swarm.gateway.ask import Ask, Text, Tokens
from swarm.gateway.events import Ended, Ending, Event, Said, Usage
from swarm.gateway.observation import TRACE
from swarm.gateway.openai.completion_answer import Texts, put_together
from swarm.gateway.openai.completions import ENDPOINTS, CompletionRequest
from swarm.gateway.openai.several import answering
from swarm.gateway.refusals import Reason, Refusal

GOING_ON = (Said(0, " a"), Said(0, " time"), Ended(0, Ending.LENGTH))


async def post(client: TestClient, **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "tiny", "prompt": "Once upon", **fields}
    answer = await client.post("/v1/completions", json=body)
    return answer.status, await answer.json()


async def stream(client: TestClient, **fields: Any) -> list[Any]:
    """The data of a stream's events; JSON where it is any."""
    body = {"model": "tiny", "prompt": "Once upon", "stream": True, **fields}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status == 200, await answer.text()
    lines = [line for line in (await answer.text()).split("\n") if line.startswith("data: ")]
    data = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


@pytest.fixture
async def client(serve: Any) -> Any:
    async with serve(ENDPOINTS) as client:
        yield client


async def test_a_whole_answer(client: TestClient, scripted: Any) -> None:
    scripted.events = GOING_ON
    status, answer = await post(client)
    assert status == 200
    Completion.model_validate(answer, strict=True)
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"] == [
        {"index": 0, "text": " a time", "logprobs": None, "finish_reason": "length"}
    ]
    assert answer["usage"]["total_tokens"] == 10
    assert scripted.ask.prompt == Text("Once upon")


async def test_a_stream(client: TestClient, scripted: Any) -> None:
    scripted.events = GOING_ON
    *chunks, last, done = await stream(client, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]
        for text, finish in [(" a", None), (" time", None), ("", "length")]
    ]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)
    assert all("usage" not in chunk for chunk in (await stream(client))[:-1])


async def test_what_is_not_said_is_as_the_api_has_it(client: TestClient, scripted: Any) -> None:
    scripted.events = GOING_ON
    await post(client, **dict.fromkeys(CompletionRequest.__struct_fields__[2:]))
    ask = scripted.ask
    assert (ask.sampling.max_new_tokens, ask.bounded) == (16, True)
    assert (ask.num_choices, ask.best_of, ask.echo, ask.silent) == (1, None, False, False)
    assert (ask.sampling.temperature, ask.sampling.top_p, ask.sampling.logprobs) == (1, 1, None)


async def test_what_sampling_is_asked_for(client: TestClient, scripted: Any) -> None:
    scripted.events = GOING_ON
    await post(
        client,
        best_of=3,
        echo=True,
        frequency_penalty=1,
        logit_bias={"5": 1},
        logprobs=2,
        max_tokens=4,
        n=2,
        presence_penalty=-1,
        seed=5,
        stop="x",
        temperature=0,
        top_p=0.5,
        user="me",
    )
    ask = scripted.ask
    assert (ask.num_choices, ask.best_of, ask.echo, ask.silent) == (2, 3, True, False)
    sampling = ask.sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (4, 0, 0.5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-1, 1)
    assert (sampling.seed, sampling.stop, sampling.logprobs) == (5, ("x",), 2)
    assert sampling.logit_bias == ((5, 1.0),)


@pytest.mark.parametrize(
    "prompt, prompts",
    [
        ("a", [Text("a")]),
        (["a"], [Text("a")]),
        (["a", "b"], [Text("a"), Text("b")]),
        ([1, 2], [Tokens((1, 2))]),
        ([[1, 2], [3]], [Tokens((1, 2)), Tokens((3,))]),
    ],
)
async def test_prompts_of_all_kinds(
    client: TestClient, scripted: Any, prompt: Any, prompts: list[Any]
) -> None:
    scripted.events = (
        Said(0, "0"),
        Said(1, "1"),
        Ended(0, Ending.END),
        Ended(1, Ending.LENGTH),
    )
    _, answer = await post(client, prompt=prompt, n=2)
    assert sorted((ask.prompt for ask in scripted.asks), key=str) == sorted(prompts, key=str)
    told = [(c["index"], c["text"], c["finish_reason"]) for c in answer["choices"]]
    assert told == [
        (2 * i + j, str(j), ["stop", "length"][j]) for i in range(len(prompts)) for j in (0, 1)
    ]
    assert answer["usage"]["prompt_tokens"] == 7 * len(prompts)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2 * len(prompts)
    chunks = (await stream(client, prompt=prompt, n=2))[:-1]
    assert {c["choices"][0]["index"] for c in chunks} == set(range(2 * len(prompts)))


async def test_an_echo_with_logprobs(client: TestClient, scripted: Any) -> None:
    prompt = (
        ChosenToken(1, b""),
        ChosenToken(4, b"Once", -1.0, ((4, b"Once", -1.0), (5, b"A", -2.0))),
    )
    e1, e2 = (
        ChosenToken(9, "é".encode()[:1], -0.5, ((7, b"x", -0.25),)),
        ChosenToken(8, "é".encode()[1:] + b"!", -0.125, ((8, "é".encode()[1:] + b"!", -0.125),)),
    )
    end = ChosenToken(3, b".", -3.0, ((6, b".", -0.5),))
    scripted.events = (
        Said(0, "Once", prompt),
        Said(0, "é!", (e1, e2)),
        Said(0, ".", (end,)),
        Ended(0, Ending.LENGTH),
    )
    _, answer = await post(client, echo=True, logprobs=1)
    (choice,) = answer["choices"]
    assert choice["text"] == "Onceé!."
    assert choice["logprobs"] == {
        "tokens": ["", "Once", "bytes:\\xc3", "bytes:\\xa9\\x21", "."],
        "token_logprobs": [None, -1.0, -0.5, -0.125, -3.0],
        "top_logprobs": [
            None,
            {"Once": -1.0, "A": -2.0},
            {"x": -0.25, "bytes:\\xc3": -0.5},
            {"bytes:\\xa9\\x21": -0.125},
            # Another token that reads the same is likelier.
            {".": -0.5},
        ],
        "text_offset": [0, 0, 4, 4, 6],
    }


async def test_what_is_impossible_has_a_number_in_json(client: TestClient, scripted: Any) -> None:
    """As where a model's own logits bar a token, which a caller's `logit_bias` brings back."""
    never = -float("inf")
    token = ChosenToken(4, b"Once", never, ((5, b"A", 0.0), (6, b"B", never)))
    scripted.events = (Said(0, "Once", (token,)), Ended(0, Ending.LENGTH))
    _, answer = await post(client, logprobs=2)
    (choice,) = answer["choices"]
    assert choice["logprobs"]["token_logprobs"] == [-9999.0]
    assert choice["logprobs"]["top_logprobs"] == [{"A": 0.0, "B": -9999.0, "Once": -9999.0}]


async def test_an_echo_alone(client: TestClient, scripted: Any) -> None:
    scripted.events = (Said(0, "Once upon"), Ended(0, Ending.LENGTH))
    _, answer = await post(client, echo=True, max_tokens=0)
    assert (scripted.ask.echo, scripted.ask.silent) == (True, True)
    assert answer["choices"][0]["text"] == "Once upon"
    status, answer = await post(client, max_tokens=0)
    assert (status, answer["error"]["param"]) == (400, "max_tokens")


def test_every_field_of_the_package_is_known() -> None:
    theirs = set(typing.get_type_hints(CompletionCreateParamsStreaming))
    assert theirs == set(CompletionRequest.__struct_fields__)


@pytest.mark.parametrize("field", ["suffix", "top_k", "nonsense"])
async def test_what_is_not_supported_is_refused_by_name(
    client: TestClient, scripted: Any, field: str
) -> None:
    status, answer = await post(client, **{field: "a"})
    assert (status, answer["error"]["code"]) == (400, "unsupported_parameter")
    assert answer["error"]["param"] == field
    assert not scripted.asks


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], 1]}, "prompt"),
        ({"prompt": [1.5]}, "prompt[0]"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 21}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": []}, None),
        ({"stream_options": {}}, "stream_options"),
    ],
)
async def test_values_that_are_wrong(
    client: TestClient, scripted: Any, fields: dict[str, Any], param: str | None
) -> None:
    scripted.events = GOING_ON
    status, answer = await post(client, **fields)
    if param is None:
        assert status == 200
    else:
        assert (status, answer["error"]["param"]) == (400, param)
        assert not scripted.asks


async def test_the_package_reads_answers_and_streams(client: TestClient, scripted: Any) -> None:
    scripted.events = GOING_ON
    url = str(client.make_url("/v1"))
    async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as program:
        answer = await program.completions.create(model="tiny", prompt=["a", "b"])
        assert [choice.text for choice in answer.choices] == [" a time"] * 2
        told = await program.completions.create(model="tiny", prompt="a", stream=True)
        assert [chunk.choices[0].text async for chunk in told] == [" a", " time", ""]
        with pytest.raises(openai.BadRequestError):
            await program.completions.create(model="tiny", prompt="a", suffix="b")


class Turns:
    """Answers one ask at a time; each says its prompt's text, slowly."""

    def __init__(self, num_turns: int = 1, refused: str = "", elsewhere: str = "") -> None:
        self._turns = asyncio.Semaphore(num_turns)
        self._refused = refused
        self._elsewhere = elsewhere
        self.num_entered = 0

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        assert isinstance(ask.prompt, Text)
        async with self._turns:
            self.num_entered += 1
            if ask.prompt.text == self._refused:
                raise Refusal(Reason.NO_ROUTE, "nobody")
            far = ask.prompt.text == self._elsewhere
            source = Source.FALLBACK if far else Source.SWARM
            yield Answer(ask.model, source, Speech(ask.prompt.text))


class Speech:
    def __init__(self, text: str) -> None:
        self._text = text
        self.usage = Usage(1, 0, len(text))

    async def events(self) -> AsyncIterator[Event]:
        for letter in self._text:
            await asyncio.sleep(0)
            yield Said(0, letter)
        yield Ended(0, Ending.END)


def asks(*texts: str, model: str = "tiny") -> list[Ask]:
    return [Ask(model, Text(text), SamplingConfig()) for text in texts]


async def test_requests_with_several_prompts_cannot_block_each_other() -> None:
    turns: Any = Turns(2)

    async def request(*texts: str) -> dict[int, str]:
        told: dict[int, str] = {}
        async with answering(turns, asks(*texts), Caller("me")) as answer:
            async for event in answer.work.events():
                if isinstance(event, Said):
                    told[event.choice] = told.get(event.choice, "") + event.text
            assert answer.work.usage == Usage(len(texts), 0, len("".join(texts)))
        return told

    words = [f"{index}-{'x' * 40}" for index in range(20)]
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(request(*words)) for _ in range(4)]
    assert all(task.result() == dict(enumerate(words)) for task in requests)


async def test_one_refusal_refuses_all() -> None:
    turns: Any = Turns(1, refused="b")
    with pytest.raises(Refusal, match="nobody"):
        async with answering(turns, asks("a", "b", "c"), Caller("me")) as answer:
            async for _ in answer.work.events():
                pass
    turns = Turns(1, refused="a")
    with pytest.raises(Refusal, match="nobody"):
        async with answering(turns, asks("a", "b"), Caller("me")):
            pytest.fail("nothing has begun")
    assert turns._turns._value == 1


async def test_all_prompts_are_answered_by_the_same() -> None:
    turns: Any = Turns(1, elsewhere="b")
    with pytest.raises(Refusal, match="the route was lost"):
        async with answering(turns, asks("a", "b"), Caller("me")) as answer:
            async for _ in answer.work.events():
                pass
    async with answering(turns, asks("b", "b"), Caller("me")) as answer:
        assert answer.source is Source.FALLBACK
        assert len([event async for event in answer.work.events()]) == 4


async def test_a_trace_counts_all_prompts(client: TestClient, scripted: Any) -> None:
    scripted.events = GOING_ON
    body = {"model": "tiny", "prompt": ["a", "b", "c"]}
    headers = {TRACE: "1"}
    answer = await client.post("/v1/completions", json=body, headers=headers)
    told = json.loads(answer.headers[TRACE])
    assert (told["prompt"], told["cached"], told["completion"]) == (21, 6, 9)


async def test_whoever_leaves_ends_all_prompts() -> None:
    turns: Any = Turns(4)
    async with answering(turns, asks(*["x" * 1000] * 4), Caller("me")) as answer:
        async for _ in answer.work.events():
            break
    assert turns._turns._value == 4


@given(st.lists(st.lists(st.binary(max_size=4), max_size=3), max_size=6))
def test_a_stream_comes_to_the_same_as_the_whole(pieces: list[list[bytes]]) -> None:
    events: list[Event] = []
    for raws in pieces:
        text = b"".join(raws).decode(errors="replace")
        events.append(Said(0, text, tuple(ChosenToken(1, raw, -1.0) for raw in raws)))
    events.append(Ended(0, Ending.END))
    texts = Texts(logprobs=True)
    chunks = [chunk for event in events if (chunk := texts.push(event))]
    (choice,) = put_together(chunks, logprobs=True)
    text = "".join(event.text for event in events if isinstance(event, Said))
    assert choice.text == text
    assert choice.logprobs is not None
    assert len(choice.logprobs.tokens) == sum(map(len, pieces))
    offsets = choice.logprobs.text_offset
    assert offsets == sorted(offsets)
    for token, offset in zip(choice.logprobs.tokens, offsets, strict=True):
        assert token.startswith("bytes:") or text[offset : offset + len(token)] == token
