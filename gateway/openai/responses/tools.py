"""The functions that a model may call, and whether it has to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from swarm.client import Grammar
from swarm.errors import RequestError

from ...ask import Tool, ToolChoice, ToolUse
from ...refusals import invalid
from ..tools import by_name, find
from .body import AllowedTools, Choice, FunctionChoice, FunctionTool

Tools = Mapping[str, Tool]
"""By their names."""


def read_tools(tools: Sequence[FunctionTool]) -> Tools:
    """The functions; one whose `strict` is left out is, where its schema can be enforced.

    Raises `Refusal` for names that come twice and strict schemas that cannot be enforced.
    """
    return by_name((_tool(tool, at) for at, tool in enumerate(tools)), "tools[{}].name")


def _tool(tool: FunctionTool, at: int) -> Tool:
    schema = tool.parameters or {}
    strict = tool.strict is not False and _is_enforced(schema, tool.strict, at)
    return Tool(tool.name, tool.description or "", schema, strict)


def told(given: Sequence[FunctionTool], tools: Tools) -> list[FunctionTool]:
    """The tools as a response repeats them."""
    return [replace(tool, strict=tools[tool.name].strict) for tool in given]


def choose(
    tools: Tools, choice: Choice | None, *, parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Which tools the model is told of, and how it may use them. Raises `Refusal`."""
    match choice:
        case FunctionChoice(name):
            find(tools, name)
            return tuple(tools.values()), ToolChoice(ToolUse.REQUIRED, name, parallel)
        case AllowedTools(mode, allowed):
            named = {each.name: find(tools, each.name) for each in allowed}
            return tuple(named.values()), _use(mode, bool(named), parallel)
        case _:
            return tuple(tools.values()), _use(choice or "auto", bool(tools), parallel)


def _use(mode: str, any_tools: bool, parallel: bool) -> ToolChoice:
    use = ToolUse(mode)
    if use is ToolUse.REQUIRED and not any_tools:
        raise invalid("the tool choice 'required' goes with 'tools'", "tool_choice")
    return ToolChoice(use, None, parallel)


def _is_enforced(schema: Mapping[str, object], strict: bool | None, at: int) -> bool:
    try:
        Grammar.json_schema(schema)
    except RequestError as error:
        if strict:
            raise invalid(str(error), f"tools[{at}].parameters") from error
        return False
    return True
