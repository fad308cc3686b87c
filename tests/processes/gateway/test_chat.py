"""Chat completions by the `openai` package, from a swarm of processes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel

MESSAGES: list[Any] = [{"role": "user", "content": "Tell a story of bees."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["bee", "wasp"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 9},
        "wings": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["kind", "legs", "wings"],
    "additionalProperties": False,
}
FOX = "🐝🦊 é漢"


class Bee(BaseModel):
    """What a reply is to be."""

    legs: int
    is_busy: bool


def say(program: openai.OpenAI, **fields: Any) -> Any:
    fields = {"model": "smol", "messages": MESSAGES, "temperature": 0, "max_tokens": 8} | fields
    return program.chat.completions.create(**fields)


def text(answer: Any, choice: int = 0) -> str:
    return str(answer.choices[choice].message.content)


def told(chunks: Any) -> dict[int, str]:
    """The texts of a stream's choices, by index."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return texts


@pytest.fixture(scope="module")
def story(program: openai.OpenAI) -> str:
    """The greedy reply of 16 tokens, as one answer."""
    return text(say(program, max_tokens=16))


async def test_sync_async_and_streams_say_the_same(
    program: openai.OpenAI, async_program: openai.AsyncOpenAI, story: str
) -> None:
    fields: Any = {"model": "smol", "messages": MESSAGES, "temperature": 0, "max_tokens": 16}
    assert told(say(program, max_tokens=16, stream=True)) == {0: story}
    assert text(await async_program.chat.completions.create(**fields)) == story
    stream = await async_program.chat.completions.create(**fields, stream=True)
    assert told([chunk async for chunk in stream]) == {0: story}
    async with async_program.chat.completions.stream(**fields) as helper:
        events = [event async for event in helper]
    assert "".join(e.delta for e in events if e.type == "content.delta") == story


def test_a_streams_chunks(program: openai.OpenAI) -> None:
    options = {"include_usage": True}
    first, *rest, last, usage = list(say(program, stream=True, stream_options=options))
    assert first.choices[0].delta.role == "assistant"
    assert {chunk.id for chunk in [first, *rest, last]} == {usage.id}
    assert {chunk.object for chunk in rest} == {"chat.completion.chunk"}
    assert all(chunk.choices[0].finish_reason is None for chunk in [first, *rest])
    assert last.choices[0].finish_reason == "length"
    assert not usage.choices and usage.usage.completion_tokens == 8
    assert all(chunk.usage is None for chunk in [first, *rest, last])
    assert all(chunk.usage is None for chunk in say(program, stream=True, max_tokens=2))


