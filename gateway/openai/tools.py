"""The functions that a chat's model may call, whether it does, and with what it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from swarm.quoting import quoted

from ..ask import Tool, ToolChoice, ToolUse
from ..refusals import Reason, Refusal, invalid
from .fields import Name


class Function(Struct, forbid_unknown_fields=True):
    """A function; `parameters` is the JSON schema of its arguments, none where it is left out."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A function that may be called."""

    function: Function


class FunctionName(Struct, forbid_unknown_fields=True):
    """One of the functions."""

    name: Name


class NamedFunction(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """This function is to be called, or may be."""

    function: FunctionName


class Allowed(Struct, forbid_unknown_fields=True):
    """Some of the tools, and whether one of them has to be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Meta(min_length=1, max_length=128)]


class AllowedTools(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    """Only these tools may be called."""

    allowed_tools: Allowed


Tools = Annotated[list[FunctionTool], Meta(max_length=128)]
Choice = Literal["none", "auto", "required"] | NamedFunction | AllowedTools


def tools_of(
    tools: Sequence[FunctionTool] | None, choice: Choice | None, parallel: bool | None
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that the model is shown, and its choice. Raises `Refusal`.

    Where only some of them are allowed, it is shown no others.
    """
    given = by_name((_tool(tool.function) for tool in tools or ()), "tools[{}].function.name")
    if not given:
        for field, value in (("tool_choice", choice), ("parallel_tool_calls", parallel)):
            if value is not None:
                raise Refusal(Reason.INVALID, f"{field!r} goes with 'tools'", param=field)
    several = parallel is not False
    match choice:
        case NamedFunction():
            find(given, choice.function.name)
            wanted = ToolChoice(ToolUse.REQUIRED, choice.function.name, several)
        case AllowedTools(Allowed(mode, allowed)):
            given = {each.function.name: find(given, each.function.name) for each in allowed}
            wanted = ToolChoice(ToolUse(mode), None, several)
        case _:
            wanted = ToolChoice(ToolUse(choice or "auto"), None, several)
    return tuple(given.values()), wanted


def _tool(made: Function) -> Tool:
    return Tool(made.name, made.description or "", made.parameters or {}, bool(made.strict))


def by_name(tools: Iterable[Tool], place: str) -> dict[str, Tool]:
    """The tools by their names. Raises `Refusal` for two with one name; `place` is of the names."""
    given: dict[str, Tool] = {}
    for index, tool in enumerate(tools):
        if tool.name in given:
            raise invalid(
                f"there are two tools with the name {quoted(tool.name)}", place.format(index)
            )
        given[tool.name] = tool
    return given


def find(tools: Mapping[str, Tool], name: str) -> Tool:
    """The tool that a choice names. Raises `Refusal`."""
    if name not in tools:
        raise invalid(f"'tools' has no function {quoted(name)}", "tool_choice")
    return tools[name]


def arguments_of(text: str, what: str, param: str) -> dict[str, Any]:
    """The object that a call's arguments, which are text, stand for. Raises `Refusal`.

    No text is an empty one: streams leave a call without arguments like that.
    """
    if not text.strip():
        return {}
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise invalid(f"{what} are no JSON object, written as text: {error}", param) from error
