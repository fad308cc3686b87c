"""Runs batches of many sessions' steps through a span, on the thread that calls it.

Policy lives elsewhere: the runner is told which rows to run, and only keeps their memory right.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from logging import getLogger
from statistics import median
from typing import Any

import torch
from torch import nn

from swarm.errors import ConfigError, LocalProtocolError
from swarm.kernels import MAX_ROWS

from .attention import BatchPlan, RowPlan
from .blocks import Span
from .kv_cache import KVCache
from .pages import PageTable
from .probe import refusal
from .recognition import recognize

logger = getLogger(__name__)

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}
"""Largest relative error of `Runner.check`: what rounding over many layers explains."""

_MEASURE_S = 0.25


@dataclass(frozen=True, slots=True)
class RowStep:
    """`count` new positions of `row` (of the runner's `pages`), the first at `position`.

    Positions of the row from `position` on are forgotten first.
    """

    row: int
    position: int
    count: int


class Runner:
    """A span with memory for its rows. Not thread-safe: one thread calls it."""

    def __init__(self, span: Span, *, num_pages: int, page_len: int = 32) -> None:
        self.span = span
        self.pages = PageTable(num_pages, page_len)
        self.kv = KVCache(
            span.geometry,
            num_pages=num_pages,
            page_len=page_len,
            dtype=span.dtype,
            device=span.device,
        )
        self._program = recognize(span, self.kv)

    @torch.inference_mode()
    def run(
        self,
        rows: Sequence[RowStep],
        hidden: torch.Tensor,
        blocks: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Run one ragged batch: [total, hidden_size] in, the same shape out, on the span's device.

        `blocks` are those of the span to run the batch through: all, unless it says fewer.

        `hidden` holds the rows' positions behind one another, in the order of `rows`; each row
        comes once. Raises PageShortage (see `PageTable.pages_needed`): then nothing was
        computed, and a row is at most rolled back, so that the same call may come again.
        """
        total = sum(step.count for step in rows)
        if hidden.shape != (total, self.span.hidden_size):
            raise LocalProtocolError(f"hidden states {tuple(hidden.shape)} for {total} positions")
        if len({step.row for step in rows}) != len(rows):
            raise LocalProtocolError("a row comes twice in one batch")
        span = self.span.part(*blocks) if blocks is not None else self.span
        plans = self._place(rows)
        hidden = hidden.to(device=self.span.device, dtype=self.span.dtype)
        if not total:
            return hidden
        if self._program is not None and total <= MAX_ROWS:
            start, end = span.start - self.span.start, span.end - self.span.start
            return self._program.run(plans, hidden, (start, end))
        plan = BatchPlan(plans, self.kv, span.device)
        return span.forward(hidden.unsqueeze(0), plan.position_ids(), plan)[0]

    def _place(self, rows: Sequence[RowStep]) -> list[RowPlan]:
        plans: list[RowPlan] = []
        offset = 0
        for step in rows:
            copies = self.pages.prepare_write(step.row, step.position, step.count)
            if copies:  # at once: should a later row find no page, this one stays right
                self.kv.copy_pages(copies)
            pages = self.pages.pages_of(step.row)
            plans.append(RowPlan(pages, step.position, step.count, offset))
            offset += step.count
        return plans

    def check(self) -> None:
        """Compare this runner with transformers' own attention on seeded random hidden states.

        Two rows, several chunks, ragged batches and a rollback against one whole pass each. The
        program, if there is one, is compared too, and given up if it differs.
        Raises ConfigError if the architecture does something around its layers, or in its
        attention, that spans would get wrong, or if there is no memory to try it with.
        """
        span = self.span
        if self.pages.free_pages < sum(-(-n // self.pages.page_len) for n in (11, 6)):
            raise ConfigError("no memory for even 17 positions: give the peer more")
        generator = torch.Generator().manual_seed(0)
        texts = [
            torch.randn(n, span.hidden_size, generator=generator).to(span.device, span.dtype)
            for n in (11, 6)
        ]
        program, self._program = self._program, None
        with torch.inference_mode(), self._bare_ends():
            try:
                whole = [span.forward_eager(text.unsqueeze(0))[0] for text in texts]
            except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
                raise refusal(span.architecture, f"no plain attention: {error}") from error
            worst = self._apart(texts, whole)
        if not worst <= _TOLERANCE[span.dtype]:
            raise refusal(
                span.architecture, f"results differ from transformers' own by {worst:.1%}"
            )
        if program is not None:
            self._program = program
            worst = self._apart(texts, whole)
            if not worst <= _TOLERANCE[span.dtype]:
                self._program = None
                logger.info("program given up architecture=%s", span.architecture)

    def _apart(self, texts: Sequence[torch.Tensor], whole: Sequence[torch.Tensor]) -> float:
        """How far `texts` in pieces end from `whole`, relative to what the blocks change."""
        ours = self._in_pieces(texts)
        delta = torch.cat(list(whole)).float() - torch.cat(list(texts)).float()
        apart = (torch.cat(ours).float() - torch.cat(list(whole)).float()).norm(dim=-1)
        relative = apart / delta.norm(dim=-1).clamp_min(1e-6)
        # A token that another expert takes after rounding differs a lot, and rightly so.
        exact = self.span.dtype == torch.float32
        return float(relative.max() if exact else relative.quantile(0.75))

    def _in_pieces(self, texts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """`texts` (11 and 6 positions) through `run` in chunks; returns what came out."""
        a, b = texts
        outs = [torch.empty_like(a), torch.empty_like(b)]
        with self._row() as row_a, self._row() as row_b:
            for pieces in (
                [(0, 0, 7)],
                [(0, 7, 1), (1, 0, 5)],
                [(0, 8, 3), (1, 5, 1)],
                [(1, 3, 3), (0, 10, 1)],
            ):
                steps = [RowStep((row_a, row_b)[i], p, n) for i, p, n in pieces]
                out = self.run(steps, torch.cat([texts[i][p : p + n] for i, p, n in pieces]))
                parts = torch.split(out, [n for _, _, n in pieces])
                for (i, p, n), part in zip(pieces, parts, strict=True):
                    outs[i][p : p + n] = part
        return outs

    @contextmanager
    def _bare_ends(self) -> Iterator[None]:
        """Within: what the model gets reaches the first layer unchanged; likewise at the end."""
        span = self.span
        given: list[torch.Tensor] = []

        def at_first(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            got = args[0] if args else kwargs.get("hidden_states")
            if not (isinstance(got, torch.Tensor) and torch.equal(got, given[-1])):
                raise refusal(span.architecture, "it changes embeddings before the first layer")

        def at_last(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            given[-1] = out[0] if isinstance(out, tuple) else out

        def at_model(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given.append(kwargs["inputs_embeds"])

        def at_end(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if not torch.equal(out.last_hidden_state, given.pop()):
                raise refusal(span.architecture, "it changes hidden states after the last layer")

        with ExitStack() as hooks:
            model, layers = span.model, span.layers
            for hook in (
                model.register_forward_pre_hook(at_model, with_kwargs=True),
                layers[0].register_forward_pre_hook(at_first, with_kwargs=True),
                layers[-1].register_forward_hook(at_last),
                model.register_forward_hook(at_end),
            ):
                hooks.callback(hook.remove)
            yield

    def measure(self) -> tuple[float, float]:
        """(seconds per decode step, seconds per prefill position) on this machine.

        A decode step is one position of one row behind a chunk of 128; the chunk is smaller
        where memory or a second of time would not do. Needs some free pages.
        """
        room = self.pages.free_pages * self.pages.page_len
        if room < 2:
            raise ConfigError("no memory for even two positions: give the peer more")
        with self._row() as row:
            done, chunk_s = 1, self._timed(RowStep(row, 0, 1))
            for count in (32, 128):
                if count >= room or (count > 32 and chunk_s > _MEASURE_S / 4):
                    break
                done, chunk_s = count, self._quickest(RowStep(row, 0, count))
            steps = [self._timed(RowStep(row, done, 1)) for _ in range(2)]
            while sum(steps) < _MEASURE_S and len(steps) < 16:
                steps.append(self._timed(RowStep(row, done, 1)))
        return median(steps), chunk_s / done

    def _quickest(self, step: RowStep) -> float:
        """Seconds, the least of two times or more: how prompts are cut follows from it for good.

        The first time pays for fresh memory, and each for what else the machine does meanwhile.
        """
        times = [self._timed(step) for _ in range(2)]
        while sum(times) < _MEASURE_S and len(times) < 5:
            times.append(self._timed(step))
        return min(times)

    def _timed(self, step: RowStep) -> float:
        hidden = torch.randn(step.count, self.span.hidden_size)
        start = time.perf_counter()
        self.run([step], hidden).cpu()
        return time.perf_counter() - start

    @contextmanager
    def _row(self) -> Iterator[int]:
        row = self.pages.add_row()
        try:
            yield row
        finally:
            self.pages.remove_row(row)

    def forget(self) -> None:
        """Begins anew, without any row: nobody is left to remove those that there were."""
        self.pages = PageTable(self.pages.num_pages, self.pages.page_len)

    @property
    def has_program(self) -> bool:
        """Whether a few positions run as a program (see `recognition`)."""
        return self._program is not None

    def close(self) -> None:
        """Give the KV memory back. Closing twice is fine."""
        self._program = None
        self.kv.close()
