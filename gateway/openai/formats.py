"""What a reply is to look like: text, any JSON, or JSON by a schema."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from swarm.client import Grammar
from swarm.errors import RequestError

from ..ask import Message
from ..refusals import Reason, Refusal
from .fields import Name


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Whatever the model says."""


class ObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """A JSON object of any kind."""


class Schema(Struct, forbid_unknown_fields=True):
    """A JSON schema. Replies keep to it with `strict` or without."""

    name: Name
    schema: dict[str, Any] = field(default_factory=dict)
    description: Annotated[str, Meta(max_length=4096)] | None = None
    strict: bool | None = None


class SchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON as a schema has it."""

    json_schema: Schema


Format = TextFormat | ObjectFormat | SchemaFormat

FORMAT_HINTS = {
    "grammar": "formats are 'text', 'json_object' and 'json_schema'",
    "python": "formats are 'text', 'json_object' and 'json_schema'",
}


def grammar_of(format: Format | None, param: str) -> Grammar | None:
    """What replies are held to. Raises `Refusal`, on `param`, for what cannot be enforced."""
    try:
        match format:
            case ObjectFormat():
                return Grammar.json_object()
            case SchemaFormat(Schema(schema=schema)):
                return Grammar.json_schema(schema)
            case _:
                return None
    except RequestError as error:
        raise Refusal(Reason.INVALID, str(error), param=param) from error


def told(messages: tuple[Message, ...], format: Format | None) -> tuple[Message, ...]:
    """The conversation with a schema's description, which is there for the model to read.

    It becomes the end of the system message, which templates want to be the first and only one.
    """
    if not isinstance(format, SchemaFormat) or not format.json_schema.description:
        return messages
    text = f"The reply is JSON, {format.json_schema.name}: {format.json_schema.description}"
    first, *others = messages
    if first["role"] != "system":
        return ({"role": "system", "content": text}, *messages)
    return ({**first, "content": f"{first['content']}\n\n{text}"}, *others)
