"""From a body to what is asked, and to the response as it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence

from swarm.client import Grammar, SamplingConfig
from swarm.errors import RequestError

from ...ask import Ask, Talk
from ...body import unsupported
from ...refusals import Reason, Refusal
from .answer import Response, Withheld
from .body import CountBody, CreateBody, JsonObject, JsonSchema, Reasoning, TextConfig
from .conversation import template_messages
from .items import Item, Items, new_id
from .tools import Tools, choose, told

LOGPROBS = "message.output_text.logprobs"
_ONLY_LIKELIEST = 1e-9
"""What a `top_p` of 0 means: of the likeliest tokens as few as may be."""


def check(body: CountBody) -> None:
    """Raises `Refusal` for values that the API has and this gateway has not."""
    if body.reasoning is not None and body.reasoning.effort not in (None, "none"):
        raise unsupported("reasoning.effort", body.reasoning.effort)
    if body.text is not None and body.text.verbosity not in (None, "medium"):
        raise unsupported("text.verbosity", body.text.verbosity)
    if isinstance(body, CreateBody):
        _check_creation(body)


def _check_creation(body: CreateBody) -> None:
    if body.background:
        raise unsupported("background", value=True)
    if body.service_tier not in (None, "auto", "default"):
        raise unsupported("service_tier", body.service_tier)
    for at, wanted in enumerate(body.include or ()):
        if wanted != LOGPROBS:
            raise unsupported(f"include[{at}]", wanted)
    if body.stream_options is not None and not body.stream:
        message = "stream_options is only allowed where stream is true"
        raise Refusal(Reason.INVALID, message, param="stream_options")


def talk(body: CountBody, tools: Tools, items: Sequence[Item]) -> Talk:
    """The conversation that the model is to continue. Raises `Refusal`."""
    if not items:
        raise Refusal(Reason.INVALID, "Missing required parameter: 'input'.", param="input")
    parallel = body.parallel_tool_calls is not False
    known, choice = choose(tools, body.tool_choice, parallel=parallel)
    return Talk(template_messages(body.instructions, items), known, choice)


def ask(body: CreateBody, tools: Tools, items: Sequence[Item]) -> Ask:
    """What is asked. Raises `Refusal`."""
    bounded = body.max_output_tokens is not None
    return Ask(body.model, talk(body, tools, items), _sampling(body), bounded)


def scored(body: CreateBody) -> bool:
    """Whether logprobs are told."""
    return LOGPROBS in (body.include or ()) or bool(body.top_logprobs)


def begun(body: CreateBody, tools: Tools, items: Items) -> Response:
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
        reasoning=body.reasoning or Reasoning(),
        safety_identifier=body.safety_identifier,
        store=body.store is not False,
        temperature=_temperature(body),
        text=body.text or TextConfig(),
        tool_choice=body.tool_choice or "auto",
        tools=told(body.tools or (), tools),
        top_logprobs=body.top_logprobs or 0,
        top_p=_top_p(body),
        truncation=body.truncation or "disabled",
        user=body.user,
    )


def _sampling(body: CreateBody) -> SamplingConfig:
    try:
        return SamplingConfig(
            max_new_tokens=body.max_output_tokens or 1,
            temperature=_temperature(body),
            top_p=_top_p(body) or _ONLY_LIKELIEST,
            logprobs=(body.top_logprobs or 0) if scored(body) else None,
            grammar=_grammar(body.text),
        )
    except RequestError as error:
        raise Refusal(Reason.INVALID, str(error), param="text.format") from error


def _grammar(text: TextConfig | None) -> Grammar | None:
    match text.format if text else None:
        case JsonObject():
            return Grammar.json_object()
        case JsonSchema(schema=schema):
            return Grammar.json_schema(schema)
        case _:
            return None


def _temperature(body: CreateBody) -> float:
    return 1.0 if body.temperature is None else body.temperature


def _top_p(body: CreateBody) -> float:
    return 1.0 if body.top_p is None else body.top_p
