"""The swarm on a home network in a box: what is reached at each round trip and uplink.

    sudo python benchmarks/home.py [--rtt 0 5 20 50 100] [--uplink 20 100 1000] [--peers 3] …

Starts a bootstrap, peers with one thread each and a client, each on a machine of its own made of a
network namespace, and measures over one network after the other: decode without speculation, 16 KB
there and back, the first token of a short prompt, and long prompts. Beside each stands the least
that the setting allows: delays, bytes over rates, and the compute measured in the same run. With
`--texts` it also writes texts without and with guesses. The table goes to standard output;
`--json -` writes JSON instead. Needs Linux, root and iproute2.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from home_network.box import Box, Setting, build
from home_network.namespaces import NoNamespacesError, ProgramError
from rich.console import Console
from rich.table import Table
from telling import tell

from swarm.cli.demo import demonstration_model
from swarm.errors import ConfigError

FAILED, WRONG = 1, 2


def main() -> int:
    """Measures and prints; 2 where networks cannot be built or the arguments are wrong."""
    console = Console(stderr=True, highlight=False)
    arguments = _arguments()
    try:
        settings = _settings(arguments)
        with ExitStack() as stack:
            folder = Path(
                arguments.logs or stack.enter_context(tempfile.TemporaryDirectory())
            ).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            box = stack.enter_context(build(folder, settings[0], seed=arguments.seed))
            if arguments.command:
                return _run(box, arguments.command)
            return _measure(box, settings, arguments, console)
    except (NoNamespacesError, ConfigError, ValueError) as error:
        console.print(f"swarm: {error}")
        return WRONG
    except ProgramError as error:
        console.print(str(error), markup=False)
        return FAILED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--rtt", type=float, nargs="+", default=[0, 5, 20, 50, 100], metavar="MS")
    parser.add_argument("--uplink", type=float, nargs="+", default=[20, 100, 1000], metavar="MBIT")
    parser.add_argument("--downlink", type=float, default=0, metavar="MBIT", help="0: as uplink")
    parser.add_argument("--jitter", type=float, default=0, metavar="MS")
    parser.add_argument("--loss", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--queue", type=float, default=100, metavar="MS", help="of each line")
    parser.add_argument("--seed", type=int, default=0, help="draws the same loss and jitter again")
    parser.add_argument("--decode", type=int, default=16, help="steps per setting")
    parser.add_argument("--prompts", type=int, nargs="*", default=[512, 2048], metavar="POSITIONS")
    parser.add_argument("--rounds", type=int, default=1, help="of each prompt and text")
    parser.add_argument(
        "--texts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also write those of speculation_texts.py, without and with guesses: code, prose …",
    )
    parser.add_argument("--chunk-len", type=int, default=0, help="of prompts; 0: as usual")
    parser.add_argument("--logs", metavar="DIR", help="keep the machines' folders there")
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    parser.add_argument("--plot", metavar="FILE", help="draw it: .svg, .png, .pdf")
    parser.add_argument(
        "command",
        nargs="*",
        metavar="-- COMMAND",
        help="runs this on a machine beside an idle one (5.0.0.2) instead, in the first setting",
    )
    arguments = parser.parse_args()
    if arguments.peers < 1 or arguments.rounds < 1 or arguments.decode < 2:
        parser.error("at least 1 peer, 1 round and 2 decode steps")
    if arguments.plot and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install 'homeswarm[plot]'")
    return arguments


def _settings(arguments: argparse.Namespace) -> list[Setting]:
    return [
        Setting(
            rtt,
            uplink,
            arguments.downlink,
            arguments.jitter,
            arguments.loss / 100,
            arguments.queue,
        )
        for rtt in arguments.rtt
        for uplink in arguments.uplink
    ]


def _run(box: Box, command: Sequence[str]) -> int:
    """Somebody's own program on the first machine, with the terminal's input and output."""
    near, _ = box.host("near"), box.host("far")
    return near.call(command)


def _measure(
    box: Box, settings: Sequence[Setting], arguments: argparse.Namespace, console: Console
) -> int:
    # These load torch, which somebody's own program does not need.
    from home_network import limit, village
    from speculation_texts import chosen

    from swarm.checkpoint import open_checkpoint

    chosen(arguments.texts)  # Refused before the swarm is started.
    model = arguments.model or str(demonstration_model())
    with open_checkpoint(model) as checkpoint:
        num_blocks = checkpoint.num_blocks
    rows: list[limit.Row] = []
    num_cores = len(os.sched_getaffinity(0))
    with village.settle(box, model, num_blocks, arguments.peers) as settled:
        for number, setting in enumerate(settings, 1):
            console.print(
                f"{number}/{len(settings)} {setting.rtt:g} ms, {setting.uplink:g} Mbit/s",
                style="dim",
            )
            box.apply(setting)
            before = box.report()
            measured = settled.measure(
                decode=arguments.decode,
                prompts=arguments.prompts,
                rounds=arguments.rounds,
                chunk_len=arguments.chunk_len,
                texts=arguments.texts,
            )
            rows.append(limit.row(setting, measured, num_cores, _passed(before, box.report())))
    _tell(rows, Path(model).name, arguments)
    return 0


def _passed(before: dict, after: dict) -> dict[str, float]:
    """What the router did meanwhile; a router that was late makes a setting's numbers worthless."""
    counts = [report["machines"].values() for report in (before, after)]
    dropped, lost, sent = (
        sum(machine[kind] for machine in counts[1]) - sum(machine[kind] for machine in counts[0])
        for kind in ("dropped", "lost", "bytes")
    )
    cpu = after["cpu"] - before["cpu"]
    return {
        "bytes": sent,
        "dropped": dropped,
        "lost": lost,
        "router_cpu_seconds": cpu,
        "router_latest_seconds": after["latest"],
    }


def _tell(rows: Sequence, model: str, arguments: argparse.Namespace) -> None:
    result = {
        "model": model,
        "peers": arguments.peers,
        "cores": len(os.sched_getaffinity(0)),
        "rows": [row.to_json() for row in rows],
    }
    tell(result, arguments.json, partial(_show, rows, model, arguments))
    if arguments.plot:
        from home_network import plot

        plot.draw(rows, model, Path(arguments.plot))


def _show(rows: Sequence, model: str, arguments: argparse.Namespace) -> None:
    table = Table(
        title=f"{model}, {arguments.peers} peers, one thread each; reached and limit, ms (share)"
    )
    columns = ["decode step", "16 KB there, back", "first token"]
    columns += [f"prompt {length}" for length in arguments.prompts]
    for column in ("ms", "Mbit/s", *columns, "broke"):
        table.add_column(column, justify="right")
    for row in rows:
        reached = [row.decode, row.echo, row.first_token, *row.prompts.values()]
        table.add_row(
            f"{row.setting.rtt:g}",
            f"{row.setting.uplink:g}",
            *(
                f"{each.seconds * 1e3:.0f} / {each.limit * 1e3:.0f} ({each.ratio:.2f})"
                for each in reached
            ),
            str(row.recoveries),
        )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if any(row.written for row in rows):
        console.print(_written(rows))


def _written(rows: Sequence) -> Table:
    table = Table(title="texts, tokens/s without and with guesses (times as fast)")
    for column in ("ms", "Mbit/s", *(each.text for each in rows[0].written)):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.setting.rtt:g}",
            f"{row.setting.uplink:g}",
            *(
                f"{median(each.off):.1f} / {median(each.on):.1f} ({each.ratio:.2f})"
                for each in row.written
            ),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
