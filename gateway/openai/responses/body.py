"""What `POST /v1/responses` and `POST /v1/responses/input_tokens` take.

Fields of the API that are not here are refused by name; so is any value but null for those that
can only be null here.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from ..fields import Identifier, Metadata, Name, Never, Temperature, TokenLimit, TopP
from ..formats import ObjectFormat, TextFormat

LOGPROBS = "message.output_text.logprobs"

MOST_ITEMS = 8192
"""Of one input; whoever has more goes on from an earlier response."""

RawItem = Annotated[
    dict[str, Any],
    Meta(
        description="A message, a call, what came of a call, a thought, or a kept item's id.",
        extra_json_schema={
            "properties": {
                "type": {
                    "enum": [
                        "message",
                        "function_call",
                        "function_call_output",
                        "reasoning",
                        "item_reference",
                        None,
                    ]
                }
            }
        },
    ),
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
    tools: Annotated[list[FunctionChoice], Meta(max_length=128)]


Choice = Literal["none", "auto", "required"] | FunctionChoice | AllowedTools


class SchemaFormat(Struct, tag="json_schema", forbid_unknown_fields=True, frozen=True):
    """JSON as a schema has it, with `strict` or without."""

    name: Name
    schema: dict[str, Any]
    description: Annotated[str, Meta(max_length=4096)] | None = None
    strict: bool | None = None


class TextConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """What the text has to look like."""

    format: TextFormat | ObjectFormat | SchemaFormat = field(default_factory=TextFormat)
    verbosity: Literal["medium"] | None = None


class Reasoning(Struct, forbid_unknown_fields=True, frozen=True):
    """How much is thought beforehand; no model here can be told."""

    effort: Literal["none"] | None = None
    summary: None = None
    generate_summary: None = None
    context: None = None


class StreamOptions(Struct, forbid_unknown_fields=True, frozen=True):
    """Whether deltas are padded, so that their sizes do not tell what they say."""

    include_obfuscation: bool = True


_TEXT_ALONE = "models here read and write text alone"
_ALIKE = "all requests are served alike"
_AS_THEY_ARE = "replies are as long as the model makes them"
_BY_TEMPLATE = "how long a model thinks is up to its chat template"
_FUNCTIONS = "tools are functions, which the program that asks runs itself"

HINTS = {
    "input_image": _TEXT_ALONE,
    "input_file": _TEXT_ALONE,
    "input_audio": _TEXT_ALONE,
    "conversation": "use 'previous_response_id', or send all items",
    "background": "stay connected until the response is there",
    "prompt": "no prompts are kept here: use 'instructions' and 'input'",
    "context_management": "use 'truncation'",
    "prompt_cache_options": "peers keep whatever they have read, as long as there is room",
    "prompt_cache_breakpoint": "peers keep whatever they have read, as long as there is room",
    "24h": "peers keep prompts in memory, as long as there is room",
    "reasoning.encrypted_content": "no thoughts are told apart from the reply",
    **dict.fromkeys(
        (
            "code_interpreter_call.outputs",
            "computer_call_output.output.image_url",
            "file_search_call.results",
            "message.input_image.image_url",
            "web_search_call.action.sources",
            "web_search_call.results",
        ),
        "there are no such items here",
    ),
    **dict.fromkeys(("minimal", "low", "medium", "high", "xhigh", "max"), _BY_TEMPLATE),
    **dict.fromkeys(("flex", "scale", "priority", "fast", "ultrafast"), _ALIKE),
    **dict.fromkeys(
        ("web_search", "web_search_preview", "file_search", "code_interpreter", "mcp"), _FUNCTIONS
    ),
    **dict.fromkeys(("custom", "local_shell", "shell", "apply_patch", "namespace"), _FUNCTIONS),
}
"""What to do instead, or why it is so."""


class InputRequest(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An input, of which the tokens are counted."""

    model: str
    input: str | Annotated[list[RawItem], Meta(max_length=MOST_ITEMS)] | None = None
    instructions: str | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    previous_response_id: str | None = None
    conversation: None = None

    HINTS: ClassVar[dict[str, str]] = HINTS


class ResponseRequest(InputRequest, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An input, to which the model responds.

    Some fields only say who asks (`user`, `safety_identifier`, `prompt_cache_key`, `metadata`), and
    some are known with the one value that holds here anyway (`service_tier`, `background`,
    `prompt_cache_retention`). There are no calls that `max_tool_calls` would limit: those of
    functions do not count for it.
    """

    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_output_tokens: TokenLimit | None = None
    max_tool_calls: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: Never | None = None
    service_tier: Literal["auto", "default"] | None = None
    metadata: Metadata | None = None
    user: Identifier | None = None
    safety_identifier: Identifier | None = None
    prompt_cache_key: Identifier | None = None
    prompt_cache_retention: Literal["in_memory"] | None = None
    context_management: None = None
    moderation: None = None
    prompt: None = None
