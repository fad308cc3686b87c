"""What `POST /v1/responses` and `POST /v1/responses/input_tokens` take.

Fields of the API that are not here are refused by name; so is any value but null for those that
can only be null here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$(?!\n)")]
Label = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]
Include = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]

RawItem = Annotated[
    dict[str, Any],
    Meta(description="A message, function_call, function_call_output, reasoning, item_reference."),
]
"""`items.read_items` makes one of the types in `items` of it: a message needs not say its type."""


class FunctionTool(Struct, tag="function", forbid_unknown_fields=True, frozen=True):
    """A function that the model may call; `strict` ones only with arguments that fit."""

    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    allowed_callers: None = None
    output_schema: None = None


class FunctionChoice(Struct, tag="function", forbid_unknown_fields=True, frozen=True):
    """The function that has to be called."""

    name: Name


class AllowedTools(Struct, tag="allowed_tools", forbid_unknown_fields=True, frozen=True):
    """The only functions that can be called."""

    mode: Literal["auto", "required"]
    tools: list[FunctionChoice]


Choice = Literal["none", "auto", "required"] | FunctionChoice | AllowedTools


class PlainText(Struct, tag="text", forbid_unknown_fields=True, frozen=True):
    """Any text."""


class JsonObject(Struct, tag="json_object", forbid_unknown_fields=True, frozen=True):
    """Any JSON object."""


class JsonSchema(Struct, tag="json_schema", forbid_unknown_fields=True, frozen=True):
    """JSON that a schema allows."""

    name: Name
    schema: dict[str, Any]
    strict: bool | None = None
    description: None = None


class TextConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """What the text has to look like."""

    format: PlainText | JsonObject | JsonSchema = PlainText()
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Struct, forbid_unknown_fields=True, frozen=True):
    """How much is thought beforehand; no model here can be told."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: None = None
    generate_summary: None = None
    context: None = None


class StreamOptions(Struct, forbid_unknown_fields=True, frozen=True):
    """Whether deltas are padded, so that their sizes do not tell what they say."""

    include_obfuscation: bool = True


class CountBody(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An input, of which the tokens are counted."""

    model: str
    input: str | list[RawItem] | None = None
    instructions: str | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    previous_response_id: str | None = None
    conversation: None = None


class CreateBody(CountBody, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An input, to which the model responds."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=0, le=2**31)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Include] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None
    metadata: Metadata | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: None = None
    context_management: None = None
    moderation: None = None
    prompt: None = None
