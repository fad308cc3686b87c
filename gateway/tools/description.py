"""Telling a model of tools in words, as nothing in its chat template does.

A template that knows no tools was trained without, or its model's way of calling could not be found
out. Such a model is asked to call in a plain syntax (`syntax.PLAIN`), and what tools have answered
is told to it in a user's message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..ask import Message, Tool

_HOW = """\
You can call functions. These are known, each with the JSON schema of its arguments:

{tools}

To call one, write its name and its arguments as JSON within <tool_call> and </tool_call>, \
and nothing behind it:

<tool_call>
{{"name": "NAME", "arguments": {{"ARGUMENT": "VALUE"}}}}
</tool_call>

What a function answers comes within <tool_response> and </tool_response>."""


def described(messages: Sequence[Message], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The same conversation without tools, calls or results, all of which are told in words."""
    talk = list(_in_words(messages))
    if not tools:
        return talk
    lines = [
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            ensure_ascii=False,
        )
        for tool in tools
    ]
    how = _HOW.format(tools="\n".join(lines))
    if talk and talk[0]["role"] == "system":
        return [{"role": "system", "content": f"{talk[0]['content']}\n\n{how}"}, *talk[1:]]
    return [{"role": "system", "content": how}, *talk]


def _in_words(messages: Iterable[Message]) -> Iterable[dict[str, Any]]:
    answers: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            answers.append(f"<tool_response>\n{message.get('content', '')}\n</tool_response>")
            continue
        if answers:
            yield {"role": "user", "content": "\n".join(answers)}
            answers = []
        yield _said(message)
    if answers:
        yield {"role": "user", "content": "\n".join(answers)}


def _said(message: Message) -> dict[str, Any]:
    calls = "\n".join(map(_call, message.get("tool_calls") or ()))
    parts = [part for part in (message.get("content") or "", calls) if part]
    return {"role": message["role"], "content": "\n".join(parts)}


def _call(call: Mapping[str, Any]) -> str:
    function = call["function"]
    name, arguments = (
        json.dumps(function["name"]),
        json.dumps(function["arguments"], ensure_ascii=False),
    )
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'
