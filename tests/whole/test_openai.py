"""OpenAI's APIs over a whole swarm: what is said is transformers' own, in every form of asking."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import openai
import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.core import Core
from swarm.gateway.openai import chat, completions

TEMPLATE = r"""
{%- for tool in tools or [] %}{{ tool.function.name }}{{ "\n" }}{% endfor %}
{%- for m in messages %}{{ m.role[0] + ":" + m.content }}
{%- for call in m.tool_calls or [] %}{{ "<tool_call>\n" }}
{{- {"name": call.function.name, "arguments": call.function.arguments} | tojson }}
{{- "\n</tool_call>" }}{% endfor %}{{ "\n" }}{% endfor %}
{%- if add_generation_prompt %}a:{% endif %}"""
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
PROMPT = "u:Hello\na:"
VOCABULARY = 259


@pytest.fixture(scope="session")
def spoken(make_tiny: Any, words: Any) -> Any:
    """A tiny model whose tokens are bytes."""
    tiny = make_tiny("llama", vocab_size=VOCABULARY)
    words.save_pretrained(tiny.folder)
    return tiny


@pytest.fixture(scope="session")
def words(make_byte_level: Any) -> Any:
    return make_byte_level(template=TEMPLATE)


@pytest.fixture
async def world(make_world: Any, spoken: Any) -> Any:
    world = make_world(spoken)
    await world.chain(0, 2, 4)
    return world


@pytest.fixture
async def program(world: Any) -> Any:
    """The `openai` package, pointed at a gateway of the world's client."""
    core = Core({"tiny": await world.client()}, GatewayConfig())
    app = create_app((*chat.ENDPOINTS, *completions.ENDPOINTS), core, GatewayConfig())
    async with TestClient(TestServer(app)) as client:
        url = str(client.make_url("/v1"))
        async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as program:
            yield program


def greedy(spoken: Any, words: Any, count: int, prompt: str = PROMPT) -> tuple[list[int], str]:
    """Transformers' own greedy reply, up to its end: tokens and text."""
    ids = spoken.greedy(words(prompt)["input_ids"], count)
    if words.eos_token_id in ids:
        ids = ids[: ids.index(words.eos_token_id)]
    return ids, words.decode(ids, skip_special_tokens=True)


def logprobs(spoken: Any, ids: list[int]) -> torch.Tensor:
    return torch.log_softmax(spoken.logits(ids).float(), dim=-1)


async def say(program: Any, **fields: Any) -> Any:
    return await program.chat.completions.create(model="tiny", messages=HELLO, **fields)


async def streamed(program: Any, **fields: Any) -> tuple[list[str], list[str | None]]:
    """The texts and finish reasons of all choices of a stream, by index."""
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    async for chunk in await say(program, stream=True, **fields):
        (choice,) = chunk.choices
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        reasons[choice.index] = choice.finish_reason
    return [texts[i] for i in sorted(texts)], [reasons[i] for i in sorted(reasons)]


async def test_a_chat_is_transformers_own_greedy_reply(program, spoken, words) -> None:
    ids, text = greedy(spoken, words, 24)
    answer = await say(program, temperature=0, max_tokens=24)
    assert answer.choices[0].message.content == text
    assert answer.choices[0].finish_reason == ("length" if len(ids) == 24 else "stop")
    assert answer.usage.prompt_tokens == len(PROMPT)
    assert await streamed(program, temperature=0, max_tokens=24) == (
        [text],
        [answer.choices[0].finish_reason],
    )


async def test_a_reply_may_fill_the_models_context(program, spoken) -> None:
    answer = await say(program, temperature=0, logit_bias={"2": -100})
    assert answer.usage.total_tokens == spoken.reference.config.max_position_embeddings
    with pytest.raises(openai.BadRequestError) as caught:
        await say(program, max_tokens=600)
    assert caught.value.code == "context_length_exceeded"


async def test_stop_strings_that_lie_across_tokens(program, spoken, words) -> None:
    _, text = greedy(spoken, words, 24)
    stop = next(
        text[i : i + 3] for i in range(4, 20) if "\N{REPLACEMENT CHARACTER}" not in text[i : i + 3]
    )
    short = text[: text.index(stop)]
    never = "\x00\x01 never \x02"
    fields = {"temperature": 0, "max_tokens": 24, "stop": [never, stop]}
    answer = await say(program, **fields)
    assert answer.choices[0].message.content == short
    assert answer.choices[0].finish_reason == "stop"
    assert await streamed(program, **fields) == ([short], ["stop"])


