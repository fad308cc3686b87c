"""The bodies that clients of the Messages API send, field by field.

https://docs.anthropic.com/en/api/messages; a field of type `None` is one that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from .blocks import AnyTurn, CacheControl, TextBlock

MOST_MESSAGES = 100_000
"""The API's own limit."""

MOST_STOPS = 64
"""Each of them is looked for after every token."""

LONGEST_STOP = 1024
"""Characters of one: as many of a reply may have to be held back, and compared anew each time."""

MOST_TOOLS = 512


class Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Has nothing that it does not know."""


class Choice(Part, tag_field="type"):
    """Whether the model calls tools."""


class AutoChoice(Choice, tag="auto"):
    """As it likes."""

    disable_parallel_tool_use: bool = False


class AnyChoice(Choice, tag="any"):
    """It calls some tool."""

    disable_parallel_tool_use: bool = False


class OneChoice(Choice, tag="tool"):
    """It calls this one."""

    name: str
    disable_parallel_tool_use: bool = False


class NoChoice(Choice, tag="none"):
    """It calls none."""


class CustomTool(Part):
    """A function of the client's. Tools that Anthropic runs have other types, and are refused."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str = ""
    strict: bool = False
    cache_control: CacheControl | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Meta(min_length=1)] | None = None
    defer_loading: bool = False
    eager_input_streaming: bool | None = None
    input_examples: None = None


class NoThinking(Part, tag_field="type", tag="disabled"):
    """The model answers without thinking first, as here it always does."""


class JsonFormat(Part, tag_field="type", tag="json_schema"):
    """The reply is JSON that this schema allows."""

    schema: dict[str, Any]


class OutputConfig(Part):
    """What the reply looks like. An effort of "high" is what the API takes where none is given."""

    effort: Literal["high"] | None = None
    format: JsonFormat | None = None
    task_budget: None = None


class Metadata(Part):
    """Who asks, in the client's words. It is told to nobody."""

    user_id: Annotated[str, Meta(max_length=512)] | None = None


_THINKING = "no model thinks apart from its reply: leave `thinking` out"
_EFFORT = "models make no other effort than they do: leave `effort` out"
_TEXT = "models read text"


class CountBody(Part):
    """A conversation whose tokens are to be counted."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "adaptive": _THINKING,
        "between_tools": _THINKING,
        "enabled": _THINKING,
        "low": _EFFORT,
        "medium": _EFFORT,
        "xhigh": _EFFORT,
        "max": _EFFORT,
        "image": _TEXT,
        "document": _TEXT,
        "search_result": _TEXT,
    }
    """What to do instead of what is not supported; see `swarm.gateway.body.parse`."""

    model: str
    messages: Annotated[
        list[AnyTurn], Meta(max_length=MOST_MESSAGES, extra_json_schema={"minItems": 1})
    ]
    system: str | list[TextBlock] = ""
    tools: Annotated[list[CustomTool], Meta(max_length=MOST_TOOLS)] = []
    tool_choice: AutoChoice | AnyChoice | OneChoice | NoChoice | None = None
    thinking: NoThinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard"] | None = None
    billing_policy: None = None
    compaction: None = None
    context_management: None = None
    mcp_servers: None = None


class MessagesBody(CountBody, kw_only=True):
    """A conversation that is to be continued.

    The API's second version has neither of `temperature`, `top_p` and `top_k`.
    """

    max_tokens: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
    stream: bool = False
    stop_sequences: Annotated[
        list[Annotated[str, Meta(pattern=r"\S", max_length=LONGEST_STOP)]],
        Meta(max_length=MOST_STOPS),
    ] = []
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] = "auto"
    container: None = None
    diagnostics: None = None
    fallback_credit_token: None = None
    fallbacks: None = None
    inference_geo: None = None
    thread: None = None
