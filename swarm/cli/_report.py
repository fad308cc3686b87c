"""What is told about a reply when it is over: its route, its times, its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from swarm.energy.meter import Source

from ._options import shown

if TYPE_CHECKING:
    from swarm.client import Reply


@dataclass(frozen=True)
class Report:
    """A finished reply, the peers' names by id, and what this client sent and received."""

    reply: Reply
    names: Mapping[str, str]
    sent_bytes: int
    received_bytes: int

    def as_json(self, model: str) -> dict[str, Any]:
        """For programs: text, token ids, route and timings."""
        reply = self.reply
        return {
            "model": model,
            "text": reply.text,
            "ids": reply.ids,
            "prompt_ids": reply.prompt_ids,
            "cached": reply.num_cached,
            "finish": str(reply.finish) if reply.finish else None,
            "route": [
                {
                    "peer": hop.peer,
                    "name": self.names.get(hop.peer, ""),
                    "start": hop.start,
                    "end": hop.end,
                    "queue_seconds": queue,
                    "compute_seconds": compute,
                }
                for hop, (queue, compute) in self._hops()
            ],
            "timings": {
                "prefill_seconds": reply.prefill_seconds,
                "decode_seconds": reply.decode_seconds,
                "tokens_per_second": reply.tokens_per_second,
            },
            "energy": None
            if (energy := reply.energy) is None
            else {
                "joules_per_token": energy.joules_per_token,
                "source": energy.source,
                "estimated": energy.source == Source.ESTIMATE,
            },
            "recoveries": reply.num_recoveries,
            "distrusted": list(reply.distrusted),
            "speculation": {
                "steps": reply.num_steps,
                "drafted": reply.num_drafted,
                "accepted": reply.num_accepted,
            },
            "bytes": {"sent": self.sent_bytes, "received": self.received_bytes},
        }

    def show(self, console: Console) -> None:
        """For people."""
        reply = self.reply
        table = Table(title="Route", title_justify="left", title_style="bold")
        for column in ("hop", "peer", "blocks"):
            table.add_column(column, no_wrap=True)
        for column in ("compute", "queue"):
            table.add_column(column, justify="right", no_wrap=True)
        for number, (hop, (queue, compute)) in enumerate(self._hops(), 1):
            name = self.names.get(hop.peer, "?")
            table.add_row(
                str(number),
                shown(f"{name} …{hop.peer[-6:]}"),
                f"{hop.start}:{hop.end}",
                f"{compute * 1e3:.1f} ms",
                f"{queue * 1e3:.1f} ms",
            )
        console.print(table)
        for line in self._lines():
            console.print(line, highlight=False)
        if reply.num_recoveries:
            mended = f"Times that the route had to be mended: {reply.num_recoveries}"
            console.print(mended, highlight=False)

        for peer in reply.distrusted:
            name = shown(f"{self.names.get(peer, '?')} …{peer[-6:]}")
            warning = f"{name} was found to compute wrongly: do not trust this answer, ask again"
            console.print(warning, style="bold red", highlight=False)

    def _hops(self) -> list[tuple[Any, tuple[float, float]]]:
        times = self.reply.hop_seconds
        route = self.reply.route
        # A reply of one token has no decode step to tell times of.
        padded = times if len(times) == len(route) else [(0.0, 0.0)] * len(route)
        return list(zip(route, padded, strict=True))

    def _lines(self) -> list[str]:
        reply = self.reply
        tokens = len(reply.ids)
        prompt_len = len(reply.prompt_ids)
        kept = f", {reply.num_cached} of them kept by the peers" if reply.num_cached else ""
        first = f"First token after {reply.prefill_seconds:.2f} s"
        lines = [f"{first} ({prompt_len} in the prompt{kept})"]
        if tokens > 1:
            step = reply.decode_seconds / (tokens - 1)
            busy = sum(compute + queue for queue, compute in reply.hop_seconds)
            # A step may have brought several tokens.
            busy *= reply.num_steps / (tokens - 1)
            lines.append(
                f"{tokens} tokens at {reply.tokens_per_second:.1f} tokens/s:"
                f" {step * 1e3:.1f} ms each, {busy * 1e3:.1f} ms of it at the peers"
            )
        if reply.num_drafted:
            lines.append(
                f"Guessed ahead: {reply.num_accepted} of {reply.num_drafted} guesses came true,"
                f" {reply.num_steps} steps instead of {reply.num_steps + reply.num_accepted}"
            )
        if (energy := reply.energy) is not None:
            lines.append(
                f"Energy at the peers: {energy.joules_per_token:.2f} J for each token"
                f" ({energy.source})"
            )
        sent, received = self.sent_bytes, self.received_bytes
        lines.append(f"Bytes that crossed this client: {sent:,} sent, {received:,} received")
        return lines