async def test_logprobs_are_the_models_own(program, spoken, words) -> None:
    ids, _ = greedy(spoken, words, 8)
    prompt = words(PROMPT)["input_ids"]
    expected = logprobs(spoken, prompt + ids)
    # Temperature and bias change what is chosen, not what is told; the likeliest one stays.
    answer = await say(program, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3)
    told = answer.choices[0].logprobs.content
    assert len(told) == len(ids)
    for place, (token, found) in enumerate(zip(ids, told, strict=True)):
        row = expected[len(prompt) + place - 1]
        assert found.logprob == pytest.approx(float(row[token]), abs=1e-4)
        best = torch.topk(row, 3).values.tolist()
        assert [top.logprob for top in found.top_logprobs] == pytest.approx(best, abs=1e-4)
        assert words.convert_ids_to_tokens(token) in words.get_vocab()


async def test_seeds_are_repeatable_and_choices_differ(program) -> None:
    fields = {"temperature": 1.5, "max_tokens": 12, "logit_bias": {"2": -100}}
    first = await say(program, seed=5, n=3, **fields)
    texts = [choice.message.content for choice in first.choices]
    assert len(set(texts)) == 3
    assert (await streamed(program, seed=5, n=3, **fields))[0] == texts
    assert (await streamed(program, seed=-1, n=2, **fields))[0] == [
        text for seed in (-1, 0) for text in (await streamed(program, seed=seed, **fields))[0]
    ]
    for seed, text in zip((5, 6, 7), texts, strict=True):
        assert (await streamed(program, seed=seed, **fields))[0] == [text]
    assert first.usage.completion_tokens == 36


async def test_a_bias_is_obeyed(program, words) -> None:
    (token,) = words("k")["input_ids"]
    answer = await say(program, temperature=0, max_tokens=5, logit_bias={str(token): 100})
    assert answer.choices[0].message.content == "kkkkk"
    with pytest.raises(openai.BadRequestError):
        await say(program, logit_bias={str(VOCABULARY): 1})


async def test_a_reply_keeps_to_its_schema(program) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, 22]}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    format = {"type": "json_schema", "json_schema": {"name": "pair", "schema": schema}}
    for seed in range(3):
        answer = await say(program, response_format=format, seed=seed)
        found = json.loads(answer.choices[0].message.content)
        assert found["a"] in (1, 22)
        assert isinstance(found["b"], bool)
        assert answer.choices[0].finish_reason == "stop"


async def test_a_peer_that_dies_in_midstream_is_not_seen(program, world, spoken, words) -> None:
    await world.spare((0, 2))
    _, text = greedy(spoken, words, 24)
    parts = []
    stream = await say(program, temperature=0, max_tokens=24, stream=True)
    async for chunk in stream:
        parts.append(chunk.choices[0].delta.content or "")
        if len(parts) == 5:
            await world.kill("peer-0")
    assert "".join(parts) == text


async def test_choices_survive_a_peers_death(program, world) -> None:
    fields = {"temperature": 1.0, "seed": 3, "n": 3, "max_tokens": 24, "logit_bias": {"2": -100}}
    texts, _ = await streamed(program, **fields)
    await world.spare((2, 4))
    asked = asyncio.create_task(streamed(program, **fields))
    await world.until(lambda: world.swarms["client"]._exchange._receivers)
    await world.kill("peer-1")
    assert (await asked)[0] == texts


async def test_whoever_leaves_ends_the_session(program, world) -> None:
    stream = await say(program, stream=True, logit_bias={"2": -100})
    async with aclosing(aiter(stream)) as chunks:
        async for _ in chunks:
            break
    await stream.close()
    await world.settle()


async def complete(program: Any, **fields: Any) -> Any:
    return await program.completions.create(model="tiny", **fields)


async def test_several_prompts_are_answered_as_each_alone(program, spoken, words) -> None:
    prompts = ["Hello", "Good", "x"]
    expected = [greedy(spoken, words, 9, prompt)[1] for prompt in prompts]
    ids = [words(prompt)["input_ids"] for prompt in prompts]
    for prompt in (prompts, ids):
        answer = await complete(program, prompt=prompt, temperature=0, max_tokens=9)
        assert [choice.text for choice in answer.choices] == expected
    assert answer.usage.prompt_tokens == sum(map(len, ids))
    (one,) = (await complete(program, prompt=ids[0], temperature=0, max_tokens=9)).choices
    assert one.text == expected[0]
    with pytest.raises(openai.BadRequestError, match="no token 259"):
        await complete(program, prompt=[1, VOCABULARY])


async def test_what_the_model_does_not_know_is_refused_by_its_field(program) -> None:
    with pytest.raises(openai.BadRequestError, match="empty") as empty:
        await complete(program, prompt="")
    with pytest.raises(openai.BadRequestError, match="no token 259") as biased:
        await say(program, logit_bias={str(VOCABULARY): 1})
    assert (empty.value.param, biased.value.param) == ("prompt", "logit_bias")
    assert (await complete(program, prompt=" ", max_tokens=1)).usage.prompt_tokens == 1


