"""The functions that a model may call, and whether it has to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from swarm.client import Grammar
from swarm.errors import RequestError
from swarm.quoting import quoted

from ...ask import Tool, ToolChoice, ToolUse
from ...refusals import Reason, Refusal
from .body import AllowedTools, Choice, FunctionChoice, FunctionTool

Tools = Mapping[str, Tool]
"""By their names."""


def read_tools(tools: Sequence[FunctionTool]) -> Tools:
    """The functions; one whose `strict` is left out is, where its schema can be enforced.

    Raises `Refusal` for names that come twice and strict schemas that cannot be enforced.
    """
    found: dict[str, Tool] = {}
    for at, tool in enumerate(tools):
        if tool.name in found:
            message = f"Two tools have the name {quoted(tool.name)}."
            raise Refusal(Reason.INVALID, message, param=f"tools[{at}].name")
        schema = tool.parameters or {}
        strict = tool.strict is not False and _is_enforced(schema, tool.strict, at)
        found[tool.name] = Tool(tool.name, tool.description or "", schema, strict)
    return found


def told(given: Sequence[FunctionTool], tools: Tools) -> list[FunctionTool]:
    """The tools as a response repeats them."""
    return [replace(tool, strict=tools[tool.name].strict) for tool in given]


def choose(
    tools: Tools, choice: Choice | None, *, parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Which tools the model is told of, and how it may use them. Raises `Refusal`."""
    match choice:
        case FunctionChoice(name):
            _find(tools, name)
            return tuple(tools.values()), ToolChoice(ToolUse.REQUIRED, name, parallel)
        case AllowedTools(mode, allowed):
            named = {each.name: _find(tools, each.name) for each in allowed}
            return tuple(named.values()), _use(mode, bool(named), parallel)
        case _:
            return tuple(tools.values()), _use(choice or "auto", bool(tools), parallel)


def _use(mode: str, any_tools: bool, parallel: bool) -> ToolChoice:
    use = ToolUse(mode)
    if use is ToolUse.REQUIRED and not any_tools:
        message = "Tool choice 'required' must be specified with 'tools' parameter."
        raise Refusal(Reason.INVALID, message, param="tool_choice")
    return ToolChoice(use, None, parallel)


def _find(tools: Tools, name: str) -> Tool:
    try:
        return tools[name]
    except KeyError:
        message = f"Tool choice {quoted(name)} not found in 'tools' parameter."
        raise Refusal(Reason.INVALID, message, param="tool_choice") from None


def _is_enforced(schema: Mapping[str, object], strict: bool | None, at: int) -> bool:
    try:
        Grammar.json_schema(schema)
    except RequestError as error:
        if strict:
            param = f"tools[{at}].parameters"
            raise Refusal(Reason.INVALID, str(error), param=param) from error
        return False
    return True
