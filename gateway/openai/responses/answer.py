"""A response, and the events of which a streamed one consists, as the API writes them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from ..fields import Metadata
from ..logprobs import TokenLogprob
from .body import Choice, FunctionTool, Reasoning, TextConfig
from .items import OutputText, Status


class OutputMessage(Struct, tag="message", frozen=True, kw_only=True):
    """What the model said."""

    id: str
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = []


class OutputCall(Struct, tag="function_call", frozen=True, kw_only=True):
    """A call that the model makes."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str = ""


OutputItem = OutputMessage | OutputCall


class InputDetails(Struct, frozen=True):
    """Tokens of the input that no peer had to compute; writing them is not counted apart."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    """Tokens of thoughts: none."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, frozen=True, kw_only=True):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class ResponseError(Struct, frozen=True):
    """Why a response broke off."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why a response ended before its end."""

    reason: Literal["max_output_tokens"]


class Withheld(Struct, tag="reasoning", frozen=True):
    """A thought of another model that was not given to this one."""

    id: str
    action: Literal["removed"] = "removed"
    reason: Literal["model_mismatch"] = "model_mismatch"


class Response(Struct, frozen=True, kw_only=True):
    """A response. Times are Unix seconds."""

    id: str
    object: Literal["response"] = "response"
    created_at: float
    completed_at: float | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    background: bool = False
    instructions: str | None
    input_transformations: list[Withheld] = []
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: Metadata
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: Literal["in_memory"] | None
    reasoning: Reasoning
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: TextConfig
    tool_choice: Choice
    tools: list[FunctionTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    user: str | None


class Deleted(Struct, frozen=True):
    """A response that is no longer kept."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ItemList(Struct, frozen=True, kw_only=True):
    """A page of the items that a response was made from."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(Struct, frozen=True):
    """How long an input is."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class StreamEvent(Struct, frozen=True, kw_only=True):
    """One event of a stream; `sequence_number` counts them from 0."""

    sequence_number: int


class Created(StreamEvent, tag="response.created", frozen=True):
    """The first event."""

    response: Response


class InProgress(StreamEvent, tag="response.in_progress", frozen=True):
    """The model is at it."""

    response: Response


class Completed(StreamEvent, tag="response.completed", frozen=True):
    """The last event of a response that is whole."""

    response: Response


class Incomplete(StreamEvent, tag="response.incomplete", frozen=True):
    """The last event of a response that was as long as it may be."""

    response: Response


class Failed(StreamEvent, tag="response.failed", frozen=True):
    """The last event of a response that broke off."""

    response: Response


class ItemAdded(StreamEvent, tag="response.output_item.added", frozen=True):
    """An item begins."""

    output_index: int
    item: OutputItem


class ItemDone(StreamEvent, tag="response.output_item.done", frozen=True):
    """An item is whole."""

    output_index: int
    item: OutputItem


class PartAdded(StreamEvent, tag="response.content_part.added", frozen=True):
    """A message's text begins."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class PartDone(StreamEvent, tag="response.content_part.done", frozen=True):
    """A message's text is whole."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class TextDelta(StreamEvent, tag="response.output_text.delta", frozen=True, omit_defaults=True):
    """More of a message's text. `obfuscation` only pads the event."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[TokenLogprob]
    obfuscation: str | None = None


class TextDone(StreamEvent, tag="response.output_text.done", frozen=True):
    """A message's whole text."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[TokenLogprob]


class ArgumentsDelta(
    StreamEvent, tag="response.function_call_arguments.delta", frozen=True, omit_defaults=True
):
    """More of a call's arguments. `obfuscation` only pads the event."""

    item_id: str
    output_index: int
    delta: str
    obfuscation: str | None = None


class ArgumentsDone(StreamEvent, tag="response.function_call_arguments.done", frozen=True):
    """A call's whole arguments."""

    item_id: str
    output_index: int
    name: str
    arguments: str


EVENTS = (
    Created
    | InProgress
    | ItemAdded
    | PartAdded
    | TextDelta
    | TextDone
    | PartDone
    | ArgumentsDelta
    | ArgumentsDone
    | ItemDone
    | Completed
    | Incomplete
    | Failed
)
"""All of them."""