async def test_an_echo(program, spoken, words) -> None:
    _, text = greedy(spoken, words, 6, "Hello")
    fields = {"temperature": 0, "max_tokens": 6, "echo": True}
    for prompt in ("Hello", words("Hello")["input_ids"]):
        answer = await complete(program, prompt=prompt, **fields)
        assert answer.choices[0].text == "Hello" + text
    stream = await complete(program, prompt="Hello", stream=True, **fields)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello" + text


@pytest.mark.parametrize("max_tokens", [0, 4])
async def test_an_echos_logprobs_are_the_models_own(program, spoken, words, max_tokens) -> None:
    prompt = words("Hello")["input_ids"]
    ids = prompt + (greedy(spoken, words, max_tokens, "Hello")[0] if max_tokens else [])
    expected = logprobs(spoken, ids)
    answer = await complete(
        program, prompt="Hello", temperature=0, max_tokens=max_tokens, echo=True, logprobs=2
    )
    (choice,) = answer.choices
    told = choice.logprobs
    assert choice.finish_reason == "length"
    assert told.tokens[:5] == list("Hello")
    assert told.text_offset[:5] == [0, 1, 2, 3, 4]
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    assert len(told.tokens) == len(ids)
    for place in range(1, len(ids)):
        row = expected[place - 1]
        assert told.token_logprobs[place] == pytest.approx(float(row[ids[place]]), abs=1e-4)
        assert max(told.top_logprobs[place].values()) == pytest.approx(float(row.max()), abs=1e-4)
    assert answer.usage.completion_tokens == max_tokens


async def test_the_best_of_several_are_the_likeliest(program, spoken, words) -> None:
    fields = {"prompt": "Hello", "temperature": 1.2, "max_tokens": 6, "logit_bias": {"2": -100}}
    alone = [
        (await complete(program, seed=40 + i, logprobs=0, **fields)).choices[0] for i in range(4)
    ]
    means = {each.text: sum(each.logprobs.token_logprobs) / 6 for each in alone}
    best = sorted(means, key=lambda text: means[text], reverse=True)
    answer = await complete(program, seed=40, best_of=4, n=2, **fields)
    assert [choice.text for choice in answer.choices] == best[:2]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage.completion_tokens == 24


async def test_programs_at_once_do_not_disturb_each_other(program, spoken, words) -> None:
    _, text = greedy(spoken, words, 12)
    answers = await asyncio.gather(
        *(streamed(program, temperature=0, max_tokens=12, n=n) for n in (1, 2, 3))
    )
    assert [texts for texts, _ in answers] == [[text], [text] * 2, [text] * 3]


async def test_cached_tokens_are_those_that_nobody_computed(program) -> None:
    fields = {"prompt": "a long text, " * 10, "max_tokens": 2, "temperature": 0}

    async def cached(**more: Any) -> int:
        usage = (await complete(program, **fields, **more)).usage
        return int(usage.prompt_tokens_details.cached_tokens)

    assert await cached() == 0
    known = await cached()
    assert 64 <= known < 130
    assert await cached(n=3) == known
    # Each position of a prompt that is scored is computed.
    assert await cached(echo=True, logprobs=1) == 0


TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"unit": {"enum": ["cm", "in"]}},
                "required": ["unit"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
    for name in ("measure", "weigh")
]


async def test_a_loop_of_tool_calls(program) -> None:
    # One call at a time: a model of random weights knows no end.
    fields = {"tools": TOOLS, "parallel_tool_calls": False, "seed": 3}
    weigh = {"type": "function", "function": {"name": "weigh"}}
    messages = list(HELLO)
    for choice, names in (("required", {"measure", "weigh"}), (weigh, {"weigh"})):
        answer = await say_all(program, messages, tool_choice=choice, **fields)
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = message.tool_calls
        assert call.function.name in names
        assert json.loads(call.function.arguments)["unit"] in ("cm", "in")
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "4"}]
    last = await say_all(program, messages, tool_choice="none", max_tokens=4, **fields)
    assert not last.choices[0].message.tool_calls


async def say_all(program: Any, messages: list[Any], **fields: Any) -> Any:
    """A whole answer, whose calls are those of the same as a stream."""
    fields = {"model": "tiny", "messages": messages, **fields}
    whole = await program.chat.completions.create(**fields)
    parts: dict[int, str] = {}
    async for chunk in await program.chat.completions.create(stream=True, **fields):
        for call in chunk.choices[0].delta.tool_calls or ():
            parts[call.index] = parts.get(call.index, "") + (call.function.arguments or "")
    calls = whole.choices[0].message.tool_calls or ()
    assert [parts[index] for index in sorted(parts)] == [call.function.arguments for call in calls]
    return whole
