"""The functions that a chat's model may call, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from swarm.quoting import quoted

from ..ask import Tool, ToolChoice, ToolUse
from ..refusals import Reason, Refusal
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
    given = _functions(tools or ())
    if not given:
        for field, value in (("tool_choice", choice), ("parallel_tool_calls", parallel)):
            if value is not None:
                raise Refusal(Reason.INVALID, f"{field!r} goes with 'tools'", param=field)
    several = parallel is not False
    match choice:
        case NamedFunction():
            _find(given, choice)
            wanted = ToolChoice(ToolUse.REQUIRED, choice.function.name, several)
        case AllowedTools(Allowed(mode, allowed)):
            given = {name: given[name] for name in dict.fromkeys(_find(given, t) for t in allowed)}
            wanted = ToolChoice(ToolUse(mode), None, several)
        case _:
            wanted = ToolChoice(ToolUse(choice or "auto"), None, several)
    return tuple(given.values()), wanted


def _functions(tools: Sequence[FunctionTool]) -> dict[str, Tool]:
    given: dict[str, Tool] = {}
    for index, tool in enumerate(tools):
        made = tool.function
        if made.name in given:
            raise Refusal(
                Reason.INVALID,
                f"there are two tools with the name {quoted(made.name)}",
                param=f"tools[{index}].function.name",
            )
        given[made.name] = Tool(
            made.name, made.description or "", made.parameters or {}, bool(made.strict)
        )
    return given


def _find(given: dict[str, Tool], choice: NamedFunction) -> str:
    name = choice.function.name
    if name not in given:
        raise Refusal(
            Reason.INVALID, f"'tools' has no function {quoted(name)}", param="tool_choice"
        )
    return name
