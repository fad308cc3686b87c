"""The items of an input, as clients send them and as they are kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from swarm.quoting import quoted

from ...body import convert, unsupported
from ...refusals import Reason, Refusal
from ..logprobs import TokenLogprob
from .body import HINTS

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Struct, tag="input_text", forbid_unknown_fields=True, frozen=True):
    """Text of a user, a developer or a tool."""

    text: str


class OutputText(Struct, tag="output_text", forbid_unknown_fields=True, frozen=True):
    """Text of a model."""

    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] = []
    logprobs: list[TokenLogprob] | None = None


class RefusalText(Struct, tag="refusal", forbid_unknown_fields=True, frozen=True):
    """What a model said when it would not answer."""

    refusal: str


Part = InputText | OutputText | RefusalText


class _Item(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """What all items have: an id, once they are kept."""

    HINTS: ClassVar[dict[str, str]] = HINTS

    id: str | None = None
    status: Status | None = None


class Message(_Item, tag="message", frozen=True, kw_only=True):
    """What somebody said."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    phase: None = None


class FunctionCall(_Item, tag="function_call", frozen=True, kw_only=True):
    """A call that the model made; `arguments` is a JSON object as text."""

    call_id: str
    name: str
    arguments: str
    namespace: None = None
    caller: None = None


class FunctionCallOutput(_Item, tag="function_call_output", frozen=True, kw_only=True):
    """What came of a call."""

    call_id: str
    output: str | list[InputText]
    name: None = None
    namespace: None = None
    caller: None = None


class SummaryText(Struct, tag="summary_text", forbid_unknown_fields=True, frozen=True):
    """A part of a summary."""

    text: str


class ReasoningText(Struct, tag="reasoning_text", forbid_unknown_fields=True, frozen=True):
    """A part of a thought."""

    text: str


class ReasoningItem(_Item, tag="reasoning", frozen=True, kw_only=True):
    """What another model thought. Ours has no use for it and could not read it; see `withheld`."""

    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class ItemReference(Struct, tag="item_reference", forbid_unknown_fields=True, frozen=True):
    """An item that is kept here."""

    id: str


Item = Message | FunctionCall | FunctionCallOutput
"""What is left once references are resolved and thoughts withheld."""

KINDS: Mapping[str, type[Struct]] = {
    "message": Message,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
    "item_reference": ItemReference,
}
_PREFIXES = {Message: "msg_", FunctionCall: "fc_", FunctionCallOutput: "fco_"}


class Items(Struct, frozen=True):
    """An input that was read: its items, and the ids of thoughts that were withheld from it."""

    items: tuple[Item, ...]
    withheld: tuple[str, ...] = ()


Lookup = Callable[[str], Mapping[str, Any] | None]
"""Finds a kept item by its id."""


def read_items(raw: str | Iterable[Mapping[str, Any]], find: Lookup) -> Items:
    """The items of `input`; each gets an id. Raises `Refusal` with the place of what is wrong."""
    if isinstance(raw, str):
        raw = [{"role": "user", "content": raw}]
    items: list[Item] = []
    withheld: list[str] = []
    referred: set[str] = set()
    for at, each in enumerate(raw):
        item = _item(each, f"input[{at}]")
        if isinstance(item, ItemReference):
            kept = None if item.id in referred else find(item.id)
            if kept is None:
                # A short input that names the same item again and again would become a huge one.
                what = "Duplicate item" if item.id in referred else "No item found"
                message = f"{what} with id {quoted(item.id)}."
                raise Refusal(Reason.INVALID, message, param=f"input[{at}].id")
            referred.add(item.id)
            item = _item(kept, f"input[{at}]")
        if isinstance(item, ReasoningItem):
            withheld.append(item.id or new_id("rs_"))
        else:
            assert isinstance(item, Message | FunctionCall | FunctionCallOutput)
            items.append(item if item.id else _with_id(item))
    return Items(tuple(items), tuple(withheld))


def new_id(prefix: str) -> str:
    """An id that nobody can guess."""
    return prefix + secrets.token_hex(24)


def listed(item: Item) -> dict[str, Any]:
    """An item as the API lists it: its text in parts, and with a status."""
    told: dict[str, Any] = msgspec.to_builtins(item)
    if isinstance(item, Message) and isinstance(item.content, str):
        part = OutputText(item.content) if item.role == "assistant" else InputText(item.content)
        told["content"] = [msgspec.to_builtins(part)]
    return {**told, "status": item.status or "completed"}


def _item(raw: Mapping[str, Any], place: str) -> Struct:
    kind = raw.get("type") or ("message" if "role" in raw else "item_reference")
    if not isinstance(kind, str) or kind not in KINDS:
        raise unsupported(f"{place}.type", kind, HINTS.get(str(kind)))
    return convert({**raw, "type": kind}, KINDS[kind], place)


def _with_id(item: Item) -> Item:
    named: Item = msgspec.structs.replace(item, id=new_id(_PREFIXES[type(item)]))
    return named
