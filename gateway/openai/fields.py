"""Fields that OpenAI's request bodies share, with their limits, and what they come to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ..events import Usage
from ..refusals import Reason, Refusal

NAME = "^[a-zA-Z0-9_-]+$(?!\n)"
"""Of functions and formats. `$` alone would allow a line's end after it."""

Name = Annotated[str, Meta(pattern=NAME, max_length=64)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
NumChoices = Annotated[int, Meta(ge=1, le=128)]
Stop = Annotated[str, Meta(min_length=1, max_length=1024)]
Stops = Annotated[list[Stop], Meta(max_length=4)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Biases = Annotated[
    dict[str, Bias],
    Meta(
        max_length=1024, extra_json_schema={"propertyNames": {"pattern": "^(0|[1-9][0-9]{0,8})$"}}
    ),
]
Never = Annotated[bool, Meta(extra_json_schema={"const": False})]
"""Known, and not supported: whoever asks for it is told so."""

Identifier = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]

LEAST_TOP_P = 1e-9
"""What stands for 0: of all tokens only the likeliest is left, as the API has it."""


class StreamOptions(Struct, forbid_unknown_fields=True):
    """How a stream is told. Chunks have no `obfuscation`, so only `false` is true of it."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class PromptDetails(Struct):
    """Of the prompt's tokens, those that no peer has computed anew."""

    cached_tokens: int


class CompletionDetails(Struct):
    """Kinds of tokens in a reply that there are none of here: all of them are its text."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class UsageBody(Struct):
    """The tokens of a whole request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """The same in the API's words."""
        return cls(
            usage.num_prompt,
            usage.num_completion,
            usage.total,
            PromptDetails(usage.num_cached),
            CompletionDetails(),
        )


def stop_strings(stop: str | list[str] | None) -> tuple[str, ...]:
    """One, several or none."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def top_p_of(top_p: float | None) -> float:
    """As sampling takes it."""
    return 1.0 if top_p is None else max(top_p, LEAST_TOP_P)


def seed_of(seed: int | None) -> int | None:
    """As sampling takes it: negative ones are the numbers that have the same 64 bits."""
    return None if seed is None else seed % 2**64


def bias_of(biases: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    """Pairs of token id and bias. Raises `Refusal` for a key that is no token id."""
    return tuple((_token(key), bias) for key, bias in (biases or {}).items())


def _token(key: str) -> int:
    # One spelling for each token, so that none is named twice.
    if not (key.isascii() and key.isdigit() and len(key) < 10 and str(int(key)) == key):
        raise Refusal(
            Reason.INVALID,
            "the keys of 'logit_bias' are token ids, such as \"50256\"",
            param="logit_bias",
        )
    return int(key)


def wants_usage(stream: bool | None, options: StreamOptions | None) -> bool:
    """Whether a stream ends with what it has used. Raises `Refusal` for other options."""
    if options is None:
        return False
    if not stream:
        raise Refusal(
            Reason.INVALID, "'stream_options' goes with 'stream': true", param="stream_options"
        )
    if options.include_obfuscation:
        raise Refusal(
            Reason.UNSUPPORTED,
            "'include_obfuscation' is not supported: chunks are as long as their text",
            param="stream_options.include_obfuscation",
        )
    return bool(options.include_usage)
