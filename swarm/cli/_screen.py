"""What a peer took of this machine and why, on one screen."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
import typer
from rich.cells import cell_len, set_cell_size

from swarm.amounts import shortly
from swarm.transport.reach import Reach

from ._options import plain
from ._times import moment

if TYPE_CHECKING:
    from swarm.peer.service import Peer
    from swarm.transport import Transport

_WIDTH = 79
_INDENT = 10
_NAME = 48
"""Columns that a name may take: names are others' to choose."""


def show(running: Peer) -> None:
    """Writes it to standard error; on a terminal what each line is about is set off."""
    typer.echo(err=True)
    for line in _wrapped(_headline(running), _WIDTH):
        typer.echo(line, err=True)
    for about, text in _lines(running):
        for number, line in enumerate(_wrapped(text, _WIDTH - _INDENT)):
            label = f"  {about if not number else '':<{_INDENT - 2}}"
            typer.echo(typer.style(label, dim=True) + line, err=True)
    typer.echo(err=True)


def _headline(running: Peer) -> str:
    group = _short(running.member.group.name or "the group")
    name = _short(running.config.name)
    if running.paused:
        return f'This machine waits to contribute to {group}, as "{name}".'
    return f'This machine contributes to {group}, as "{name}".'


def _lines(running: Peer) -> Iterator[tuple[str, str]]:
    entry = running.announcement()
    if (pause := running.pause) is not None and running.paused:
        back = f"; back at {moment(pause.resumes)}" if pause.resumes else ""
        yield "paused", f"{pause.why}{back}. It stays a member, and holds no memory."
    yield "model", f"{_short(entry.model_name)}, {entry.num_blocks} blocks"
    if running.taken is not None:
        number = entry.end - entry.start
        yield "blocks", f"{entry.start}:{entry.end} ({number}): {running.taking.reason}"
    yield "device", _device(running)
    if running.taken is not None:
        yield "memory", _memory(running)
        yield "speed", _speed(running)
    yield "reached", _reached(running.member.transport)
    yield "limits", "; ".join(_limits(running)) or "none: see --max-memory, --max-upload, --hours"
    grace = running.config.leave_patience
    yield "stop", f"Ctrl-C: running answers go on elsewhere, within {grace:g} s"


def _device(running: Peer) -> str:
    from swarm.peer import devices

    device, config = running.taking.device, running.config
    threads = f" with {config.num_threads} threads" if device.type == "cpu" else ""
    form = running.taking.form
    kept = "" if form == "none" else f", weights in {form}"
    if running.taking.widens:
        kept = " (--quantize file would keep the file's fewer bits)"
    numbers = str(running.taking.dtype).removeprefix("torch.")
    others = [str(each) for each in devices.accelerators() if each != device]
    if device.type != "cpu":
        others.append("cpu")
    beside = f"; also here: {', '.join(others)}" if others else "; no accelerator was found"
    return f"{device} ({devices.name(device)}){threads}, {numbers}{kept}{beside}"


def _memory(running: Peer) -> str:
    from swarm.peer.devices import free_memory

    taken, entry = running.taken, running.announcement()
    assert taken is not None
    left = free_memory(running.taking.device)
    return (
        f"{shortly(taken.free)} were free: {shortly(taken.weights)} for weights,"
        f" {shortly(taken.kv)} for running answers ({entry.total_positions} tokens);"
        f" {shortly(left)} left now"
    )


def _speed(running: Peer) -> str:
    taken = running.taken
    assert taken is not None
    speed = taken.speed
    return (
        f"{1 / speed.decode_seconds:.0f} tokens/s through these blocks, a prompt"
        f" {1 / speed.prefill_seconds:.0f} (measured, one answer at a time)"
    )


def _reached(transport: Transport) -> str:
    addresses = transport.addresses
    if transport.reach is Reach.RELAYED:
        relays = getattr(transport, "relays", ())
        number = f"{len(relays)} relay{'s' * (len(relays) != 1)}"
        return f"through {number}, directly where a hole can be punched: no port is open"
    if not addresses:
        return "nowhere yet: this machine has no network address"
    host = addresses[0].split("/")[2]
    if transport.reach is Reach.UNKNOWN:
        return f"not known yet; listens at {_place(addresses[0])}"
    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    mapped = "" if host in own or not _is_ip(host) else ", by a port that the router forwards"
    return f"directly, at {_place(addresses[0])}{mapped}"


def _place(address: str) -> str:
    parts = address.split("/")
    host = f"[{parts[2]}]" if ":" in parts[2] else parts[2]
    return f"{host}:{parts[4]}" if len(parts) > 4 else host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _limits(running: Peer) -> Iterator[str]:
    config = running.config
    if config.max_memory:
        yield f"memory {shortly(config.max_memory)} in all"
    if upload := running.neighbours.upload_limit:
        yield f"upload {upload * 8 / 1e6:.3g} Mbit/s"
    if config.hours:
        here = time.strftime("%Z")
        yield f"hours {' '.join(config.hours)} ({here})"
    if config.pause_when_busy:
        busy = config.busy
        yield f"pauses while others use over {busy.above:.0%} of the machine"


def _short(name: str) -> str:
    """As much of a name as leaves room for the rest, on one line."""
    name = " ".join(plain(name).split())
    return name if cell_len(name) <= _NAME else f"{set_cell_size(name, _NAME - 1).rstrip()}…"


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split(" "):
        if line and cell_len(line) + 1 + cell_len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
