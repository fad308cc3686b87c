"""From a body to what is asked, and to the response as it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence

from swarm.client import SamplingConfig

from ...ask import Ask, Talk
from ...body import unsupported
from ...refusals import Reason, Refusal
from .. import formats as chat_formats
from ..fields import top_p_of
from .answer import Response, Withheld
from .body import LOGPROBS, InputRequest, Reasoning, ResponseRequest, SchemaFormat, TextConfig
from .conversation import template_messages
from .items import Item, Items, new_id
from .tools import Tools, choose, told


def check(body: ResponseRequest) -> None:
    """Raises `Refusal` for what cannot be said of a single field."""
    if body.background:
        raise unsupported("background", value=True, hint=body.HINTS["background"])
    if body.stream_options is not None and not body.stream:
        message = "'stream_options' goes with 'stream': true"
        raise Refusal(Reason.INVALID, message, param="stream_options")


def talk(body: InputRequest, tools: Tools, items: Sequence[Item]) -> Talk:
    """The conversation that the model is to continue. Raises `Refusal`."""
    if not items:
        raise Refusal(Reason.INVALID, "Missing required parameter: 'input'.", param="input")
    parallel = body.parallel_tool_calls is not False
    known, choice = choose(tools, body.tool_choice, parallel=parallel)
    messages = template_messages(body.instructions, items)
    return Talk(chat_formats.told(messages, _format(body)), known, choice)


def ask(body: ResponseRequest, tools: Tools, items: Sequence[Item]) -> Ask:
    """What is asked. Raises `Refusal`."""
    bounded = body.max_output_tokens is not None
    return Ask(body.model, talk(body, tools, items), _sampling(body), bounded)


def scored(body: ResponseRequest) -> bool:
    """Whether logprobs are told."""
    return LOGPROBS in (body.include or ()) or bool(body.top_logprobs)


def begun(body: ResponseRequest, tools: Tools, items: Items) -> Response:
    """The response before the model has said anything; it repeats what was asked for."""
    return Response(
        id=new_id("resp_"),
        created_at=time.time(),
        instructions=body.instructions,
        input_transformations=[Withheld(each) for each in items.withheld],
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata or {},
        model=body.model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=body.prompt_cache_key,
        prompt_cache_retention=body.prompt_cache_retention,
        reasoning=body.reasoning or Reasoning(),
        safety_identifier=body.safety_identifier,
        store=body.store is not False,
        temperature=_temperature(body),
        text=body.text or TextConfig(),
        tool_choice=body.tool_choice or "auto",
        tools=told(body.tools or (), tools),
        top_logprobs=body.top_logprobs or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
        truncation=body.truncation or "disabled",
        user=body.user,
    )


def _sampling(body: ResponseRequest) -> SamplingConfig:
    return SamplingConfig(
        max_new_tokens=body.max_output_tokens or 1,
        temperature=_temperature(body),
        top_p=top_p_of(body.top_p),
        logprobs=(body.top_logprobs or 0) if scored(body) else None,
        grammar=chat_formats.grammar_of(_format(body), "text.format"),
    )


def _format(body: InputRequest) -> chat_formats.Format | None:
    """As chat completions have it."""
    given = body.text.format if body.text else None
    if isinstance(given, SchemaFormat):
        schema = chat_formats.Schema(given.name, given.schema, given.description, given.strict)
        return chat_formats.SchemaFormat(schema)
    return given


def _temperature(body: ResponseRequest) -> float:
    return 1.0 if body.temperature is None else body.temperature
