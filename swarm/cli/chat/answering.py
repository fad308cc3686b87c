"""One answer, while it comes: written as it grows, stopped by Ctrl-C, mended by the session."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swarm.errors import RequestError

from .._report import Report
from ..runner import interruptible

if TYPE_CHECKING:
    from swarm.client import RemoteModel, Reply, SamplingConfig, SpeculationConfig, Swarm

    from .screen import Screen

_LEAST_ROOM = 8
"""Tokens; with less room than that for an answer the conversation counts as too long."""


class TooLong(RequestError):
    """The conversation leaves no room for an answer."""


@dataclass(frozen=True)
class Terms:
    """How answers are made: how tokens are chosen, and what is guessed ahead."""

    sampling: SamplingConfig
    speculation: SpeculationConfig


@dataclass
class Answer:
    """A reply that is under way or over; `sampling` is what it was begun with."""

    asked: str
    reply: Reply
    terms: Terms
    stopped: bool = False
    sent_bytes: int = 0
    received_bytes: int = 0

    def report(self, names: dict[str, str]) -> Report:
        """What `/route` shows; `names` are the peers', by id."""
        return Report(self.reply, names, self.sent_bytes, self.received_bytes)


async def begin(
    model: RemoteModel, messages: list[dict[str, str]], asked: str, terms: Terms
) -> Answer:
    """An answer that is still to be written, no longer than the model's context has room for.

    Raises `TooLong` where there is hardly any, and `RequestError` for what the model cannot read.
    """
    reply = await model.prepare(messages)
    sampling, limit = terms.sampling, model.key.context_length
    if limit:
        room = limit - len(reply.prompt_ids)
        if room < min(_LEAST_ROOM, sampling.max_new_tokens):
            raise TooLong(
                f"the conversation has become too long: {len(reply.prompt_ids)} tokens, and the"
                f" model reads at most {limit}"
            )
        sampling = replace(sampling, max_new_tokens=min(room, sampling.max_new_tokens))
    return Answer(asked, reply, Terms(sampling, terms.speculation))


async def write(swarm: Swarm, model: RemoteModel, answer: Answer, screen: Screen) -> None:
    """Streams the answer, or the rest of one that an error has cut short.

    Ctrl-C stops it: what has come stays.
    """
    answer.stopped = False
    sent, received = swarm.traffic
    try:
        async with interruptible() as scope:
            terms = answer.terms
            pieces = model.reply(answer.reply, terms.sampling, terms.speculation)
            async with aclosing(pieces):
                async for piece in pieces:
                    screen.write(piece)
        answer.stopped = scope.expired()
    finally:
        screen.end()
        sent_now, received_now = swarm.traffic
        answer.sent_bytes += sent_now - sent
        answer.received_bytes += received_now - received


def summary(answer: Answer, context_length: int) -> str:
    """The line below an answer."""
    reply = answer.reply
    tokens, prompt = len(reply.ids), len(reply.prompt_ids)
    parts = [f"{tokens} tokens"]
    if tokens > 1 and reply.decode_seconds:
        parts[0] += f" at {reply.tokens_per_second:.1f} tokens/s"
    if reply.prefill_seconds:
        parts.append(f"first after {reply.prefill_seconds:.2f} s")
    used = f"{prompt + tokens} of {context_length} tokens" if context_length else ""
    parts.append(f"context {used or prompt + tokens}")
    if answer.stopped:
        parts.insert(0, "stopped")
    elif reply.finish == "length":
        parts.insert(0, "cut at the limit (/set max_tokens)")
    return " · ".join(parts)


def mended(answer: Answer) -> str:
    """What became of the route meanwhile; empty if nothing did."""
    times = answer.reply.num_recoveries
    if not times:
        return ""
    how_often = {1: "once", 2: "twice"}.get(times, f"{times} times")
    return f"A peer was lost on the way: the route was mended {how_often}, the text is complete."
