"""What stands in monitoring/, as Prometheus itself reads it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MONITORING = Path(__file__).resolve().parents[2] / "monitoring"

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("check", MONITORING / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["check"]


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """One with our alerts, which has nobody to ask; its address."""
    config = {
        "rule_files": [str(MONITORING / "alerts.yml")],
        "global": {"evaluation_interval": "1s"},
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address={place}"]
    command += ["--storage.tsdb.path=data", "--log.level=error"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            _ready(f"http://{place}")
            yield f"http://{place}"
        finally:
            process.terminate()


def _ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@needs_prometheus
def test_prometheus_takes_every_panel_and_alert(
    prometheus: str, check: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["check.py", prometheus, "--minutes", "1"])
    assert check.main() == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "FAILED" not in told and told.count("alert ") == 7


@needs_prometheus
def test_a_wrong_expression_is_told(prometheus: str, check: Any) -> None:
    query = check.Query(1, "A panel", "short", "sum(", "")
    with pytest.raises(ValueError, match="parse error"):
        check.evaluate(prometheus, query, 1.0)


@needs_prometheus
@pytest.mark.parametrize("what", [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_promtool_takes_the_files(what: tuple[str, str]) -> None:
    kind, file = what
    options = ["--syntax-only"] if kind == "config" else []
    command = ["promtool", "check", kind, *options, str(MONITORING / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    dashboard = json.loads((MONITORING / "homeswarm.json").read_text())
    assert dashboard["schemaVersion"] >= 39 and dashboard["id"] is None
    source, *others = dashboard["templating"]["list"]
    assert (source["type"], source["name"]) == ("datasource", "datasource")
    assert [variable["name"] for variable in others] == ["peer"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) > 30
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Group", "Gateways", "Peers", "Bootstraps"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith(".") and panel["targets"], panel["title"]
        assert panel["type"] == "state-timeline" or panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            # Everybody's data source has another id.
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["legendFormat"] or panel["type"] == "stat", panel["title"]
