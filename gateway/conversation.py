"""A conversation as one model's template takes it.

The APIs allow more than most templates do: system messages anywhere, several messages of the same
role, calls with ids of any form. Nothing of it is dropped: where a template refuses a conversation
as it is, the same is put to it in other ways, each of which strays further.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swarm.client import TemplateError
from swarm.quoting import quoted

from .ask import Message, Talk, Tool
from .manners import Manners
from .refusals import Reason, Refusal
from .tools.description import described
from .tools.discovery import Found
from .tools.syntax import Ids

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def encode(manners: Manners, talk: Talk) -> list[int]:
    """The conversation's token ids. Raises `Refusal`, and `RequestError` if no way is taken."""
    messages = [_checked(message) for message in talk.messages]
    last = messages[-1] if messages else {"role": "", "content": ""}
    if last.get("tool_calls"):
        raise Refusal(Reason.INVALID, "the last message's calls have no results", param="messages")
    continued = last["role"] == "assistant" and bool(last["content"])
    if last["role"] == "assistant" and not continued:
        messages.pop()
    if not messages:
        raise Refusal(Reason.INVALID, "the conversation is empty", param="messages")
    tools: Sequence[Mapping[str, Any]] = ()
    if manners.found is None:
        messages = described(messages, talk.tools)
    else:
        messages = _with_calls(messages, manners.found)
        tools = [_told(tool) for tool in talk.tools]
    refused: TemplateError | None = None
    for way in _ways(messages, manners.takes_system):
        try:
            return manners.template.encode(way, tools, continued=continued)
        except TemplateError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _checked(message: Message) -> dict[str, Any]:
    role = "system" if message["role"] == "developer" else message["role"]
    if role not in _ROLES:
        raise Refusal(Reason.INVALID, f"{quoted(role)} is no role of a message", param="messages")
    return {**message, "role": role, "content": message.get("content") or ""}


def _told(tool: Tool) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}, **tool.parameters}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _ways(
    messages: list[dict[str, Any]], takes_system: bool
) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The same conversation in ways that more and more templates take."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others = [message for message in messages if message["role"] != "system"]
    ahead = [{"role": "system", "content": system}] if system else []
    if takes_system or not system:
        yield messages
        if len(ahead) + len(others) < len(messages) or messages[0]["role"] != "system":
            yield [*ahead, *others]
        yield [*ahead, *_merged(others)]
    if system:
        folded = _folded(system, others)
        yield folded
        yield _merged(folded)


def _folded(system: str, others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system's words at the beginning of the user's first message."""
    if not others or others[0]["role"] != "user":
        return [{"role": "user", "content": system}, *others]
    first = others[0]
    return [{**first, "content": f"{system}\n\n{first['content']}"}, *others[1:]]


def _merged(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages of one role, one behind the other, are one."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        before = merged[-1] if merged else {}
        is_same = before.get("role") == message["role"] and message["role"] != "tool"
        if is_same and not before.get("tool_calls"):
            text = "\n\n".join(filter(None, (before["content"], message["content"])))
            merged[-1] = {**before, **message, "content": text}
        else:
            merged.append(message)
    return merged


def _with_calls(messages: Sequence[dict[str, Any]], found: Found) -> list[dict[str, Any]]:
    """The same with calls and their ids as the template wants them."""
    ids: dict[str, str] = {}
    talk = []
    for message in messages:
        if message["role"] == "tool":
            given = str(message.get("tool_call_id", ""))
            message = {**message, "tool_call_id": ids.get(given, _id(found.ids, given))}
        elif calls := message.get("tool_calls"):
            made = []
            for call in calls:
                function = call["function"]
                given = _id(found.ids, call["id"])
                made.append(found.given(given, function["name"], function["arguments"], len(ids)))
                ids[call["id"]] = made[-1]["id"]
            message = {**message, "tool_calls": made}
        talk.append(message)
    return talk


def _id(form: Ids, given: str) -> str:
    """An id in the form that the template takes; the same for the same."""
    if form is not Ids.NINE or (len(given) == 9 and given.isascii() and given.isalnum()):
        return given
    number = int.from_bytes(hashlib.sha256(given.encode(errors="replace")).digest())
    return "".join(_LETTERS[number // 62**place % 62] for place in range(9))
