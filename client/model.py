"""A model whose blocks live in the swarm: text in, text out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch

from swarm.checkpoint import Checkpoint
from swarm.errors import RequestError
from swarm.wire.messages import DType, HopTimes
from swarm.wire.tensors import wire_dtype

from .access import Access
from .chunks import RowInput
from .head import Head
from .model_key import ModelKey
from .route import Route
from .sampling import Sampler, SamplingConfig
from .session import Session
from .text import TextStream
from .wire import AUTO, Sender, choose, wire_type

logger = logging.getLogger(__name__)

Conversation = Sequence[Mapping[str, str]]


class Finish(StrEnum):
    """Why a reply ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"


@dataclass
class Reply:
    """What is known of a reply; grows while it streams. Times in seconds.

    `hop_seconds` holds, for each hop of the route, the mean queue and compute time of a decode
    step.
    """

    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
    route: Route = ()
    hop_seconds: list[tuple[float, float]] = field(default_factory=list)
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    num_recoveries: int = 0
    _num_timed: int = 0
    _sampler: Sampler | None = None

    @property
    def tokens_per_second(self) -> float:
        """Decoded tokens per second after the first one; 0 where there were none."""
        return (len(self.ids) - 1) / self.decode_seconds if self.decode_seconds else 0.0

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Who chooses the tokens; the same one, and its random state, where a reply goes on."""
        if self._sampler is None or self._sampler.config != sampling:
            self._sampler = Sampler(sampling)
        return self._sampler

    def note_times(self, times: HopTimes) -> None:
        """Adds one decode step's times; a changed route starts the mean anew."""
        if len(times) != len(self.hop_seconds):
            self.hop_seconds, self._num_timed = [(0.0, 0.0)] * len(times), 0
        self._num_timed += 1
        weight = 1 / self._num_timed
        self.hop_seconds = [
            (
                queue + weight * (hop.queue / 1e6 - queue),
                compute + weight * (hop.compute / 1e6 - compute),
            )
            for (queue, compute), hop in zip(self.hop_seconds, times, strict=True)
        ]


