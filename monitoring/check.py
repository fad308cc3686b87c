"""Has a running Prometheus evaluate every panel of the dashboard, and every alert.

`python monitoring/check.py URL [--draw FOLDER] [--minutes N]`. Fails if any expression does.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VARIABLES = {"$__rate_interval": "1m", "$peer": ".*"}


@dataclass(frozen=True)
class Query:
    """One expression of a panel, and how its series are called."""

    number: int
    panel: str
    unit: str
    expr: str
    legend: str


@dataclass(frozen=True)
class Series:
    """Values by time in seconds."""

    name: str
    points: tuple[tuple[float, float], ...]


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """All expressions, with variables as they are when the dashboard is opened."""
    for panel in dashboard["panels"]:
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
        for target in panel.get("targets", ()):
            expr = target["expr"]
            for name, value in VARIABLES.items():
                expr = expr.replace(name, value)
            yield Query(panel["id"], panel["title"], unit, expr, target["legendFormat"])


def alerts(text: str) -> Iterator[str]:
    """The names of the rules in a file of rules."""
    yield from re.findall(r"- alert: (\w+)", text)


def evaluate(url: str, query: Query, minutes: float) -> list[Series]:
    """What Prometheus makes of it; raises `ValueError` with what it says is wrong."""
    end = time.time()
    asked = {
        "query": query.expr,
        "start": end - 60 * minutes,
        "end": end,
        "step": max(1.0, minutes * 60 / 300),
    }
    try:
        with urllib.request.urlopen(
            f"{url}/api/v1/query_range?{urllib.parse.urlencode(asked)}", timeout=30
        ) as response:
            found = json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["error"]) from error
    return [
        Series(
            re.sub(r"{{(\w+)}}", lambda m, e=each: e["metric"].get(m[1], ""), query.legend),
            tuple((when, float(value)) for when, value in each["values"]),
        )
        for each in found
    ]


def draw(folder: Path, told: Mapping[int, list[tuple[Query, list[Series]]]]) -> None:
    """One picture of all panels."""
    import matplotlib.pyplot as plt

    columns = 4
    rows = -(-len(told) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(24, 3.6 * rows), squeeze=False)
    start = min(p[0] for each in told.values() for _, s in each for one in s for p in one.points)
    for axis, results in zip(axes.flat, told.values(), strict=False):
        first, _ = results[0]
        axis.set_title(f"{first.panel} [{first.unit}]", fontsize=9)
        for _, series in results:
            for one in series:
                times, values = zip(*one.points, strict=True)
                axis.plot([t - start for t in times], values, label=one.name, linewidth=1)
        axis.tick_params(labelsize=7)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=5, loc="upper left")
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "dashboard.png", dpi=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="such as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--draw", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    failed = 0
    told: dict[int, list[tuple[Query, list[Series]]]] = {}
    dashboard = json.loads((HERE / "homeswarm.json").read_text())
    for query in queries(dashboard):
        try:
            series = evaluate(options.url, query, options.minutes)
        except ValueError as error:
            failed += 1
            sys.stdout.write(f"FAILED {query.panel}: {error}\n  {query.expr}\n")
            continue
        told.setdefault(query.number, []).append((query, series))
        number = sum(len(one.points) for one in series)
        sys.stdout.write(f"{len(series):3} series {number:6} points  {query.panel}\n")
    with urllib.request.urlopen(f"{options.url}/api/v1/rules", timeout=30) as response:
        groups = json.load(response)["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    for name in alerts((HERE / "alerts.yml").read_text()):
        rule = rules.get(name)
        state = "not loaded" if rule is None else f"{rule['health']} {rule['state']}"
        failed += rule is None or rule["health"] == "err"
        sys.stdout.write(f"alert {name}: {state}\n")
    if options.draw is not None:
        draw(options.draw, told)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
