"""Every field of the API that the `anthropic` package knows is one of ours, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
import pytest
from anthropic import types
from anthropic.types import beta, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count
from anthropic.types.beta import message_create_params as beta_create

from swarm.gateway.anthropic import blocks
from swarm.gateway.anthropic import body as bodies
from swarm.gateway.body import parse
from swarm.gateway.refusals import Refusal

HEADERS = {"betas", "user_profile_id", "workspace_id"}
"""Parameters of the package that travel as headers."""

REFUSED_ELSEWHERE = {
    # Fields of betas that are nowhere else: refused as any field that nobody knows.
    "SystemTurn": {"clear_at", "output_config"},
}

PAIRS = [
    (message_create_params.MessageCreateParamsBase, bodies.MessagesBody),
    (message_create_params.MessageCreateParamsStreaming, bodies.MessagesBody),
    (types.MessageCountTokensParams, bodies.CountBody),
    (beta_create.MessageCreateParamsBase, bodies.MessagesBody),
    (beta_create.MessageCreateParamsStreaming, bodies.MessagesBody),
    (beta_count.MessageCountTokensParams, bodies.CountBody),
    (types.UserMessageParam, blocks.UserTurn),
    (types.AssistantMessageParam, blocks.AssistantTurn),
    (types.SystemMessageParam, blocks.SystemTurn),
    (beta.BetaSystemMessageParam, blocks.SystemTurn),
    (types.TextBlockParam, blocks.TextBlock),
    (types.ToolUseBlockParam, blocks.ToolUseBlock),
    (types.ToolResultBlockParam, blocks.ToolResultBlock),
    (types.ThinkingBlockParam, blocks.ThinkingBlock),
    (types.RedactedThinkingBlockParam, blocks.RedactedThinkingBlock),
    (types.CacheControlEphemeralParam, blocks.CacheControl),
    (types.ToolParam, bodies.CustomTool),
    (beta.BetaToolParam, bodies.CustomTool),
    (types.ToolChoiceAutoParam, bodies.AutoChoice),
    (types.ToolChoiceAnyParam, bodies.AnyChoice),
    (types.ToolChoiceToolParam, bodies.OneChoice),
    (types.ToolChoiceNoneParam, bodies.NoChoice),
    (types.OutputConfigParam, bodies.OutputConfig),
    (beta.BetaOutputConfigParam, bodies.OutputConfig),
    (types.JSONOutputFormatParam, bodies.JsonFormat),
    (types.MetadataParam, bodies.Metadata),
    (types.ThinkingConfigDisabledParam, bodies.NoThinking),
]


def _known(struct: type[msgspec.Struct]) -> set[str]:
    config = struct.__struct_config__
    tag = {config.tag_field} if config.tag_field else set()
    return {*struct.__struct_encode_fields__, *tag}


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_field_is_known(theirs: Any, ours: type[msgspec.Struct]) -> None:
    fields = {*theirs.__required_keys__, *theirs.__optional_keys__} - HEADERS
    missing = fields - _known(ours) - REFUSED_ELSEWHERE.get(ours.__name__, set())
    assert not missing
    assert ours.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("field", msgspec.structs.fields(bodies.MessagesBody), ids=lambda f: f.name)
def test_a_field_that_means_nothing_here_is_refused(field: msgspec.structs.FieldInfo) -> None:
    body = {"model": "m", "max_tokens": 1, "messages": []}
    assert parse(json.dumps(body).encode(), bodies.MessagesBody)
    if field.type is not type(None):
        return
    assert parse(json.dumps(body | {field.name: None}).encode(), bodies.MessagesBody)
    with pytest.raises(Refusal, match=f"'{field.name}' is not supported"):
        parse(json.dumps(body | {field.name: {"some": "thing"}}).encode(), bodies.MessagesBody)


def _tags(union: Any) -> set[str]:
    kinds = [union] if isinstance(union, type) else union.__args__
    return {kind.__struct_config__.tag for kind in kinds}


def _theirs(union: Any) -> set[str]:
    """The values that `type` has in a union of the package's."""
    hints = (get_type_hints(kind, include_extras=True).get("type") for kind in union.__args__)
    return {name for hint in hints for name in _literals(hint)}


def _literals(hint: Any) -> Iterator[str]:
    if isinstance(hint, str):
        yield hint
    for inner in getattr(hint, "__args__", ()):
        yield from _literals(inner)


def test_the_package_tells_the_kinds_of_blocks() -> None:
    assert {"text", "image", "document", "tool_use"} <= _theirs(types.ContentBlockParam)


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("kind", sorted(_theirs(types.ContentBlockParam)))
def test_a_block_is_known_or_refused_by_its_kind(role: str, kind: str) -> None:
    known = _tags(blocks.UserBlock if role == "user" else blocks.AssistantBlock)
    body = {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": role, "content": [{"type": kind, "odd": 1}]}],
    }
    said = "odd' is not supported" if kind in known else f"'{kind}' is not supported"
    with pytest.raises(Refusal, match=said):
        parse(json.dumps(body).encode(), bodies.MessagesBody)


@pytest.mark.parametrize("kind", sorted(_theirs(types.ToolUnionParam) - {"custom"}))
def test_a_tool_of_anthropics_is_refused_by_its_kind(kind: str) -> None:
    tool = {"type": kind, "name": "tool", "max_uses": 1}
    body = {"model": "m", "max_tokens": 1, "messages": [], "tools": [tool]}
    with pytest.raises(Refusal, match=f"tools.*'{kind}'"):
        parse(json.dumps(body).encode(), bodies.MessagesBody)