class RemoteModel:
    """One model of a swarm. Made by `Swarm.model`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        head: Head,
        access: Access,
        wire: str = AUTO,
    ) -> None:
        self.checkpoint = checkpoint
        self.head = head
        self.key = ModelKey(
            checkpoint.fingerprint,
            checkpoint.num_blocks,
            checkpoint.hidden_size,
            checkpoint.context_length,
        )
        self._access = access
        self._exact = wire_dtype(head.dtype)
        self._wire = wire_type(wire, self._exact)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, a transformers `PreTrainedTokenizerBase`."""
        return self.checkpoint.tokenizer()

    def session(self, num_rows: int = 1, dtype: DType | None = None) -> Session:
        """A new session; `async with` closes it.

        `dtype` is what travels: by default what was asked for when the model was opened, and if
        that was "auto", what pays by all that is known of the lines now (`swarm.client.wire`).
        """
        dtype = dtype or self._wire or choose(self._exact, self.key.hidden_size, self._senders())
        return Session(self.key, self._access, dtype=dtype, num_rows=num_rows)

    def _senders(self) -> list[Sender]:
        """The client and the hops that a session would go through now, as far as is known."""
        router = self._access.router
        senders = [Sender(router.upload_rate)]
        for entry, round_trip in router.outlook(self.key):
            senders.append(
                Sender(
                    entry.upload_rate, entry.decode_seconds, entry.prefill_seconds, round_trip / 2
                )
            )
        return senders if len(senders) > 1 else []

    def encode(self, prompt: str | Conversation, *, raw: bool = False) -> list[int]:
        """Token ids of a prompt: through the chat template, or as it is where `raw`.

        A conversation is a list of `{"role": …, "content": …}`. Raises `RequestError` for an empty
        prompt and for a conversation with a model that has no chat template.
        """
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise RequestError("the prompt is empty")
        tokenizer = self.tokenizer
        if isinstance(prompt, str) and (raw or not tokenizer.chat_template):
            ids = tokenizer(prompt)["input_ids"]
        elif not tokenizer.chat_template:
            raise RequestError(f"{self.checkpoint.name} has no chat template; give a plain prompt")
        else:
            talk = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            ids = tokenizer.apply_chat_template(
                list(talk), add_generation_prompt=True, return_dict=True
            )["input_ids"]
        if not ids:
            raise RequestError("the prompt holds no tokens")
        return [int(token) for token in ids]

    async def prepare(self, prompt: str | Conversation, *, raw: bool = False) -> Reply:
        """A reply that is still to be made, for `reply`; `encode` in a thread of its own.

        Reading a tokenizer may take seconds, in which others' heartbeats must go on.
        """
        return Reply(await asyncio.to_thread(self.encode, prompt, raw=raw))

    async def stream(
        self,
        prompt: str | Conversation,
        *,
        raw: bool = False,
        sampling: SamplingConfig | None = None,
        **options: Any,
    ) -> AsyncGenerator[str, None]:
        """Yields the reply's text as it comes.

        Options are the fields of `SamplingConfig`, such as `max_new_tokens` or `temperature`.
        """
        reply = await self.prepare(prompt, raw=raw)
        async with aclosing(self.reply(reply, _sampling(sampling, options))) as pieces:
            async for piece in pieces:
                yield piece

    async def generate(
        self,
        prompt: str | Conversation,
        *,
        raw: bool = False,
        sampling: SamplingConfig | None = None,
        **options: Any,
    ) -> Reply:
        """The whole reply at once, with its token ids, route and times."""
        reply = await self.prepare(prompt, raw=raw)
        async for _ in self.reply(reply, _sampling(sampling, options)):
            pass
        return reply

    async def reply(self, reply: Reply, sampling: SamplingConfig) -> AsyncGenerator[str, None]:
        """Fills `reply`, which begins with its prompt's ids, and yields its text piece by piece.

        A reply that an error has cut short goes on where it was: what it has is not yielded again.
        """
        self._check_room(reply, sampling)
        text = TextStream(self.tokenizer, sampling.stop)
        for token in reply.ids:
            text.push(token)
        async with self.session() as session:
            # Closed with the session, not when the garbage is collected.
            async with aclosing(self._tokens(session, reply, sampling)) as tokens:
                async for token in tokens:
                    piece = text.push(token)
                    if text.finished:
                        reply.finish = Finish.STOP
                    if piece:
                        reply.text += piece
                        yield piece
                    if text.finished:
                        return
        if rest := text.flush():
            reply.text += rest
            yield rest
        if text.finished:
            reply.finish = Finish.STOP

    async def _tokens(
        self, session: Session, reply: Reply, sampling: SamplingConfig
    ) -> AsyncGenerator[int, None]:
        sampler = reply.sampler(sampling)
        ends = set() if sampling.ignore_eos else self.eos_ids
        ids = torch.tensor([*reply.prompt_ids, *reply.ids])
        fresh, position = ids, 0
        clock = time.perf_counter()
        while reply.finish is None and len(reply.ids) < sampling.max_new_tokens:
            hidden = self.head.embed(fresh)
            (last,) = await session.step([RowInput(0, position, hidden)])
            clock = self._note(reply, session, clock, prefill=not position)
            position += len(fresh)
            token = sampler.choose(ids, self.head.logits(last)[0])
            fresh = torch.tensor([token])
            ids = torch.cat([ids, fresh])
            reply.ids.append(token)
            if token in ends:
                reply.finish = Finish.EOS
                return
            if len(reply.ids) == sampling.max_new_tokens:
                reply.finish = Finish.LENGTH
            yield token
            # Lets a caller who only consumes be cancelled and others' messages through.
            await asyncio.sleep(0)

    @property
    def eos_ids(self) -> set[int]:
        """Tokens that end a reply."""
        ends = self.checkpoint.generation_config().eos_token_id
        if ends is None:
            ends = self.tokenizer.eos_token_id
        return set() if ends is None else set(ends if isinstance(ends, list) else [ends])

    def _check_room(self, reply: Reply, sampling: SamplingConfig) -> None:
        needed = len(reply.prompt_ids) + sampling.max_new_tokens
        limit = self.key.context_length
        if limit and needed > limit:
            raise RequestError(
                f"{len(reply.prompt_ids)} prompt tokens and up to {sampling.max_new_tokens} new"
                f" ones do not fit the model's context of {limit}"
            )

    def _note(self, reply: Reply, session: Session, since: float, *, prefill: bool) -> float:
        now = time.perf_counter()
        if prefill:
            reply.prefill_seconds += now - since
        else:
            reply.decode_seconds += now - since
            reply.note_times(session.last_times)
        reply.route, reply.num_recoveries = session.route, session.num_recoveries
        return now


def _sampling(sampling: SamplingConfig | None, options: Mapping[str, Any]) -> SamplingConfig:
    if sampling is not None and options:
        raise RequestError("give either `sampling` or single options")
    try:
        return sampling or SamplingConfig(**options)
    except TypeError as error:
        raise RequestError(f"unknown option: {error}") from error
