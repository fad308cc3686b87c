"""The undisturbed answers: what transformers itself says to some prompts, greedily, in float32."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.quiet import quiet

_PROMPT_LENS = (2, 7, 40, 77, 150, 450)

_TEXT = """\
A swarm of bees is no machine, and yet it weighs a choice better than most committees do. Scouts
fly out in every direction, look at hollow trees, and come home to dance for what they have found.
The better the hollow, the longer the dance; the longer the dance, the more scouts go and look for
themselves. Nobody counts the votes. When enough bees stand at one place at the same time, they know
it by the crowd, and the whole swarm lifts off. Now and then a scout does not return. Another one
has seen the same tree, and the dance goes on. That is the second thing worth learning from them:
nothing that matters is known by one alone. A third is their patience. They hang from a branch in
the rain for a day and a night, warm in the middle, and do not fly before they have made up their
minds. People who build things out of many small computers have found the same three rules again,
usually after a night in the rain of their own. The first computers that were joined in this way
shared a room and a clock. Then they shared a building, then a street, and at last nothing at all
but a wire and the will to answer when asked. What they are asked has changed as well. In the
beginning it was the price of a thing or the way to a town"""

_CLEAR = 2e-3
"""Where the two best tokens are nearer than this, sums in another order may swap them."""


def undisturbed(model: Path, length: int) -> list[dict[str, list[int]]]:
    """Prompts of various lengths (positions) with up to `length` tokens that follow.

    An answer ends before the first token that is too close to call. Answers are kept where this
    system keeps caches: they take a minute.
    """
    torch.set_num_threads(1)
    with open_checkpoint(str(model)) as checkpoint, quiet():
        asked = json.dumps([checkpoint.fingerprint, _TEXT, _PROMPT_LENS, _CLEAR, length])
        name = f"chaos-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
        kept = user_cache_path("homeswarm") / name
        if kept.exists():
            answers: list[dict[str, list[int]]] = json.loads(kept.read_text())
            return answers
        state = checkpoint.load_ends(torch.float32)
        state |= checkpoint.load_blocks(0, checkpoint.num_blocks, torch.float32)
        with torch.device("meta"):
            kind: Any = type(AutoModelForCausalLM.from_config(checkpoint.config))
        plain = kind.from_pretrained(
            None, config=checkpoint.config, state_dict=state, dtype=torch.float32
        ).eval()
        ids = [int(token) for token in checkpoint.tokenizer()(2 * _TEXT)["input_ids"]]
    answers = []
    for number, prompt_len in enumerate(_PROMPT_LENS):
        # Not all from the beginning: equal beginnings would hide rows that were mixed up.
        start = 11 * number if prompt_len + 11 * number <= len(ids) else 0
        prompt = ids[start : start + prompt_len]
        answers.append({"prompt": prompt, "answer": _answer(plain, prompt, length)})
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(answers))
    return answers


def _answer(model: Any, prompt: list[int], length: int) -> list[int]:
    given = torch.tensor([prompt])
    out = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.stack(out.logits)[:, 0].topk(2).values
    close = (best[:, 0] - best[:, 1] < _CLEAR).nonzero()
    end = int(close[0]) if len(close) else length
    assert end > 3, "this prompt cannot be compared"
    return [int(token) for token in out.sequences[0, len(prompt) :][:end]]
