"""How a model is asked: the options of every command that does, and what is made of them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.forms import Form

from . import _completion, _options
from ._options import CacheOption, RevisionOption

if TYPE_CHECKING:
    from swarm.checkpoint import Progress
    from swarm.client import ModelOptions, SamplingConfig, SpeculationConfig, Swarm
    from swarm.client.recovery import OnWait
    from swarm.invite import Invite

# What the commands have different defaults for.

MaxTokensOption = Annotated[int, typer.Option(min=1, help="At most so many new tokens.")]

WaitOption = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for missing blocks.")
]


@dataclass(frozen=True)
class Choosing:
    """How tokens are chosen."""

    temperature: Annotated[
        float, typer.Option(min=0, help="0 always takes the likeliest token.")
    ] = 0.0
    top_k: Annotated[int, typer.Option(min=0, help="Among the likeliest so many; 0: all.")] = 0
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Among the likeliest mass.")] = 1.0
    min_p: Annotated[
        float, typer.Option(min=0, max=1, help="At least this part of the best chance.")
    ] = 0.0
    repetition_penalty: Annotated[float, typer.Option(help="1 punishes nothing.")] = 1.0
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")] = None

    def sampling(self, max_tokens: int) -> SamplingConfig:
        """For at most so many new tokens. Raises `RequestError` for what does not go together."""
        from swarm.client import SamplingConfig

        return SamplingConfig(
            max_new_tokens=max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=tuple(self.stop or ()),
        )


@dataclass(frozen=True)
class Asking:
    """How the client's part of a model is loaded and run, what is guessed and what is checked."""

    dtype: Annotated[
        str,
        typer.Option(
            help="Of the client's part: auto, bfloat16, float16, float32.",
            autocompletion=_completion.among("auto", "bfloat16", "float16", "float32"),
        ),
    ] = "auto"
    wire: Annotated[
        str,
        typer.Option(
            help="What travels: auto (as --dtype, int8 over slow lines), float32, bfloat16,"
            " float16, int8.",
            autocompletion=_completion.among("auto", "float32", "bfloat16", "float16", "int8"),
        ),
    ] = "auto"
    quantize: Annotated[Form, typer.Option(help="The client's output head in fewer bits.")] = (
        Form.NONE
    )
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0: all cores.")] = 0
    speculate: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="Guesses that travel along with each token. Changes no text.",
            autocompletion=_completion.among("auto", "off"),
        ),
    ] = "auto"
    draft: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A small model of the same family guesses, too.",
            autocompletion=_completion.models,
        ),
    ] = None
    audit: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="RATE",
            help="Part of the peers' work that others do again, to find who is wrong; 0: none.",
        ),
    ] = 0.01
    revision: RevisionOption = None
    cache: CacheOption = None

    def options(self, progress: Progress | None = None) -> ModelOptions:
        """For a model to be loaded with. Raises `ConfigError` if there is no such draft."""
        from swarm.client import ModelOptions

        return ModelOptions(
            revision=self.revision,
            dtype=self.dtype,
            cache_dir=self.cache,
            progress=progress,
            draft=_options.existing_model(self.draft) if self.draft else None,
            wire=self.wire,
            quantize=self.quantize,
        )

    def speculation(self) -> SpeculationConfig:
        """Raises `ConfigError` for what is no number of guesses."""
        from swarm.client import SpeculationConfig

        return SpeculationConfig.parse(self.speculate)

    def joining(
        self, invite: str | Invite, wait: float, on_wait: OnWait | None = None
    ) -> AbstractAsyncContextManager[Swarm]:
        """The swarm, to be entered; torch computes with `threads` from now on.

        `wait`: seconds for missing blocks. `on_wait`: see `Swarm.join`.
        """
        import torch

        from swarm.client import AuditConfig, Swarm
        from swarm.client.config import SessionConfig
        from swarm.client.recovery import log_wait

        if self.threads:
            torch.set_num_threads(self.threads)
        return Swarm.join(
            invite,
            _options.asker(),
            session_config=SessionConfig(route_patience=wait),
            on_wait=on_wait or log_wait,
            audit_config=AuditConfig(rate=self.audit),
        )
