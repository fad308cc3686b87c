"""Plain transformers in this process, the reference that everybody has."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from swarm.checkpoint import Checkpoint
from swarm.checkpoint.quiet import quiet

from .plan import Plan


class PlainModel:
    """A whole model as transformers runs it, with the same weights and number type."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, checkpoint: Checkpoint, dtype: torch.dtype) -> PlainModel:
        """Reads all weights; `ConfigError` as the checkpoint raises it."""
        state = checkpoint.load_ends(dtype)
        state |= checkpoint.load_blocks(0, checkpoint.num_blocks, dtype)
        with quiet(), torch.device("meta"):
            kind: Any = type(AutoModelForCausalLM.from_config(checkpoint.config))
        with quiet():
            model = kind.from_pretrained(
                None, config=checkpoint.config, state_dict=state, dtype=dtype
            )
        return cls(model.eval())

    @torch.inference_mode()
    def measure(self, ids: torch.Tensor, plan: Plan) -> tuple[float, list[float]]:
        """Seconds of a prompt `[n]` with the token after it, and of each token after that."""
        started = time.perf_counter()
        out = self._model(ids[None], use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        prefill = time.perf_counter() - started
        decode = []
        for _ in range(plan.num_tokens):
            started = time.perf_counter()
            out = self._model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            decode.append(time.perf_counter() - started)
        return prefill, decode
