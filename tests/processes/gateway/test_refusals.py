"""What is not supported or not right is refused, by name, and as the packages know it."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

TALK: list[Any] = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
UNSUPPORTED = "unsupported_parameter"
TOO_LONG = "context_length_exceeded"
ENDLESS = [{"role": "user", "content": "a b " * 9000}]
ORPHAN = [{"role": "tool", "content": "a", "tool_call_id": "b"}]
SHOWN = [{"role": "user", "content": IMAGE}]

CHATS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"audio": {"format": "wav", "voice": "a"}}, "audio", UNSUPPORTED),
    ({"function_call": "auto"}, "function_call", UNSUPPORTED),
    ({"functions": [{"name": "add"}]}, "functions", UNSUPPORTED),
    ({"moderation": {"model": "m"}}, "moderation", UNSUPPORTED),
    ({"prediction": {"type": "content", "content": "a"}}, "prediction", UNSUPPORTED),
    ({"prompt_cache_options": {"mode": "implicit"}}, "prompt_cache_options", UNSUPPORTED),
    ({"reasoning_effort": "low"}, "reasoning_effort", UNSUPPORTED),
    ({"web_search_options": {}}, "web_search_options", UNSUPPORTED),
    ({"top_k": 1}, "top_k", UNSUPPORTED),
    ({"best_of": 2}, "best_of", UNSUPPORTED),
    ({"echo": True}, "echo", UNSUPPORTED),
    ({"store": True}, "store", UNSUPPORTED),
    ({"service_tier": "flex"}, "service_tier", UNSUPPORTED),
    ({"verbosity": "low"}, "verbosity", UNSUPPORTED),
    ({"modalities": ["audio"]}, "modalities[0]", UNSUPPORTED),
    ({"messages": SHOWN}, "messages[0].content[0].type", UNSUPPORTED),
    ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type", UNSUPPORTED),
    ({"response_format": {"type": "xml"}}, "response_format.type", UNSUPPORTED),
    ({"messages": []}, "messages", None),
    ({"messages": ORPHAN}, "messages[0].tool_call_id", None),
    ({"temperature": 3}, "temperature", None),
    ({"top_p": 2}, "top_p", None),
    ({"n": 0}, "n", None),
    ({"n": 9}, "n", None),
    ({"seed": "a"}, "seed", None),
    ({"presence_penalty": 3}, "presence_penalty", None),
    ({"frequency_penalty": -3}, "frequency_penalty", None),
    ({"stop": list("abcde")}, "stop", None),
    ({"logit_bias": {"bee": 1}}, "logit_bias", None),
    ({"logit_bias": {"99999": 1}}, "logit_bias", None),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", None),
    ({"top_logprobs": 1}, "top_logprobs", None),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"max_tokens": 0}, "max_tokens", None),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", None),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"tools": [TOOL, TOOL]}, "tools[1].function.name", None),
    ({"max_tokens": 9000}, "messages", TOO_LONG),
    ({"messages": ENDLESS}, "messages", TOO_LONG),
]  # fmt: skip
COMPLETIONS: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"suffix": "a"}, "suffix", UNSUPPORTED),
    ({"tools": [TOOL]}, "tools", UNSUPPORTED),
    ({"response_format": {"type": "json_object"}}, "response_format", UNSUPPORTED),
    ({"logprobs": 6}, "logprobs", None),
    ({"best_of": 1, "n": 2}, "best_of", None),
    ({"best_of": 4, "stream": True}, "best_of", None),
    ({"max_tokens": 0}, "max_tokens", None),
    ({"prompt": ""}, "prompt", None),
    ({"prompt": [[1, 99999]]}, "prompt", None),
    ({"prompt": ["a"] * 129}, "prompt", None),
    ({"prompt": "a b " * 9000}, "prompt", TOO_LONG),
]
RESPONSES: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"conversation": "a"}, "conversation", UNSUPPORTED),
    ({"prompt": {"id": "a"}}, "prompt", UNSUPPORTED),
    ({"background": True}, "background", UNSUPPORTED),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort", UNSUPPORTED),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", UNSUPPORTED),
    ({"tools": [{"type": "mcp", "server_label": "a"}]}, "tools[0].type", UNSUPPORTED),
    ({"include": ["web_search_call.results"]}, "include[0]", UNSUPPORTED),
    ({"top_logprobs": 21}, "top_logprobs", None),
    ({"max_output_tokens": 0}, "max_output_tokens", None),
    ({"previous_response_id": "resp_0"}, "previous_response_id", None),
]
MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    ({"thinking": {"type": "adaptive"}}, "thinking"),
    ({"output_config": {"effort": "low"}}, "output_config.effort"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages.0"),
    ({"container": "a"}, "container"),
    ({"inference_geo": "eu"}, "inference_geo"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"temperature": 1.5}, "temperature"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": [" "]}, "stop_sequences.0"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"nonsense": 1}, "nonsense"),
    ({"max_tokens": 9000}, "exceed context limit"),
    ({"messages": ENDLESS}, "prompt is too long"),
]


def refused(ask: Any, fields: dict[str, Any]) -> openai.APIStatusError:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(extra_body=fields)
    error = caught.value
    assert error.type == "invalid_request_error" and error.message
    return error


@pytest.mark.parametrize("fields, param, code", CHATS, ids=str)
def test_chats(program: openai.OpenAI, fields: Any, param: str, code: str | None) -> None:
    def ask(extra_body: Any) -> Any:
        create = program.chat.completions.create
        return create(model="smol", messages=TALK, extra_body=extra_body)

    error = refused(ask, fields)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize("fields, param, code", COMPLETIONS, ids=str)
def test_completions(program: openai.OpenAI, fields: Any, param: str, code: str | None) -> None:
    def ask(extra_body: Any) -> Any:
        return program.completions.create(model="smol", prompt="a", extra_body=extra_body)

    error = refused(ask, fields)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize("fields, param, code", RESPONSES, ids=str)
def test_responses(program: openai.OpenAI, fields: Any, param: str, code: str | None) -> None:
    def ask(extra_body: Any) -> Any:
        return program.responses.create(model="smol", input="a", extra_body=extra_body)

    error = refused(ask, fields)
    assert error.param == param and (error.code == code or code is None)


@pytest.mark.parametrize("fields, place", MESSAGES, ids=str)
def test_messages(claude: anthropic.Anthropic, fields: Any, place: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model="smol", messages=TALK, max_tokens=4, extra_body=fields)
    body: Any = caught.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert place in body["error"]["message"] and body["request_id"]


def test_models_that_are_not_there(program: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    for ask in (
        lambda: program.chat.completions.create(model="gpt", messages=TALK),
        lambda: program.chat.completions.create(model="gpt", messages=TALK, stream=True),
        lambda: program.completions.create(model="gpt", prompt="a"),
        lambda: program.responses.create(model="gpt", input="a"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(anthropic.NotFoundError) as denied:
        claude.messages.create(model="gpt", messages=TALK, max_tokens=1)
    assert denied.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


def test_other_parts_of_the_apis_are_not_there(
    program: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    for ask in (
        lambda: program.embeddings.create(model="smol", input="a"),
        lambda: program.images.generate(prompt="a"),
        lambda: program.moderations.create(input="a"),
        lambda: program.files.list(),
        lambda: program.batches.list(),
        lambda: program.responses.cancel("resp_0"),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.batches.list()


def test_nothing_is_begun_by_what_is_refused(
    program: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """A stream is refused before its first event, by its status."""
    with pytest.raises(openai.BadRequestError):
        program.chat.completions.create(model="smol", messages=TALK, stream=True, max_tokens=9000)
    with (
        pytest.raises(anthropic.BadRequestError),
        claude.messages.stream(model="smol", messages=TALK, max_tokens=9000),
    ):
        pass
