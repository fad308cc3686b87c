"""Responses by the `openai` package, from a swarm of processes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["bee", "wasp"]}, "legs": {"type": "integer", "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}


class Bee(BaseModel):
    """What a response is to be."""

    legs: int


def respond(program: openai.OpenAI, **fields: Any) -> Any:
    usual = {"model": "smol", "input": "Tell a story of bees."}
    return program.responses.create(**usual | {"temperature": 0, "max_output_tokens": 8} | fields)


async def test_sync_async_and_streams_say_the_same(
    program: openai.OpenAI, async_program: openai.AsyncOpenAI, tokenizer: Any
) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tell a story of bees."},
    ]
    fields: Any = {"model": "smol", "input": talk[1]["content"], "instructions": "Be brief."}
    fields |= {"temperature": 0, "max_output_tokens": 8}
    whole = program.responses.create(**fields)
    chat = program.chat.completions.create(model="smol", messages=talk, temperature=0, max_tokens=8)
    assert whole.output_text == chat.choices[0].message.content
    assert whole.status == "incomplete" and whole.incomplete_details.reason == "max_output_tokens"
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (len(ids), 8)
    assert (await async_program.responses.create(**fields)).output_text == whole.output_text
    async with async_program.responses.stream(**fields) as stream:
        events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert events[-1].response.output_text == whole.output_text  # type: ignore[union-attr]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.incomplete"


def test_events_are_numbered_and_add_up(program: openai.OpenAI) -> None:
    events = list(respond(program, stream=True, stream_options={"include_obfuscation": False}))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert "".join(delta.delta for delta in deltas) == done.text == events[-1].response.output_text
    assert not any(getattr(delta, "obfuscation", None) for delta in deltas)
    padded = [e for e in respond(program, stream=True) if e.type == "response.output_text.delta"]
    assert any(event.obfuscation for event in padded)


def test_a_response_is_kept_gone_on_from_and_forgotten(
    program: openai.OpenAI, check_turns: Any
) -> None:
    first = respond(program, input="Which animals live in hives? " * 8, metadata={"a": "b"})
    kept = program.responses.retrieve(first.id)
    assert kept.output_text == first.output_text and kept.metadata == {"a": "b"}
    second = respond(program, input="And where else?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    last = second.id

    def ask(headers: dict[str, str]) -> tuple[int, Any]:
        nonlocal last
        fields = {"input": "And else?", "previous_response_id": last}
        raw = respond(program.with_raw_response, **fields, extra_headers=headers)
        answer = raw.parse()
        last = answer.id
        return answer.usage.input_tokens_details.cached_tokens, raw.headers

    check_turns(ask)
    items = program.responses.input_items.list(second.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    program.responses.delete(first.id)
    for refused in (
        lambda: program.responses.retrieve(first.id),
        lambda: respond(program, previous_response_id=first.id),
    ):
        with pytest.raises((openai.NotFoundError, openai.BadRequestError)):
            refused()
    unkept = respond(program, store=False)
    with pytest.raises(openai.NotFoundError):
        program.responses.retrieve(unkept.id)


def test_tokens_are_counted(program: openai.OpenAI) -> None:
    counted = program.responses.input_tokens.count(model="smol", input="Hello, bees!")
    made = respond(program, input="Hello, bees!", max_output_tokens=1)
    assert counted.input_tokens == made.usage.input_tokens


def test_logprobs(program: openai.OpenAI) -> None:
    answer = respond(program, include=["message.output_text.logprobs"], top_logprobs=2)
    logprobs = answer.output[0].content[0].logprobs
    assert "".join(entry.token for entry in logprobs) == answer.output_text
    assert all(entry.top_logprobs[0].logprob == entry.logprob for entry in logprobs)


def test_a_text_keeps_to_its_schema(program: openai.OpenAI) -> None:
    named = {"type": "json_schema", "name": "bee", "schema": SCHEMA, "strict": True}
    fields = {"temperature": 2, "max_output_tokens": 60}
    answer = respond(program, text={"format": named}, **fields)
    jsonschema_rs.validate(SCHEMA, json.loads(answer.output_text))
    parsed = program.responses.parse(
        model="smol", input="A bee", text_format=Bee, max_output_tokens=60
    )
    assert isinstance(parsed.output_parsed, Bee)
    anything = respond(program, text={"format": {"type": "json_object"}}, max_output_tokens=5)
    assert anything.output_text.lstrip().startswith("{")


def test_what_is_too_long_is_truncated_or_refused(program: openai.OpenAI) -> None:
    talk = [{"role": "user", "content": "bee " * 1500}]
    talk += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "a b " * 500}]
    fields = {"input": talk, "max_output_tokens": 6000}
    with pytest.raises(openai.BadRequestError) as caught:
        respond(program, **fields)
    assert caught.value.code == "context_length_exceeded"
    counted = program.responses.input_tokens.count(model="smol", input=talk)
    assert counted.input_tokens > 2500


def test_fields_that_change_nothing(program: openai.OpenAI) -> None:
    plain = respond(program)
    answer = respond(
        program,
        user="me",
        safety_identifier="me",
        prompt_cache_key="me",
        service_tier="default",
        background=False,
        truncation="disabled",
        reasoning={"effort": "none"},
        max_tool_calls=3,
        top_p=1,
        text={"verbosity": "medium"},
    )
    assert answer.output_text == plain.output_text
