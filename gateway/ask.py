"""What one request asks for, in no API's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from swarm.client import SamplingConfig

Message = Mapping[str, Any]
"""As chat templates take it: `role`, `content` (text), and where they apply `tool_call_id`, `name`
and `tool_calls`, each as `calling` writes it."""


def calling(id: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A call in a message of the model."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answering(id: str, name: str, content: str) -> dict[str, Any]:
    """The message that answers a call, by its id and the name of what was called."""
    return {"role": "tool", "tool_call_id": id, "name": name, "content": content}


@dataclass(frozen=True)
class Tool:
    """A function that the model may call. `parameters` is a JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


class ToolUse(StrEnum):
    """Whether the model calls tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True)
class ToolChoice:
    """Whether tools are called; only `name`, where it is given; several at a time if `parallel`."""

    use: ToolUse = ToolUse.AUTO
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True)
class Talk:
    """A conversation that the model is to continue.

    Where its last message is the assistant's, that message is what is continued.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)


@dataclass(frozen=True)
class Text:
    """A plain text that the model is to continue, without a chat template."""

    text: str


@dataclass(frozen=True)
class Tokens:
    """The same as token ids."""

    ids: tuple[int, ...]


Prompt = Talk | Text | Tokens


@dataclass(frozen=True)
class Ask:
    """What one request asks for.

    `sampling.max_new_tokens` counts only where `bounded`; else the reply may fill the model's
    context. With `echo` the prompt is part of the reply, and so are its tokens' chances where
    `sampling.logprobs` asks for any. `best_of` replies are made, of which the `num_choices`
    likeliest are told. A `silent` ask is for its echo alone: there is no reply, and
    `sampling.max_new_tokens` counts for nothing.
    """

    model: str
    prompt: Prompt
    sampling: SamplingConfig
    bounded: bool = True
    num_choices: int = 1
    best_of: int | None = None
    echo: bool = False
    silent: bool = False
