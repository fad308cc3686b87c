"""What turns of a conversation consist of, as clients of the Messages API send it.

A field of type `None` is one that the API has and this gateway has not: null says nothing, anything
else is refused by its name. Kinds of blocks that are missing here (images, documents, results of
tools that Anthropic runs) are refused by theirs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Filled = Annotated[str, msgspec.Meta(min_length=1)]


class Block(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """Has a `type`, and nothing that it does not know."""


class CacheControl(Block, tag="ephemeral"):
    """Asks for the prompt up to here to be kept. Peers do that with every prompt, as long as they
    have room, so it changes nothing; usage tells how much was kept."""

    ttl: Literal["5m", "1h"] = "5m"


class TextBlock(Block, tag="text"):
    """Words."""

    text: Filled
    cache_control: CacheControl | None = None
    citations: None = None


class DirectCaller(Block, tag="direct"):
    """The model itself has called."""


class ToolUseBlock(Block, tag="tool_use"):
    """A call that the model has made earlier."""

    id: Filled
    name: Filled
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: DirectCaller | None = None
    toolset_name: None = None


class ToolResultBlock(Block, tag="tool_result"):
    """What came of a call."""

    tool_use_id: Filled
    content: str | list[TextBlock] = ""
    is_error: bool = False
    cache_control: CacheControl | None = None
    toolset_name: None = None


class ThinkingBlock(Block, tag="thinking"):
    """What a model thought in an earlier turn. No model reads it again."""

    thinking: str
    signature: str


class RedactedThinkingBlock(Block, tag="redacted_thinking"):
    """The same, where nobody is to read it."""

    data: str


UserBlock = TextBlock | ToolResultBlock
AssistantBlock = TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock


Words = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1})]
_SOME = msgspec.Meta(extra_json_schema={"minItems": 1})
"""Who leaves them empty is told so in the API's words."""


class Turn(msgspec.Struct, tag_field="role", forbid_unknown_fields=True):
    """One message."""


class UserTurn(Turn, tag="user"):
    """What the user says, and what came of the calls of the turn before."""

    content: Words | Annotated[list[UserBlock], _SOME]


class AssistantTurn(Turn, tag="assistant"):
    """What the model has said. As the last turn it is what the reply goes on from."""

    content: str | list[AssistantBlock]


class SystemTurn(Turn, tag="system"):
    """Instructions in the middle of a conversation."""

    content: Words | Annotated[list[TextBlock], _SOME]


AnyTurn = UserTurn | AssistantTurn | SystemTurn
