"""An ask in the words of OpenAI's API. What these words cannot say is refused, never left out.

https://platform.openai.com/docs/api-reference/chat and …/completions
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from swarm.client import SamplingConfig

from ..ask import Ask, Message, Talk, Text, Tokens, Tool, ToolChoice
from ..refusals import Reason, Refusal

_RETRY = 10.0
"""Seconds after which the swarm itself may be back."""

_ASK = {"model", "prompt", "sampling", "bounded", "num_choices", "best_of", "echo", "silent"}
_TALK = {"messages", "tools", "tool_choice"}
_TOOL = {"name", "description", "parameters", "strict"}
_CHOICE = {"use", "name", "parallel"}
_MESSAGE = {"role", "content", "name", "tool_calls", "tool_call_id"}
_CALL = {"id", "type", "function"}

_SAMPLING: dict[str, Callable[[Any], Any]] = {
    "temperature": float,
    "top_p": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": int,
    "stop": list,
}
"""What is called the same there, and may be left out where it is the default; greedy is not theirs,
so the temperature always goes along. Token ids (`logit_bias`) mean nothing to another model."""

_ELSEWHERE = {"max_new_tokens", "logprobs", "grammar"}


@dataclass(frozen=True)
class Question:
    """What to send to which endpoint."""

    path: str
    body: dict[str, Any]


def unable(what: str) -> Refusal:
    """The swarm has no route, and a fallback would not do what was asked."""
    text = f"the swarm cannot answer now, and its fallback cannot do {what}"
    return Refusal(Reason.NO_ROUTE, text, retry_after=_RETRY)


def question(ask: Ask, model: str) -> Question:
    """`ask` for `model`, to be answered as a stream. Raises `Refusal` for what cannot be said."""
    _check(ask, _ASK)
    _check(ask.sampling, _SAMPLING.keys() | _ELSEWHERE)
    if (ask.best_of or ask.num_choices) != ask.num_choices:
        raise unable("best_of")
    body: dict[str, Any] = {"model": model, "stream": True}
    body["stream_options"] = {"include_usage": True}
    body.update(_sampling(ask.sampling))
    if ask.bounded or ask.silent:
        body["max_tokens"] = 0 if ask.silent else ask.sampling.max_new_tokens
    if ask.num_choices > 1:
        body["n"] = ask.num_choices
    match ask.prompt:
        case Talk():
            return Question("chat/completions", {**body, **_talk(ask, ask.prompt)})
        case Text(text):
            return Question("completions", {**body, **_text(ask, text)})
        case Tokens():
            raise unable("prompts of token ids, which are this model's own")


def _sampling(sampling: SamplingConfig) -> dict[str, Any]:
    changed = {
        name: say(value)
        for name, say in _SAMPLING.items()
        if (value := getattr(sampling, name)) != _default(SamplingConfig, name)
    }
    return {**changed, "temperature": sampling.temperature}


def _text(ask: Ask, text: str) -> dict[str, Any]:
    if ask.sampling.grammar is not None:
        raise unable("answers of a given form after a plain prompt")
    said: dict[str, Any] = {"prompt": text}
    if ask.echo:
        said["echo"] = True
    if ask.sampling.logprobs is not None:
        said["logprobs"] = ask.sampling.logprobs
    return said


def _talk(ask: Ask, talk: Talk) -> dict[str, Any]:
    _check(talk, _TALK)
    if ask.echo:
        raise unable("echo in a conversation")
    if talk.messages and talk.messages[-1].get("role") == "assistant":
        raise unable("going on with a message that the assistant has begun")
    said: dict[str, Any] = {"messages": [_message(each) for each in talk.messages]}
    if talk.tools:
        said["tools"] = [_tool(tool) for tool in talk.tools]
        said["tool_choice"] = _choice(talk.tool_choice)
        said["parallel_tool_calls"] = talk.tool_choice.parallel
    if ask.sampling.logprobs is not None:
        said["logprobs"], said["top_logprobs"] = True, ask.sampling.logprobs
    if ask.sampling.grammar is not None:
        said["response_format"] = _format(ask.sampling.grammar.schema)
    return said


def _message(message: Message) -> dict[str, Any]:
    _check_keys(message, _MESSAGE, "message")
    said = dict(message)
    if not isinstance(said.get("content"), str | None):
        raise unable("messages of more than text")
    if calls := said.get("tool_calls"):
        said["tool_calls"] = [_call(call) for call in calls]
    return said


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    _check_keys(call, _CALL, "tool call")
    function = dict(call["function"])
    # There they are text.
    function["arguments"] = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    return {**call, "function": function}


def _tool(tool: Tool) -> dict[str, Any]:
    _check(tool, _TOOL)
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> Any:
    _check(choice, _CHOICE)
    if choice.name is not None:
        return {"type": "function", "function": {"name": choice.name}}
    return str(choice.use)


def _format(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        raise unable("this form of answers")
    if schema == {"type": "object"}:
        return {"type": "json_object"}
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _check(value: Any, known: Collection[str]) -> None:
    """Raises `Refusal` for a field that nobody has taught this module and that asks something."""
    for field in fields(value):
        if field.name not in known and getattr(value, field.name) != _default(value, field.name):
            raise unable(field.name)


def _check_keys(said: Mapping[str, Any], known: Collection[str], what: str) -> None:
    for key in said:
        if key not in known:
            raise unable(f"{key!r} in a {what}")


def _default(kind: Any, name: str) -> Any:
    (field,) = (each for each in fields(kind) if each.name == name)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
