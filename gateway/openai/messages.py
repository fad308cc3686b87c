"""The messages of a chat: OpenAI's on the wire, chat templates' inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from swarm.quoting import quoted

from ..ask import Message, answering, calling
from ..refusals import invalid
from .fields import Identifier, Name
from .tools import arguments_of

Speaker = Annotated[str, Meta(pattern="^[^\\s<|\\\\/>]+$", max_length=64)]
"""Who has written a message, where several have the same role."""


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A part of a message."""

    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What the model has said instead of an answer."""

    refusal: str


Texts = Annotated[list[TextPart], Meta(min_length=1, max_length=2048)]
Parts = Annotated[list[TextPart | RefusalPart], Meta(min_length=1, max_length=2048)]


class CalledFunction(Struct, forbid_unknown_fields=True):
    """A function and its arguments, which are JSON text.

    `parsed_arguments` are the same as values: the package's helpers for streams and typed replies
    add them, and send them along.
    """

    name: Name
    arguments: str
    parsed_arguments: Any = None


class ToolCall(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A call that the model has made; `index` is its place in the stream that it came in."""

    id: Annotated[str, Meta(min_length=1, max_length=512)]
    function: CalledFunction
    index: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class SystemMessage(Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    """Instructions of the program."""

    content: str | Texts
    name: Speaker | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer", forbid_unknown_fields=True):
    """The same: templates know one such role."""

    content: str | Texts
    name: Speaker | None = None


class UserMessage(Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    """Words of the user."""

    content: str | Texts
    name: Speaker | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """Words and calls of the model. Programs send an answer's message back as they got it, with
    all the fields that are null or empty there, and with what the package has added: `parsed` is
    `content` as a value."""

    content: str | Parts | None = None
    refusal: str | None = None
    name: Speaker | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    parsed: Any = None


class ToolMessage(Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    """What a call has brought."""

    content: str | Texts
    tool_call_id: Identifier


AnyMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
Messages = Annotated[list[AnyMessage], Meta(min_length=1, max_length=2048)]

MESSAGE_HINTS = {
    "image_url": "models here read text alone",
    "input_audio": "models here read text alone",
    "file": "models here read text alone",
    "audio": "models here read and write text alone",
    "function": "messages of tools have the role 'tool'",
    "custom": "tools are functions",
    "function_call": "use 'tools' and 'tool_calls'",
    "prompt_cache_breakpoint": "peers keep whatever they have read, as long as there is room",
}
"""Why, for what a message cannot have."""


def conversation(messages: Sequence[AnyMessage]) -> tuple[Message, ...]:
    """The messages as chat templates take them. Raises `Refusal` where one cannot follow another.

    As in the API, each call is answered right behind the message that it stands in.
    """
    talk: list[Message] = []
    open_calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if isinstance(message, ToolMessage):
            talk.append(_result(message, open_calls, where))
            continue
        _expect_answered(open_calls, where)
        if isinstance(message, AssistantMessage):
            talk.append(_reply(message, where))
            open_calls = _calls_by_id(message, where)
        else:
            role = "user" if isinstance(message, UserMessage) else "system"
            talk.append(_said(role, _text(message.content), message.name))
    _expect_answered(open_calls, "messages")
    return tuple(talk)


def _said(role: str, content: str | None, name: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {"role": role, "content": content}
    return said if name is None else {**said, "name": name}


def _text(content: str | Sequence[TextPart | RefusalPart]) -> str:
    """Parts follow each other as they are: whoever wants a space between them writes one."""
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _reply(message: AssistantMessage, where: str) -> Message:
    if message.content is not None and message.refusal is not None:
        raise invalid(f"{where} has both 'content' and 'refusal'", f"{where}.refusal")
    if message.content is None and message.refusal is None and not message.tool_calls:
        raise invalid(f"{where} has neither 'content' nor 'tool_calls'", f"{where}.content")
    words = message.refusal if message.content is None else _text(message.content)
    reply = _said("assistant", words, message.name)
    if message.tool_calls:
        reply["content"] = words or ""
        reply["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{index}]")
            for index, call in enumerate(message.tool_calls)
        ]
    return reply


def _call(call: ToolCall, where: str) -> dict[str, Any]:
    function = call.function
    param = f"{where}.function.arguments"
    return calling(call.id, function.name, arguments_of(function.arguments, param, param))


def _calls_by_id(message: AssistantMessage, where: str) -> dict[str, str]:
    """The name of the function for each call's id."""
    calls = message.tool_calls or []
    names = {call.id: call.function.name for call in calls}
    if len(names) < len(calls):
        raise invalid(f"{where} has two calls with the same id", f"{where}.tool_calls")
    return names


def _result(message: ToolMessage, open_calls: dict[str, str], where: str) -> Message:
    name = open_calls.pop(message.tool_call_id, None)
    if name is None:
        raise invalid(
            f"{where} answers the call {quoted(message.tool_call_id)}, which is none of those that"
            " the message before has made and that wait for an answer",
            f"{where}.tool_call_id",
        )
    return answering(message.tool_call_id, name, _text(message.content))


def _expect_answered(open_calls: dict[str, str], where: str) -> None:
    if open_calls:
        raise invalid(
            "each of 'tool_calls' is to be answered by a message with the role 'tool' right behind;"
            f" there is none for {', '.join(quoted(call) for call in list(open_calls)[:8])}",
            where,
        )
