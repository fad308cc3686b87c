"""An answer in OpenAI's chunks, read for what it means; every word of it may be a lie."""

from __future__ import annotations

import math
import re
import secrets
from typing import Annotated, Any

import msgspec

from swarm.client import ChosenToken
from swarm.quoting import quoted, shortened

from ..events import CallBegun, CallPart, Ended, Ending, Event, Said, Usage
from ..refusals import Reason, Refusal

_MOST_CALLS = 128
"""Calls of tools in one choice."""

_NO_ID = -1
"""Token ids are not told."""

_RAW = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")
"""How tokens that are no whole characters are written where there are no bytes beside them."""

_ENDINGS = {
    "stop": Ending.END,
    "length": Ending.LENGTH,
    "tool_calls": Ending.CALLS,
}

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class Top(msgspec.Struct):
    """One of the likeliest tokens in a place."""

    token: str
    logprob: float
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None


class Chance(Top):
    """A token of a chat's answer, and those that were likely in its place."""

    top_logprobs: list[Top] = []


class Logprobs(msgspec.Struct):
    """Of a chat's chunk (`content`), or of a completion's (the others)."""

    content: list[Chance] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Function(msgspec.Struct):
    """What is called."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(msgspec.Struct):
    """More of a call."""

    index: _Count = 0
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    """More of a message."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None


class Choice(msgspec.Struct):
    """More of one choice: `delta` in a chat, `text` in a completion.

    `stop_reason` is vLLM's: the stop string that came.
    """

    index: _Count = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    stop_reason: Any = None


class Details(msgspec.Struct):
    """Of a prompt's tokens."""

    cached_tokens: _Count | None = None


class Spent(msgspec.Struct):
    """The tokens of it all."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    prompt_tokens_details: Details | None = None


class Chunk(msgspec.Struct):
    """One event of an answer."""

    choices: list[Choice] = []
    usage: Spent | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Chunk)


def broken(why: str) -> Refusal:
    """What came is no answer."""
    return Refusal(Reason.NO_ROUTE, f"the fallback's answer is broken off: {why}")


class Interpreter:
    """Reads the answer to one question for `num_choices` choices from its beginning."""

    def __init__(self, num_choices: int, stop: tuple[str, ...] = ()) -> None:
        self._stop = stop
        # How many calls each choice has begun, until it has ended.
        self._running = dict.fromkeys(range(num_choices), 0)
        self.usage = Usage()

    def push(self, data: bytes) -> list[Event]:
        """What one event's data tells. Raises `Refusal` where that is nonsense."""
        try:
            chunk = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken(f"it says what nobody understands ({shortened(error)})") from error
        if chunk.error:
            raise broken(f"it says {said(chunk.error)}")
        if chunk.usage is not None:
            self._count(chunk.usage)
        return [event for choice in chunk.choices for event in self._choice(choice)]

    def end(self) -> None:
        """Nothing follows. Raises `Refusal` where something should."""
        if self._running:
            raise broken("it ends in the middle")

    def _count(self, spent: Spent) -> None:
        details = spent.prompt_tokens_details or Details()
        cached = min(details.cached_tokens or 0, spent.prompt_tokens)
        self.usage = Usage(spent.prompt_tokens, cached, spent.completion_tokens)

    def _choice(self, choice: Choice) -> list[Event]:
        delta = choice.delta or Delta()
        text = (delta.content or "") + (delta.refusal or "") + (choice.text or "")
        tokens = _tokens(choice.logprobs) if choice.logprobs else ()
        calls = delta.tool_calls or []
        if not (text or tokens or calls or choice.finish_reason):
            return []  # Some say once more that there is nothing to say.
        if choice.index not in self._running:
            raise broken(f"choice {choice.index} goes on, which has ended or was not asked for")
        events: list[Event] = [Said(choice.index, text, tokens)] if text or tokens else []
        for call in calls:
            events += self._call(choice.index, call)
        if choice.finish_reason:
            events.append(self._ended(choice))
        return events

    def _call(self, choice: int, call: CallDelta) -> list[Event]:
        function, num_begun = call.function or Function(), self._running[choice]
        events: list[Event] = []
        if call.index == num_begun and num_begun < _MOST_CALLS:
            if not function.name:
                raise broken("a call without a name")
            self._running[choice] += 1
            name = call.id or f"call_{secrets.token_hex(12)}"
            events.append(CallBegun(choice, call.index, name, function.name))
        elif call.index != num_begun - 1:
            raise broken(f"a call number {call.index} after {num_begun} calls")
        if function.arguments:
            events.append(CallPart(choice, call.index, function.arguments))
        return events

    def _ended(self, choice: Choice) -> Ended:
        ending = _ENDINGS.get(choice.finish_reason or "")
        if ending is None:
            raise broken(f"it ended because of {quoted(choice.finish_reason)}")
        num_calls = self._running.pop(choice.index)
        if ending is Ending.END and num_calls:
            ending = Ending.CALLS  # So it is said where a tool was asked for by its name.
        stopped_by = choice.stop_reason if ending is Ending.END else None
        if stopped_by is not None and stopped_by in self._stop:
            return Ended(choice.index, Ending.STOP, stopped_by)
        return Ended(choice.index, ending)


def said(error: Any) -> str:
    """What an error says for itself, briefly."""
    if isinstance(error, dict):
        error = error.get("message", error)
    return shortened(error) if isinstance(error, str) else quoted(error)


def _tokens(logprobs: Logprobs) -> tuple[ChosenToken, ...]:
    if logprobs.content is not None:
        return tuple(_chosen(chance) for chance in logprobs.content)
    tokens, own = logprobs.tokens or [], logprobs.token_logprobs or []
    top = logprobs.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(own) == len(top):
        raise broken("its tokens and their logprobs do not match")
    return tuple(
        ChosenToken(
            _NO_ID,
            _raw(token),
            None if logprob is None else _finite(logprob),
            tuple((_NO_ID, _raw(other), _finite(value)) for other, value in (best or {}).items()),
        )
        for token, logprob, best in zip(tokens, own, top, strict=True)
    )


def _chosen(chance: Chance) -> ChosenToken:
    top = tuple((_NO_ID, _bytes(each), _finite(each.logprob)) for each in chance.top_logprobs)
    return ChosenToken(_NO_ID, _bytes(chance), _finite(chance.logprob), top)


def _bytes(top: Top) -> bytes:
    return _raw(top.token) if top.bytes is None else bytes(top.bytes)


def _raw(token: str) -> bytes:
    if match := _RAW.fullmatch(token):
        return bytes.fromhex(match[1].replace("\\x", ""))
    return token.encode()


def _finite(logprob: float) -> float:
    if not math.isfinite(logprob):
        raise broken("a logprob that is no number")
    return logprob
