"""A transformers model whose blocks live in the swarm, for people who know transformers.

    model = SwarmModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct",
    join=invite) ids = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=20)

It is used from ordinary, synchronous code: an event loop of its own runs in a thread behind it.
"""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Protocol, Self

import torch
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from swarm.errors import RequestError
from swarm.wire.messages import Want

from .auditing.config import DEFAULT_RATE, AuditConfig
from .chunks import RowInput
from .model import RemoteModel
from .session import Session
from .swarm import ModelOptions, Swarm


class Portal(Protocol):
    """Calls into the event loop from another thread; anyio's `BlockingPortal` is one."""

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Runs a function or coroutine function in the loop and returns its result."""


class SwarmCache(Cache):  # type: ignore[misc]
    """What transformers holds as a cache: a session, and how much of it counts.

    `width` is the padded length that transformers sees. Cropping and reordering cost nothing here:
    they travel with the next step, as a position and as a permutation of rows.
    """

    def __init__(self, remote: RemoteModel, portal: Portal) -> None:
        super().__init__(layers=[])
        self.width = 0
        self.session: Session | None = None
        self._remote, self._portal = remote, portal
        self._padding: list[int] = []
        self._order: list[int] | None = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Padded positions so far."""
        return self.width

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """No limit of the cache's own."""
        return -1

    @property
    def is_croppable(self) -> bool:
        """A roll-back leaves no trace."""
        return True

    @property
    def batch_size(self) -> int:
        """Rows, or -1 before the first step."""
        return len(self._padding) or -1

    def activate_past_recording(self) -> None:
        """Peers keep all positions anyway."""

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the last `-tokens_to_remove` positions; a positive number is what to keep.

        (Older versions of transformers call it with the length that should remain.)
        """
        if tokens_to_remove > 0:
            self.width = min(self.width, tokens_to_remove)
        else:
            self.width += tokens_to_remove

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row `i` becomes what row `beam_idx[i]` was."""
        sources = beam_idx.tolist()
        old = self._order or list(range(len(self._padding)))
        self._order = [old[source] for source in sources]
        self._padding = [self._padding[source] for source in sources]

    def reset(self) -> None:
        """Forgets everything."""
        self.close()
        self.width, self._padding, self._order = 0, [], None

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Not possible: a session's number of rows is fixed."""
        raise RequestError("the rows of a session cannot be multiplied; expand the inputs instead")

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Not possible: a session's number of rows is fixed."""
        raise RequestError("the rows of a session cannot be selected; start again with fewer")

    def close(self) -> None:
        """Frees the session at the peers; happens by itself when nobody holds the cache."""
        if self.session is not None:
            self._closer()
            self.session = None

    def step(
        self,
        hidden: torch.Tensor,
        real: torch.Tensor,
        want: Want,
        ids: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Runs the real (not padding) positions of `hidden` `[rows, n, hidden_size]`.

        `real` `[rows, n]` is a boolean mask, `ids` `[rows, n]` are the tokens where it is tokens.
        One result per row, `[its real positions or 1, hidden_size]`.
        """
        if self.session is None:
            # In the loop: what travels is chosen by what the router knows at this moment.
            self.session = self._portal.call(self._remote.session, len(hidden))
            self._padding = [0] * len(hidden)
            loop = self._portal.call(asyncio.get_running_loop)
            self._closer = weakref.finalize(self, _close_soon, loop, self.session)
        if len(hidden) != len(self._padding):
            raise RequestError(f"{len(hidden)} rows in a cache of {len(self._padding)}")
        rows = [
            RowInput(
                row,
                self.width - self._padding[row],
                hidden[row][real[row]],
                None if ids is None else tuple(ids[row][real[row]].tolist()),
            )
            for row in range(len(hidden))
        ]
        order, self._order = self._order, None
        if order == list(range(len(hidden))):
            order = None
        outputs: list[torch.Tensor] = self._portal.call(self.session.step, rows, want, order)
        self.width += hidden.shape[1]
        self._padding = [
            pads + hidden.shape[1] - int(real[row].sum()) for row, pads in enumerate(self._padding)
        ]
        return outputs


def _close_soon(loop: asyncio.AbstractEventLoop, session: Session) -> None:
    # The collector may run in any thread, the loop's own included: nothing may be waited for.
    with suppress(RuntimeError):  # The loop has ended, and with it the links of the session.
        loop.call_soon_threadsafe(session.close)


class SwarmModelForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A causal language model whose blocks are run by peers.

    `generate()` works with its streamers, beam search, prompt lookup and assistant models. What
    only the blocks could tell (attentions, inner hidden states) is refused.
    """

    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = False

    def __init__(self, remote: RemoteModel, portal: Portal) -> None:
        super().__init__(copy.deepcopy(remote.checkpoint.config))
        self.head = remote.head.module
        self.remote = remote
        self._portal = portal
        self._exit = ExitStack()
        self.generation_config = copy.deepcopy(remote.checkpoint.generation_config())

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        join: str,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        wire: str = "auto",
        audit: float = DEFAULT_RATE,
    ) -> Self:
        """Joins the group of the invite `join` and opens `model`; `close()` leaves the group.

        `model` is a repo id, a folder or a `.gguf` file; only the embeddings and the head of it are
        loaded. `dtype` and `wire` are as in `ModelOptions`; `audit` is the part of the peers' work
        that is checked. Raises `ConfigError` and `Unreachable` as `Swarm.join` and `Swarm.model`
        do.
        """
        from anyio.from_thread import start_blocking_portal

        name = str(dtype).removeprefix("torch.")
        options = ModelOptions(revision=revision, dtype=name, wire=wire)
        joining = Swarm.join(join, audit_config=AuditConfig(rate=audit))
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            swarm = stack.enter_context(portal.wrap_async_context_manager(joining))
            opened = cls(portal.call(swarm.model, model, options), portal)
            opened._exit = stack.pop_all()
        return opened

    def close(self) -> None:
        """Leaves the group; the model cannot be used afterwards. May be called again."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_input_embeddings(self) -> torch.nn.Module:
        """The client's own embeddings."""
        return self.head.get_input_embeddings()  # type: ignore[no-any-return]

    def get_output_embeddings(self) -> torch.nn.Module:
        """The client's own head."""
        return self.head.get_output_embeddings()  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As transformers' own models: `input_ids` `[rows, n]` to logits `[rows, kept,
        vocab_size]`.

        Padding (zeros in `attention_mask`) never leaves this machine. Raises `RequestError` for
        what the swarm cannot give.
        """
        _refuse(kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise RequestError("give either input_ids or inputs_embeds")
        cache = self._cache(past_key_values)
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = torch.stack([self.remote.head.embed(row) for row in input_ids])
        real = _real(inputs_embeds, attention_mask, cache.width)
        _check_positions(position_ids, attention_mask, real)
        last_only = isinstance(logits_to_keep, int) and logits_to_keep == 1 and labels is None
        only_last = last_only and bool(real[:, -1].all())
        want = Want.LAST if only_last else Want.ALL
        outputs = cache.step(inputs_embeds, real, want, input_ids)
        if only_last:
            logits = torch.stack([self.remote.head.logits(row) for row in outputs])
        else:
            logits = self._logits(_spread(outputs, real), logits_to_keep, labels is not None)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        if past_key_values is None and not use_cache:
            cache.close()
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)

    def _logits(
        self, hidden: torch.Tensor, keep: int | torch.Tensor, everything: bool
    ) -> torch.Tensor:
        kept = slice(-keep, None) if isinstance(keep, int) else keep
        chosen = hidden if everything else hidden[:, kept]
        flat = self.remote.head.logits(chosen.reshape(-1, chosen.shape[-1]))
        return flat.view(*chosen.shape[:2], -1)

    def _cache(self, given: Cache | None) -> SwarmCache:
        if isinstance(given, SwarmCache):
            return given
        if given is not None and given.get_seq_length() > 0:
            raise RequestError("past_key_values of another model cannot be used in the swarm")
        return SwarmCache(self.remote, self._portal)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False:
            if generation_config.cache_implementation not in (None, "dynamic"):
                kind = generation_config.cache_implementation
                raise RequestError(f"cache_implementation {kind} means nothing in the swarm")
            model_kwargs["past_key_values"] = SwarmCache(self.remote, self._portal)
            return None
        return super()._prepare_cache_for_generation(
            generation_config, model_kwargs, *args, **kwargs
        )


def _refuse(options: dict[str, Any]) -> None:
    for name in ("output_attentions", "output_hidden_states"):
        if options.pop(name, None):
            raise RequestError(f"{name}: only the peers see these")
    options.pop("return_dict", None)
    if unknown := [name for name, value in options.items() if value is not None]:
        raise RequestError(f"the swarm's model takes no {', '.join(unknown)}")


def _real(embeds: torch.Tensor, mask: torch.Tensor | None, width: int) -> torch.Tensor:
    """Which of the new positions `[rows, n]` are no padding."""
    rows, count = embeds.shape[:2]
    if mask is None:
        return torch.ones(rows, count, dtype=torch.bool)
    if mask.dim() != 2:
        raise RequestError("attention_mask must be [rows, positions]")
    if mask.shape[1] not in (count, width + count):
        raise RequestError(f"attention_mask of {mask.shape[1]} for {width}+{count} positions")
    return mask[:, -count:].bool() if count else torch.ones(rows, 0, dtype=torch.bool)


def _check_positions(
    position_ids: torch.Tensor | None, mask: torch.Tensor | None, real: torch.Tensor
) -> None:
    """Positions follow from the padding; any others would need other blocks."""
    if position_ids is None or not real.any():
        return
    steps = position_ids.expand_as(real).diff(dim=1)
    both = real[:, 1:] & real[:, :-1]
    if bool((steps[both] != 1).any()):
        raise RequestError("position_ids must count the positions that are no padding")


def _spread(outputs: Sequence[torch.Tensor], real: torch.Tensor) -> torch.Tensor:
    """Results of the real positions back at their places `[rows, n, hidden_size]`, else zeros."""
    size = outputs[0].shape[-1]
    spread = torch.zeros(*real.shape, size, dtype=outputs[0].dtype)
    for row, output in enumerate(outputs):
        spread[row][real[row]] = output
    return spread
