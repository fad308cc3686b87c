"""A model whose blocks live in the swarm: text in, text out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import Any

from swarm.checkpoint import Checkpoint
from swarm.errors import RequestError
from swarm.wire.messages import DType
from swarm.wire.tensors import wire_dtype

from .access import Access
from .choices import Choices
from .decoding import Decoding
from .energy import energy
from .grammar.compiler import Compiler
from .head import Head
from .model_key import ModelKey
from .piece import Piece
from .readout import Readout
from .reply import Reply
from .sampling import SamplingConfig
from .session import Session
from .speculation import SpeculationConfig, quick_drafters
from .speculation.draft_model import DraftModel
from .speculation.forced import Forced
from .speculation.speculator import Speculator
from .spelling import Spelling
from .telling import Telling, echo
from .template import ChatTemplate
from .text import TextStream
from .transcript import Transcript, transcript_key
from .wire import AUTO, Sender, choose, wire_type

logger = logging.getLogger(__name__)

Conversation = Sequence[Mapping[str, str]]


class RemoteModel:
    """One model of a swarm. Made by `Swarm.model`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        head: Head,
        access: Access,
        *,
        draft_model: DraftModel | None = None,
        wire: str = AUTO,
    ) -> None:
        self.checkpoint = checkpoint
        self.head = head
        self.readout = Readout(head)
        self.key = ModelKey(
            checkpoint.fingerprint,
            checkpoint.num_blocks,
            checkpoint.hidden_size,
            checkpoint.context_length,
        )
        self._access = access
        self._draft_model = draft_model
        self._exact = wire_dtype(head.dtype)
        self._wire = wire_type(wire, self._exact)
        self._chosen: DType | None = None
        self._grammars = Compiler(lambda: self.tokenizer, head.vocab_size, lambda: self.eos_ids)
        self._template: ChatTemplate | None = None

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, a transformers `PreTrainedTokenizerBase`."""
        return self.checkpoint.tokenizer()

    @property
    def template(self) -> ChatTemplate:
        """How the model reads a conversation. Raises `RequestError` if it was not taught any."""
        if self._template is None:
            self._template = ChatTemplate(self.tokenizer, self.checkpoint.name)
        return self._template

    def session(self, num_rows: int = 1, dtype: DType | None = None) -> Session:
        """A new session; `async with` closes it.

        `dtype` is what travels: by default what was asked for when the model was opened, and if
        that was "auto", what pays by all that is known of the lines now (`swarm.client.wire`).
        """
        dtype = dtype or self._wire or self._choose()
        transcript = self._transcript() if num_rows == 1 else None
        return Session(
            self.key, self._access, dtype=dtype, num_rows=num_rows, transcript=transcript
        )

    def _choose(self) -> DType:
        senders = self._senders()
        self._chosen = choose(self._exact, self.key.hidden_size, senders, self._chosen)
        return self._chosen

    def _transcript(self) -> Transcript | None:
        unit_len = self._access.config.unit_len
        if not unit_len:
            return None
        embeddings = str(self.head.dtype)
        # What peers have kept from before one of them was caught may come from that one.
        times = self._access.auditor.repute.num_caught
        secret = hashlib.blake2b(b"%d" % times, key=self._access.secret, digest_size=32).digest()
        key = transcript_key(secret, self.key.fingerprint, embeddings)
        return Transcript(key, unit_len)

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

    async def missing(self) -> tuple[tuple[int, int], ...]:
        """The blocks that nobody serves now, as half-open ranges: empty where there is a route.

        By what peers announce and what is known of them here; nobody is dialled.
        """
        return await self._access.router.missing(self.key)

    def encode(self, prompt: str | Conversation, *, raw: bool = False) -> list[int]:
        """Token ids of a prompt: through the chat template, or as it is where `raw`.

        A conversation is a list of `{"role": …, "content": …}`; in its contents, names of control
        tokens are text. Raises `RequestError` for an empty prompt (of spaces alone, unless it is
        `raw`) and for a conversation with a model that has no chat template, or one that does not
        take it.
        """
        if not prompt or (isinstance(prompt, str) and not raw and not prompt.strip()):
            raise RequestError("the prompt is empty")
        tokenizer = self.tokenizer
        if isinstance(prompt, str) and (raw or not tokenizer.chat_template):
            ids = tokenizer(prompt)["input_ids"]
        else:
            talk = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            ids = self.template.encode(talk)
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
        speculation: SpeculationConfig | None = None,
        **options: Any,
    ) -> AsyncGenerator[str, None]:
        """Yields the reply's text as it comes.

        Options are the fields of `SamplingConfig`, such as `max_new_tokens` or `temperature`.
        """
        reply = await self.prepare(prompt, raw=raw)
        chosen = _sampling(sampling, options)
        async with aclosing(self.reply(reply, chosen, speculation)) as pieces:
            async for piece in pieces:
                yield piece

    async def generate(
        self,
        prompt: str | Conversation,
        *,
        raw: bool = False,
        sampling: SamplingConfig | None = None,
        speculation: SpeculationConfig | None = None,
        **options: Any,
    ) -> Reply:
        """The whole reply at once, with its token ids, route and times."""
        reply = await self.prepare(prompt, raw=raw)
        async for _ in self.reply(reply, _sampling(sampling, options), speculation):
            pass
        return reply

    async def reply(
        self,
        reply: Reply,
        sampling: SamplingConfig,
        speculation: SpeculationConfig | None = None,
    ) -> AsyncGenerator[str, None]:
        """Fills `reply`, which begins with its prompt's ids, and yields its text piece by piece.

        `speculation` changes how fast it comes, never what comes. A reply that an error has cut
        short goes on where it was: what it has is not yielded again.
        """
        async with aclosing(self.pieces(reply, sampling, speculation)) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield piece.text

    async def pieces(
        self,
        reply: Reply,
        sampling: SamplingConfig,
        speculation: SpeculationConfig | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """`reply` with the tokens of each piece, and their logprobs where they were asked for.

        Every token that is part of the text comes once, in order; one that ends the reply, or
        belongs to a stop string alone, does not.
        """
        self._check(reply, sampling)
        await self._constrain(reply, sampling)
        telling = Telling(reply, self._text(sampling.stop), self._spelled)
        ends = set() if sampling.ignore_eos else self.eos_ids
        for token in (token for token in reply.ids if token not in ends):
            if piece := telling.push(token):
                yield piece
            if telling.finished:
                return
        with self._access.tally.replying(reply):
            try:
                async with self.session() as session:
                    # Closed with the session, not when the garbage is collected.
                    written = self._tokens(session, reply, sampling, speculation)
                    async with aclosing(written) as tokens:
                        async for token in tokens:
                            if piece := telling.push(token):
                                yield piece
                            if telling.finished:
                                return
            finally:
                reply.energy = energy(reply, self._access.router.announced(self.key))
        if piece := telling.flush():
            yield piece

    async def choices(
        self,
        replies: Sequence[Reply],
        sampling: SamplingConfig,
        speculation: SpeculationConfig | None = None,
    ) -> AsyncGenerator[tuple[int, Piece | None], None]:
        """`pieces` of several replies to one prompt at once, each with the index of its reply.

        None in place of a piece says that this reply is over.

        Choice `i` is drawn with `seed + i` where a seed is given: the first is what it would be
        alone. Peers that keep prefixes compute the prompt once, so `num_cached` of the first is
        what was known before. After an error all go on where they were.
        """
        unit_len = self._access.config.unit_len
        # What a reply computes of its prompt is kept as soon as its first token has come.
        shared = 0 < unit_len < min(len(reply.prompt_ids) for reply in replies)

        def pieces(reply: Reply, seeded: SamplingConfig) -> AsyncGenerator[Piece, None]:
            return self.pieces(reply, seeded, speculation)

        choices = Choices(pieces, replies, sampling, one_ahead=shared)
        async with aclosing(choices.told()) as found:
            async for index, piece in found:
                yield index, piece

    async def echo(self, reply: Reply) -> Piece:
        """The prompt of `reply` as the text that it reads as, without special tokens.

        With the logprobs of its tokens, once the reply has them (`SamplingConfig.prompt_logprobs`);
        nothing says how likely the first is.
        """
        return await asyncio.to_thread(echo, reply, self._text(), self._spelled)

    def _text(self, stop: Sequence[str] = ()) -> TextStream:
        return TextStream(self.tokenizer, self._spelled, stop)

    @cached_property
    def _spelled(self) -> Spelling:
        return Spelling(self.tokenizer)

    def _tokens(
        self,
        session: Session,
        reply: Reply,
        sampling: SamplingConfig,
        speculation: SpeculationConfig | None = None,
    ) -> AsyncGenerator[int, None]:
        ends = set() if sampling.ignore_eos else self.eos_ids
        slow = self._draft_model.drafter() if self._draft_model is not None else None
        drafters = quick_drafters()
        if (matcher := reply.sampler(sampling).matcher) is not None:
            drafters.insert(0, Forced(matcher))
        speculator = Speculator(speculation or SpeculationConfig(), drafters, slow)
        return Decoding(session, self.readout, reply, sampling, ends, speculator).tokens()

    @property
    def eos_ids(self) -> set[int]:
        """Tokens that end a reply."""
        ends = self.checkpoint.generation_config().eos_token_id
        if ends is None:
            ends = self.tokenizer.eos_token_id
        return set() if ends is None else set(ends if isinstance(ends, list) else [ends])

    async def _constrain(self, reply: Reply, sampling: SamplingConfig) -> None:
        """Readies the grammar, once for each reply: one that goes on is where it was."""
        if not reply.is_constrained(sampling):
            assert sampling.grammar is not None
            reply.constrain(sampling, await self._grammars.matcher(sampling.grammar))

    def _check(self, reply: Reply, sampling: SamplingConfig) -> None:
        """Raises `RequestError` for what this model cannot do."""
        sampling.check_vocabulary(self.head.vocab_size)
        needed = len(reply.prompt_ids) + sampling.max_new_tokens
        limit = self.key.context_length
        if limit and needed > limit:
            raise RequestError(
                f"{len(reply.prompt_ids)} prompt tokens and up to {sampling.max_new_tokens} new"
                f" ones do not fit the model's context of {limit}"
            )


def _sampling(sampling: SamplingConfig | None, options: Mapping[str, Any]) -> SamplingConfig:
    if sampling is not None and options:
        raise RequestError("give either `sampling` or single options")
    try:
        return sampling or SamplingConfig(**options)
    except TypeError as error:
        raise RequestError(f"unknown option: {error}") from error
