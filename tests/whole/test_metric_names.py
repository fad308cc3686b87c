"""Names of metrics: as Prometheus wants them, the same in code, pages, rules and dashboard."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from swarm.bootstrap.metrics import BootstrapMetrics
from swarm.energy.estimate import Estimate
from swarm.energy.metering import Metering, Work
from swarm.gateway.metrics import Metrics
from swarm.metrics.links import UplinkMetrics
from swarm.metrics.registry import new_registry
from swarm.peer.metrics import registry
from swarm.transport.uplink import Uplink

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
PAGES = [ROOT / "docs" / "observing.md", ROOT / "docs" / "energy.md"]

_NAME = re.compile(r"\b((?:homeswarm|process)_[a-z_]+)\b")
_PARTS = ("_total", "_bucket", "_count", "_sum")


def _behind() -> Any:
    """A bootstrap of which nothing is asked but numbers."""
    relay = SimpleNamespace(
        reserved=(), num_circuits=0, num_connected=0, num_passed_bytes=0, refusals=Counter()
    )
    return SimpleNamespace(
        authority=SimpleNamespace(members=tuple, invites=tuple, stations=tuple),
        directory=SimpleNamespace(num_records={}, num_neighbours=0, find=_nobody),
        desk=SimpleNamespace(answers=Counter()),
        correspondence=SimpleNamespace(num_told=0, num_silent=0),
        carrier=SimpleNamespace(
            gate=SimpleNamespace(num_strangers=0, num_refused=0),
            strangers=SimpleNamespace(num_disconnected=0),
        ),
        transport=SimpleNamespace(relay=relay),
    )


async def _nobody() -> tuple[()]:
    return ()


@pytest.fixture
async def families(world: Any) -> dict[str, Any]:
    """All that any part tells."""
    peer = await world.peer("ann", (0, 4))
    peer.metering = Metering([Estimate()])
    peer.metering.look(Work(1, 0.1))
    await world.client()
    gateway = Metrics()
    gateway.watch_load(lambda: (0, 0))
    gateway.watch_traffic(lambda: (0, 0))
    gateway.watch_client(world.swarms["client"].metrics)
    bootstrap = BootstrapMetrics(_behind())
    await bootstrap.refresh()
    limited = new_registry(UplinkMetrics(Uplink(1e6)))
    registries = registry(peer), limited, bootstrap.registry
    texts = [gateway.text(), *(generate_latest(each) for each in registries)]
    return {
        family.name: family
        for text in texts
        for family in text_string_to_metric_families(text.decode())
    }


def _known(name: str, families: dict[str, Any]) -> bool:
    """Whether there is such a metric, or such a sample of one."""
    family = families.get(name)
    if family is not None:
        return family.type != "counter"
    return any(name.endswith(part) and name.removesuffix(part) in families for part in _PARTS)


async def test_names_are_as_prometheus_wants_them(families: dict[str, Any]) -> None:
    """As `promtool check metrics` looks at them."""
    assert len(families) > 90
    for name, family in families.items():
        assert re.fullmatch(r"(homeswarm|process)_[a-z]+(_[a-z]+)*", name), name
        assert family.documentation[0].isupper() and family.documentation.endswith("."), name
        assert not re.search("milli|micro|minutes|kilo|mega|gauge|counter|histogram", name), name
        assert family.type in ("counter", "gauge", "histogram"), name
        endings = ("_total", "_count", "_sum", "_bucket", "_info")
        assert not name.endswith(endings) or name == "homeswarm_build_info", name
        for sample in family.samples:
            assert not sample.name.endswith("_created"), sample.name
            if family.type == "counter":
                assert sample.name == f"{name}_total"


async def test_every_metric_stands_on_the_page(families: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "observing.md").read_text()
    named = set(_NAME.findall(page[page.index("## Metrics") :]))
    assert not [name for name in named if not _known(name, families)]
    # `machine_joules` and the like are there where something was measured.
    told = {name + "_total" if f.type == "counter" else name for name, f in families.items()}
    assert told <= named


async def test_nothing_else_is_named_anywhere(families: dict[str, Any]) -> None:
    files = [*PAGES, *MONITORING.glob("*.yml"), *MONITORING.glob("*.md")]
    texts = {path.name: path.read_text() for path in files}
    dashboard = json.loads((MONITORING / "homeswarm.json").read_text())
    texts["homeswarm.json"] = "\n".join(
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    )
    unknown = {
        (where, name)
        for where, text in texts.items()
        for name in _NAME.findall(text)
        if not _known(name, families)
    }
    assert not unknown
