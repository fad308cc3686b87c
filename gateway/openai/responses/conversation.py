"""From items to the messages that a chat template takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from swarm.quoting import quoted

from ...ask import Message as TemplateMessage
from ...ask import answering, calling
from ...refusals import invalid
from ..tools import arguments_of
from .items import FunctionCall, FunctionCallOutput, Item, Message, Part, RefusalText

_ROLES = {"developer": "system"}


def template_messages(
    instructions: str | None, items: Sequence[Item]
) -> tuple[TemplateMessage, ...]:
    """The messages, beginning with one of the system where there are instructions.

    An assistant's message and the calls after it are one message; so are instructions and the
    system's messages before anybody else's, as templates take one there and no more. Raises
    `Refusal` for calls without outputs, outputs without calls, and arguments that are no object.
    """
    leading = [_text(order.content) for order in leading_orders(items)]
    orders = leading if instructions is None else [instructions, *leading]
    writing = _Writing()
    if orders:
        writing.say("system", "\n\n".join(orders))
    for item in items[len(leading) :]:
        match item:
            case Message():
                writing.say(_ROLES.get(item.role, item.role), _text(item.content))
            case FunctionCall():
                writing.call(item)
            case FunctionCallOutput():
                writing.answer(item)
    if writing.unanswered:
        missing = quoted(next(iter(writing.unanswered)))
        raise invalid(f"No tool output found for function call {missing}.", "input")
    return tuple(writing.messages)


def is_order(item: Item) -> TypeGuard[Message]:
    """Whether it comes from whoever wrote the program, not from who uses it."""
    return isinstance(item, Message) and item.role in ("system", "developer")


def leading_orders(items: Sequence[Item]) -> list[Message]:
    """The orders before anything else."""
    found: list[Message] = []
    for item in items:
        if not is_order(item):
            break
        found.append(item)
    return found


class _Writing:
    """Messages as they are written; `unanswered` calls by their ids, with their names."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.unanswered: dict[str, str] = {}

    def say(self, role: str, text: str) -> None:
        self.messages.append({"role": role, "content": text})

    def call(self, call: FunctionCall) -> None:
        if call.call_id in self.unanswered:
            raise invalid(f"Duplicate function call {quoted(call.call_id)}.", "input")
        self.unanswered[call.call_id] = call.name
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        what = f"the arguments of function call {quoted(call.call_id)}"
        arguments = arguments_of(call.arguments, what, "input")
        calls = self.messages[-1].setdefault("tool_calls", [])
        calls.append(calling(call.call_id, call.name, arguments))

    def answer(self, output: FunctionCallOutput) -> None:
        name = self.unanswered.pop(output.call_id, None)
        if name is None:
            raise invalid(
                f"No tool call found for function call output with call_id"
                f" {quoted(output.call_id)}.",
                "input",
            )
        self.messages.append(answering(output.call_id, name, _text(output.output)))


def _text(content: str | Sequence[Part]) -> str:
    """Parts follow each other as they are: whoever wants a space between them writes one."""
    if isinstance(content, str):
        return content
    said = (part.refusal if isinstance(part, RefusalText) else part.text for part in content)
    return "".join(said)
