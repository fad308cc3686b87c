"""A benchmark's result for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from swarm.client.benchmark.result import Memory, Result

from ._options import shown


def to_json(result: Result) -> str:
    """All of it; the names are those of `swarm.client.benchmark.result`."""
    return json.dumps(asdict(result), indent=2, ensure_ascii=False) + "\n"


def show(result: Result) -> None:
    """Tables on standard output."""
    console = Console()
    console.print(_speeds(result))
    console.print(_hops(result))
    if result.memory:
        console.print(_memory(result.memory))
    for line in _remarks(result):
        console.print(line, highlight=False)


def _speeds(result: Result) -> Table:
    table, plain = _table(_title(result), "", "swarm"), result.reference
    if plain is not None:
        table.add_column("transformers", justify="right")
        table.add_column("ratio", justify="right")

    def add(label: str, value: float, beside: float, ratio: float) -> None:
        cells = [f"{beside:.1f}", f"{ratio:.2f}"] if beside else []
        table.add_row(label, f"{value:.1f}", *cells)

    stream = plain.decode_tokens_per_second if plain else 0.0
    prefill = plain.prefill_tokens_per_second if plain else 0.0
    ratios = (plain.decode_ratio, plain.prefill_ratio) if plain else (0.0, 0.0)
    add("decode, tokens/s", result.decode_tokens_per_second, stream, ratios[0])
    prompt = f"prompt of {result.prompt_len}, tokens/s"
    add(prompt, result.prefill_tokens_per_second, prefill, ratios[1])
    table.add_row("first token after, ms", f"{result.first_token_ms:.0f}")
    for each in result.aggregate:
        ratio = plain.sessions_ratio[str(each.sessions)] if plain else 0.0
        label = f"{each.sessions} session{'s' * (each.sessions > 1)} at once, tokens/s"
        add(label, each.tokens_per_second, stream, ratio)
    return table


def _title(result: Result) -> str:
    hops = f"{len(result.hops)} hop{'s' * (len(result.hops) != 1)}"
    parts = [shown(result.model), result.dtype, result.quantize, hops]
    if result.threads is not None:
        parts.append(f"{result.threads} thread{'s' * (result.threads > 1)} each")
    return ", ".join(part for part in parts if part)


def _hops(result: Result) -> Table:
    step = result.step
    table = _table("One decode step", "", "blocks", "compute, ms", "queue, ms", "sends, bytes")
    sent = {link.sender: _size(link.bytes_per_token, link.measured) for link in result.links}
    table.add_row("client", "", f"{step.client_ms:.2f}", "", sent.get("client", ""))
    for index, hop in enumerate(result.hops, 1):
        link = result.links[index]
        table.add_row(
            shown(hop.name),
            f"{hop.start}:{hop.end}",
            f"{hop.compute_ms:.2f}",
            f"{hop.queue_ms:.2f}",
            _size(link.bytes_per_token, link.measured),
        )
    table.add_section()
    table.add_row(f"{len(result.hops) + 1} trips", "", f"{step.wire_ms:.2f}", "", "")
    table.add_row("all", "", f"{step.whole_ms:.2f}", f"{step.queue_ms:.2f}", "")
    return table


def _size(num_bytes: float, measured: bool) -> str:
    return f"{'' if measured else '≈ '}{num_bytes:,.0f}"


def _memory(memory: list[Memory]) -> Table:
    table = _table("Memory, MB", "process", "resident", "at most", "libp2p")
    for each in memory:
        peak = "?" if each.peak_mb is None else f"{each.peak_mb:.0f}"
        table.add_row(shown(each.name), f"{each.resident_mb:.0f}", peak, f"{each.daemon_mb:.0f}")
    return table


def _remarks(result: Result) -> Iterator[str]:
    step = result.step
    yield f"Overhead per hop (all but compute and the client): {step.overhead_per_hop_ms:.2f} ms"
    if (limit := result.bandwidth) is not None:
        yield (
            f"One token reads {limit.megabytes_per_token:,.0f} MB of weights; at the"
            f" {limit.gigabytes_per_second:.1f} GB/s that one process reads here this takes"
            f" {limit.limit_ms:.1f} ms ({limit.limit_tokens_per_second:.1f} tokens/s):"
            f" {limit.fraction * 100:.0f} % of that limit was reached"
        )
    if result.recoveries:
        yield f"The route had to be mended {result.recoveries} times: do not trust these numbers"


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