def test_usage_is_the_tokenizers_and_a_second_turn_is_known(
    program: openai.OpenAI, tokenizer: Any, check_turns: Any
) -> None:
    talk = [{"role": "user", "content": "Which animals live in hives? " * 8}]

    def ask(headers: dict[str, str]) -> tuple[int, Any]:
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
        fields = {"model": "smol", "messages": talk, "temperature": 0, "max_tokens": 8}
        raw = program.chat.completions.with_raw_response.create(**fields, extra_headers=headers)
        answer = raw.parse()
        assert answer.usage.prompt_tokens == len(ids)
        assert answer.usage.completion_tokens == 8
        assert answer.usage.total_tokens == len(ids) + 8
        talk.append({"role": "assistant", "content": text(answer)})
        talk.append({"role": "user", "content": "And where else?"})
        return answer.usage.prompt_tokens_details.cached_tokens, raw.headers

    check_turns(ask)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_ends_before_a_stop_string(
    program: openai.OpenAI, story: str, stream: bool
) -> None:
    middle = story[len(story) // 2 - 3 : len(story) // 2 + 3]
    for stop in (middle, ["never said", middle, story[-1] + "never"]):
        answer = say(program, max_tokens=16, stop=stop, stream=stream)
        chunks = list(answer) if stream else []
        said = told(chunks)[0] if stream else text(answer)
        assert said == story[: story.index(middle)]
        choice = chunks[-1].choices[0] if stream else answer.choices[0]
        assert choice.finish_reason == "stop"


def test_a_bias_forces_and_forbids(program: openai.OpenAI, tokenizer: Any, story: str) -> None:
    (bee,) = tokenizer.encode(" bee")
    assert text(say(program, logit_bias={str(bee): 100}, temperature=2)) == " bee" * 8
    first = tokenizer.encode(story)[0]
    other = text(say(program, logit_bias={str(first): -100}, max_tokens=1))
    assert other and other != tokenizer.decode([first])


def test_a_seed_is_repeatable_and_choices_differ(program: openai.OpenAI) -> None:
    fields = {"temperature": 1.5, "seed": 7, "n": 3}
    once, again = say(program, **fields), say(program, **fields)
    texts = [text(once, choice) for choice in range(3)]
    assert texts == [text(again, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert [choice.index for choice in once.choices] == [0, 1, 2]
    assert once.usage.completion_tokens == 24
    assert told(say(program, **fields, stream=True)) == dict(enumerate(texts))
    assert text(say(program, temperature=1.5, seed=8)) == texts[1]
    assert text(say(program, temperature=1.5, seed=-1)) == text(
        say(program, temperature=1.5, seed=-1)
    )


@pytest.mark.parametrize("top_p", [0, 1e-6])
def test_the_smallest_top_p_leaves_the_likeliest(
    program: openai.OpenAI, story: str, top_p: float
) -> None:
    assert story.startswith(text(say(program, temperature=2, top_p=top_p)))


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_ends_repetition(program: openai.OpenAI, name: str) -> None:
    talk = [{"role": "user", "content": "Say bee bee bee bee bee bee bee bee."}]
    plain = say(program, messages=talk, max_tokens=24, logprobs=True)
    punished = say(program, messages=talk, max_tokens=24, logprobs=True, **{name: 2})
    encouraged = say(program, messages=talk, max_tokens=24, logprobs=True, **{name: -2})
    kinds = [
        len({entry.token for entry in answer.choices[0].logprobs.content})
        / len(answer.choices[0].logprobs.content)
        for answer in (encouraged, plain, punished)
    ]
    assert kinds[0] <= kinds[1] < kinds[2]


def test_max_tokens_under_both_names(program: openai.OpenAI, story: str) -> None:
    short = text(say(program, max_tokens=3))
    assert story.startswith(short) and short != story
    newer = program.chat.completions.create(
        model="smol", messages=MESSAGES, temperature=0, max_completion_tokens=3
    )
    assert text(newer) == short
    assert newer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(program: openai.OpenAI, story: str, stream: bool) -> None:
    answer = say(program, max_tokens=16, logprobs=True, top_logprobs=3, stream=stream)
    found = [choice for chunk in answer for choice in chunk.choices] if stream else answer.choices
    entries = [entry for choice in found if choice.logprobs for entry in choice.logprobs.content]
    assert len(entries) == 16
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == story
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        best = entry.top_logprobs[0]
        assert (entry.token, entry.logprob) == (best.token, best.logprob)
        chances = [each.logprob for each in entry.top_logprobs]
        assert chances == sorted(chances, reverse=True) and chances[0] <= 0


def test_logprobs_are_the_models_own(program: openai.OpenAI, tokenizer: Any) -> None:
    """Whatever is done to the choice, the token is as likely as it was."""
    first = say(program, max_tokens=1, logprobs=True, top_logprobs=2).choices[0].logprobs
    second = first.content[0].top_logprobs[1]
    (bee,) = tokenizer.encode(second.token)
    forced = say(program, max_tokens=1, logprobs=True, top_logprobs=0, logit_bias={str(bee): 100})
    (entry,) = forced.choices[0].logprobs.content
    assert entry.token == second.token and entry.top_logprobs == []
    assert entry.logprob == pytest.approx(second.logprob, abs=1e-3)


def test_a_reply_is_json(program: openai.OpenAI) -> None:
    fields = {"max_tokens": 60, "temperature": 1, "seed": 3}
    answer = say(program, response_format={"type": "json_object"}, **fields)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text(answer)), dict)
    assert text(answer).lstrip().startswith("{")
    assert text(say(program, response_format={"type": "text"}))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_reply_keeps_to_its_schema(program: openai.OpenAI, strict: bool, seed: int) -> None:
    named = {"name": "bee", "schema": SCHEMA, "strict": strict, "description": "A bee."}
    asked = {"response_format": {"type": "json_schema", "json_schema": named}}
    answer = say(program, max_tokens=100, temperature=2, seed=seed, **asked)
    assert answer.choices[0].finish_reason == "stop"
    jsonschema_rs.validate(SCHEMA, json.loads(text(answer)))


async def test_a_reply_is_parsed(program: openai.OpenAI, async_program: openai.AsyncOpenAI) -> None:
    fields: Any = {"model": "smol", "messages": MESSAGES, "response_format": Bee}
    answer = program.chat.completions.parse(**fields, max_tokens=100)
    assert isinstance(answer.choices[0].message.parsed, Bee)
    async with async_program.chat.completions.stream(**fields, max_tokens=100) as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Bee)


def test_characters_of_several_tokens_come_whole(program: openai.OpenAI, tokenizer: Any) -> None:
    assert len(tokenizer.encode(FOX)) > len(FOX) + 2
    schema = {"name": "fox", "schema": {"enum": [FOX]}}
    asked = {"response_format": {"type": "json_schema", "json_schema": schema}}
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in say(program, max_tokens=60, stream=True, **asked)
        if chunk.choices
    ]
    assert json.loads("".join(pieces)) == FOX
    assert not any("\ufffd" in piece for piece in pieces)


def test_what_the_assistant_has_begun_is_continued(program: openai.OpenAI, story: str) -> None:
    begun = story[: story.index(" ", 8)]
    talk = [*MESSAGES, {"role": "assistant", "content": begun}]
    assert (begun + text(say(program, messages=talk))).startswith(story[: len(begun) + 8])


def test_all_roles_and_forms_of_content(program: openai.OpenAI, tokenizer: Any) -> None:
    talk = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "Yes.", "refusal": None},
        {"role": "user", "content": "So?", "name": "me"},
    ]
    plain = [
        {"role": "system", "content": "Be "},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "So?"},
    ]
    ids = tokenizer.apply_chat_template(plain, add_generation_prompt=True)["input_ids"]
    answer = say(program, messages=talk, max_tokens=2)
    assert answer.usage.prompt_tokens == len(ids)
    assert text(answer) == text(say(program, messages=plain, max_tokens=2))


def test_fields_that_change_nothing(program: openai.OpenAI, story: str) -> None:
    answer = say(
        program,
        metadata={"who": "me"},
        user="me",
        safety_identifier="me",
        prompt_cache_key="me",
        store=False,
        service_tier="auto",
        modalities=["text"],
        verbosity="medium",
        parallel_tool_calls=None,
        logit_bias={},
        n=None,
        stop=None,
    )
    assert story.startswith(text(answer))
    assert answer.model_dump().get("metadata") == {"who": "me"}


def test_models(program: openai.OpenAI) -> None:
    models = program.models.list().data
    assert {model.id for model in models} == {"smol", "mute"}
    assert program.models.retrieve("smol").owned_by == "swarm"
    with pytest.raises(openai.NotFoundError) as caught:
        program.models.retrieve("other")
    assert caught.value.code == "model_not_found"
