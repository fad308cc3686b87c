"""Messages by the `anthropic` package, from a swarm of processes."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import jsonschema_rs
import openai
import pytest

TALK: list[Any] = [{"role": "user", "content": "Tell a story of bees."}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["bee", "wasp"]}, "legs": {"type": "integer"}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}


def asked(**fields: Any) -> dict[str, Any]:
    """The fields of a greedy request, in the API's version that has a temperature.

    The package knows the one after it, and has to be told that of the first.
    """
    first = {name: fields.pop(name) for name in ("temperature", "top_p", "top_k") if name in fields}
    usual = {"model": "smol", "max_tokens": 8, "messages": TALK}
    usual["extra_headers"] = {"anthropic-version": "2023-06-01"}
    usual["extra_body"] = {"temperature": 0} | first
    return usual | fields


def say(claude: anthropic.Anthropic, **fields: Any) -> Any:
    return claude.messages.create(**asked(**fields))


def text(message: Any) -> str:
    return "".join(block.text for block in message.content)


async def test_sync_async_and_streams_say_the_same(
    claude: anthropic.Anthropic,
    async_claude: anthropic.AsyncAnthropic,
    program: openai.OpenAI,
    tokenizer: Any,
) -> None:
    system = "Be brief."
    talk = [{"role": "system", "content": system}, *TALK]
    chat = program.chat.completions.create(model="smol", messages=talk, temperature=0, max_tokens=8)
    said = chat.choices[0].message.content
    fields = asked(system=system)
    whole = claude.messages.create(**fields)
    assert text(whole) == said and whole.stop_reason == "max_tokens" and whole.role == "assistant"
    usage = whole.usage
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    assert usage.input_tokens + usage.cache_read_input_tokens == len(ids)
    assert usage.output_tokens == 8
    counted = claude.messages.count_tokens(model="smol", messages=TALK, system=system)
    assert counted.input_tokens == len(ids)
    with claude.messages.stream(**fields) as stream:
        assert "".join(stream.text_stream) == said
    assert text(await async_claude.messages.create(**fields)) == said
    async with async_claude.messages.stream(**fields) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert text(final) == said and final.stop_reason == "max_tokens"
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    raw = [event.type for event in say(claude, stream=True)]
    assert raw[:2] == ["message_start", "content_block_start"]
    assert raw[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_stop_sequence_is_named(claude: anthropic.Anthropic) -> None:
    said = text(say(claude, max_tokens=16))
    middle = said[20:26]
    answer = say(claude, max_tokens=16, stop_sequences=["never said", middle])
    assert text(answer) == said[: said.index(middle)]
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", middle)
    with claude.messages.stream(**asked(max_tokens=16, stop_sequences=[middle])) as stream:
        assert "".join(stream.text_stream) == text(answer)
        assert stream.get_final_message().stop_sequence == middle


def test_the_likeliest_token_alone(claude: anthropic.Anthropic) -> None:
    said = text(say(claude))
    assert text(say(claude, temperature=1, top_k=1)) == said
    assert text(say(claude, temperature=1, top_p=1e-6)) == said


def test_a_reply_goes_on_from_what_is_begun(claude: anthropic.Anthropic) -> None:
    said = text(say(claude, max_tokens=16))
    begun = said[: said.index(" ", 12)]
    talk = [*TALK, {"role": "assistant", "content": begun}]
    assert (begun + text(say(claude, messages=talk)))[:24] == said[:24]


def test_the_next_turn_is_computed_only_where_it_is_new(
    claude: anthropic.Anthropic, check_turns: Any
) -> None:
    marked = {"type": "ephemeral"}
    block = {"type": "text", "text": "Which animals have hives? " * 8, "cache_control": marked}
    talk: list[Any] = [{"role": "user", "content": [block]}]

    def ask(headers: dict[str, str]) -> tuple[int, Any]:
        fields = asked(messages=talk)
        fields["extra_headers"] |= headers
        raw = claude.messages.with_raw_response.create(**fields)
        answer = raw.parse()
        talk.append({"role": "assistant", "content": answer.content})
        talk.append({"role": "user", "content": "And where else?"})
        return answer.usage.cache_read_input_tokens, raw.headers

    check_turns(ask)


def test_a_reply_keeps_to_its_schema(claude: anthropic.Anthropic) -> None:
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = say(claude, max_tokens=60, temperature=1, output_config=config)
    jsonschema_rs.validate(SCHEMA, json.loads(text(answer)))


def test_fields_that_change_nothing(claude: anthropic.Anthropic) -> None:
    answer = say(
        claude,
        metadata={"user_id": "me"},
        service_tier="auto",
        thinking={"type": "disabled"},
        output_config={"effort": "high"},
    )
    assert text(answer) == text(say(claude))


def test_the_newer_version_has_no_temperature(claude: anthropic.Anthropic) -> None:
    fields: Any = {"model": "smol", "max_tokens": 2, "messages": TALK}
    newer = {"anthropic-version": "2026-10-21"}
    assert claude.messages.create(**fields, extra_headers=newer).content
    for name in ("temperature", "top_p", "top_k"):
        with pytest.raises(anthropic.BadRequestError, match=name):
            claude.messages.create(**fields, extra_headers=newer, extra_body={name: 1})


def test_models(claude: anthropic.Anthropic) -> None:
    assert {model.id for model in claude.models.list().data} == {"smol", "mute"}
    assert claude.models.retrieve("smol").type == "model"
