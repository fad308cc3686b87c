"""Requests that schemathesis makes up by a gateway's own description, and what it finds."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

SEED = int(os.environ.get("CASES_SEED", "6"))
EXAMPLES = int(os.environ.get("CASES_EXAMPLES", "0"))
"""Others, and more, by hand: of each operation where it is not 0."""

_REJECTED = ["400", "401", "403", "404", "405", "408", "413", "415", "431"]

_EVERYWHERE = (
    # JSON Schema takes 4.0 for whole; here such a number is written without a point.
    r"Expected `int( \||`).*got `float`",
    r"Expected `int \| str \| array`, got `float`",
    # What a schema inside a request may say is more than its being an object.
    r"^schema #",
)

_TOOLS = (
    # Two fields that go together, and names that belong together.
    r"'\w+' goes with '\w+'",
    r"there are two tools with the name|Two tools have the name",
    r"'tools' has no function",
    r"^Tool choice '\w+' (must be specified with|not found in) 'tools'",
    # As many as this gateway is told to make, and as the model's context has room for.
    r"choices are more than the \d+ that this gateway makes|context has room for",
    # Python's white space has characters that JavaScript's has not.
    r"messages\[\d+\]\.name': Expected `str` matching",
    r"the conversation is empty",
)

_CLAUDE = (
    # Which turn may follow which, with which blocks.
    r"must have non-empty content",
    r"at least one message is required",
    r"`tool_use` ids|`tool_use_id`|`tool_result`|each tool_use must",
    r"context has room for|^messages: the conversation is empty",
    r"cannot end with trailing whitespace|a reply that is begun cannot",
    r"tool_choice: |tools: names must be unique|the format is in `output_config` already",
    r"tools\.\d+\.input_schema\.type: must be `object`",
    r"`?tools\.\d+\.(defer_loading|eager_input_streaming)",
    r"last message's calls have no results|the conversation is empty",
)

_RESPONSES = (
    *_TOOLS,
    r"'stream_options' goes with 'stream': true",
    # Items are told apart as they are read, and described as objects.
    r"'?input\[\d+\]",
    r"^(Duplicate|No) (item|function call|tool output|tool call)",
    r"No tool output found|No tool call found|Duplicate function call|are no JSON object",
    r"Previous response with id .* not found|Missing required parameter: 'input'",
)

UNSAID: dict[str, tuple[str, ...]] = {
    "POST /v1/chat/completions": (
        *_TOOLS,
        r"'\w+' and 'max_completion_tokens' cannot both be given",
        r"'include_obfuscation' is not supported",
        r"answers the call .*, which is none of those",
        r"has neither 'content' nor 'tool_calls'|has both 'content' and 'refusal'",
        r"each of 'tool_calls' is to be answered|has two calls with the same id",
        r"is to be a JSON object, written as text",
        r"the last message's calls have no results|the conversation is empty",
    ),
    "POST /v1/completions": (
        r"'stream_options' goes with 'stream': true",
        r"'include_obfuscation' is not supported",
        # Which models have no token to begin with.
        r"the prompt is empty|there is no token \d+: this model knows|context has room for",
        r"choices are more than the \d+ that this gateway makes",
        r"'max_tokens' 0 goes with 'echo': true alone",
        r"'best_of' is at least as much as 'n'|'best_of' and 'stream' cannot go together",
        r"'prompt' is a text, a list of texts|'prompt' may hold up to",
    ),
    "POST /v1/messages": _CLAUDE,
    "POST /v1/messages/count_tokens": _CLAUDE,
    "POST /v1/responses": _RESPONSES,
    "POST /v1/responses/input_tokens": _RESPONSES,
}
"""Why what the description allows may be refused, with 400: rules between fields, or about what a
text holds, which JSON Schema cannot state. Nothing else of the kind may happen."""


@dataclass
class Found:
    """What was found, and how often each operation has answered with which status."""

    failures: list[str] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)


def narrowed(description: dict[str, Any], model: str) -> dict[str, Any]:
    """The description with the one model that there is, so that what is made up reaches it; and
    with an input in each request, as hardly a response that it could go on from is guessed."""
    for schema in description["components"]["schemas"].values():
        fields = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or "model" not in fields:
            continue
        fields["model"]["enum"] = [model]
        if "previous_response_id" in fields:
            kinds = [kind for kind in fields["input"]["anyOf"] if kind.get("type") != "null"]
            fields["input"] = {"anyOf": [{"minItems": 1, **kind} for kind in kinds]}
            fields["previous_response_id"] = {"type": "null"}
            schema["required"].append("input")
    return description


def try_out(
    description: dict[str, Any], url: str, key: str | None = None, **generation: Any
) -> Found:
    """Has schemathesis make requests to the gateway at `url`; takes a while, and blocks.

    `generation` is how: see its configuration. Unless it says so, it makes some in the words of the
    description and some against it, by design and by chance, and follows what it gets.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "base-url": url,
            "continue-on-failure": True,
            "generation": {"no-shrink": True, "database": "none", **generation},
            "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
            "checks": {"negative_data_rejection": {"expected-statuses": _REJECTED}},
        }
    )
    schema = schemathesis.openapi.from_dict(description, config=config)
    found = Found()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(found, event)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            found.failures.append(str(event.info if hasattr(event, "info") else event.exception))
    return found


def _note(found: Found, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for name, checks in recorder.checks.items():
        interaction = recorder.interactions.get(name)
        response = interaction.response if interaction else None
        case = recorder.cases[name].value
        label = case.operation.label
        if response is not None:
            found.statuses[label, response.status_code] += 1
        for check in checks:
            if check.failure_info is None:
                continue
            text = response.content.decode(errors="replace") if response is not None else ""
            if check.name == "positive_data_acceptance" and _is_unsaid(label, text):
                continue
            failure = check.failure_info.failure.message
            found.failures.append(
                f"{label} {check.name}: {failure[:500]}\n{case.body!r:.800}\n{text[:500]}"
            )


def _is_unsaid(label: str, text: str) -> bool:
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return False
    return any(re.search(rule, message) for rule in (*_EVERYWHERE, *UNSAID.get(label, ())))
