"""What schemathesis makes up in the words of the gateway's description, a swarm really answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from aiohttp.test_utils import TestServer
from cases import EXAMPLES, narrowed, try_out
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.core import Core
from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.openapi import description

TEMPLATE = r"""
{%- for tool in tools or [] %}{{ tool.function.name }}{{ "\n" }}{% endfor %}
{%- for m in messages %}{{ m.role[0] + ":" + m.content }}
{%- for call in m.tool_calls or [] %}{{ "<tool_call>\n" }}
{{- {"name": call.function.name, "arguments": call.function.arguments} | tojson }}
{{- "\n</tool_call>" }}{% endfor %}{{ "\n" }}{% endfor %}
{%- if add_generation_prompt %}a:{% endif %}"""

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def brief(described: dict[str, Any]) -> dict[str, Any]:
    """The description with a limit of a few tokens in each request: answers are many."""
    for schema in described["components"]["schemas"].values():
        fields = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or "model" not in fields:
            continue
        names = [name for name in LIMITS if name in fields]
        for name in names:
            fields[name] = {"type": "integer", "minimum": 1, "maximum": 4}
        schema["required"] += names[-1:]
        if "suffix" in fields:
            # A plain text: this model has no token with which an empty one could begin.
            fields["prompt"] = {"type": "string", "minLength": 1}
        if "n" in fields:
            fields["n"] = {"type": "integer", "minimum": 1, "maximum": 2}
        if len(names) > 1:
            fields[names[0]] = {"type": "null"}  # both cannot be given
    return described


def save_words(folder: Any) -> None:
    """A tokenizer whose tokens are bytes, with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, **special)
    fast.save_pretrained(folder)


async def test_what_is_described_is_answered(make_world: Any, make_tiny: Any) -> None:
    # Long enough for what is made up to fit, which is mostly names of fields.
    tiny = make_tiny("llama", vocab_size=259, max_position_embeddings=8192)
    save_words(tiny.folder)
    world = make_world(tiny)
    await world.chain(0, 2, 4)
    core = Core({"tiny": await world.client()}, GatewayConfig())
    app = create_app(all_endpoints(), core, GatewayConfig())
    described = json.loads(msgspec.json.encode(description(all_endpoints(), keyed=False)))
    described = brief(narrowed(described, "tiny"))
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        how = {"max-examples": EXAMPLES or 15, "mode": "positive"}
        found = await asyncio.to_thread(try_out, described, url, **how)
    assert not found.failures, "\n\n".join(found.failures[:20])
    for operation in ("chat/completions", "completions", "messages", "responses"):
        assert found.statuses[f"POST /v1/{operation}", 200] > 8, found.statuses
    assert not any(status >= 500 for _, status in found.statuses), found.statuses
