"""From a conversation in Anthropic's blocks to messages as chat templates take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..ask import Message, Talk, Tool, ToolChoice, ToolUse, answering, calling
from ..body import unsupported
from ..refusals import Refusal, invalid
from .blocks import (
    AnyTurn,
    AssistantTurn,
    Block,
    RedactedThinkingBlock,
    SystemTurn,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserTurn,
)
from .body import AnyChoice, AutoChoice, CountBody, CustomTool, NoChoice, OneChoice

Kind = TypeVar("Kind", bound=Block)


def talk(body: CountBody) -> Talk:
    """The conversation that a body holds. Raises `Refusal` where the API does."""
    messages = [_system(body.system)] if body.system else []
    pending: dict[str, str] = {}
    turns = list(_turns(body.messages))
    for turn in turns:
        pending = _continue(messages, turn, pending)
    if pending:
        raise _unanswered(turns[-1], pending)
    if not turns:
        raise invalid("at least one message is required", "messages")
    if turns[-1].role is AssistantTurn:
        _check_prefill(body, messages[-1])
    tools = tuple(_tool(place, tool) for place, tool in enumerate(body.tools))
    return Talk(tuple(messages), tools, _choice(body))


@dataclass
class _Turn:
    """Messages of one role on end: for the API, and for most templates, they are one. `place` is
    the last one's."""

    role: type[AnyTurn]
    place: int
    blocks: list[Block]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [block for block in self.blocks if isinstance(block, kind)]


def _turns(messages: Sequence[AnyTurn]) -> Iterator[_Turn]:
    turn: _Turn | None = None
    for place, message in enumerate(messages):
        blocks = _blocks(message, place, is_last=place == len(messages) - 1)
        if not blocks:
            continue
        if turn is not None and turn.role is type(message):
            turn.blocks += blocks
            turn.place = place
            continue
        if turn is not None:
            yield turn
        turn = _Turn(type(message), place, blocks)
    if turn is not None:
        yield turn


def _blocks(message: AnyTurn, place: int, *, is_last: bool) -> list[Block]:
    """A message's blocks without what was thought: the API does not show that again either."""
    content = message.content
    if not content and not (is_last and isinstance(message, AssistantTurn)):
        raise invalid("must have non-empty content", f"messages[{place}]")
    if isinstance(content, str):
        return [TextBlock(text=content)] if content else []
    thoughts = (ThinkingBlock, RedactedThinkingBlock)
    return [block for block in content if not isinstance(block, thoughts)]


def _continue(messages: list[Message], turn: _Turn, pending: dict[str, str]) -> dict[str, str]:
    """Adds a turn. `pending` are the calls of the turn before, by id; returns those of this one."""
    if turn.role is UserTurn:
        results = _results(turn, pending)
        messages.extend(_result(block, pending.pop(block.tool_use_id)) for block in results)
    if pending:
        raise _unanswered(turn, pending)
    texts = turn.of(TextBlock)
    if turn.role is SystemTurn:
        messages.append(_system(texts))
    elif turn.role is UserTurn and texts:
        messages.append({"role": "user", "content": _joined(texts)})
    elif turn.role is AssistantTurn:
        return _reply(messages, turn)
    return {}


def _reply(messages: list[Message], turn: _Turn) -> dict[str, str]:
    calls = turn.of(ToolUseBlock)
    # A reply's blocks are cut where calls come between, without a character lost.
    said = "".join(block.text for block in turn.of(TextBlock))
    names = {call.id: call.name for call in calls}
    if len(names) < len(calls):
        raise invalid("`tool_use` ids must be unique", f"messages[{turn.place}]")
    message = {"role": "assistant", "content": said}
    told = [calling(call.id, call.name, call.input) for call in calls]
    messages.append(message | {"tool_calls": told} if calls else message)
    return names


def _results(turn: _Turn, pending: dict[str, str]) -> list[ToolResultBlock]:
    """A turn's results, which come first in it, one for each of the calls before."""
    results = turn.of(ToolResultBlock)
    place = f"messages[{turn.place}]"
    if any(not isinstance(block, ToolResultBlock) for block in turn.blocks[: len(results)]):
        raise invalid("`tool_result` blocks must come before any text", place)
    answered: set[str] = set()
    for result in results:
        if result.tool_use_id not in pending:
            raise invalid(
                f"unexpected `tool_use_id` found in `tool_result` blocks: {result.tool_use_id}."
                " Each `tool_result` block must have a corresponding `tool_use` block in the"
                " previous message",
                place,
            )
        if result.tool_use_id in answered:
            raise invalid("each tool_use must have a single result", place)
        answered.add(result.tool_use_id)
    return results


def _result(block: ToolResultBlock, name: str) -> Message:
    content = block.content if isinstance(block.content, str) else _joined(block.content)
    if block.is_error:
        # No chat template has a field for it.
        content = f"Error: {content}"
    return answering(block.tool_use_id, name, content)


def _system(content: str | Sequence[TextBlock]) -> Message:
    text = content if isinstance(content, str) else _joined(content)
    return {"role": "system", "content": text}


def _joined(blocks: Iterable[TextBlock]) -> str:
    return "\n".join(block.text for block in blocks)


def _unanswered(turn: _Turn, pending: dict[str, str]) -> Refusal:
    return invalid(
        "`tool_use` ids were found without `tool_result` blocks immediately after:"
        f" {', '.join(pending)}",
        f"messages[{turn.place}]",
    )


def _check_prefill(body: CountBody, message: Message) -> None:
    if message["content"][-1].isspace():
        raise invalid("final assistant content cannot end with trailing whitespace", "messages")
    if json_format(body) is not None:
        raise invalid("a reply that is begun cannot be held to a format", "messages")


def json_format(body: CountBody) -> dict[str, object] | None:
    """The schema that the reply is held to; `output_format` is its older place."""
    config = body.output_config
    formats = [config and config.format, body.output_format]
    asked = [each.schema for each in formats if each]
    if len(asked) > 1:
        raise invalid("the format is in `output_config` already", "output_format")
    return asked[0] if asked else None


def _tool(place: int, tool: CustomTool) -> Tool:
    where = f"tools[{place}]"
    if tool.input_schema.get("type") != "object":
        raise invalid("must be `object`", f"{where}.input_schema.type")
    if tool.defer_loading:
        hint = "all tools are shown to the model"
        raise unsupported(f"{where}.defer_loading", True, hint)
    if tool.eager_input_streaming is False:
        raise unsupported(f"{where}.eager_input_streaming", False, "input comes as it is made")
    return Tool(tool.name, tool.description, tool.input_schema, tool.strict)


def _choice(body: CountBody) -> ToolChoice:
    names = {tool.name for tool in body.tools}
    if len(names) < len(body.tools):
        raise invalid("names must be unique", "tools")
    choice = body.tool_choice
    if choice is not None and not body.tools:
        raise invalid("may only be specified while providing tools", "tool_choice")
    match choice:
        case None:
            return ToolChoice()
        case NoChoice():
            return ToolChoice(ToolUse.NONE)
        case AutoChoice(disable_parallel_tool_use=alone):
            return ToolChoice(ToolUse.AUTO, parallel=not alone)
        case AnyChoice(disable_parallel_tool_use=alone):
            return ToolChoice(ToolUse.REQUIRED, parallel=not alone)
        case OneChoice(name, alone):
            if name not in names:
                raise invalid("there is no such tool", "tool_choice.name")
            return ToolChoice(ToolUse.REQUIRED, name, parallel=not alone)
